package delta

import (
	"math"
	"math/bits"
	"slices"
)

// none stands for the lane of words that have no counterpart.
const none = math.MinInt

// aligner finds, for each word of a region, how far away its counterpart is:
// the cheapest path through the distances that the region's blocks vote for,
// where a change of distance has a price (Viterbi, 1967).
type aligner struct {
	p          *planner
	at, end    int
	phase      int
	lanes      []int // distances of the block
	cost       []int // of the best path that ends in the lane
	came       []uint8
	best       []int   // after each word: the distance of the cheapest path
	blockLanes [][]int // lanes of each block, for the way back
	votes      []int
	piece      int // that was last looked at, and whether it is flat
	pieceFlat  bool
	dry        int // blocks without a vote, in a row
}

// align returns copies for parts of fresh[at:end], in order. It looks windows
// up in an index and, if it is to grow, enters them. Distances are tried
// everywhere.
func (p *planner) align(at, end, phase int, x *index, grow bool, distances ...int) []placed {
	var out []placed
	start := none
	if len(distances) > 0 {
		start = distances[0]
	}
	for at < end {
		to := end
		if end-at > regionBytes {
			to = wordsAfter(at, regionBytes/4, phase, end)
		}
		a := aligner{p: p, at: at, end: to, phase: phase, piece: -1}
		out = append(out, a.run(x, grow, start, distances)...)
		start = none
		if k := len(out) - 1; k >= 0 && out[k].at+out[k].len == to {
			start = out[k].src - out[k].at
		}
		at = to
	}
	return out
}

func (a *aligner) run(x *index, grow bool, start int, distances []int) []placed {
	n := wordsBetween(a.at, a.end, a.phase)
	a.came = make([]uint8, n)
	a.best = make([]int, n)
	a.lanes, a.cost = []int{none}, []int{0}
	if start != none {
		a.lanes, a.cost = []int{none, start}, []int{costNone, 0}
	}
	w := a.at
	for i := 0; i < n; i += blockWords {
		to := wordsAfter(w, blockWords, a.phase, a.end)
		a.enter(a.vote(w, to, x, grow), distances)
		a.blockLanes = append(a.blockLanes, a.lanes)
		for k := i; w < to; k++ {
			next := min(nextWord(w, a.phase), a.end)
			a.step(k, w, next)
			w = next
		}
	}
	return a.back(n)
}

// vote returns the distances that most windows of a block were found at. The
// index has places four bytes apart: windows are looked up at words first,
// and where that finds nothing at every byte, in case the bytes have moved by
// less; after some blocks in vain, in one of eight. Of what looks like
// compressed media, which is either found whole or not at all, each block has
// only as many windows looked up as one place of the base needs.
func (a *aligner) vote(from, to int, x *index, grow bool) []int {
	a.votes = a.votes[:0]
	if piece := (from - a.at) / pieceBytes; a.flat(piece) {
		a.lookup(from, min(from+x.step, to), 1, x)
		if grow && from+x.window <= len(a.p.fresh) {
			x.add(a.p.fresh[from:], len(a.p.base)+from)
		}
		return a.elected()
	}
	a.lookup(from, to, 4, x)
	if len(a.votes) == 0 {
		if a.dry++; a.dry <= 8 || a.dry&7 == 0 {
			a.lookup(from+1, to, 4, x)
			a.lookup(from+2, to, 4, x)
			a.lookup(from+3, to, 4, x)
		}
	}
	if len(a.votes) > 0 {
		a.dry = 0
	}
	if grow {
		for w := from; w < to && w+x.window <= len(a.p.fresh); w += 4 {
			x.add(a.p.fresh[w:], len(a.p.base)+w)
		}
	}
	return a.elected()
}

// flat says whether a piece of the region looks like compressed media.
func (a *aligner) flat(piece int) bool {
	if piece != a.piece {
		from := a.at + piece*pieceBytes
		n := min(a.end-from, pieceBytes)
		a.piece, a.pieceFlat = piece, n >= pieceBytes/4 && flat(a.p.fresh[from:from+n])
	}
	return a.pieceFlat
}

// elected returns the distances with most votes.
func (a *aligner) elected() []int {
	slices.Sort(a.votes)
	type tally struct{ dist, n int }
	var top [blockBest]tally
	for i := 0; i < len(a.votes); {
		j := i
		for j < len(a.votes) && a.votes[j] == a.votes[i] {
			j++
		}
		t := tally{a.votes[i], j - i}
		for k := range top {
			if t.n > top[k].n {
				t, top[k] = top[k], t
			}
		}
		i = j
	}
	var out []int
	for _, t := range top {
		if t.n > 0 {
			out = append(out, t.dist)
		}
	}
	return out
}

