package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// punchAgain is the pause between tries for a member that stays relayed.
const punchAgain = 5 * time.Minute

// puncher makes direct connections out of relayed ones (DCUtR). It begins once
// somebody outside has seen this node: libp2p's own way of starting it waits
// for that with growing pauses, and what is relayed meanwhile stays relayed.
type puncher struct {
	h *Host

	mu      sync.Mutex
	service *holepunch.Service
}

// ready starts the service if there is an address to punch to, and tries what
// is relayed already.
func (u *puncher) ready() {
	ids, ok := u.h.host.(interface{ IDService() identify.IDService })
	if !u.h.cfg.Traverse || !ok || len(u.h.punchAddrs()) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.service != nil || u.h.ctx.Err() != nil {
		return
	}
	s, err := holepunch.NewService(u.h.guarded, ids.IDService(), u.h.punchAddrs,
		holepunch.WithTracer(u.h.paths), holepunch.DirectDialTimeout(dialTime))
	if err != nil {
		u.h.log.Error("no hole punching", "err", err)
		return
	}
	u.service = s
	u.h.goRun(func(context.Context) { u.again(s) })
}

// run tries again now and then: routers change, and so do networks.
func (u *puncher) run(ctx context.Context) {
	tick := time.NewTicker(punchAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			u.mu.Lock()
			s := u.service
			u.mu.Unlock()
			if s != nil {
				_ = s.Close()
			}
			return
		case <-tick.C:
		}
		u.mu.Lock()
		s := u.service
		u.mu.Unlock()
		if s != nil {
			u.again(s)
		}
	}
}

// again punches for every member that reached us through a relay only. It is
// the side that was reached that begins.
func (u *puncher) again(s *holepunch.Service) {
	var wg sync.WaitGroup
	for _, p := range u.h.host.Network().Peers() {
		conns := u.h.host.Network().ConnsToPeer(p)
		if c := best(conns); c == nil || !relayed(c) || c.Stat().Direction != network.DirInbound || !u.h.members.Known(p) {
			continue
		}
		wg.Go(func() {
			if err := s.DirectConnect(p); err != nil {
				u.h.log.Debug("no hole punched", "peer", p, "err", err)
			}
		})
	}
	wg.Wait()
}

// punchAddrs are the public addresses at which this node's ports were seen,
// and those that it has.
func (h *Host) punchAddrs() []ma.Multiaddr {
	if h.cfg.outside != nil {
		return h.cfg.outside()
	}
	out := h.paths.seen()
	for _, a := range h.host.Addrs() {
		if manet.IsPublicAddr(a) {
			out = append(out, a)
		}
	}
	return ma.Unique(out)
}
