package p2p

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/kad"
)

// maxBootstraps bounds Config.Bootstraps.
const maxBootstraps = 32

// enoughMembers that are connected need nobody more from the DHT.
const enoughMembers = 3

// CheckBootstraps says what is wrong with a list of multiaddrs.
func CheckBootstraps(addrs []string) error {
	_, err := infosFrom(addrs)
	return err
}

func infosFrom(addrs []string) ([]peer.AddrInfo, error) {
	if len(addrs) > maxBootstraps {
		return nil, fmt.Errorf("%d bootstraps, at most %d", len(addrs), maxBootstraps)
	}
	byID := map[peer.ID]int{}
	var out []peer.AddrInfo
	for _, s := range addrs {
		info, err := peer.AddrInfoFromString(s)
		if err != nil || len(info.Addrs) == 0 {
			return nil, fmt.Errorf("bootstrap %.80q is not a multiaddr with a peer id, like /ip4/198.51.100.7/tcp/4747/p2p/12D3KooW...", s)
		}
		if i, ok := byID[info.ID]; ok {
			out[i].Addrs = append(out[i].Addrs, info.Addrs...)
			continue
		}
		byID[info.ID] = len(out)
		out = append(out, *info)
	}
	return out, nil
}

// bootstrap reports whether p is one.
func (h *Host) bootstrap(p peer.ID) bool {
	infos, _ := infosFrom(h.cfg.Bootstraps) // New looked
	for _, i := range infos {
		if i.ID == p {
			return true
		}
	}
	return false
}

// tendDHT takes part in the farm's DHT while there is something to be found by
// it: the farm is open, or this node came as a stranger and hopes that it is.
func (h *Host) tendDHT() {
	if !h.cfg.DHT {
		return
	}
	f, in := h.members.Farm()
	wanted := in && !f.Revoked && (!f.Open.IsZero() || f.Role == RoleStranger)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed || wanted == (h.kad != nil):
	case !wanted:
		table := h.kad
		h.kad = nil
		h.wg.Go(func() { _ = table.Close() })
	default:
		infos, _ := infosFrom(h.cfg.Bootstraps)
		table, err := kad.Start(kad.Config{
			Host: h.host, Farm: string(f.ID), Bootstraps: infos, Log: h.log.With("part", "dht"), Pace: h.cfg.pace,
			Provide: func() bool { return h.cfg.Strangers != nil && !h.members.isStranger() },
			Public:  h.isPublic, Known: h.reachedMembers, Enough: func() bool { return len(h.reachedMembers()) >= enoughMembers },
			Found: func(p peer.AddrInfo) { h.keeper.found(p, byDHT) },
		})
		if err != nil {
			h.log.Warn("no part in the farm's DHT", "err", err)
			return
		}
		h.kad = table
	}
}

// seeking reports whether this node takes part in a DHT.
func (h *Host) seeking() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kad != nil
}

// lookDHT searches at once: this node is elsewhere now.
func (h *Host) lookDHT() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kad != nil {
		h.kad.Look()
	}
}

// isPublic reports whether a member dialled this node from a port that it did
// not know, and came in.
func (h *Host) isPublic() bool {
	open, _ := h.reach.known()
	return h.cfg.public || len(open) > 0
}

// reachedMembers are the members that are connected.
func (h *Host) reachedMembers() []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, p := range h.host.Network().Peers() {
		if h.members.Known(p) && h.host.Network().Connectedness(p) == network.Connected {
			out = append(out, peer.AddrInfo{ID: p, Addrs: h.host.Peerstore().Addrs(p)})
		}
	}
	return out
}

// DHT is how this node takes part in the farm's DHT; false: it does not.
func (h *Host) DHT() (kad.State, bool) {
	h.mu.Lock()
	table := h.kad
	h.mu.Unlock()
	if table == nil {
		return kad.State{}, false
	}
	return table.State(), true
}
