package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/wire"
)

// ProtocolAsk asks a member something and hears its answer piece by piece. One
// stream is one question: a frame, then frames of the other side until it
// closes. An empty frame says that it is still there. What a frame holds is the
// business of who asks and who answers.
const ProtocolAsk Protocol = "ask"

// Bounds of questions and answers.
const (
	askBeat     = 5 * time.Second  // an empty frame where there was none
	askSilence  = 20 * time.Second // then the other side is gone
	maxAsks     = 64               // answered at a time
	maxAsksEach = 16               // of one member
)

// Answerer answers what members ask. It calls say with each piece of the
// answer, from one goroutine; ctx ends when nobody listens any more.
type Answerer interface {
	Answer(ctx context.Context, from peer.ID, question []byte, say func(piece []byte) error)
}

// ServeAsks has a answer questions of at most max bytes.
func (h *Host) ServeAsks(a Answerer, max int) {
	var mu sync.Mutex
	all, each := 0, map[peer.ID]int{}
	h.serve(ProtocolAsk, func(s network.Stream) {
		from := s.Conn().RemotePeer()
		mu.Lock()
		full := all >= maxAsks || each[from] >= maxAsksEach
		if !full {
			all++
			each[from]++
		}
		mu.Unlock()
		if full {
			s.Reset()
			return
		}
		h.goRun(func(ctx context.Context) {
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				all--
				if each[from]--; each[from] == 0 {
					delete(each, from)
				}
			}()
			h.answerAsk(ctx, s, a, max)
		})
	})
}

func (h *Host) answerAsk(ctx context.Context, s network.Stream, a Answerer, max int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.Reset() })() // a stream that was closed is past harm
	_ = s.SetReadDeadline(time.Now().Add(askSilence))
	question, err := readPiece(bufio.NewReader(s), max)
	if err != nil {
		h.stats.malformed.Add(1)
		s.Reset()
		return
	}
	// Who asks says nothing more, so the end of its side is the end of it.
	_ = s.SetReadDeadline(time.Time{})
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = s.Read(make([]byte, 1))
		cancel()
	}()
	var mu sync.Mutex
	write := func(b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_ = s.SetWriteDeadline(time.Now().Add(askSilence))
		_, err := s.Write(append(binary.AppendUvarint(make([]byte, 0, len(b)+4), uint64(len(b))), b...))
		return err
	}
	done := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() {
		t := time.NewTicker(askBeat)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if write(nil) != nil {
					cancel()
					return
				}
			case <-done:
				return
			}
		}
	})
	a.Answer(ctx, s.Conn().RemotePeer(), question, func(b []byte) error {
		if len(b) == 0 {
			return errors.New("ask: an empty piece")
		}
		err := write(b)
		if err != nil {
			cancel()
		}
		return err
	})
	close(done)
	beat.Wait()
	// The stream counts among those of this host until both sides have ended it.
	_ = s.CloseWrite()
	_ = s.SetReadDeadline(time.Now().Add(askSilence))
	<-left
	s.Reset()
}

// Ask asks a member and hands each piece of its answer, of at most max bytes, to
// heard until it closes. An error of heard ends it.
func (h *Host) Ask(ctx context.Context, to peer.ID, question []byte, max int, heard func(piece []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	err := h.question(ctx, to, question, max, heard)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("ask %s: %w", to, err)
	}
	return nil
}

func (h *Host) question(ctx context.Context, to peer.ID, what []byte, max int, heard func([]byte) error) error {
	s, err := h.open(ctx, to, ProtocolAsk)
	if err != nil {
		return err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	_ = s.SetWriteDeadline(time.Now().Add(askSilence))
	if _, err := s.Write(append(binary.AppendUvarint(make([]byte, 0, len(what)+4), uint64(len(what))), what...)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(s, 64<<10)
	for {
		_ = s.SetReadDeadline(time.Now().Add(askSilence))
		piece, err := readPiece(in, max)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(piece) == 0 {
			continue
		}
		if err := heard(piece); err != nil {
			return err
		}
	}
}

// readPiece reads one frame.
func readPiece(r *bufio.Reader, max int) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(max) {
		return nil, fmt.Errorf("a piece of %d bytes, at most %d: %w", n, max, wire.ErrTooLarge)
	}
	// What is read grows with what arrives, not with what was promised.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return b.Bytes(), nil
}
