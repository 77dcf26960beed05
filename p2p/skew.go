package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"idlewild/p2p/wire"
)

// ErrTooOld is matched where this program is too old for another's, or the
// other for this one. The error says which, and is made to be shown.
var ErrTooOld = errors.New("the programs are too far apart")

// skews are the members with which this machine does not work, because one of
// the two programs is too old for the other.
type skews struct {
	mu sync.Mutex
	of map[peer.ID]skew
	// said is what the log has of each peer: it is said once, not with each try.
	said map[peer.ID]string
}

type skew struct {
	text string
	// blocked keeps our streams from it and its streams from us. Another
	// connection is another chance: it may have been updated.
	blocked bool
}

// note keeps why we do not work with p. It reports whether that is news.
func (x *skews) note(p peer.ID, text string) (news bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of, x.said = map[peer.ID]skew{}, map[peer.ID]string{}
	}
	x.of[p] = skew{text, true}
	news = x.said[p] != text
	x.said[p] = text
	return news
}

// over ends it: the programs understand each other.
func (x *skews) over(p peer.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.of, p)
	delete(x.said, p)
}

// gone lets p try again. What is known of it is shown until it did.
func (x *skews) gone(p peer.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s, ok := x.of[p]; ok {
		x.of[p] = skew{s.text, false}
	}
}

func (x *skews) text(p peer.ID) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.of[p].text
}

func (x *skews) blocks(p peer.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.of[p].blocked
}

// forget drops all, because the farm is another.
func (x *skews) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.of)
	clear(x.said)
}

// tooOld is why we do not work with p, which told its capability and version;
// nil: we do. name is what to call it.
func (h *Host) tooOld(p peer.ID, name string, capability uint32, version string) *wire.Refusal {
	if capability >= h.release.Least {
		return nil
	}
	return &wire.Refusal{Code: wire.Refusal_TOO_OLD, Text: fmt.Sprintf(
		"%s runs idlewild %s (capability %d), too old for idlewild %s on %s, which works with capability %d and newer: update idlewild on %s",
		name, cmp.Or(printable(version), "of an unknown version"), capability,
		cmp.Or(h.cfg.Version, "of an unknown version"), h.nameOf(h.ID()), h.release.Least, name)}
}

// apart notes that we and p do not work together, if that is what err says.
func (h *Host) apart(p peer.ID, err error) {
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != wire.Refusal_TOO_OLD || !h.members.Known(p) {
		return
	}
	if h.skews.note(p, refused.Text) {
		h.log.Warn("a member is not worked with", "peer", p, "reason", refused.Text)
	}
}

// noHello is what it means that p does not speak our hello: that never changed,
// so the program there is from before it, or none of ours.
func (h *Host) noHello(p peer.ID, err error) error {
	var lacks multistream.ErrNotSupported[protocol.ID]
	if !errors.As(err, &lacks) {
		return cause(err)
	}
	agent := "an unknown program"
	if a, err := h.host.Peerstore().Get(p, "AgentVersion"); err == nil {
		if s, ok := a.(string); ok {
			agent = cmp.Or(printable(s), agent)
		}
	}
	name := h.nameOf(p)
	return &RefusedError{wire.Refusal_TOO_OLD, fmt.Sprintf(
		"%s runs %s, which does not speak with idlewild %s on %s at all: update idlewild on %s",
		name, agent, cmp.Or(h.cfg.Version, "of an unknown version"), h.nameOf(h.ID()), name)}
}

// nameOf is what to call a peer.
func (h *Host) nameOf(p peer.ID) string {
	if p == h.ID() {
		return cmp.Or(h.members.nameOf(p), h.members.name)
	}
	return cmp.Or(h.members.nameOf(p), p.String())
}

// printable makes what a peer calls its version fit to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.ToValidUTF8(s[:min(len(s), wire.MaxVersionBytes)], "") // a rune may have been cut
}

// able notes what a member said that it can (wire.History).
func (h *Host) able(p peer.ID, capability uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.abilities == nil {
		h.abilities = map[peer.ID]uint32{}
	}
	h.abilities[p] = capability
}

// ability is what a member said that it can. One that has not said it yet is
// greeted for it.
func (h *Host) ability(ctx context.Context, p peer.ID) (uint32, bool) {
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
		}
		c, ok = known()
	}
	return c, ok
}

// can reports whether this program and a connected member's have a capability.
func (h *Host) can(ctx context.Context, p peer.ID, capability uint32) bool {
	if h.release.Capability < capability {
		return false
	}
	c, ok := h.ability(ctx, p)
	return ok && c >= capability
}

// stream opens a stream to somebody who may speak a protocol, in the newest form of a protocol that both
// sides know.
func (h *Host) stream(ctx context.Context, p peer.ID, proto Protocol) (network.Stream, error) {
	if h.skews.blocks(p) {
		return nil, &RefusedError{wire.Refusal_TOO_OLD, h.skews.text(p)}
	}
	return h.hostFor(proto).NewStream(ctx, p, h.ids(proto)...)
}
