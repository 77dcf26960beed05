package delta

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// noSource stands for the distance to a counterpart where there is none.
const noSource = math.MinInt

// Guesses at the next word, each from a different idea of what it is.
const (
	guessSource  = iota // the counterpart
	guessColumn         // the counterpart, moved as the word one record before was
	guessAgain          // the counterpart, moved as the last word that moved
	guessFloat          // as guessColumn, in floating point
	guessSame           // the word one record before
	guessLine           // the line through the last two records
	guessFLine          // the same, in floating point
	guessReplace        // what this counterpart became last time
	guessMatch          // what followed the last four words elsewhere
	guessMatch2         // the last two
	guessMatch1         // the last one
	guessSame2          // the word one record before, second best record length
	guessPrev           // the word before
	guesses
)

// Contexts whose history is looked up by hash, next to the bits so far.
const (
	mixPlace  = iota // nothing else
	mixSource        // the counterpart
	mixPrev          // the word before
	mixSame          // the word one record before
	mixColumn        // the place in the record
	mixPrev2         // the two words before
	mixByte          // the byte before, in the order of coding
	mixMoved         // the byte of the counterpart and how far off the bits are
	mixes
)

const (
	inputs     = guesses + mixes + 1
	maxStride  = 32 // words of a record
	minOrder   = 8  // of the tables of a patch
	maxOrder   = 15
	ring       = 64 // words back for which errors are kept
	slotsGuess = 2048
	setsA      = 4 * 4 * 4
	setsB      = 32 * 3
	eqInputs   = 9
	eqSetsA    = 16
	eqSetsB    = 64
)

// words predicts and codes words of four bytes, the highest bit first.
type words struct {
	judgement

	tables [mixes]hashed

	replaced []replacement
	matches  [3]match // by four words, two, one

	errs  [guesses][ring]uint8 // bit length of what was wrong
	last  [guesses]bool        // whether the word before was guessed
	score [maxStride + 1]int32
	s, s2 int // record lengths
	eq    [ring]uint8
	eqs   uint32 // of the last 32 words
	moved uint32 // last difference that was not zero
}

// match is a place of the result after the same words as the last ones.
type match struct {
	order int     // words
	seen  []int32 // where words were last, by hash; the byte after them
	at    int     // where it goes on, or 0
	right int     // words that it was right
}

var matchOrders = [3]int{4, 2, 1}

type replacement struct{ from, to uint32 }

// hashed is a table of buckets, each for one context and one nibble: a check
// and the fifteen nodes of its tree.
type hashed [][16]counter

func (t hashed) bucket(h uint64) *[16]counter {
	b := &t[h>>32&uint64(len(t)-1)]
	if chk := counter(h) | 1; b[0] != chk {
		*b = [16]counter{chk}
		for i := 1; i < 16; i++ {
			b[i] = evens
		}
	}
	return b
}

// newWords returns words without knowledge and with tables of 2^order buckets.
func newWords(order int) *words {
	m := &words{s: 3, s2: 4}
	for i := range m.tables {
		m.tables[i] = make(hashed, 1<<order)
	}
	m.replaced = make([]replacement, 1<<order)
	for i := range m.matches {
		m.matches[i] = match{order: matchOrders[i], seen: make([]int32, 1<<(order+2))}
	}
	for i := range m.score {
		m.score[i] = 16 << 8
	}
	return m
}

func wordAt(b []byte, i int) uint32 {
	if i >= 0 && i+4 <= len(b) {
		return binary.LittleEndian.Uint32(b[i:])
	}
	var v uint32
	for k := range 4 {
		if i+k >= 0 && i+k < len(b) {
			v |= uint32(b[i+k]) << (8 * k)
		}
	}
	return v
}

// source is the word at i of base and result.
func (s *stream) source(i int) uint32 {
	if i < len(s.base) {
		return wordAt(s.base, i)
	}
	return wordAt(s.res, i-len(s.base))
}

// island codes the words of res[a:b], whose counterparts lie dist further on
// in base and result.
func (s *stream) island(a, b, dist, phase int) {
	if s.words == nil {
		s.order = min(max(int(s.num(numOrder, uint64(s.order))), minOrder), maxOrder)
		s.words = newWords(s.order)
		s.words.judgement = prior().judgement
	}
	for a < b {
		next := min(nextWord(a, phase), b)
		g := nextWord(a, phase) - 4
		s.word(g, a-g, next-g, dist)
		a = next
	}
}

