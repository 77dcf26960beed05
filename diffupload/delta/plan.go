package delta

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	localBase = 4 << 20     // longest counterpart that is searched densely
	tolerance = 24          // words of difference that end an extension, unhinted
	patience  = 256         // and hinted
	maxWords  = maxWork / 2 // words that Encode gives to the slow coder
)

// planner cuts fresh bytes into operations.
type planner struct {
	base, fresh []byte
	copies      []op // with at
	ats         []int
	global      *index
}

// plan returns operations that make fresh.
func plan(base, fresh []byte, hints []Hint) []op {
	p := &planner{base: base, fresh: fresh}
	hints = usable(base, fresh, hints)
	at, phase := 0, 0
	for _, h := range hints {
		p.search(at, h.New.Off, phase)
		phase = h.New.Off & 3
		p.hinted(h)
		at = h.New.Off + h.New.Len
	}
	p.search(at, len(fresh), phase)
	return p.finish()
}

// usable are the hints that lie within their bytes, in order, without overlap.
func usable(base, fresh []byte, hints []Hint) []Hint {
	in := func(s Span, n int) bool { return s.Off >= 0 && s.Len > 0 && s.Off <= n && s.Len <= n-s.Off }
	var out []Hint
	for _, h := range hints {
		if in(h.New, len(fresh)) && in(h.Base, len(base)) {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b Hint) int { return a.New.Off - b.New.Off })
	at := 0
	return slices.DeleteFunc(out, func(h Hint) bool {
		if h.New.Off < at {
			return true
		}
		at = h.New.Off + h.New.Len
		return false
	})
}

// score says how alike two words are, in eighths of a word that is equal.
func score(a, b uint32) int {
	switch d := bits.Len32(a ^ b); {
	case d == 0:
		return 8
	case d <= 16:
		return 4
	case d <= 24:
		return 1
	}
	return -8
}

// extend is how far from fresh[at] on the bytes at src are worth copying, at
// most n, and what that scores.
func (p *planner) extend(at, src, n, tolerance int) (length, total int) {
	f := p.fresh[at : at+n]
	b := bytesAt(p.base, p.fresh, src, n)
	best, sum := 0, 0
	for i := 0; i < n; {
		if e := equalBytes(f[i:], b[i:]); e > 0 {
			sum += 2 * e
			i += e
			if sum >= best {
				best, length = sum, i
			}
			if i == n {
				break
			}
		}
		// The word that holds the difference.
		j := i &^ 3
		sum += score(wordAt(f, j), wordAt(b, j))
		i = min(j+4, n)
		if sum > best {
			best, length = sum, i
		}
		if sum < best-8*tolerance {
			break
		}
	}
	return length, best
}

// back is how many bytes before fresh[at] and src are worth copying, at most n.
func (p *planner) back(at, src, n int) int {
	if src < len(p.base) {
		n = min(n, src)
	} else {
		n = min(n, src-len(p.base))
	}
	f := p.fresh[at-n : at]
	b := bytesAt(p.base, p.fresh, src-n, n)
	best, sum, length := 0, 0, 0
	for i := 0; i+4 <= n; i += 4 {
		sum += score(binary.LittleEndian.Uint32(f[n-i-4:]), binary.LittleEndian.Uint32(b[n-i-4:]))
		if sum > best {
			best, length = sum, i+4
		}
		if sum < best-8*tolerance {
			break
		}
	}
	for length < n && f[n-length-1] == b[n-length-1] {
		length++
	}
	return length
}

// copyOp notes a copy, or makes the one before it longer.
func (p *planner) copyOp(at, src, n, phase int) {
	if k := len(p.copies) - 1; k >= 0 {
		c := &p.copies[k]
		if p.ats[k]+c.len == at && c.src+c.len == src && (c.src < len(p.base)) == (src < len(p.base)) {
			c.len += n
			return
		}
	}
	p.copies = append(p.copies, op{kind: opCopy, len: n, src: src, phase: phase})
	p.ats = append(p.ats, at)
}

