package p2p

import (
	"maps"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"idlewild/p2p/wire"
)

// Protocol is one of our protocols, by its noun. Its constant stands where it
// is spoken, its IDs in thisRelease.
type Protocol string

// Release is what one release of this program speaks. Every release speaks
// with the one before it and the one after it; docs/updates.md has the rules.
type Release struct {
	Capability uint32 // that it has, see wire.History
	Least      uint32 // of the peers that it works with: what the release before it had
	// IDs of each protocol, newest first: this release's, and that of the release
	// before where it was another. Both are answered, and who asks offers both, so
	// that the newest which both sides know is spoken. A handler whose behaviour
	// differs looks at its stream's Protocol.
	//
	// Those of admit and hello never change: by them two releases, however far
	// apart, say why they do not work together.
	IDs map[Protocol][]string
}

// thisRelease is the one place where IDs are declared.
var thisRelease = Release{
	Capability: wire.Capability,
	Least:      wire.CapabilityLeast,
	IDs: map[Protocol][]string{
		ProtocolAdmit:    {"/idlewild/admit/1.0.0"},
		ProtocolHello:    {"/idlewild/hello/1.0.0"},
		ProtocolSync:     {"/idlewild/sync/1.0.0"},
		ProtocolBlocks:   {"/idlewild/blocks/1.0.0"},
		ProtocolShare:    {"/idlewild/share/1.0.0"},
		ProtocolShow:     {"/idlewild/show/1.0.0"},
		ProtocolProbe:    {"/idlewild/probe/1.0.0"},
		ProtocolAsk:      {"/idlewild/ask/1.0.0"},
		ProtocolSteward:  {"/idlewild/steward/1.0.0"},
		ProtocolFarmJobs: {"/idlewild/farm-jobs/1.0.0"},
	},
}

// ThisRelease is what this program speaks. Tests make others out of it.
func ThisRelease() Release {
	r := thisRelease
	r.IDs = maps.Clone(r.IDs)
	for p, ids := range r.IDs {
		r.IDs[p] = slices.Clone(ids)
	}
	return r
}

// Capability is what this program tells others that it can.
const Capability = wire.Capability

// Added is what this program can that one of an older capability cannot.
func Added(since uint32) (out []string) {
	for _, a := range wire.History {
		if a.Capability > since {
			out = append(out, a.What)
		}
	}
	return out
}

// ids are a protocol's, newest first.
func (h *Host) ids(p Protocol) []protocol.ID { return protocol.ConvertFromStrings(h.release.IDs[p]) }

// forStrangers are the protocols that strangers speak too: what it takes to work
// for somebody, or to have others work.
var forStrangers = map[Protocol]bool{ProtocolSync: true, ProtocolBlocks: true, ProtocolShare: true}

// hostFor is the host on which a protocol is spoken.
func (h *Host) hostFor(p Protocol) host.Host {
	if forStrangers[p] {
		return h.shared
	}
	return h.guarded
}

// serve has f answer members that speak p in either release's form, but for
// those that are too old for this program, or this program for them.
func (h *Host) serve(p Protocol, f network.StreamHandler) {
	for _, id := range h.ids(p) {
		h.hostFor(p).SetStreamHandler(id, func(s network.Stream) {
			if h.skews.blocks(s.Conn().RemotePeer()) {
				h.stats.refused.Add(1)
				s.Reset()
				return
			}
			f(s)
		})
	}
}
