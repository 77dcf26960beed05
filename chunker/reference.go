package chunker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Reference returns the lengths of the chunks of d: the definition of the
// format, word for word and slow. Numbers are little-endian.
//
// From the key follow 32 bytes, k = HMAC-SHA-256(key, "idlewild chunk cut 2"):
// k[0:16] is the key of SipHash, and the number at k[16:20] with its lowest bit
// set is the multiplier m.
//
// A length L of the rest d is nominated if L >= 324 and m times x, modulo 2^32,
// is at least 2^32 - 2^(32-p), where x is the sum over j from 0 to 10 of 8^j
// times the 32-bit number at d[L-4-32*j], p is lg-4 and at most 12, and lg is
// the whole part of log2(Avg). It is accepted if SipHash-2-4 of d[L-64:L] is
// below 2^(64-(lg+2-p)) where L <= Avg, or below 2^(64-(lg-2-p)) where L > Avg.
//
// A chunk is the shortest L with Min < L < Max that is nominated and accepted.
// If there is none it is Max bytes, or what is left.
func Reference(d []byte, p Params) ([]int, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p = p.filled()
	def := define(p)
	var cuts []int
	for len(d) > 0 {
		cut := min(len(d), p.Max)
		for l := max(p.Min+1, 324); l < cut; l++ {
			if def.nominated(d[:l]) && def.accepted(d[:l]) {
				cut = l
			}
		}
		cuts = append(cuts, cut)
		d = d[cut:]
	}
	return cuts, nil
}

// definition is what follows from Params.
type definition struct {
	avg        int
	lg         int
	sip        [16]byte
	multiplier uint32
}

func define(p Params) definition {
	def := definition{avg: p.Avg}
	for 1<<(def.lg+1) <= p.Avg {
		def.lg++
	}
	mac := hmac.New(sha256.New, p.Key[:])
	mac.Write([]byte("idlewild chunk cut 2"))
	k := mac.Sum(nil)
	def.sip = [16]byte(k[:16])
	def.multiplier = binary.LittleEndian.Uint32(k[16:]) | 1
	return def
}

// bits is p: a position is nominated with probability 2^-p.
func (def definition) bits() int { return min(def.lg-4, 12) }

// nominated is the first stage, for the chunk d.
func (def definition) nominated(d []byte) bool {
	var x uint32
	for j := range 11 {
		x += binary.LittleEndian.Uint32(d[len(d)-4-32*j:]) << (3 * j)
	}
	return uint64(x*def.multiplier) >= 1<<32-1<<(32-def.bits())
}

// accepted is the second.
func (def definition) accepted(d []byte) bool {
	zeros := def.lg + 2 - def.bits()
	if len(d) > def.avg {
		zeros = def.lg - 2 - def.bits()
	}
	return sipHash(def.sip, d[len(d)-64:]) < 1<<(64-zeros)
}
