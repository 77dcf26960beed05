package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/p2p/wire"
)

// holder is one peer that a gathering asks. The gathering's mutex guards what
// follows wake.
type holder struct {
	g     *gather
	peer  peer.ID
	wake  chan struct{}
	heard atomic.Int64 // when a byte came, unix nanoseconds

	deals   bool
	has     []bool
	under   int      // pulls that are not answered
	got     []uint64 // to be told, where it deals
	granted int64    // credit
	taken   int64    // bytes of payload that came
	lies    int
	unasked int
	banned  error
	stalled bool              // it was asked and sends nothing
	rate    float64           // bytes per second, smoothed
	counted int64             // of taken, in rate
	since   time.Time         // of counted
	known   time.Duration     // for which the rate was followed
	bases   map[int][]cid.Cid // that were named with a want, on this stream
	costs   int64
}

func (h *holder) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// failed notes that a block did not come from here; g.mu is held.
func (h *holder) failed(i int, err error) {
	if h.peer == h.g.req.Requester {
		h.g.wants[i].refused = err
	}
	said := h.has[i] // that it has it
	if said {
		h.has[i] = false
		h.g.wants[i].has--
	}
	switch {
	case errors.Is(err, ErrBlockWrong):
		h.banned = fmt.Errorf("%s sent a wrong block: %w", h.peer, err)
	case errors.Is(err, ErrBlockNotFound) && said:
		if h.lies++; h.lies > maxLies {
			h.banned = fmt.Errorf("%s says that it has blocks that it has not", h.peer)
		}
	}
	if h.banned != nil {
		h.poke()
	}
}

// run asks the peer until the gathering ends, again after each cut.
func (h *holder) run() {
	g := h.g
	wait := shareRetryMin
	for g.ctx.Err() == nil {
		before := h.received()
		err := h.converse(g.ctx)
		h.release()
		if g.ctx.Err() != nil {
			return
		}
		g.h.log.Debug("a holder of blocks is away", "peer", h.peer, "job", g.req.Job, "err", err)
		g.mu.Lock()
		banned := h.banned
		g.mu.Unlock()
		switch {
		case banned != nil:
			g.h.log.Warn("blocks are taken from this peer no more for this job", "peer", h.peer, "job", g.req.Job, "err", banned)
			if h.peer == g.req.Requester {
				g.cancel(banned)
			}
			return
		case unsupported(err):
			if h.peer == g.req.Requester {
				g.cancel(ErrNoShare)
			}
			return
		case errors.Is(err, ErrBlockRefused):
			if h.peer == g.req.Requester {
				g.cancel(err)
				return
			}
		case errors.Is(err, ErrNotMember):
			return
		}
		if h.received() > before {
			wait = shareRetryMin
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, shareRetryMax)
		case <-g.ctx.Done():
		}
	}
}

func (h *holder) received() int64 {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	return h.taken
}

// unsupported reports whether the peer does not speak the protocol.
func unsupported(err error) bool {
	return err != nil && strings.Contains(err.Error(), "protocols not supported")
}

// release gives back what the peer said and was asked.
func (h *holder) release() {
	g := h.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range h.has {
		if h.has[i] {
			h.has[i] = false
			g.wants[i].has--
		}
		if g.wants[i].from == h {
			g.wants[i].from = nil
		}
	}
	h.under, h.granted, h.got, h.bases = 0, 0, nil, nil
	h.taken, h.counted, h.rate, h.known, h.since, h.deals, h.stalled = 0, 0, 0, 0, time.Time{}, false, false
}

// converse is one stream.
func (h *holder) converse(ctx context.Context) error {
	s, err := h.g.h.open(ctx, h.peer, ProtocolShare)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		_ = s.SetReadDeadline(time.Now())
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
	})
	defer stop()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if err := h.ask(ctx, s); err != nil {
			cancel(err)
		}
	}()
	err = h.read(ctx, s)
	first := context.Cause(ctx)
	cancel(err)
	<-asked
	if h.g.complete() {
		// In order: we have all that we wanted, and can be asked for it.
		_ = s.Close()
		return nil
	}
	s.Reset()
	if first != nil {
		return first
	}
	return err
}

func (g *gather) complete() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left == 0
}

