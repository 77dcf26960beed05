package delta

import "slices"

// What the planner thinks things cost, in eighths of a bit. They steer the
// choice only.
const (
	costSwitch  = 100 * 8 // a distance where there was none
	costNear    = 62 * 8  // another distance when there was one, and
	costFar     = 2 * 8   // per bit of how far from it
	costNone    = 12 * 8  // to words without counterpart
	costEqual   = 1
	costNew     = 11 * 8 // a word without counterpart
	costNewSame = 3 * 8  // the same, where it equals the one before
)

const (
	regionBytes = 4 << 20  // planned at once
	blockWords  = 128      // that share a choice of distances
	blockBest   = 6        // distances that a block votes for
	lanes       = 8        // distances that a block tries
	maxWords    = 3 << 17  // words that Encode gives to the slow coder, about a second
	maxOps      = 1 << 18  // from then on what is left is packed; see maxWork
	pieceBytes  = 64 << 10 // of a long literal
	localPlaces = 1 << 20  // of the index of a counterpart
	worthIndex  = 8192     // bytes of the base that are indexed for a byte without counterpart
	shortGap    = 24       // bytes that are not looked for in the whole base
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
	for _, h := range usable(base, fresh, hints) {
		p.hinted(h)
	}
	left := len(fresh)
	for _, c := range p.copies {
		left -= c.len
	}
	if left*worthIndex >= len(base) {
		p.fill()
	}
	return p.finish()
}

// fill looks for what is between the copies in the whole base.
func (p *planner) fill() {
	copies := p.copies
	p.copies = nil
	at, phase := 0, 0
	for _, c := range copies {
		phase = c.phase
		p.search(at, c.at, phase)
		p.copyOp(c.at, c.src, c.len, phase)
		at = c.at + c.len
	}
	p.search(at, len(p.fresh), phase)
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
		step := 4
		for step < 32 && len(b)/step > localPlaces {
			step *= 2
		}
		x := newIndex(8, step, (len(b)-from)/step)
		x.addAll(b[from:], h.Base.Off+from)
		for _, c := range p.align(lo, hi, phase, x, false, first, last) {
			p.copyOp(c.at, c.src, c.len, phase)
		}
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
		for step < 32 && len(p.base)/step > maxSlots/2 {
			step *= 2
		}
		p.global = newIndex(16, step, len(p.base)/step+len(p.fresh)/4)
		p.global.addAll(p.base, 0)
	}
	for _, c := range p.align(at, end, phase, p.global, true) {
		p.copyOp(c.at, c.src, c.len, phase)
	}
}

// finish fills the gaps between the copies and sees to it that the slow coder
// gets no more than it is allowed.
func (p *planner) finish() []op {
	f := filler{p: p}
	for _, c := range p.copies {
		if len(f.ops) >= maxOps {
			f.work = maxWords // the rest is packed
			break
		}
		f.literal(c.at)
		f.copy(c.op)
	}
	f.literal(len(p.fresh))
	return f.ops
}

// filler makes the list of operations, in order.
type filler struct {
	p     *planner
	ops   []op
	at    int // up to here
	work  int // words for the slow coder
	phase int
}

func (f *filler) add(o op) {
	if k := len(f.ops) - 1; k >= 0 && o.kind == f.ops[k].kind && (o.kind == opStored || o.kind == opWords) {
		f.ops[k].len += o.len
	} else {
		f.ops = append(f.ops, o)
	}
	f.at += o.len
}

// literal adds bytes that have no counterpart, up to to. Long ones are looked
// at in pieces, so that compressed media in them is stored at once.
func (f *filler) literal(to int) {
	for f.at < to {
		n := to - f.at
		if n > 2*pieceBytes {
			n = pieceBytes
		}
		x := f.p.fresh[f.at : f.at+n]
		w := wordsBetween(f.at, f.at+n, f.phase)
		switch {
		case n >= pieceBytes/4 && flat(x):
			f.add(op{kind: opStored, len: n})
		case f.work+w <= maxWords:
			f.work += w
			f.add(op{kind: opWords, len: n, phase: f.phase})
		default:
			f.packed(min(to-f.at, maxPacked), noSource)
		}
	}
}

// copy adds a copy, or what it makes as differences.
func (f *filler) copy(c op) {
	f.phase = c.phase
	if c.src > len(f.p.base)+f.at-4 {
		f.literal(f.at + c.len) // from the last bytes of the base to the first of the result: the format has no such copy
		return
	}
	w := 0
	for _, is := range islands(f.p.base, f.p.fresh, f.at, c) {
		w += wordsBetween(is.Off, is.Off+is.Len, c.phase) + 1
	}
	if f.work+w <= maxWords {
		f.work += w
		f.add(c)
		return
	}
	for end, dist := f.at+c.len, c.src-f.at; f.at < end; {
		n := min(end-f.at, maxPacked)
		if src := f.at + dist - len(f.p.base); src >= 0 && src+n > f.at {
			dist = noSource // differences to what is not yet there
		}
		f.packed(n, dist)
	}
}

// packed adds n bytes as a frame or stored.
func (f *filler) packed(n, dist int) {
	x := f.p.fresh[f.at : f.at+n]
	var old []byte
	if dist != noSource {
		old = bytesAt(f.p.base, f.p.fresh, f.at+dist, n)
	}
	o, ok := pack(x, old, f.at+dist)
	if !ok {
		o = op{kind: opStored, len: n}
	}
	f.add(o)
}