// lookup notes the distances of every step-th window of a block.
func (a *aligner) lookup(from, to, step int, x *index) {
	fresh, nb := a.p.fresh, len(a.p.base)
	for w := from; w < to && w+x.window <= len(fresh); w += step {
		h, ok := x.hash(fresh[w:])
		if !ok {
			continue
		}
		for _, s := range x.slots[h] {
			if s == 0 {
				continue
			}
			c := int(s) - 1
			if c >= nb && c-nb+x.window > w {
				continue
			}
			if equalBytes(fresh[w:w+x.window], bytesAt(a.p.base, fresh, c, x.window)) == x.window {
				a.votes = append(a.votes, c-w)
			}
		}
	}
}

// enter changes the lanes to those of the next block: none, where the cheapest
// path is, the given distances and what was voted for.
func (a *aligner) enter(voted, distances []int) {
	cheapest := 0
	for k := range a.cost {
		if a.cost[k] < a.cost[cheapest] {
			cheapest = k
		}
	}
	next := []int{none}
	put := func(d int) {
		if len(next) < lanes && !slices.Contains(next, d) {
			next = append(next, d)
		}
	}
	put(a.lanes[cheapest])
	for _, d := range distances {
		put(d)
	}
	for _, d := range voted {
		put(d)
	}
	cost := make([]int, len(next))
	for i, d := range next {
		cost[i] = math.MaxInt / 2
		if k := slices.Index(a.lanes, d); k >= 0 {
			cost[i] = a.cost[k]
		}
	}
	a.lanes, a.cost = next, cost
}

// step extends all paths by the word that holds fresh[w:to].
func (a *aligner) step(k, w, to int) {
	f := a.p.fresh
	g := nextWord(w, a.phase) - 4
	v := wordAt(f, g)
	lead := 0
	for i := range a.cost {
		if a.cost[i] < a.cost[lead] {
			lead = i
		}
	}
	least, from := a.cost[lead], a.lanes[lead]
	var came uint8
	for i, d := range a.lanes {
		sw := costSwitch
		if d == none {
			sw = costNone
		} else if from != none {
			sw = costNear + costFar*bits.Len(uint(max(d-from, from-d)))
		}
		c := a.cost[i]
		if c > least+sw {
			c = least + sw
			came |= 1 << i
		}
		switch {
		case d == none && v == wordAt(f, g-4):
			c += costNewSame
		case d == none:
			c += costNew
		default:
			c += a.p.wordCost(v, w, to, g, d)
		}
		a.cost[i] = min(c, math.MaxInt/2)
	}
	a.came[k] = came
	cheapest := 0
	for i := range a.cost {
		if a.cost[i] < a.cost[cheapest] {
			cheapest = i
		}
	}
	a.best[k] = a.lanes[cheapest]
}

// wordCost is what word v at g costs with its counterpart dist away.
func (p *planner) wordCost(v uint32, w, to, g, dist int) int {
	src := w + dist
	nb := len(p.base)
	var b uint32
	if w+dist >= nb {
		src -= nb
		if src+4 > w {
			return math.MaxInt / 4
		}
		b = wordAt(p.fresh, g+dist-nb)
	} else {
		if src < 0 || to+dist > nb {
			return math.MaxInt / 4
		}
		b = wordAt(p.base, g+dist)
	}
	return differenceCost[bits.Len32(v^b)]
}

// differenceCost is by the highest bit in which two words differ.
var differenceCost = func() (t [33]int) {
	for i := range t {
		t[i] = min(40+4*i, costNew+6)
		if i > 22 {
			t[i] = costNew + 2*i
		}
	}
	t[0] = costEqual
	return t
}()

// back follows the cheapest path from its end and returns its copies.
func (a *aligner) back(n int) []placed {
	var out []placed
	dist := a.best[n-1]
	end := a.end
	for k := n - 1; k >= 0; k-- {
		lane := slices.Index(a.blockLanes[k/blockWords], dist)
		begin := a.at
		if k > 0 {
			begin = wordsAfter(a.at, uint64(k), a.phase, a.end)
		}
		if k == 0 || a.came[k]>>lane&1 == 1 && a.best[k-1] != dist {
			if dist != none {
				// From the end of the base on the distance leads into the result.
				if cut := len(a.p.base) - dist; begin < cut && cut < end {
					out = append(out, placed{cut, op{kind: opCopy, len: end - cut, src: cut + dist, phase: a.phase}})
					end = cut
				}
				out = append(out, placed{begin, op{kind: opCopy, len: end - begin, src: begin + dist, phase: a.phase}})
			}
			end = begin
			if k > 0 {
				dist = a.best[k-1]
			}
		}
	}
	slices.Reverse(out)
	return out
}
