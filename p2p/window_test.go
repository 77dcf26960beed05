package p2p

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// countedScope counts what is reserved, up to limit.
type countedScope struct {
	network.NullScope
	mu    sync.Mutex
	limit int
	sum   int
}

func (s *countedScope) BeginSpan() (network.ResourceScopeSpan, error) { return &countedSpan{s: s}, nil }

type countedSpan struct {
	network.NullScope
	s *countedScope
}

func (c *countedSpan) ReserveMemory(n int, _ uint8) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.sum+n > c.s.limit {
		return errors.New("over the limit")
	}
	c.s.sum += n
	return nil
}

// A window is as large as it is said to be, and all of it counts as memory.
func TestStreamWindow(t *testing.T) {
	t.Parallel()
	cfg := *yamux.DefaultTransport
	cfg.InitialStreamWindowSize = streamWindow
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	scope := &countedScope{limit: 3*streamWindow - 1}
	asker, err := muxer{&cfg}.NewConn(near, false, scope)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	giver, err := muxer{&cfg}.NewConn(far, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer giver.Close()
	for i := range 2 {
		s, err := asker.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		in, err := giver.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Reset()
		// Nobody reads: what is written lies in the window.
		if err := in.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := in.Write(make([]byte, streamWindow)); err != nil {
			t.Fatalf("stream %d: %d bytes fit into a window of %d: %v", i, n, streamWindow, err)
		}
	}
	if scope.sum != 2*streamWindow {
		t.Errorf("two windows of %d count as %d", streamWindow, scope.sum)
	}
	if _, err := asker.OpenStream(t.Context()); err == nil {
		t.Error("a stream was opened over the limit")
	}
}
