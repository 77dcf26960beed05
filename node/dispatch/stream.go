package dispatch

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// stream is a worker's open session on this side: orders wait here until the
// network takes them, joined into one.
type stream struct {
	peer peer.ID
	no   uint64
	out  chan job.Order
	wake chan struct{}
	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	pending *job.Order
}

func (s *stream) end() { s.once.Do(func() { close(s.done) }) }

func (s *stream) send(o job.Order) {
	s.mu.Lock()
	if p := s.pending; p != nil {
		p.Epoch, p.BeatEvery, p.Resting = o.Epoch, o.BeatEvery, o.Resting
		p.Leases = append(p.Leases, o.Leases...)
		p.Stops = append(p.Stops, o.Stops...)
		p.Settled = append(p.Settled, o.Settled...)
	} else {
		s.pending = &o
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run passes orders on until the stream ends, and closes out.
func (s *stream) run() {
	defer close(s.out)
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
		s.mu.Lock()
		o := s.pending
		s.pending = nil
		s.mu.Unlock()
		if o == nil {
			continue
		}
		select {
		case s.out <- *o:
		case <-s.done:
			return
		}
	}
}

// Open starts a worker's session, as p2p.Coordinator describes it. The session
// also ends with ctx.
func (d *Dispatcher) Open(ctx context.Context, worker peer.ID) (chan<- job.Report, <-chan job.Order) {
	in := make(chan job.Report)
	s := &stream{peer: worker, out: make(chan job.Order), wake: make(chan struct{}, 1), done: make(chan struct{})}
	d.streamMu.Lock()
	d.streamNo++
	s.no = d.streamNo
	old := d.streams[worker]
	d.streams[worker] = s
	defer d.streamMu.Unlock()
	if old != nil {
		old.end()
	}
	if d.streamsClosed {
		close(s.out)
		go drainReports(in)
		return in, s.out
	}
	d.wg.Go(s.run)
	d.wg.Go(func() { d.listen(ctx, s, in) })
	return in, s.out
}

// listen passes a worker's reports to the board until its stream ends.
func (d *Dispatcher) listen(ctx context.Context, s *stream, in <-chan job.Report) {
	defer func() {
		s.end()
		d.streamMu.Lock()
		if d.streams[s.peer] == s {
			delete(d.streams, s.peer)
		}
		d.streamMu.Unlock()
		d.post(Closed{s.peer, s.no})
		// Whoever still sends need not notice before it looks for orders.
		go drainReports(in)
	}()
	if !d.post(Opened{Peer: s.peer, Stream: s.no, Score: d.deps.Book.Score(s.peer)}) {
		return
	}
	for {
		var r job.Report
		var ok bool
		select {
		case r, ok = <-in:
		case <-s.done:
			return
		case <-ctx.Done():
			return
		case <-d.ctx.Done():
			return
		}
		if !ok {
			return
		}
		if err := r.Validate(); err != nil {
			d.log.Warn("report refused", "peer", s.peer, "err", err)
			return
		}
		e := Reported{Peer: s.peer, Stream: s.no, Report: r}
		for _, sig := range r.Receipts {
			o, err := d.open(sig, s.peer)
			if err != nil {
				d.log.Warn("receipt refused", "peer", s.peer, "err", err)
				continue
			}
			e.Receipts = append(e.Receipts, OpenedReceipt{Signed: sig, Receipt: o, Peer: s.peer})
		}
		if !d.post(e) {
			return
		}
	}
}

// Rescore tells the board that a peer stands otherwise than it did.
func (d *Dispatcher) Rescore(p peer.ID) {
	d.post(Scored{Peer: p, Score: d.deps.Book.Score(p)})
}

func drainReports(in <-chan job.Report) {
	for range in {
	}
}

func (d *Dispatcher) stream(p peer.ID, no uint64) *stream {
	d.streamMu.Lock()
	defer d.streamMu.Unlock()
	if s := d.streams[p]; s != nil && s.no == no {
		return s
	}
	return nil
}

// hangUp ends all streams, for good.
func (d *Dispatcher) hangUp() {
	d.streamMu.Lock()
	defer d.streamMu.Unlock()
	d.streamsClosed = true
	for _, s := range d.streams {
		s.end()
	}
}
