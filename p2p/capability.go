package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
)

// able notes what a member said that it can (wire.Capability).
func (h *Host) able(p peer.ID, capability uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.abilities == nil {
		h.abilities = map[peer.ID]uint32{}
	}
	h.abilities[p] = capability
}

// can reports whether a connected member has a capability. One that has not
// said yet what it can is greeted for it.
func (h *Host) can(ctx context.Context, p peer.ID, capability uint32) bool {
	known := func() (uint32, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		c, ok := h.abilities[p]
		return c, ok
	}
	c, ok := known()
	if !ok {
		if err := h.hello(ctx, p); err != nil {
			h.log.Debug("not known what a peer can", "peer", p, "err", err)
			return false
		}
		c, _ = known()
	}
	return c >= capability
}
