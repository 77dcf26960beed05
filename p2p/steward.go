package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ProtocolSteward is for what requesters, stewards and workers tell each other
// about jobs that are handed over. One stream is one question and its answer,
// each behind its length of 4 bytes, big-endian; what they say is none of this
// package's business.
const ProtocolSteward Protocol = "steward"

// MaxStewardMessage bounds a question and an answer.
const MaxStewardMessage = 8 << 20

// StewardAnswerer answers the questions of members.
type StewardAnswerer interface {
	Answer(ctx context.Context, from peer.ID, question []byte) ([]byte, error)
}

// ServeSteward has a answer questions of members.
func (h *Host) ServeSteward(a StewardAnswerer) {
	h.serve(ProtocolSteward, func(s network.Stream) {
		h.goRun(func(ctx context.Context) {
			defer s.Close()
			defer watch(s, exchangeTime)()
			q, err := readSteward(s)
			if err != nil {
				h.stats.malformed.Add(1)
				s.Reset()
				return
			}
			answer, err := a.Answer(ctx, s.Conn().RemotePeer(), q)
			if err == nil {
				err = writeSteward(s, answer)
			}
			if err != nil {
				h.log.Debug("question about a job not answered", "peer", s.Conn().RemotePeer(), "err", err)
				s.Reset()
			}
		})
	})
}

// AskSteward asks a member, connecting first where needed.
func (h *Host) AskSteward(ctx context.Context, p peer.ID, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	s, err := h.open(ctx, p, ProtocolSteward)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", p, err)
	}
	defer s.Close()
	defer watch(s, exchangeTime)()
	err = writeSteward(s, question)
	if err == nil {
		var answer []byte
		if answer, err = readSteward(s); err == nil {
			return answer, nil
		}
	}
	s.Reset()
	return nil, fmt.Errorf("ask %s: %w", p, cause(err))
}

func writeSteward(w io.Writer, b []byte) error {
	if len(b) > MaxStewardMessage {
		return fmt.Errorf("message of %d bytes where at most %d are allowed", len(b), MaxStewardMessage)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readSteward(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > MaxStewardMessage {
		return nil, errors.New("message over its bounds")
	}
	// It grows with what really comes.
	b, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && len(b) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
