package p2p

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"idlewild/internal/beat"
)

const (
	wantedRelays = 3
	reserveEvery = 15 * time.Second // looks after the reservations
	reserveAgain = 5 * time.Minute  // after a refusal
)

// reserver keeps reservations with members outside that relay, so that members who
// cannot reach this node come through them. Which member relays is in what it
// tells with identify; that it can be reached is shown by our connection.
type reserver struct {
	h     *Host
	wakeC chan struct{}

	mu      sync.Mutex
	held    map[peer.ID]time.Time // until when
	refused map[peer.ID]time.Time // not to be asked before
}

func newReserver(h *Host) *reserver {
	return &reserver{h: h, wakeC: make(chan struct{}, 1), held: map[peer.ID]time.Time{}, refused: map[peer.ID]time.Time{}}
}

func (r *reserver) wake() {
	select {
	case r.wakeC <- struct{}{}:
	default:
	}
}

func (r *reserver) run(ctx context.Context) {
	tick := time.NewTimer(beat.Until(reserveEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(beat.Until(reserveEvery))
		case <-r.wakeC:
		}
		if r.look(ctx) {
			// Where we are to be reached is different now.
			r.h.tellAddrs()
		}
	}
}

// look renews what ends soon and looks for more; true: there is a new one.
func (r *reserver) look(ctx context.Context) (news bool) {
	now := time.Now()
	relays := r.h.relays(relayOutside)
	r.mu.Lock()
	for p := range r.held {
		if !slices.Contains(relays, p) {
			delete(r.held, p) // it ends with the connection
		}
	}
	have, wanted := 0, wantedRelays
	if open, _ := r.h.reach.known(); len(open) > 0 {
		wanted = 0 // nobody needs a relay to come here
	}
	var ask []peer.ID
	for _, p := range relays {
		switch until, ok := r.held[p]; {
		case ok && until.Sub(now) > reservationLife/2:
			have++
		case ok:
			ask = append([]peer.ID{p}, ask...) // one to renew goes first
		case r.refused[p].Before(now):
			ask = append(ask, p)
		}
	}
	r.mu.Unlock()
	for _, p := range ask {
		if have >= wanted || ctx.Err() != nil {
			break
		}
		asking, cancel := context.WithTimeout(network.WithNoDial(ctx, "relay"), exchangeTime)
		got, err := client.Reserve(asking, r.h.guarded, peer.AddrInfo{ID: p})
		cancel()
		r.mu.Lock()
		if err != nil {
			delete(r.held, p)
			r.refused[p] = now.Add(reserveAgain)
			r.h.log.Debug("no reservation", "peer", p, "err", err)
		} else {
			_, had := r.held[p]
			news = news || !had
			// The relay's clock may differ: its word counts for a life at most.
			r.held[p] = now.Add(min(reservationLife, max(time.Until(got.Expiration), time.Minute)))
			have++
			r.h.log.Debug("reserved", "peer", p)
		}
		r.mu.Unlock()
	}
	return news
}

// gone forgets what ended with a connection, or with a wish to begin anew.
func (r *reserver) gone(p peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, p)
	delete(r.refused, p)
}

// holding are the relays with which this node has a reservation.
func (r *reserver) holding() []peer.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []peer.ID
	for p := range r.held {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// addrs are where this node is to be reached through relays.
func (r *reserver) addrs() []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, p := range r.holding() {
		tail, err := circuit(p)
		if err != nil {
			continue
		}
		for _, c := range r.h.host.Network().ConnsToPeer(p) {
			// One that we dialled is one where others find it.
			if c.Stat().Direction == network.DirOutbound && !relayed(c) {
				out = append(out, c.RemoteMultiaddr().Encapsulate(tail))
				break
			}
		}
	}
	return out
}

// What is known of a relay, by our connection with it.
const (
	relayAnywhere = 1 + iota // there is one: it may be a neighbour
	relayOutside             // it is beyond our network
	relayReached             // we dialled it at a public address, so others can
)

// relays are the connected members that relay and of which that much is known,
// those of which most is first.
func (h *Host) relays(least int) []peer.ID {
	if h.members.isStranger() {
		return nil // they carry members
	}
	rank := map[peer.ID]int{}
	var out []peer.ID
	for _, p := range h.host.Network().Peers() {
		if !h.members.Known(p) {
			continue
		}
		if ids, err := h.host.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop); err != nil || len(ids) == 0 {
			continue
		}
		best := 0
		for _, c := range h.host.Network().ConnsToPeer(p) {
			switch {
			case relayed(c), manet.IsIPLoopback(c.RemoteMultiaddr()):
			case c.Stat().Direction == network.DirOutbound && manet.IsPublicAddr(c.RemoteMultiaddr()) && !h.paths.punched(p):
				best = relayReached
			case manet.IsPublicAddr(c.RemoteMultiaddr()):
				best = max(best, relayOutside)
			default:
				best = max(best, relayAnywhere)
			}
		}
		if best >= least {
			rank[p] = best
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b peer.ID) int { return cmp.Or(rank[b]-rank[a], cmp.Compare(a, b)) })
	return out
}

// circuit is the address of whatever is reached through p.
func circuit(p peer.ID) (ma.Multiaddr, error) {
	return ma.NewMultiaddr("/p2p/" + p.String() + "/p2p-circuit")
}

// through are addresses of p by way of every relay that we are connected to:
// one of them may have p's reservation, whatever p last said of itself.
func (h *Host) through(p peer.ID) []ma.Multiaddr {
	if !h.cfg.Traverse {
		return nil
	}
	var out []ma.Multiaddr
	for _, r := range h.relays(relayAnywhere) {
		if r == p || len(out) == maxThrough {
			continue
		}
		if a, err := circuit(r); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// maxThrough bounds the relays that one dial tries.
const maxThrough = 8

// relayed reports whether a connection goes through a relay.
func relayed(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
