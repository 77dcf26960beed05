package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/node/localapi"
	"idlewild/node/worker"
	"idlewild/p2p"
)

const (
	clockApart   = 30 * time.Second // offers expire after minutes, so this is early
	probeAtOnce  = 16               // clocks; speeds are measured one after the other
	maxSpeeds    = 16               // members whose speed is measured, in one look
	maxUnreached = 8                // findings about members that are out of reach
)

// doctor is localapi.Doctor.
type doctor struct{ n *Node }

// Doctor implements localapi.Doctor.
func (d doctor) Doctor(ctx context.Context, speed bool) localapi.DoctorView {
	n := d.n
	reach := n.host.Reach()
	v := localapi.DoctorView{
		Version: Version, Capability: p2p.Capability,
		Network: localapi.NetworkView{
			Profile: n.cfg.Network.Profile, NAT: string(reach.NAT), Listen: reach.Listen, Seen: reach.Seen,
			Open: reach.Open, Shut: reach.Shut, Traverse: reach.Traverse,
			IsRelay: reach.Serves, RelayedBytes: reach.Relayed, UpLimit: n.cfg.Limits.UpBytes, DownLimit: n.cfg.Limits.DownBytes,
		},
		Findings: []localapi.Finding{}, Peers: []localapi.DoctorPeer{}, Offers: []localapi.OfferOutcome{},
	}
	peers := n.host.Peers()
	names := map[peer.ID]string{n.self: n.cfg.Name}
	for _, p := range n.host.Strangers() {
		names[p.Peer] = p.Name
	}
	for _, p := range peers {
		names[p.Peer] = p.Name
	}
	for _, r := range reach.Relays {
		v.Network.Relays = append(v.Network.Relays, cmp.Or(names[r], r.String()))
	}
	v.Peers = d.peers(ctx, peers, names, speed)
	for _, h := range n.worker.Heard() {
		v.Offers = append(v.Offers, localapi.OfferOutcome{
			Job: h.Job, Requester: h.Requester.String(), Name: names[h.Requester], First: h.First, Last: h.Last,
			Open: h.Open, Leases: h.Leases, Outcome: string(h.Fate), Reason: h.Reason, Remedy: remedies[h.Fate],
		})
	}
	v.Network.DHT = n.dhtText()
	farm, in := n.host.Membership().Farm()
	v.Findings = worstFirst(append(findings(v, farm, in, n.cfg, reach.Port), slices.Concat(n.kit.deviceFindings(), n.kit.engineFindings(), n.disks.findings(), n.trees.findings(), n.strangerFindings(farm, in))...))
	return v
}

