package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// shapedNet is a network in this process: real TCP connections over loopback,
// each led through a pump that holds them to the rates and the delay of their
// ends. It needs neither root nor a kernel that can shape.
type shapedNet struct {
	mu     sync.Mutex
	byPort map[string]*shapedNode
}

// shapedNode is one machine and its line.
type shapedNode struct {
	net      *shapedNet
	up, down *rate.Limiter
	delay    time.Duration // one way
	sent     atomic.Int64  // bytes that left it
	gone     chan struct{} // closed: nothing passes any more, and nobody is told
}

const shapedPiece = 16 << 10

func newShapedNet() *shapedNet { return &shapedNet{byPort: map[string]*shapedNode{}} }

// node adds a machine. Rates are in Mbit/s, 0 is without a limit.
func (n *shapedNet) node(up, down float64, delay time.Duration) *shapedNode {
	limiter := func(mbit float64) *rate.Limiter {
		if mbit == 0 {
			return rate.NewLimiter(rate.Inf, 0)
		}
		return rate.NewLimiter(rate.Limit(mbit*1e6/8), max(2*shapedPiece, int(mbit*1e6/8*0.02))) // 20 ms: this machine may be late
	}
	return &shapedNode{net: n, up: limiter(up), down: limiter(down), delay: delay, gone: make(chan struct{})}
}

// listens notes where a machine can be dialled.
func (n *shapedNode) listens(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.net.byPort[port] = n
	return nil
}

// forAddr is a tcp.DialerForAddr.
func (n *shapedNode) forAddr(ma.Multiaddr) (tcp.ContextDialer, error) { return n, nil }

// DialContext implements tcp.ContextDialer.
func (n *shapedNode) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	to := n.net.byPort[port]
	n.net.mu.Unlock()
	if to == nil {
		return nil, fmt.Errorf("no machine listens on %s", addr)
	}
	var d net.Dialer
	far, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	near, err := d.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return nil, err
	}
	mid, err := l.Accept()
	if err != nil {
		return nil, err
	}
	// What lies in buffers of the kernel is on no line.
	for _, c := range []net.Conn{near, mid, far} {
		_ = c.(*net.TCPConn).SetReadBuffer(32 * shapedPiece)
		_ = c.(*net.TCPConn).SetWriteBuffer(32 * shapedPiece)
	}
	go pump(mid, far, n, to)
	go pump(far, mid, to, n)
	return near, nil
}

type piece struct {
	data []byte
	due  time.Time
}

// pump carries one direction: the sender's line, the way, the receiver's line.
func pump(from, to net.Conn, a, b *shapedNode) {
	defer to.Close()
	delay := a.delay + b.delay
	// As much as the way holds at 1 Gbit/s, and a queue at its end.
	way := make(chan piece, 16+int(delay.Seconds()*125e6)/1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range way {
			time.Sleep(time.Until(p.due))
			select {
			case <-a.gone:
				return
			case <-b.gone:
				return
			default:
			}
			if b.down.WaitN(context.Background(), len(p.data)) != nil {
				return
			}
			if _, err := to.Write(p.data); err != nil {
				return
			}
		}
	}()
	defer func() { close(way); <-done }()
	for {
		buf := make([]byte, shapedPiece)
		n, err := from.Read(buf)
		if n > 0 {
			if a.up.WaitN(context.Background(), n) != nil {
				return
			}
			a.sent.Add(int64(n))
			select {
			case way <- piece{buf[:n], time.Now().Add(delay)}:
			case <-done:
				<-a.gone // or b: nobody is told
				return
			}
		}
		if err != nil {
			return
		}
	}
}
