package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ProtocolProbe measures the way to a member. One stream is one question: a
// byte that says what, and a number of 8 bytes, big-endian.
//
//	'c' 0   the answer is the other clock: nanoseconds since 1970, 8 bytes
//	'd' n   the answer is n bytes of nothing
//	'u' n   n bytes follow; the answer is one byte once they are here
const ProtocolProbe Protocol = "probe"

// Bounds of a probe.
const (
	maxProbeBytes = 8 << 20
	probeSpeedFor = 1500 * time.Millisecond // that the last and longest question of a direction should take
	probeLimit    = 10 * time.Second        // for the answering side
	clockProbes   = 4
)

// Speed is what a probe found out.
type Speed struct {
	RTT         time.Duration
	Clock       time.Duration // how far the other clock is ahead; good to half of RTT
	Up, Down    float64       // bytes in a second, to the member and from it; 0: not measured
	Description string        // why something was not measured
}

// serveProbe answers probes of members, one at a time: who measures should not
// measure another's measuring, and nobody can keep this node busy with it.
func (h *Host) serveProbe() {
	var one sync.Mutex
	h.serve(ProtocolProbe, func(s network.Stream) {
		h.goRun(func(ctx context.Context) {
			defer s.Close()
			ctx, cancel := context.WithTimeout(ctx, probeLimit)
			defer cancel()
			stop := watch(s, probeLimit)
			defer stop()
			var q [9]byte
			if _, err := io.ReadFull(s, q[:]); err != nil {
				return
			}
			n := binary.BigEndian.Uint64(q[1:])
			if n > maxProbeBytes {
				h.stats.malformed.Add(1)
				s.Reset()
				return
			}
			switch q[0] {
			case 'c':
				_, _ = s.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano())))
				return
			case 'd', 'u':
			default:
				h.stats.malformed.Add(1)
				s.Reset()
				return
			}
			if !one.TryLock() {
				s.Reset()
				return
			}
			defer one.Unlock()
			who := turn{peer: s.Conn().RemotePeer()}
			if q[0] == 'd' {
				_ = h.up.write(ctx, who, s, make([]byte, n), func() func() bool { return func() bool { return true } })
				return
			}
			if _, err := io.CopyN(io.Discard, h.down.reader(ctx, who, s), int64(n)); err == nil {
				_, _ = s.Write([]byte{1})
			}
		})
	})
}

// Measure probes a connected member: its clock, and where speed is set how
// fast bytes pass, which takes some five seconds.
func (h *Host) Measure(ctx context.Context, p peer.ID, speed bool) (Speed, error) {
	var out Speed
	out.RTT = time.Hour
	for range clockProbes {
		rtt, ahead, err := h.askClock(ctx, p)
		if err != nil {
			return Speed{}, fmt.Errorf("probe %s: %w", p, cause(err))
		}
		if rtt < out.RTT { // the quickest answer is the one that was held up least
			out.RTT, out.Clock = rtt, ahead
		}
	}
	if !speed {
		return out, nil
	}
	var errUp, errDown error
	out.Down, errDown = h.askSpeed(ctx, p, 'd')
	out.Up, errUp = h.askSpeed(ctx, p, 'u')
	if err := errors.Join(errUp, errDown); err != nil {
		out.Description = "not measured: " + cause(err).Error()
	}
	return out, nil
}

func (h *Host) ask(ctx context.Context, p peer.ID, what byte, n uint64) (network.Stream, func(), error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "probe"), probeLimit)
	s, err := h.stream(ctx, p, ProtocolProbe)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	stop := watch(s, probeLimit)
	if _, err := s.Write(binary.BigEndian.AppendUint64([]byte{what}, n)); err != nil {
		s.Reset()
		stop()
		cancel()
		return nil, nil, err
	}
	return s, func() { stop(); cancel() }, nil
}

func (h *Host) askClock(ctx context.Context, p peer.ID) (rtt, ahead time.Duration, err error) {
	// The first one may take another round trip, to agree on the protocol.
	start := time.Now()
	s, done, err := h.ask(ctx, p, 'c', 0)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	defer s.Close()
	var b [8]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return 0, 0, err
	}
	end := time.Now()
	rtt = end.Sub(start)
	theirs := time.Unix(0, int64(binary.BigEndian.Uint64(b[:])))
	return rtt, theirs.Sub(start.Add(rtt / 2)), nil
}

// askSpeed moves bytes until there were enough or it took long enough.
func (h *Host) askSpeed(ctx context.Context, p peer.ID, what byte) (bytesPerSecond float64, err error) {
	// A little first: who knows how slow the way is does not wait for a lot.
	n := uint64(64 << 10)
	for {
		took, err := h.move(ctx, p, what, n)
		if err != nil {
			return bytesPerSecond, err
		}
		bytesPerSecond = float64(n) / took.Seconds()
		next := uint64(bytesPerSecond * probeSpeedFor.Seconds())
		if took > probeSpeedFor/2 || n >= maxProbeBytes || next <= n {
			return bytesPerSecond, nil
		}
		n = min(next, 16*n, maxProbeBytes)
	}
}

func (h *Host) move(ctx context.Context, p peer.ID, what byte, n uint64) (time.Duration, error) {
	s, done, err := h.ask(ctx, p, what, n)
	if err != nil {
		return 0, err
	}
	defer done()
	start := time.Now()
	if what == 'd' {
		_, err = io.CopyN(io.Discard, s, int64(n))
	} else {
		if _, err = s.Write(make([]byte, n)); err == nil {
			_, err = io.ReadFull(s, make([]byte, 1))
		}
	}
	if err != nil {
		s.Reset()
		return 0, err
	}
	s.Close()
	return max(time.Since(start), time.Microsecond), nil
}