// ask says what we want, and then what has changed, whenever something has.
func (h *holder) ask(ctx context.Context, s network.Stream) error {
	g := h.g
	scope := g.scope()
	m := &wire.Share{Scope: scope}
	send := func() error {
		stop := watch(s, blockWriteMax)
		defer stop()
		n, err := wire.Write(s, m, wire.MaxShare)
		g.mu.Lock()
		h.costs += int64(n)
		g.mu.Unlock()
		m = &wire.Share{}
		return err
	}
	size := 0
	for i, w := range g.req.Wants {
		g.mu.Lock()
		settled := g.wants[i].settled
		g.mu.Unlock()
		if settled {
			continue
		}
		v := &wire.Want{Index: uint64(i), Cid: w.ID.Bytes()}
		h.name(ctx, i, w, v)
		size += proto.Size(v) + 4
		m.Wants = append(m.Wants, v)
		if len(m.Wants) == wire.MaxWantsPerAsk || size > wire.MaxShare-16<<10 {
			if m.Scope != nil {
				m.Credit = h.credit()
			}
			if err := send(); err != nil {
				return err
			}
			size = 0
		}
	}
	if len(m.Wants) > 0 {
		if m.Scope != nil {
			m.Credit = h.credit()
		}
		if err := send(); err != nil {
			return err
		}
	}
	for {
		now := time.Now()
		g.mu.Lock()
		if err := h.banned; err != nil {
			g.mu.Unlock()
			return err
		}
		h.measure(now)
		m.Got, h.got = h.got, nil
		if n := min(h.room(), 256); !h.deals && n > h.under/4 && !h.stalled { // not for each single one
			for _, i := range g.choose(h, n, now) {
				m.Pull = append(m.Pull, uint64(i))
			}
			h.under += len(m.Pull)
		}
		deals := h.deals
		g.mu.Unlock()
		if deals {
			m.Credit = h.credit()
		}
		if len(m.Got) > 0 || len(m.Pull) > 0 || m.Credit > 0 {
			if err := send(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-h.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// name adds to a want the bases that are here, as many as are remembered.
func (h *holder) name(ctx context.Context, i int, w BlockWant, v *wire.Want) {
	src := h.g.source
	if src.src == nil || src.codec == nil || len(w.Bases) == 0 {
		return
	}
	var sent []cid.Cid
	for _, b := range w.Bases {
		if len(sent) == maxShareBases {
			break
		}
		if has, err := src.src.Has(ctx, b); err == nil && has {
			sent = append(sent, b)
			v.Bases = append(v.Bases, b.Bytes())
		}
	}
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	if h.bases == nil {
		h.bases = map[int][]cid.Cid{}
	}
	h.bases[i] = sent
}

// listening notes when something was read.
type listening struct {
	io.Reader
	heard *atomic.Int64
}

func (l listening) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// window is how many bytes may be under way; g.mu is held.
func (h *holder) window() int64 {
	if h.known < windowTime {
		if h.deals {
			return max(windowFirst, h.recent())
		}
		return max(pullFirst, h.recent())
	}
	return max(windowMin, h.recent())
}

// recent is what came in windowTime; g.mu is held.
func (h *holder) recent() int64 { return min(windowMax, int64(h.rate*windowTime.Seconds())) }

// room is how many more blocks may be pulled; g.mu is held.
func (h *holder) room() int {
	return max(2, int(float64(h.window())/max(1, h.g.size))) - h.under
}

// credit is what who deals may send beyond what it was told.
func (h *holder) credit() uint64 {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	more := h.taken + h.window() - h.granted
	if more < windowMin/4 {
		return 0 // not worth a message
	}
	h.granted += more
	return uint64(more)
}

// measure follows the rate; g.mu is held.
func (h *holder) measure(now time.Time) {
	d := now.Sub(h.since)
	if h.since.IsZero() || h.taken == 0 {
		h.since, h.counted = now, h.taken
		return
	}
	if d < 50*time.Millisecond {
		return
	}
	rate := float64(h.taken-h.counted) / d.Seconds()
	h.known += d
	h.rate += (rate - h.rate) * max(min(1, d.Seconds()*4), min(1, d.Seconds()/h.known.Seconds()))
	h.since, h.counted = now, h.taken
}

// read takes in what the peer sends until the stream ends.
func (h *holder) read(ctx context.Context, s network.Stream) error {
	g := h.g
	r := bufio.NewReaderSize(g.h.down.reader(ctx, turn{h.peer, g.req.Urgent}, listening{s, &h.heard}), 64<<10)
	for {
		var head wire.Answers
		n, err := wire.Read(r, &head, wire.MaxAnswers)
		if err != nil {
			return err
		}
		g.h.stats.blocksIn.Add(int64(n))
		if len(head.Answers) > wire.MaxAnswersPer || head.Padding > wire.MaxPaddingPerAns ||
			len(head.Have) > wire.MaxHavesPer || len(head.Peers) > wire.MaxSharers {
			return fmt.Errorf("a head over its bounds: %w", wire.ErrTooLarge)
		}
		if err := h.heed(&head); err != nil {
			return err
		}
		for i, a := range head.Answers {
			if err := h.take(ctx, r, a, paddingOf(&head, i)); err != nil {
				return err
			}
		}
		if _, err := r.Discard(int(head.Padding)); err != nil {
			return err
		}
		g.h.stats.blocksIn.Add(int64(head.Padding))
	}
}

// heed takes in what a head says beside its answers.
func (h *holder) heed(head *wire.Answers) error {
	g := h.g
	g.mu.Lock()
	h.deals = h.deals || head.Deals && h.peer == g.req.Requester
	for _, i := range head.Have {
		if i >= uint64(len(g.wants)) {
			g.mu.Unlock()
			return fmt.Errorf("%s has want %d, and there are %d", h.peer, i, len(g.wants))
		}
		if !h.has[i] && !g.wants[i].settled {
			h.has[i] = true
			g.wants[i].has++
		}
	}
	g.mu.Unlock()
	h.poke()
	if h.peer == g.req.Requester { // others' word for who takes part is not needed
		for _, b := range head.Peers {
			if p, err := peer.IDFromBytes(b); err == nil {
				g.meet(p)
			}
		}
	}
	return nil
}

// take reads the payload of one answer.
func (h *holder) take(ctx context.Context, r *bufio.Reader, a *wire.Answer, padding int64) error {
	g := h.g
	if a.GetBlockSize() > wire.MaxBlock || a.GetSize() > wire.MaxPayloadsPer {
		return fmt.Errorf("block of %d bytes: %w", a.GetBlockSize(), wire.ErrTooLarge)
	}
	if a.GetIndex() >= uint64(len(g.wants)) {
		return fmt.Errorf("an answer to want %d, and there are %d", a.GetIndex(), len(g.wants))
	}
	i := int(a.GetIndex())
	g.mu.Lock()
	// A late one, or one that nobody asked for. Who deals need not be asked, but
	// says of a block once that it is not there.
	if !h.deals && g.wants[i].from != h || h.deals && g.wants[i].refused != nil {
		h.unasked++
	}
	unasked := h.unasked
	g.mu.Unlock()
	if unasked > maxUnasked {
		return fmt.Errorf("%d blocks came that were not asked for", unasked)
	}
	switch a.GetEncoding() {
	case wire.Answer_REFUSED:
		return ErrBlockRefused
	case wire.Answer_NOT_FOUND, wire.Answer_LATER:
		g.mu.Lock()
		if g.wants[i].from == h {
			g.wants[i].from = nil
			h.under--
		}
		h.failed(i, ErrBlockNotFound)
		g.mu.Unlock()
		h.poke()
		return nil
	}
	payload, err := wire.ReadPayload(r, int(a.GetSize()))
	if err != nil {
		return err
	}
	g.h.stats.blocksIn.Add(int64(len(payload)))
	g.mu.Lock()
	h.taken += int64(len(payload))
	h.stalled = false
	o := openWant{want: g.req.Wants[i], sent: h.bases[i]}
	o.cost, h.costs = h.costs, 0
	g.mu.Unlock()
	v := sharedRaw{index: i, from: h, raw: raw{
		want: o, encoding: a.GetEncoding(), base: a.GetBase(), size: int(a.GetBlockSize()), payload: payload,
		moved: o.cost + int64(proto.Size(a)) + 2 + int64(len(payload)) + padding,
	}}
	select {
	case g.raws <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