// hinted plans a span whose counterpart is known.
func (p *planner) hinted(h Hint) {
	at, end, phase := h.New.Off, h.New.Off+h.New.Len, h.New.Off&3
	n := min(h.New.Len, h.Base.Len)
	length, _ := p.extend(at, h.Base.Off, n, patience)
	if h.New.Len == h.Base.Len && length*8 >= 7*n {
		p.copyOp(at, h.Base.Off, n, phase)
		return
	}
	if length > 0 {
		p.copyOp(at, h.Base.Off, length, phase)
		at += length
	}
	// The same from the end.
	n = min(end-at, h.Base.Len)
	tailSrc := h.Base.Off + h.Base.Len
	tail := p.back(end, tailSrc, n)
	if tail < 16 {
		tail = 0
	}
	if stop := end - tail; at < stop {
		if h.Base.Len <= localBase {
			x := newIndex(8, h.Base.Len/4)
			x.addAll(p.base[h.Base.Off:h.Base.Off+h.Base.Len], h.Base.Off, 4)
			p.scan(at, stop, phase, x, func(gap, to int) { p.search(gap, to, phase) })
		} else {
			p.search(at, stop, phase)
		}
	}
	if tail > 0 {
		p.copyOp(end-tail, tailSrc-tail, tail, phase)
	}
}

// search plans a span with the index of the whole base and of what of the
// result had no counterpart before.
func (p *planner) search(at, end, phase int) {
	if end-at < 16 {
		return
	}
	if p.global == nil {
		step := 4
		for (len(p.base)+len(p.fresh))/step > maxSlots {
			step *= 2
		}
		p.global = newIndex(16, len(p.base)/step+len(p.fresh)/4)
		p.global.addAll(p.base, 0, step)
	}
	p.scan(at, end, phase, p.global, nil)
}

// scan looks for the windows of fresh[at:end] in an index and notes copies.
// What it finds no place for is given to rest, or entered into the index.
func (p *planner) scan(at, end, phase int, x *index, rest func(at, end int)) {
	i, miss := at, 0
	gap := at
	leave := func(to int) {
		if gap < to && rest != nil {
			rest(gap, to)
		}
	}
	for i+x.window <= end {
		src, from, n := p.lookup(i, gap, end, x)
		if n == 0 {
			if rest == nil && (i-at)&3 == 0 {
				x.add(p.fresh[i:], len(p.base)+i)
			}
			miss++
			i += 1 + miss>>8
			continue
		}
		leave(from)
		p.copyOp(from, src, n, phase)
		i, gap, miss = from+n, from+n, 0
		if rest == nil {
			continue
		}
	}
	leave(end)
}

// lookup tries the places of the window at fresh[i] and returns the best copy
// that covers it and lies in [gap, end).
func (p *planner) lookup(i, gap, end int, x *index) (src, from, n int) {
	h, ok := x.hash(p.fresh[i:])
	if !ok {
		return 0, 0, 0
	}
	best := 0
	for _, s := range x.slots[h] {
		if s == 0 {
			continue
		}
		c := int(s) - 1
		limit := end - i
		if c < len(p.base) {
			limit = min(limit, len(p.base)-c)
		} else if c-len(p.base)+4 > i {
			continue
		}
		if limit < x.window || equalBytes(p.fresh[i:i+x.window], bytesAt(p.base, p.fresh, c, x.window)) < x.window {
			continue
		}
		f, sc := p.extend(i, c, limit, tolerance)
		b := p.back(i, c, i-gap)
		if c >= len(p.base) && c-b-len(p.base)+4 > i-b {
			b = 0
		}
		// Each copy costs some 5 bytes: it has to save more.
		if sc += 2 * b; f+b >= x.window && sc > best && sc >= 2*x.window+8 {
			best, src, from, n = sc, c-b, i-b, f+b
		}
	}
	return src, from, n
}

// finish fills the gaps between the copies and sees to it that the slow coder
// gets no more than it is allowed.
func (p *planner) finish() []op {
	var out []op
	at := 0
	work := 0
	phase := 0
	literal := func(to int) {
		for at < to {
			o := op{kind: opWords, len: to - at, phase: phase}
			if work += wordsBetween(at, to, phase); work > maxWords {
				work -= wordsBetween(at, to, phase)
				o = op{kind: opStored, len: to - at}
			}
			out = append(out, o)
			at = to
		}
	}
	for k, c := range p.copies {
		literal(p.ats[k])
		phase = c.phase
		n := 0
		for _, is := range islands(p.base, p.fresh, at, c) {
			n += wordsBetween(is.Off, is.Off+is.Len, phase) + 1
		}
		if work+n > maxWords {
			literal(at + c.len)
			continue
		}
		work += n
		out = append(out, c)
		at += c.len
	}
	literal(len(p.fresh))
	return out
}