// peers looks at the way to every other member.
func (d doctor) peers(ctx context.Context, peers []p2p.Peer, names map[peer.ID]string, speed bool) []localapi.DoctorPeer {
	out := []localapi.DoctorPeer{}
	var ids []peer.ID
	for _, p := range peers {
		if p.Self {
			continue
		}
		v := localapi.DoctorPeer{
			Peer: p.Peer.String(), Name: p.Name, Connected: p.Connected, LastSeen: p.LastSeen, Trouble: p.Trouble, Path: string(p.Path),
			Transport: p.Transport, Address: p.Addr, PunchMillis: millis(p.PunchTook), PunchFail: p.PunchFail, RTTMillis: millis(p.RTT),
			Agent: p.Agent, Capability: p.Capability, Apart: p.Apart,
		}
		if p.Via != "" {
			v.Via = cmp.Or(names[p.Via], p.Via.String())
		}
		out, ids = append(out, v), append(ids, p.Peer)
	}
	look := func(i int, speed bool) {
		m, err := d.n.host.Measure(ctx, ids[i], speed)
		if err != nil {
			out[i].Unmeasured = err.Error()
			return
		}
		out[i].RTTMillis, out[i].ClockMillis = millis(m.RTT), millis(m.Clock)
		out[i].UpBytes, out[i].DownBytes, out[i].Unmeasured = m.Up, m.Down, m.Description
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, probeAtOnce)
	for i := range out {
		if !out[i].Connected {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			look(i, false)
		})
	}
	wg.Wait()
	for i, measured := 0, 0; speed && i < len(out) && measured < maxSpeeds && ctx.Err() == nil; i++ {
		if out[i].Connected {
			look(i, true)
			measured++
		}
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// remedies are what helps an offer that brought no work.
var remedies = map[worker.Fate]string{
	worker.FateOff:         "set worker.enabled = true, or start without --no-work",
	worker.FateUnfit:       "give this machine what is named; idlewild blender list and idlewild gpus show what it has",
	worker.FateRefused:     "idlewild status shows the sandbox; sandbox.trusted names requesters whose files may run without one",
	worker.FateFull:        "wait: a requester without work for this machine is left after two minutes",
	worker.FateUnreachable: "see the findings about that member",
	worker.FateResting:     "idlewild why shows what decides; idlewild resume ends a pause",
	worker.FateDenied:      "ask the requester's owner: idlewild status there shows how this machine stands",
}

var severities = []string{"error", "warning", "note"}

// findings are what is not as it should be, worst first. port is that of QUIC.
func findings(v localapi.DoctorView, farm p2p.Farm, in bool, cfg Config, port string) []localapi.Finding {
	out := []localapi.Finding{}
	add := func(severity, what, remedy string) {
		out = append(out, localapi.Finding{Severity: severity, What: what, Remedy: remedy})
	}
	switch {
	case !in:
		add("error", "this machine is in no farm", "idlewild farm create, or idlewild farm join TICKET")
		return out
	case farm.Revoked:
		add("error", fmt.Sprintf("this machine was put out of farm %q", farm.Name), "ask the farm's owner for a new ticket")
		return out
	case farm.Forked:
		add("error", "somebody showed another successor of this farm's root key: the key before it is in other hands", "compare with the owner that both have the same members, see: idlewild farm members; let the owner replace the key: idlewild farm rotate --carry 0s")
	case farm.Left:
		add("error", "the farm's root key was replaced, and this machine has no certificate by the new one yet", "it comes from the owner's machine or a member that has it, once one is connected; else ask the owner for a ticket")
	case len(v.Peers) == 0:
		add("note", "nobody else is in the farm", "let others in with: idlewild farm invite")
	}
	connected, relayed := 0, 0
	for _, p := range v.Peers {
		if p.Connected {
			connected++
		}
		if p.Path == string(p2p.PathRelayed) {
			relayed++
		}
	}
	if len(v.Peers) > 0 && connected == 0 {
		what := "no member is connected"
		for _, p := range v.Peers {
			if p.Trouble != "" {
				what += fmt.Sprintf(" (%s: %s)", cmp.Or(p.Name, p.Peer), p.Trouble)
				break
			}
		}
		add("error", what, "is idlewild running on another machine of the farm, and this one on a network? If so, "+outwards(v.Network))
	}
	unreached := 0
	for _, p := range v.Peers {
		if p.Connected || connected == 0 {
			continue
		}
		if unreached++; unreached > maxUnreached {
			continue
		}
		what := fmt.Sprintf("%s is not connected", cmp.Or(p.Name, p.Peer))
		if p.Trouble != "" {
			what += ": " + p.Trouble
		}
		remedy := "is idlewild running there?"
		if len(v.Network.Relays) == 0 && v.Network.NAT != string(p2p.NATNone) {
			remedy += " If it is, " + outwards(v.Network)
		}
		add("note", what, remedy)
	}
	if unreached > maxUnreached {
		what := fmt.Sprintf("%d more members are not connected", unreached-maxUnreached)
		if unreached == maxUnreached+1 {
			what = "1 more member is not connected"
		}
		add("note", what, "idlewild peers lists them")
	}
	if relayed > 0 {
		are := "are"
		if relayed == 1 {
			are = "is"
		}
		what := fmt.Sprintf("%d of %d connected members %s reached through a relay, at its speed", relayed, connected, are)
		if v.Network.NAT == string(p2p.NATSymmetric) {
			what += ": this machine's router has another port for each destination, so no hole can be punched"
		}
		add("warning", what, forward(port, cfg))
	}
	for _, p := range v.Peers {
		name := cmp.Or(p.Name, p.Peer)
		if off := time.Duration(p.ClockMillis * float64(time.Millisecond)); off.Abs() > clockApart {
			way := "ahead of"
			if off < 0 {
				way = "behind"
			}
			add("warning", fmt.Sprintf("the clock of %s is %v %s this machine's: offers and certificates may count as expired", name, off.Abs().Round(time.Second), way),
				"let both machines set their clocks by the network")
		}
		if p.Apart != "" {
			add("error", p.Apart, "idlewild update, or the package manager of the machine that is named; until then the two give each other no work")
		} else if p.Capability > 0 && p.Capability != v.Capability {
			older, unused := name, strings.Join(p2p.Added(p.Capability), "; ")
			if p.Capability > v.Capability {
				older, unused = "this machine", "what only the newer can"
			}
			add("note", fmt.Sprintf("%s runs %s (capability %d), this machine idlewild/%s (capability %d). They work together, but for: %s",
				name, cmp.Or(p.Agent, "another version"), p.Capability, v.Version, v.Capability, unused), "update "+older)
		}
	}
	if !cfg.Worker.Enabled {
		add("note", "this machine does no work for others", remedies[worker.FateOff])
	}
	return worstFirst(out)
}

func worstFirst(list []localapi.Finding) []localapi.Finding {
	slices.SortStableFunc(list, func(a, b localapi.Finding) int {
		return slices.Index(severities, a.Severity) - slices.Index(severities, b.Severity)
	})
	return list
}

// outwards is what helps a machine that reaches nobody.
func outwards(n localapi.NetworkView) string {
	if !n.Traverse {
		return "members must be in this network or have an open port: network.traverse is off"
	}
	return "one member has to be reachable from outside: a public address, a router that passes the port on, or UPnP"
}

// forward is what makes a machine reachable without a relay.
func forward(port string, cfg Config) string {
	how := "let the router pass on UDP port " + port + " to this machine, or switch its UPnP on"
	if !cfg.Network.PortMap {
		how += " and set network.port_map = true"
	}
	return how + "; one side of each pair is enough"
}
