package p2p

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"idlewild/p2p/wire"
)

// ProtocolSync is the one long-lived stream between a worker and a requester.
const ProtocolSync Protocol = "sync"

// Times of a sync stream.
const (
	beatAfter  = 10 * time.Second // of silence from us: say that we live
	deadAfter  = 25 * time.Second // of silence from them: the link is dead
	writeTime  = 20 * time.Second // for one message to leave
	lingerTime = 2 * time.Second  // for the last messages to leave when closing
)

// Bounds of what waits to be sent on one stream.
const (
	maxQueued      = 256
	maxQueuedBytes = 8 << 20
)

// ErrLinkCut is matched by errors of a stream that ended without being closed
// from here.
var ErrLinkCut = errors.New("link cut")

// errSilent marks cuts of a connection that looks alive and carries nothing.
var errSilent = errors.New("no sign of life")

// session is one sync stream, from either end: messages with sequence numbers
// in both directions, beats when there is nothing to say, an end when the
// other side falls silent.
type session struct {
	stream network.Stream
	stats  *counters
	dead   *time.Timer

	queue       chan *wire.Sync
	queuedBytes atomic.Int64
	received    atomic.Uint64 // highest seq of theirs
	acked       atomic.Uint64 // highest seq of ours that they confirmed
	sent        atomic.Uint64 // highest seq of ours

	closing   chan struct{} // closed: send what is queued, then end
	ending    atomic.Bool   // our last message is on its way
	closeOnce sync.Once
	done      chan struct{} // closed when the stream is gone
	cutOnce   sync.Once
	mu        sync.Mutex
	err       error // why it is gone
}

func newSession(s network.Stream, stats *counters) *session {
	c := &session{stream: s, stats: stats, queue: make(chan *wire.Sync, maxQueued), closing: make(chan struct{}), done: make(chan struct{})}
	c.dead = time.AfterFunc(deadAfter, func() {
		c.cut(fmt.Errorf("%w: %w for %v", ErrLinkCut, errSilent, deadAfter))
	})
	return c
}

// cut ends the stream now; the first reason stays. A nil reason means that it
// was closed in order.
func (c *session) cut(err error) {
	c.cutOnce.Do(func() {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		c.dead.Stop()
		if err != nil {
			c.stats.syncCut.Add(1)
			c.stream.Reset()
		} else {
			c.stream.Close()
		}
		close(c.done)
	})
}

// cause is why the session is over.
func (c *session) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end sends what is queued and closes the stream.
func (c *session) end() { c.closeOnce.Do(func() { close(c.closing) }) }

// offer queues m if there is room.
func (c *session) offer(m *wire.Sync) bool {
	n := int64(proto.Size(m))
	if c.queuedBytes.Add(n) > maxQueuedBytes && n < maxQueuedBytes {
		c.queuedBytes.Add(-n)
		return false
	}
	select {
	case c.queue <- m:
		return true
	default:
		c.queuedBytes.Add(-n)
		return false
	}
}

// write is the one goroutine that writes. When it returns the session is over.
func (c *session) write() {
	beat := time.NewTimer(beatAfter)
	defer beat.Stop()
	var buf []byte
	send := func(m *wire.Sync) bool {
		m.Seq = c.sent.Load() + 1
		m.Ack = c.received.Load()
		var err error
		if buf, err = wire.Append(buf[:0], m, wire.MaxSync); err != nil {
			c.cut(err) // the queueing side checked the size
			return false
		}
		c.sent.Add(1)
		stop := time.AfterFunc(writeTime, func() {
			c.cut(fmt.Errorf("%w: %w: a message did not leave within %v", ErrLinkCut, errSilent, writeTime))
		})
		_, err = c.stream.Write(buf)
		stop.Stop()
		if err != nil {
			c.cut(fmt.Errorf("%w: %w", ErrLinkCut, err))
			return false
		}
		c.stats.syncSent.Add(1)
		if cap(buf) > 64<<10 {
			buf = nil
		}
		beat.Reset(beatAfter)
		return true
	}
	sendQueued := func(m *wire.Sync) bool {
		c.queuedBytes.Add(-int64(proto.Size(m)))
		ok := send(m)
		if !ok {
			c.stats.syncDropped.Add(1)
		}
		return ok
	}
	defer func() { // what never left
		for {
			select {
			case <-c.queue:
				c.stats.syncDropped.Add(1)
			default:
				return
			}
		}
	}()
	for {
		select {
		case <-c.done:
			return
		case m := <-c.queue:
			if !sendQueued(m) {
				return
			}
		case <-beat.C:
			if !send(&wire.Sync{}) {
				return
			}
		case <-c.closing:
			linger := time.AfterFunc(lingerTime, func() { c.cut(fmt.Errorf("%w while closing", ErrLinkCut)) })
			defer linger.Stop()
			for {
				select {
				case m := <-c.queue:
					if !sendQueued(m) {
						return
					}
					continue
				default:
				}
				break
			}
			c.ending.Store(true)
			if send(&wire.Sync{Body: &wire.Sync_Bye{Bye: &wire.Bye{}}}) {
				c.cut(nil)
			}
			return
		}
	}
}

// read reads until the stream ends and hands each body to take. It ends the
// session.
func (c *session) read(take func(*wire.Sync) error) {
	r := bufio.NewReaderSize(c.stream, 32<<10)
	for {
		m := &wire.Sync{}
		if _, err := wire.Read(r, m, wire.MaxSync); err != nil {
			select {
			case <-c.done: // our own doing
			default:
				if errors.Is(err, io.EOF) && c.ending.Load() {
					c.cut(nil) // they were as quick as we
					return
				}
				if errors.Is(err, wire.ErrTooLarge) {
					c.stats.malformed.Add(1)
				}
				c.cut(fmt.Errorf("%w: %w", ErrLinkCut, err))
			}
			return
		}
		if want := c.received.Load() + 1; m.GetSeq() != want {
			c.stats.malformed.Add(1)
			c.cut(fmt.Errorf("%w: message %d where %d was due", ErrLinkCut, m.GetSeq(), want))
			return
		}
		if a := m.GetAck(); a > c.sent.Load() || a < c.acked.Load() {
			c.stats.malformed.Add(1)
			c.cut(fmt.Errorf("%w: acknowledges message %d of %d", ErrLinkCut, a, c.sent.Load()))
			return
		}
		c.acked.Store(m.GetAck())
		c.received.Store(m.GetSeq())
		c.stats.syncReceived.Add(1)
		c.dead.Stop() // while take holds us up, it is we who are slow
		if m.GetBody() == nil {
			if len(m.ProtoReflect().GetUnknown()) > 0 {
				c.stats.unknown.Add(1) // a body of a later version
			}
			c.dead.Reset(deadAfter)
			continue
		}
		if b, ok := m.GetBody().(*wire.Sync_Bye); ok {
			if r := b.Bye.GetRefusal(); r != nil {
				c.cut(fmt.Errorf("%w: %w", ErrLinkCut, refusalError(r)))
				return
			}
			c.cut(nil)
			return
		}
		if err := take(m); err != nil {
			c.cut(err)
			return
		}
		select {
		case <-c.done:
			return
		default:
			c.dead.Reset(deadAfter)
		}
	}
}
