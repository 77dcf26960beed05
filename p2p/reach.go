package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	checkFirst = 15 * time.Second // after the start: members are connected by then
	checkEvery = 3 * time.Minute  // a member answers one question in two minutes
	checkValid = time.Hour        // a dial from outside counts for so long
	checkTries = maxAdmitted + maxAsking
)

// reachability asks members to dial this node from a port that it has never
// spoken to (AutoNATv2), and remembers what came of it. libp2p's own would
// answer strangers.
type reachability struct {
	h      *Host
	nat    *autonatv2.AutoNAT
	dialer *dialer // dials for others, under another identity

	mu      sync.Mutex
	reached map[string]verdict // by address
}

type verdict struct {
	addr ma.Multiaddr
	ok   bool
	at   time.Time
}

// startChecks begins to ask and to answer.
func (h *Host) startChecks() error {
	dialer, err := newDialer(h.host.Network().ResourceManager())
	if err != nil {
		return fmt.Errorf("p2p: dialling for others: %w", err)
	}
	var opts []autonatv2.AutoNATOption
	if h.cfg.outside != nil {
		opts = append(opts, autonatv2.AllowPrivateAddrs)
	}
	nat, err := autonatv2.New(dialer, opts...)
	if err == nil {
		err = nat.Start(checkHost{h.guarded, h.host, h.members})
	}
	if err != nil {
		dialer.Close()
		return fmt.Errorf("p2p: AutoNAT: %w", err)
	}
	h.reach.nat, h.reach.dialer = nat, dialer
	h.goRun(h.reach.run)
	return nil
}

// checkHost answers members, but for the dial itself: who dials for another has
// an identity for that alone.
type checkHost struct {
	host.Host // for members
	open      host.Host
	members   *Membership
}

// NewStream implements host.Host. Whoever is no member yet is not waited for:
// there are others to ask.
func (c checkHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if !c.members.Known(p) {
		return nil, ErrNotMember
	}
	return c.Host.NewStream(ctx, p, ids...)
}

// SetStreamHandler implements host.Host.
func (c checkHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	if id == autonatv2.DialBackProtocol {
		c.open.SetStreamHandler(id, f)
		return
	}
	c.Host.SetStreamHandler(id, f)
}

func (r *reachability) run(ctx context.Context) {
	defer r.dialer.Close()
	defer r.nat.Close()
	t := time.NewTimer(checkFirst)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.check(ctx)
		t.Reset(checkEvery)
	}
}

// check asks a member about the address that was asked about longest ago. In an
// open farm most who say that they answer may be none.
func (r *reachability) check(ctx context.Context) {
	addrs := r.h.punchAddrs()
	if len(addrs) == 0 {
		return
	}
	r.mu.Lock()
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int {
		return r.reached[a.String()].at.Compare(r.reached[b.String()].at)
	})
	r.mu.Unlock()
	got, err := autonatv2.Result{}, ErrNotMember
	for try := 0; try < checkTries && errors.Is(err, ErrNotMember); try++ { // it picks another one each time
		got, err = r.nat.GetReachability(ctx, []autonatv2.Request{{Addr: addrs[0], SendDialData: true}})
	}
	if err != nil || got.Reachability == network.ReachabilityUnknown {
		if err != nil && !errors.Is(err, autonatv2.ErrNoPeers) {
			r.h.log.Debug("reachability not known", "err", cause(err))
		}
		return
	}
	r.h.log.Debug("dialled from outside", "addr", got.Addr, "reached", got.Reachability == network.ReachabilityPublic)
	r.mu.Lock()
	if r.reached == nil || len(r.reached) > 64 {
		r.reached = map[string]verdict{}
	}
	r.reached[got.Addr.String()] = verdict{got.Addr, got.Reachability == network.ReachabilityPublic, time.Now()}
	r.mu.Unlock()
	r.h.reserver.wake()
}

// known are the addresses of which we know whether they can be dialled from
// outside.
func (r *reachability) known() (open, shut []ma.Multiaddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.reached {
		switch {
		case time.Since(v.at) > checkValid:
		case v.ok:
			open = append(open, v.addr)
		default:
			shut = append(shut, v.addr)
		}
	}
	return open, shut
}

// forget what was found before the network changed.
func (r *reachability) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.reached)
}

// Reach is how this node stands towards the network outside. Addresses are
// multiaddrs.
type Reach struct {
	Listen   []string // where it listens
	Port     string   // of QUIC; empty: it does not listen there
	Seen     []string // public addresses at which members see it
	Open     []string // those of which a member dialled it, from a port that it did not know
	Shut     []string // those of which a member could not
	NAT      NAT
	Traverse bool      // it may use relays and punch holes
	Relays   []peer.ID // with which it has a reservation
	Serves   bool      // it relays for others
	Relayed  int64     // bytes so far
}

// Reach says how this node can be reached.
func (h *Host) Reach() Reach {
	listen := slices.DeleteFunc(h.host.Network().ListenAddresses(), func(a ma.Multiaddr) bool {
		_, err := manet.ToIP(a) // that of relayed connections has none
		return err != nil
	})
	open, shut := h.reach.known()
	nat, seen := h.paths.natKind(h.host.Addrs())
	r := Reach{
		Listen: texts(listen), Seen: texts(seen), Open: texts(open), Shut: texts(shut), NAT: nat, Traverse: h.cfg.Traverse,
		Relays: h.reserver.holding(), Serves: h.cfg.Traverse && h.cfg.RelayBytes > 0, Relayed: h.stats.relayed.Load(),
	}
	for _, a := range listen {
		if port, err := a.ValueForProtocol(ma.P_UDP); err == nil {
			r.Port = port
			break
		}
	}
	return r
}

func texts(addrs []ma.Multiaddr) []string {
	out := []string{}
	for _, a := range addrs {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return out
}

// onlyLoopback reports whether nobody outside could come in anyway.
func onlyLoopback(listen []string) bool {
	for _, s := range listen {
		a, err := ma.NewMultiaddr(s)
		if err != nil || !manet.IsIPLoopback(a) {
			return false
		}
	}
	return len(listen) > 0
}