const (
	mul1 = 0x9e3779b97f4a7c15
	mul2 = 0xd6e8feb86659fd93
)

func hash2(a, b uint64) uint64 {
	h := (a+1)*mul1 ^ (b+7)*mul2
	h ^= h >> 29
	return h * mul1
}

// word codes bytes lo to hi of the word at g.
func (s *stream) word(g, lo, hi, dist int) {
	m := s.words
	res := s.res
	mask := uint32(uint64(1)<<(8*hi) - 1)
	st, st2 := m.s, m.s2
	wi := g >> 2

	var p [guesses]uint32
	var ok [guesses]bool
	w1, w2 := wordAt(res, g-4), wordAt(res, g-8)
	ws, wss := wordAt(res, g-4*st), wordAt(res, g-8*st)
	var b, bs uint32
	has := dist != noSource
	if has {
		b = s.source(g + dist)
		bs = s.source(g - 4*st + dist)
		p[guessSource], ok[guessSource] = b, true
		p[guessColumn], ok[guessColumn] = b+ws-bs, ws != bs
		p[guessAgain], ok[guessAgain] = b+m.moved, m.moved != 0
		if ws != bs {
			p[guessFloat], ok[guessFloat] = addFloats(b, ws, bs)
		}
		r := &m.replaced[hash2(uint64(b), 3)>>40&uint64(len(m.replaced)-1)]
		if r.from == b && r.to != 0 {
			p[guessReplace], ok[guessReplace] = r.to, true
		}
	}
	p[guessSame], ok[guessSame] = ws, true
	p[guessSame2], ok[guessSame2] = wordAt(res, g-4*st2), true
	p[guessPrev], ok[guessPrev] = w1, true
	p[guessLine], ok[guessLine] = 2*ws-wss, ws != wss
	if ws != wss {
		p[guessFLine], ok[guessFLine] = addFloats(ws, ws, wss)
	}
	longest := -1
	for i := range m.matches {
		x := &m.matches[i]
		if x.at > g {
			x.at = 0
		}
		if x.at != 0 {
			p[guessMatch+i], ok[guessMatch+i] = wordAt(res, x.at), true
			if longest < 0 {
				longest = i
			}
		}
	}
	for k := range p {
		p[k] &= mask
	}

	v := wordAt(res, g) & mask
	low := uint32(1<<(8*lo) - 1)
	cand := p[guessSame]
	if has {
		cand = p[guessSource]
	} else if longest >= 0 {
		cand = p[guessMatch+longest]
	}
	eq := 0
	if (v^cand)&^low == 0 {
		eq = 1
	}
	eq = s.equalFlag(eq, wi, has, longest, cand, &p, &ok)
	if eq == 1 {
		v = cand&^low | v&low
	} else {
		v = s.bits(v, lo, hi, wi, has, b, w1, w2, ws, &p, &ok)
	}
	if s.decoding {
		for k := lo; k < hi; k++ {
			res[g+k] = byte(v >> (8 * k))
		}
	}
	s.learn(g, v, mask, has, b, w1, w2, eq, &p)
}

