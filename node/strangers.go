package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/node/localapi"
	"idlewild/p2p"
)

// strangers is what p2p asks where this machine works with strangers; nil: it
// does not, and none is let in.
func (n *Node) strangers() p2p.Strangers {
	if n.cfg.Swarm.Accept != acceptStrangers {
		return nil
	}
	return doorkeeper{n}
}

// doorkeeper is p2p.Strangers.
type doorkeeper struct{ n *Node }

// Banned implements p2p.Strangers.
func (d doorkeeper) Banned(p peer.ID) string { return d.n.book.Score(p).Banned }

// confinesStrangers reports whether a stranger's files may run here: a sandbox is
// in force that was seen to hold. That sandbox.mode is off, or that
// sandbox.trusted names a peer, is about members.
func (k *kit) confinesStrangers() bool { return k.sandboxed && k.confined }

// stranger reports whether a peer is no member of the farm.
func (n *Node) stranger(p peer.ID) bool { return p != n.self && !n.host.Membership().Known(p) }

// strangerPrecedence is what a stranger gets of this machine beside a member
// without credit: members first.
const strangerPrecedence = 0.25

// precedence is worker.Options.Precedence.
func (n *Node) precedence(p peer.ID) float64 {
	if n.stranger(p) {
		return strangerPrecedence
	}
	return precedence(n.book.Score(p))
}

const (
	noStrangers = "the requester is no member of the farm, and this machine works for members only (swarm.accept)"
	noSandbox   = "the requester is no member of the farm, and this machine has no sandbox that is known to hold: strangers' files do not run here"
)

// acceptStranger says why a requester that is no member gets no work here; nil
// for members.
func (n *Node) acceptStranger(cfg Config, requester peer.ID) error {
	switch {
	case !n.stranger(requester):
		return nil
	case cfg.Swarm.Accept != acceptStrangers:
		return errors.New(noStrangers)
	case !n.kit.confinesStrangers():
		return errors.New(noSandbox)
	}
	return nil
}

// strangerFindings are what doctor says of an open farm.
func (n *Node) strangerFindings(farm p2p.Farm, in bool) (out []localapi.Finding) {
	add := func(severity, what, remedy string) {
		out = append(out, localapi.Finding{Severity: severity, What: what, Remedy: remedy})
	}
	takes := n.cfg.Swarm.Accept == acceptStrangers
	if takes && !n.kit.confinesStrangers() {
		add("warning", "swarm.accept is strangers, and no sandbox here is known to hold: no stranger's job runs on this machine", "install bubblewrap, and leave sandbox.mode at auto; idlewild status shows what is missing")
	}
	if !in || farm.Revoked {
		return out
	}
	open := !farm.Open.IsZero()
	switch {
	case farm.Role == p2p.RoleStranger && !open:
		add("error", fmt.Sprintf("farm %q is not open any more: its members let no strangers in", farm.Name), "ask the farm's owner for a ticket, or wait until it is open again; then this machine comes back by itself")
	case farm.Role == p2p.RoleStranger:
		add("note", fmt.Sprintf("this machine is a stranger in farm %q: it works for members that take strangers, and gets work done by them", farm.Name), "a ticket of the owner's makes it a member: idlewild farm join TICKET")
	case open:
		what := fmt.Sprintf("the farm is open to strangers until %s", farm.Open.Local().Format(time.DateTime))
		if c := (farmView{n}).View().Crowd; c != nil {
			what += "; " + c.Text
		}
		remedy := "swarm.accept = \"members\" keeps them off this machine; the farm's owner ends it with: idlewild farm close"
		if !takes {
			what, remedy = fmt.Sprintf("the farm is open to strangers until %s; this machine takes none", farm.Open.Local().Format(time.DateTime)), "swarm.accept = \"strangers\" lets them in here"
		}
		add("note", what, remedy)
	}
	if s, ok := n.host.DHT(); ok && s.Nodes == 0 {
		add("note", "no other node of the farm's DHT is reached", "name nodes in network.bootstraps that can be reached from anywhere; members are found by other ways meanwhile")
	}
	return out
}

// dhtText is how this machine takes part in the farm's DHT; "": it does not.
func (n *Node) dhtText() string {
	s, ok := n.host.DHT()
	switch {
	case !ok:
		return ""
	case s.Server:
		return fmt.Sprintf("answers, because a member reached this machine from outside; it knows %d nodes", s.Nodes)
	}
	return fmt.Sprintf("only asks, because no member reached this machine from outside yet; it knows %d nodes", s.Nodes)
}
