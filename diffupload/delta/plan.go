package delta

import (
	"slices"
)

// What the planner thinks things cost, in eighths of a bit. They steer the
// choice only.
const (
	costSwitch  = 36 * 8 // another distance
	costNone    = 12 * 8 // to words without counterpart
	costEqual   = 1
	costNew     = 22 * 8 // a word without counterpart
	costNewSame = 5 * 8  // the same, where it equals the one before
)

const (
	regionBytes = 4 << 20     // planned at once
	blockWords  = 128         // that share a choice of distances
	blockBest   = 6           // distances that a block votes for
	lanes       = 8           // distances that a block tries
	maxWords    = maxWork / 2 // words that Encode gives to the slow coder
	shortGap    = 24          // bytes that are not looked for in the whole base
)

// planner cuts fresh bytes into operations.
type planner struct {
	base, fresh []byte
	copies      []placed
	global      *index
}

// placed is an operation and where it is.
type placed struct {
	at int
	op
}

// plan returns operations that make fresh.
func plan(base, fresh []byte, hints []Hint) []op {
	p := &planner{base: base, fresh: fresh}
	at, phase := 0, 0
	for _, h := range usable(base, fresh, hints) {
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

// copyOp notes a copy, or makes the one before it longer.
func (p *planner) copyOp(at, src, n, phase int) {
	if k := len(p.copies) - 1; k >= 0 {
		c := &p.copies[k]
		if c.at+c.len == at && c.src+c.len == src && c.phase == phase && (c.src < len(p.base)) == (src < len(p.base)) {
			c.len += n
			return
		}
	}
	p.copies = append(p.copies, placed{at, op{kind: opCopy, len: n, src: src, phase: phase}})
}

// hinted plans a span whose counterpart is known: what is equal at both ends,
// and what is between by a dense index of the counterpart.
func (p *planner) hinted(h Hint) {
	at, end, phase := h.New.Off, h.New.Off+h.New.Len, h.New.Off&3
	f := p.fresh[at:end]
	b := p.base[h.Base.Off:][:h.Base.Len]
	n := min(len(f), len(b))
	head := equalBytes(f[:n], b[:n])
	if head == len(f) {
		p.copyOp(at, h.Base.Off, head, phase)
		return
	}
	head &^= 3
	tail := 0
	for tail < n-head && f[len(f)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	if len(f) != len(b) && tail < 16 {
		tail = 0
	}
	if head > 0 {
		p.copyOp(at, h.Base.Off, head, phase)
	}
	lo, hi := at+head, end-tail
	first, last := h.Base.Off-at, h.Base.Off+h.Base.Len-end
	if first == last && wordsBetween(lo, hi, phase) <= 32 {
		p.copyOp(lo, lo+first, hi-lo, phase)
	} else {
		from := max(0, head-256)
		x := newIndex(8, (len(b)-from)/4)
		x.addAll(b[from:], h.Base.Off+from, 4)
		gap := lo
		for _, c := range p.align(lo, hi, phase, x, false, first, last) {
			p.search(gap, c.at, phase)
			p.copyOp(c.at, c.src, c.len, phase)
			gap = c.at + c.len
		}
		p.search(gap, hi, phase)
	}
	if tail > 0 {
		p.copyOp(hi, hi+last, tail, phase)
	}
}

// search plans a span with the index of the whole base and of what of the
// result had no counterpart before.
func (p *planner) search(at, end, phase int) {
	if end-at < shortGap {
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
	for _, c := range p.align(at, end, phase, p.global, true) {
		p.copyOp(c.at, c.src, c.len, phase)
	}
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
	for _, c := range p.copies {
		literal(c.at)
		phase = c.phase
		n := 0
		for _, is := range islands(p.base, p.fresh, at, c.op) {
			n += wordsBetween(is.Off, is.Off+is.Len, phase) + 1
		}
		if work+n > maxWords {
			literal(at + c.len)
			continue
		}
		work += n
		out = append(out, c.op)
		at += c.len
	}
	literal(len(p.fresh))
	return out
}
