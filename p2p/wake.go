package p2p

import (
	"context"
	"maps"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"idlewild/internal/beat"
)

const (
	lookEvery = 5 * time.Second  // at the clock and at the interfaces
	sleptFor  = 15 * time.Second // between two looks: the machine slept, or this process did
	probeTime = 5 * time.Second  // for an answer after that
)

// watchMachine notices that the machine slept, or that it has other addresses:
// connections are dead then, and nobody has told them.
func (h *Host) watchMachine(ctx context.Context) {
	tick := time.NewTimer(beat.Until(lookEvery))
	defer tick.Stop()
	// Without its monotonic reading a time goes on while the machine sleeps.
	last, addrs := time.Now().Round(0), interfaceAddrs()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tick.Reset(beat.Until(lookEvery))
		now := time.Now().Round(0)
		slept := now.Sub(last)
		last = now
		mine := interfaceAddrs()
		moved := mine != nil && addrs != nil && !maps.Equal(mine, addrs)
		if mine != nil {
			addrs = mine
		}
		if slept > sleptFor || slept < -sleptFor || moved {
			h.log.Info("connections are tried anew", "slept", slept > sleptFor, "moved", moved)
			h.afresh(mine, moved)
		}
	}
}

// interfaceAddrs are the addresses that this machine has now; nil: unknown.
func interfaceAddrs() map[string]bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			out[n.IP.String()] = true
		}
	}
	return out
}

// afresh closes connections that are dead, dials at once whoever is missing,
// and says where this node is now.
func (h *Host) afresh(mine map[string]bool, moved bool) {
	for _, p := range h.host.Network().Peers() {
		if mine != nil {
			for _, c := range h.host.Network().ConnsToPeer(p) {
				ip, err := manet.ToIP(c.LocalMultiaddr())
				if err == nil && !ip.IsUnspecified() && !mine[ip.String()] {
					h.goRun(func(context.Context) { _ = c.Close() })
				}
			}
		}
		if !h.members.Admitted(p) {
			continue
		}
		h.goRun(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "probe"), probeTime)
			defer cancel()
			if _, err := h.Ping(ctx, p); err != nil {
				h.log.Debug("connection is dead", "peer", p, "err", err)
				_ = h.host.Network().ClosePeer(p)
			}
		})
	}
	h.keeper.anew()
	if moved {
		h.restartMDNS()
		h.lookDHT()
		h.reach.forget()
		h.reserver.wake()
		h.tellAddrs()
	}
}

// maxTold bounds how many members are greeted because of an address: they tell
// others, and a dial tries relays anyway.
const maxTold = 16

// tellAddrs greets some connected members: the hello says where this node is to
// be reached now.
func (h *Host) tellAddrs() {
	told := 0
	for _, p := range h.host.Network().Peers() { // in no order
		if h.members.Known(p) && told < maxTold {
			told++
			h.goRun(func(ctx context.Context) {
				if err := h.hello(ctx, p); err != nil {
					h.log.Debug("addresses not passed on", "peer", p, "err", err)
				}
			})
		}
	}
}

// engage protects the connections of a member with whom there is a job, until
// it is released.
func (h *Host) engage(p peer.ID) (release func()) {
	h.mu.Lock()
	h.engaged[p]++
	h.mu.Unlock()
	h.host.ConnManager().Protect(p, "job")
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.engaged[p]--; h.engaged[p] == 0 {
			delete(h.engaged, p)
			h.host.ConnManager().Unprotect(p, "job")
		}
	}
}

// isEngaged reports whether there is a job with p now.
func (h *Host) isEngaged(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.engaged[p] > 0
}