// equalFlag codes whether the word is the likeliest guess.
func (s *stream) equalFlag(eq, wi int, has bool, longest int, cand uint32, p *[guesses]uint32, ok *[guesses]bool) int {
	m := s.words
	st := m.s
	c1, c2 := uint32(m.eq[(wi-st)&(ring-1)]), uint32(m.eq[(wi-2*st)&(ring-1)])
	kind := uint32(0)
	if has {
		kind = 2
	} else if longest >= 0 {
		kind = 1
	}
	agree := uint32(0)
	for i, k := range [...]int{guessColumn, guessReplace, guessMatch2, guessSame, guessSame2} {
		if ok[k] && p[k] == cand {
			agree |= 1 << i
		}
	}
	known := uint32(0)
	if ok[guessReplace] {
		known = 1
		if p[guessReplace] != cand {
			known = 2
		}
	}
	ml := uint32(0)
	if longest >= 0 {
		ml = uint32(min(bits.Len(uint(m.matches[longest].right)), 4)) + 5*uint32(longest)
		ml = min(ml, 15)
	}
	col := uint32(wi%st) & 31
	idx := [eqInputs - 1]uint32{
		kind<<8 | m.eqs&255,
		kind<<6 | c1<<5 | c2<<4 | m.eqs&15,
		kind<<5 | agree,
		kind<<6 | ml<<2 | known,
		(kind<<5|col)<<3 | c1<<2 | c2<<1 | m.eqs&1,
		kind<<8 | uint32(bits.LeadingZeros32(m.eqs|1))<<3 | c1<<2 | known,
		uint32(hash2(uint64(cand), uint64(kind)) >> 54),
		uint32(hash2(uint64(wi%st)<<6|uint64(st), uint64(kind)) >> 54),
	}
	var x [eqInputs]int32
	var sl [eqInputs - 1]*counter
	for i := range idx {
		sl[i] = &m.eqTab[i][idx[i]&1023]
		x[i] = sl[i].stretch()
	}
	x[eqInputs-1] = 256
	wa := &m.eqWeightA[kind<<2|m.eqs&3]
	wb := &m.eqWeightB[kind<<4|known<<2|c1<<1|c2]
	var da, db int64
	for i := range x {
		da += int64(x[i]) * int64(wa[i])
		db += int64(x[i]) * int64(wb[i])
	}
	d1, d2 := clampDot(da), clampDot(db)
	pr := min(max(squash((d1+d2)>>1), 1), 65535)
	eq = s.bit(eq, pr)
	t := int32(eq << 16)
	ea, eb := t-int32(squash(d1)), t-int32(squash(d2))
	for i := range x {
		wa[i] += int32((int64(x[i])*int64(ea)*rateEqual + 1<<17) >> 18)
		wb[i] += int32((int64(x[i])*int64(eb)*rateEqual + 1<<17) >> 18)
	}
	for _, c := range sl {
		c.update(eq, limitEqual)
	}
	return eq
}

// How fast the mixes learn, and how often a counter counts what it was told.
const (
	rateEqual  = 10
	rateBits   = 14
	limitGuess = 250
	limitMix   = 100
	limitEqual = 60
)

func clampDot(d int64) int32 {
	d >>= 16
	return int32(min(max(d, -maxStretch), maxStretch))
}

// bits codes the bits of a word that is not the likeliest guess.
func (s *stream) bits(v uint32, lo, hi, wi int, has bool, b, w1, w2, ws uint32, p *[guesses]uint32, ok *[guesses]bool) uint32 {
	m := s.words
	const lost, none = 3, 4
	var state [guesses]int
	var rel [guesses]int
	for k := range state {
		if !ok[k] {
			state[k] = none
		}
		rel[k] = int(m.errs[k][(wi-m.s)&(ring-1)])
	}
	src := uint64(1) << 40
	if has {
		src = uint64(b)
	}
	ctx := [mixes]uint64{
		mixPlace:  0,
		mixSource: src,
		mixPrev:   uint64(w1),
		mixSame:   uint64(ws),
		mixColumn: uint64(wi%m.s)<<8 | uint64(m.s),
		mixPrev2:  uint64(w1)<<32 | uint64(w2),
	}
	var bucket [mixes]*[16]counter
	var x [inputs]int32
	var gs [guesses]*counter
	var v0 uint32 // the bits so far, in place
	node := 0
	for i := 8*hi - 1; i >= 8*lo; i-- {
		if i&3 == 3 {
			so := uint64(v0)>>(i+1)<<6 | uint64(i)
			by := uint64(i)
			if i&7 != 7 {
				by |= uint64(v0>>(i+1)&15|16) << 8
			}
			if i < 24 {
				by |= uint64(v0>>(i|7)>>1&255|256) << 16
			}
			mv := uint64(i)
			if has {
				d := int32(v0>>(i+1)) - int32(uint64(b)>>(i+1))
				mv |= uint64(min(max(d, -2), 2)+2)<<8 | uint64(b>>(i&^7)&255)<<16
			}
			for k := range bucket {
				c, q := ctx[k], so
				switch k {
				case mixByte:
					c, q = by, 1
				case mixMoved:
					c, q = mv, by&0xff00
				}
				bucket[k] = m.tables[k].bucket(hash2(c, q*mixes+uint64(k)))
			}
			node = 1
		}
		for k := range state {
			x[k] = 0
			gs[k] = nil
			st := state[k]
			if st >= lost {
				continue
			}
			r := i - rel[k]
			var at int
			if st == 0 {
				at = (min(max(r, -4), 3)+4)<<7 | i<<1 | int(p[k]>>i&1)
				if m.last[k] {
					at |= 64
				}
			} else {
				at = 1024 | (st-1)<<9 | i<<4 | int(uint64(p[k])<<1>>i&3)<<2 | min(max(r, -1), 2) + 1
			}
			gs[k] = &m.guess[k][at]
			x[k] = gs[k].stretch()
		}
		for k, t := range bucket {
			x[guesses+k] = t[node].stretch()
		}
		x[inputs-1] = 256
		wa := &m.weightA[(i>>3)<<4|min(state[guessSource], 3)<<2|min(state[guessSame], 3)]
		ms := 0
		if state[guessMatch] == none {
			ms = 1
		} else if state[guessMatch] != 0 {
			ms = 2
		}
		wb := &m.weightB[ms<<5|i]
		var da, db int64
		for j := range x {
			da += int64(x[j]) * int64(wa[j])
			db += int64(x[j]) * int64(wb[j])
		}
		d1, d2 := clampDot(da), clampDot(db)
		pr := min(max(squash((d1+d2)>>1), 1), 65535)
		bit := s.bit(int(v>>i&1), pr)
		t := int32(bit << 16)
		ea, eb := t-int32(squash(d1)), t-int32(squash(d2))
		for j := range x {
			wa[j] += int32((int64(x[j])*int64(ea)*rateBits + 1<<17) >> 18)
			wb[j] += int32((int64(x[j])*int64(eb)*rateBits + 1<<17) >> 18)
		}
		for k, c := range gs {
			if c == nil {
				continue
			}
			c.update(bit, limitGuess)
			e := int(p[k] >> i & 1)
			switch {
			case state[k] == 0 && bit != e:
				state[k] = 2 - bit // above or below
			case state[k] == 1 && (bit != 0 || e != 1), state[k] == 2 && (bit != 1 || e != 0):
				state[k] = lost
			}
		}
		for _, t := range bucket {
			t[node].update(bit, limitMix)
		}
		node = node<<1 | bit
		v0 |= uint32(bit) << i
	}
	return v0 | v&(1<<(8*lo)-1)
}

