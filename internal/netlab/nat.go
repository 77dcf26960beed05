package netlab

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// NATKind is how a router translates, in the words of RFC 4787 and, in
// brackets, of RFC 3489.
type NATKind int

const (
	// None is no router: the host has a public address.
	None NATKind = iota
	// Cone maps a host's port to one public port for every destination, and
	// lets in whoever sends there ("full cone").
	Cone
	// PortRestricted maps like Cone, and lets in only those addresses and ports
	// to which the host has sent ("port restricted cone"): most home routers.
	PortRestricted
	// Symmetric has another public port for each destination, and lets in only
	// that destination: mobile networks, many offices.
	Symmetric
)

func (k NATKind) String() string {
	return [...]string{"none", "cone", "port-restricted cone", "symmetric"}[k]
}

// Mappings die when nothing was sent for so long (RFC 4787 asks for two
// minutes at least, RFC 5382 for two hours of TCP).
const (
	udpLife = 2 * time.Minute
	tcpLife = 2 * time.Hour
)

// NAT translates between a network of private addresses and one public
// address. It is no firewall for what the inside began, and it has no hairpin:
// what the inside sends to the public address is dropped by the lab.
type NAT struct {
	kind   NATKind
	public netip.Addr
	out    map[flow]*mapping // by the inside
	in     map[outer]*mapping
}

// flow is what has a mapping of its own: for a cone, to is not set.
type flow struct {
	proto byte
	from  netip.AddrPort
	to    netip.AddrPort
}

type outer struct {
	proto byte
	port  uint16
}

type mapping struct {
	flow
	outer
	used time.Time
	sent map[netip.AddrPort]bool // where the host has sent
}

// newNAT makes one without mappings.
func newNAT(kind NATKind, public netip.Addr) *NAT {
	return &NAT{kind: kind, public: public, out: map[flow]*mapping{}, in: map[outer]*mapping{}}
}

// Out translates a packet that leaves the inside; false: it is dropped, there
// is no port left.
func (n *NAT) Out(p packet, now time.Time) bool {
	f := flow{proto: p.proto(), from: p.src()}
	if n.kind == Symmetric {
		f.to = p.dst()
	}
	m := n.out[f]
	if m == nil || n.dead(m, now) {
		n.forget(m)
		port, ok := n.free(f, now)
		if !ok {
			return false
		}
		m = &mapping{flow: f, outer: outer{f.proto, port}, sent: map[netip.AddrPort]bool{}}
		n.out[f], n.in[m.outer] = m, m
	}
	m.used = now
	m.sent[p.dst()] = true
	p.setSrc(netip.AddrPortFrom(n.public, m.port))
	return true
}

// In translates a packet that arrives from outside; false: it is dropped.
func (n *NAT) In(p packet, now time.Time) bool {
	m := n.in[outer{p.proto(), p.dst().Port()}]
	if m == nil || n.dead(m, now) {
		n.forget(m)
		return false
	}
	if n.kind != Cone && !m.sent[p.src()] {
		return false
	}
	// What arrives does not keep a mapping alive: others could (RFC 4787, REQ-6).
	p.setDst(m.from)
	return true
}

func (n *NAT) dead(m *mapping, now time.Time) bool {
	life := udpLife
	if m.flow.proto == protoTCP {
		life = tcpLife
	}
	return now.Sub(m.used) > life
}

func (n *NAT) forget(m *mapping) {
	if m != nil {
		delete(n.out, m.flow)
		delete(n.in, m.outer)
	}
}

// free finds a public port: the host's own if a cone can have it, else any.
func (n *NAT) free(f flow, now time.Time) (uint16, bool) {
	port := f.from.Port()
	if n.kind == Symmetric {
		port = somePort()
	}
	for range 1000 {
		m := n.in[outer{f.proto, port}]
		if m == nil {
			return port, true
		}
		if n.dead(m, now) {
			n.forget(m)
			return port, true
		}
		port = somePort()
	}
	return 0, false
}

func somePort() uint16 { return uint16(1024 + rand.N(64512)) }
