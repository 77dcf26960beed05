package dispatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// packer appends values in the journal's own encoding: varints, and strings
// behind their length. It is hand-written because a start reads hundreds of
// thousands of records.
type packer struct{ b []byte }

func (p *packer) byte(v byte)    { p.b = append(p.b, v) }
func (p *packer) uint(v uint64)  { p.b = binary.AppendUvarint(p.b, v) }
func (p *packer) int(v int64)    { p.b = binary.AppendVarint(p.b, v) }
func (p *packer) str(s string)   { p.uint(uint64(len(s))); p.b = append(p.b, s...) }
func (p *packer) bytes(s []byte) { p.uint(uint64(len(s))); p.b = append(p.b, s...) }

func (p *packer) bool(v bool) {
	if v {
		p.byte(1)
		return
	}
	p.byte(0)
}

// cidPrefixes are those of nearly all CIDs; a record names them by index, which
// therefore never changes.
var cidPrefixes = []string{"\x01\x55\x12\x20", "\x01\x71\x12\x20"} // CIDv1 of sha2-256: raw, dag-cbor

// ref appends a CID: 0 and its bytes, or 2 and more and its digest; 1 for none.
func (p *packer) ref(r job.Ref) {
	s := r.KeyString()
	if !r.Defined() {
		p.byte(1)
		return
	}
	for i, pre := range cidPrefixes {
		if len(s) == len(pre)+32 && strings.HasPrefix(s, pre) {
			p.byte(byte(2 + i))
			p.b = append(p.b, s[len(pre):]...)
			return
		}
	}
	p.byte(0)
	p.str(s)
}

// errShort is what reading past the end of a record comes to.
var errShort = errors.New("record is too short")

// unpacker reads what a packer wrote. The first error stays, and everything
// read after it is zero. It reads a string, so that what it returns need not
// be copied.
type unpacker struct {
	s   string
	err error
}

func (u *unpacker) fail(err error) {
	if u.err == nil {
		u.err = err
	}
	u.s = ""
}

func (u *unpacker) byte() byte {
	if len(u.s) == 0 {
		u.fail(errShort)
		return 0
	}
	v := u.s[0]
	u.s = u.s[1:]
	return v
}

func (u *unpacker) bool() bool {
	switch v := u.byte(); v {
	case 0:
		return false
	case 1:
		return true
	default:
		u.fail(fmt.Errorf("%d is neither yes nor no", v))
		return false
	}
}

func (u *unpacker) uint() uint64 {
	var v uint64
	for i := 0; i < len(u.s) && i < binary.MaxVarintLen64; i++ {
		c := u.s[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			u.s = u.s[i+1:]
			return v
		}
	}
	u.fail(errShort)
	return 0
}

func (u *unpacker) int() int64 {
	v := u.uint()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads a number of things of at least one byte each.
func (u *unpacker) count() int {
	n := u.uint()
	if n > uint64(len(u.s)) {
		u.fail(errShort)
		return 0
	}
	return int(n)
}

// index reads a number that counts tasks, peers and the like.
func (u *unpacker) index() int {
	n := u.uint()
	if n > 1<<31 {
		u.fail(fmt.Errorf("index %d", n))
		return 0
	}
	return int(n)
}

func (u *unpacker) take(n int) string {
	if n > len(u.s) {
		u.fail(errShort)
		return ""
	}
	v := u.s[:n]
	u.s = u.s[n:]
	return v
}

func (u *unpacker) str() string { return u.take(u.count()) }

// bytes returns nil where nothing was written.
func (u *unpacker) bytes() []byte {
	if s := u.str(); s != "" {
		return []byte(s)
	}
	return nil
}

func (u *unpacker) ref() job.Ref {
	var raw string
	switch k := u.byte(); {
	case k == 1:
		return job.Ref{}
	case k == 0:
		raw = u.str()
	case int(k)-2 < len(cidPrefixes):
		raw = cidPrefixes[k-2] + u.take(32)
	default:
		u.fail(fmt.Errorf("CID of sort %d", k))
	}
	if u.err != nil {
		return job.Ref{}
	}
	c, err := cid.Cast([]byte(raw))
	if err != nil {
		u.fail(fmt.Errorf("cid: %w", err))
		return job.Ref{}
	}
	return job.RefOf(c)
}

// skipRef passes over a CID.
func (u *unpacker) skipRef() {
	switch u.byte() {
	case 1:
	case 0:
		u.str()
	default:
		u.take(32)
	}
}

// done is the error of everything read, or that something is left.
func (u *unpacker) done() error {
	if u.err == nil && u.s != "" {
		return fmt.Errorf("%d bytes too many", len(u.s))
	}
	return u.err
}

// near appends s as against base: what both begin and end with is left out.
func (p *packer) near(base, s string) {
	pre := 0
	for pre < len(base) && pre < len(s) && base[pre] == s[pre] {
		pre++
	}
	suf := 0
	for suf < len(base)-pre && suf < len(s)-pre && base[len(base)-1-suf] == s[len(s)-1-suf] {
		suf++
	}
	p.uint(uint64(pre))
	p.uint(uint64(suf))
	p.str(s[pre : len(s)-suf])
}

func (u *unpacker) near(base string) string {
	pre, suf := u.uint(), u.uint()
	mid := u.str()
	if u.err != nil || pre > uint64(len(base)) || suf > uint64(len(base))-pre {
		u.fail(errShort)
		return ""
	}
	return base[:pre] + mid + base[uint64(len(base))-suf:]
}
