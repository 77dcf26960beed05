package p2p

import (
	"context"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/network"

	"idlewild/p2p/wire"
)

// ServeSync hands inbound sync streams, and this node's own workers, to c.
func (h *Host) ServeSync(c Coordinator) {
	h.mu.Lock()
	h.coord = c
	h.mu.Unlock()
	for _, id := range h.ids(ProtocolSync) {
		h.hostFor(ProtocolSync).SetStreamHandler(id, func(s network.Stream) {
			h.goRun(func(ctx context.Context) {
				if !h.parted(ctx, s) {
					h.serveSync(ctx, c, s)
				}
			})
		})
	}
}

// parted refuses the sync stream of a member that is too old for this program,
// or the other way round, with the reason. It may not have greeted us yet.
func (h *Host) parted(ctx context.Context, s network.Stream) bool {
	p := s.Conn().RemotePeer()
	_, _ = h.ability(ctx, p)
	if !h.skews.blocks(p) {
		return false
	}
	h.stats.refused.Add(1)
	defer watch(s, exchangeTime)()
	text := h.skews.text(p)
	bye := &wire.Sync{Seq: 1, Body: &wire.Sync_Bye{Bye: &wire.Bye{Reason: text, Refusal: &wire.Refusal{Code: wire.Refusal_TOO_OLD, Text: text}}}}
	if _, err := wire.Write(s, bye, wire.MaxSync); err != nil || s.CloseWrite() != nil {
		s.Reset()
		return true
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(s, wire.MaxSync)) // until it has heard that
	s.Close()
	return true
}

// serveSync runs one worker's stream. The coordinator is never held up: what
// it says is queued here, and a worker that does not read is cut off.
func (h *Host) serveSync(ctx context.Context, c Coordinator, s network.Stream) {
	worker := s.Conn().RemotePeer()
	log := h.log.With("peer", worker)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ses := newSession(s, &h.stats)
	stop := context.AfterFunc(ctx, func() { ses.cut(fmt.Errorf("%w: this node is leaving", ErrLinkCut)) })
	defer stop()
	defer h.engage(worker)()
	in, out := c.Open(ctx, worker)
	defer close(in)
	log.Debug("worker's stream opened")

	pumped := make(chan struct{})
	go func() { // orders, until the coordinator closes them
		defer close(pumped)
		for o := range out {
			select {
			case <-ses.done:
				h.stats.syncDropped.Add(1)
				continue // drain
			default:
			}
			ms, err := splitOrder(o)
			if err != nil {
				h.stats.syncDropped.Add(1)
				log.Error("order not sent", "err", err)
				ses.cut(fmt.Errorf("%w: %w", ErrLinkCut, err))
				continue
			}
			for _, m := range ms {
				if !ses.offer(m) {
					h.stats.syncDropped.Add(1)
					ses.cut(fmt.Errorf("%w: the worker does not read what it is sent", ErrLinkCut))
				}
			}
		}
		ses.end()
	}()
	go ses.write()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		ses.read(func(m *wire.Sync) error {
			r, ok := m.GetBody().(*wire.Sync_Report)
			if !ok {
				h.stats.unknown.Add(1)
				return nil // of a later version
			}
			v, err := r.Report.Value()
			if err != nil {
				h.stats.malformed.Add(1)
				return fmt.Errorf("%w: %w", ErrLinkCut, err)
			}
			select {
			case in <- v:
				return nil
			case <-ses.done:
				return nil
			}
		})
	}()
	<-ses.done
	cancel()
	<-reading
	if err := ses.cause(); err != nil {
		log.Debug("worker's stream cut", "err", err)
		h.suspect(worker, err)
	}
	// The coordinator learns by its context and, with the deferred close,
	// by the channel; what it still says is drained.
	go func() { <-pumped }()
}