// learn takes note of a word for the next ones.
func (s *stream) learn(g int, v, mask uint32, has bool, b, w1, w2 uint32, eq int, p *[guesses]uint32) {
	m := s.words
	wi := g >> 2
	for k := range p {
		d := v - p[k]
		if int32(d) < 0 {
			d = -d
		}
		m.errs[k][wi&(ring-1)] = uint8(bits.Len32(d))
		m.last[k] = d == 0
	}
	m.eq[wi&(ring-1)] = uint8(eq)
	m.eqs = m.eqs<<1 | uint32(eq)
	if has {
		if v != b&mask {
			m.moved = v - b&mask
			m.replaced[hash2(uint64(b), 3)>>40&uint64(len(m.replaced)-1)] = replacement{b, v}
		}
	}
	best, second := 1, 2
	for k := 1; k <= maxStride; k++ {
		d := int32(bits.Len32(v ^ wordAt(s.res, g-4*k)&mask))
		m.score[k] += (d<<8 - m.score[k]) >> 4
		if m.score[k] < m.score[best] {
			best, second = k, best
		} else if k != best && (m.score[k] < m.score[second] || second == best) {
			second = k
		}
	}
	m.s, m.s2 = best, second
	// Matches go on, or are looked up again.
	h := uint64(0)
	for i := len(m.matches) - 1; i >= 0; i-- {
		x := &m.matches[i]
		if x.at != 0 {
			if wordAt(s.res, x.at)&mask == v {
				x.at += 4
				x.right++
			} else {
				x.at, x.right = 0, 0
			}
		}
		if mask != 1<<32-1 {
			x.at, x.right = 0, 0
			continue
		}
		for k := range x.order {
			if k >= x.order>>1 {
				h = hash2(uint64(wordAt(s.res, g-4*k)), h)
			}
		}
		y := &x.seen[h>>40&uint64(len(x.seen)-1)]
		if at := int(*y); at != 0 && (x.at == 0 || x.right < 8) {
			same := true
			for k := range x.order {
				same = same && wordAt(s.res, at-4-4*k) == wordAt(s.res, g-4*k)
			}
			if same && at != x.at {
				x.at = at
			}
		}
		*y = int32(g + 4)
	}
}
