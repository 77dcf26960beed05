package netlab

import (
	"encoding/binary"
	"net/netip"
)

const (
	maxPacket = 64 << 10

	protoTCP = 6
	protoUDP = 17
)

// packet is an IPv4 packet of TCP or UDP, which is changed in place.
type packet []byte

// parse leaves out what the lab does not carry: IPv6, ICMP, fragments, and
// what is not a whole packet.
func parse(b []byte) (packet, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return nil, false
	}
	head := int(b[0]&15) * 4
	if head < 20 || int(binary.BigEndian.Uint16(b[2:])) != len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return nil, false
	}
	need := map[byte]int{protoTCP: 20, protoUDP: 8}[b[9]]
	if need == 0 || len(b) < head+need {
		return nil, false
	}
	return packet(b), true
}

func (p packet) proto() byte { return p[9] }
func (p packet) body() []byte {
	return p[int(p[0]&15)*4:]
}

func (p packet) src() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p.body()))
}

func (p packet) dst() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p.body()[2:]))
}

func (p packet) setSrc(a netip.AddrPort) { p.set(12, 0, a) }
func (p packet) setDst(a netip.AddrPort) { p.set(16, 2, a) }

// set writes an address and a port and mends both checksums.
func (p packet) set(addrAt, portAt int, a netip.AddrPort) {
	body := p.body()
	sum := map[byte]int{protoTCP: 16, protoUDP: 6}[p.proto()]
	four := a.Addr().As4()
	for i := 0; i < 4; i += 2 {
		old, now := binary.BigEndian.Uint16(p[addrAt+i:]), binary.BigEndian.Uint16(four[i:])
		binary.BigEndian.PutUint16(p[addrAt+i:], now)
		mend(p[10:], old, now, false)
		mend(body[sum:], old, now, p.proto() == protoUDP) // the pseudo header has the addresses too
	}
	old := binary.BigEndian.Uint16(body[portAt:])
	binary.BigEndian.PutUint16(body[portAt:], a.Port())
	mend(body[sum:], old, a.Port(), p.proto() == protoUDP)
}

// mend changes the checksum at b for a word that changed from old to now
// (RFC 1624, equation 3). optional is a checksum where 0 means that there is
// none.
func mend(b []byte, old, now uint16, optional bool) {
	sum := binary.BigEndian.Uint16(b)
	if optional && sum == 0 {
		return
	}
	v := uint32(^sum) + uint32(^old) + uint32(now)
	v = v&0xffff + v>>16
	v = v&0xffff + v>>16
	sum = ^uint16(v)
	if optional && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b, sum)
}
