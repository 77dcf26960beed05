package netlab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// made is a packet with right checksums.
func made(proto byte, src, dst string, payload int) packet {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	head := map[byte]int{protoTCP: 20, protoUDP: 8}[proto]
	b := make([]byte, 20+head+payload)
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s4, d4 := s.Addr().As4(), d.Addr().As4()
	copy(b[12:], s4[:])
	copy(b[16:], d4[:])
	body := b[20:]
	binary.BigEndian.PutUint16(body, s.Port())
	binary.BigEndian.PutUint16(body[2:], d.Port())
	if proto == protoUDP {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	} else {
		body[12] = 5 << 4
	}
	for i := range payload {
		body[head+i] = byte(rand.N(256))
	}
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20], 0))
	sum := checksum(body, pseudo(b))
	if proto == protoUDP && sum == 0 {
		sum = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(body[sumAt(proto):], sum)
	return packet(b)
}

func sumAt(proto byte) int { return map[byte]int{protoTCP: 16, protoUDP: 6}[proto] }

func pseudo(b []byte) uint32 {
	var sum uint32
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum + uint32(b[9]) + uint32(len(b)-20)
}

func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func intact(t *testing.T, p packet) {
	t.Helper()
	if checksum(p[:20], 0) != 0 {
		t.Fatalf("checksum of the IP header is wrong: % x", p[:20])
	}
	if checksum(p[20:], pseudo(p)) != 0 {
		t.Fatalf("checksum of protocol %d is wrong", p.proto())
	}
}

func TestNATKeepsChecksums(t *testing.T) {
	for _, proto := range []byte{protoTCP, protoUDP} {
		for range 2000 {
			p := made(proto, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(rand.N(256)), byte(rand.N(256))}), somePort()).String(),
				netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(rand.N(256)), 0, byte(rand.N(256))}), somePort()).String(), rand.N(50))
			intact(t, p)
			n := newNAT(NATKind(1+rand.N(3)), netip.MustParseAddr("11.0.9.1"))
			if !n.Out(p, time.Time{}) {
				t.Fatal("dropped on the way out")
			}
			intact(t, p)
			back := made(proto, p.dst().String(), p.src().String(), rand.N(50))
			if !n.In(back, time.Time{}) {
				t.Fatal("the answer was dropped")
			}
			intact(t, back)
		}
	}
	p := made(protoUDP, "192.168.1.2:5", "11.0.0.1:6", 4)
	binary.BigEndian.PutUint16(p.body()[6:], 0) // none
	newNAT(Cone, netip.MustParseAddr("11.0.9.1")).Out(p, time.Time{})
	if binary.BigEndian.Uint16(p.body()[6:]) != 0 {
		t.Error("a datagram without a checksum got one")
	}
}

// TestNATKinds is the table of RFC 4787: what is mapped alike, what gets in.
func TestNATKinds(t *testing.T) {
	const inside, one, other = "192.168.1.2:4001", "11.0.0.1:80", "11.0.0.2:81"
	for _, c := range []struct {
		kind         NATKind
		samePort     bool // for each destination
		otherPort    bool // of a known address gets in
		strangerGets bool // in
	}{
		{Cone, true, true, true},
		{PortRestricted, true, false, false},
		{Symmetric, false, false, false},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			n := newNAT(c.kind, netip.MustParseAddr("11.0.9.1"))
			out := func(from, to string) netip.AddrPort {
				p := made(protoUDP, from, to, 9)
				if !n.Out(p, time.Time{}) {
					t.Fatal("dropped on the way out")
				}
				return p.src()
			}
			in := func(from string, to netip.AddrPort) bool {
				p := made(protoUDP, from, to.String(), 9)
				ok := n.In(p, time.Time{})
				if ok && p.dst().String() != inside {
					t.Fatalf("delivered to %s", p.dst())
				}
				return ok
			}
			port := out(inside, one)
			if again := out(inside, one); again != port {
				t.Errorf("one flow has ports %d and %d", port.Port(), again.Port())
			}
			if c.kind != Symmetric && port.Port() != 4001 {
				t.Errorf("port %d instead of the host's own", port.Port())
			}
			if !in(one, port) {
				t.Error("the answer does not get in")
			}
			if got := in("11.0.0.1:99", port); got != c.otherPort {
				t.Errorf("another port of a known address gets in: %v", got)
			}
			if got := in(other, port); got != c.strangerGets {
				t.Errorf("a stranger gets in: %v", got)
			}
			if got := out(inside, other) == port; got != c.samePort {
				t.Errorf("one public port for every destination: %v", got)
			}
			if second := out("192.168.1.3:4001", one); second == port {
				t.Error("two hosts share a public port")
			}
			if in(one, netip.AddrPortFrom(port.Addr(), port.Port()^1)) {
				t.Error("a port without a mapping lets in")
			}
		})
	}
}

func TestNATForgets(t *testing.T) {
	n := newNAT(PortRestricted, netip.MustParseAddr("11.0.9.1"))
	start := time.Now()
	p := made(protoUDP, "192.168.1.2:4001", "11.0.0.1:80", 1)
	n.Out(p, start)
	for _, c := range []struct {
		after time.Duration
		in    bool
	}{{udpLife - time.Second, true}, {udpLife + time.Second, false}} {
		if got := n.In(made(protoUDP, "11.0.0.1:80", p.src().String(), 1), start.Add(c.after)); got != c.in {
			t.Errorf("after %v: gets in: %v", c.after, got)
		}
	}
	if len(n.in) != 0 || len(n.out) != 0 {
		t.Errorf("%d and %d mappings are kept", len(n.in), len(n.out))
	}
}

func TestParseBounds(t *testing.T) {
	whole := made(protoTCP, "192.168.1.2:4001", "11.0.0.1:80", 3)
	for n := range len(whole) {
		if _, ok := parse(whole[:n]); ok {
			t.Fatalf("%d of %d bytes are a packet", n, len(whole))
		}
	}
	for range 10000 {
		b := append([]byte(nil), whole...)
		b[rand.N(len(b))] = byte(rand.N(256))
		if p, ok := parse(b); ok {
			newNAT(Symmetric, netip.MustParseAddr("11.0.9.1")).Out(p, time.Time{})
		}
	}
}
