package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// serviceName is the mDNS service of a farm: members find each other, and
// others learn neither the farm's name nor its ID.
func serviceName(f FarmID) string { return "_iw" + string(f[:12]) + "._udp" }

type mdnsFound struct{ k *keeper }

// HandlePeerFound implements mdns.Notifee.
func (m mdnsFound) HandlePeerFound(p peer.AddrInfo) { m.k.found(p, byMDNS) }

// startMDNS looks for members on the local network. Where multicast does not
// work the farm lives without it.
func (h *Host) startMDNS(f FarmID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mdns != nil || h.closed {
		return
	}
	s := mdns.NewMdnsService(h.host, serviceName(f), mdnsFound{h.keeper})
	if err := s.Start(); err != nil {
		h.log.Warn("no discovery on the local network", "err", err)
		return
	}
	h.mdns = s
}

// restartMDNS looks again, on the interfaces that there are now.
func (h *Host) restartMDNS() {
	h.mu.Lock()
	old := h.mdns
	h.mdns = nil
	h.mu.Unlock()
	if old == nil {
		return
	}
	old.Close()
	if f, ok := h.members.Farm(); ok && !f.Revoked {
		h.startMDNS(f.ID)
	}
}
