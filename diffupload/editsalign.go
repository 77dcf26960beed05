package diffupload

import "slices"

// align finds the operations that make the leaves of n out of those of its
// base: a run that is there is copied, whatever is between is fresh. like,
// where it is not nil, has for each leaf the old one that the cursor is to be at
// if it is fresh, or -1 where it does not matter.
func (n *newFile) align(like []int) {
	places := make(map[leafKey][]int, len(n.from.leaves))
	for i, l := range n.from.leaves {
		places[l.key()] = append(places[l.key()], i)
	}
	// next returns the place at or behind the cursor, else the last before it.
	next := func(k leafKey, cursor int) int {
		at := places[k]
		if len(at) == 0 {
			return -1
		}
		i, _ := slices.BinarySearch(at, cursor)
		return at[min(i, len(at)-1)]
	}
	var sizes map[int64][]int // places of the leaves of a size
	sized := func(size int64, at int) int {
		if sizes == nil {
			sizes = map[int64][]int{}
			for i, l := range n.from.leaves {
				sizes[l.size] = append(sizes[l.size], i)
			}
		}
		p := sizes[size]
		if i, _ := slices.BinarySearch(p, at); i < len(p) {
			return p[i]
		}
		return len(n.from.leaves)
	}
	cursor := 0
	leaves, from := n.flat.leaves, n.from.leaves
	add := func(kind byte, count, at int) {
		n.ops = append(n.ops, leafOp{kind: kind, n: count, at: at, old: cursor})
	}
	move := func(to int) {
		if to != cursor {
			add(leafMove, to-cursor, 0)
			cursor = to
		}
	}
	for i := 0; i < len(leaves); {
		if p := next(leaves[i].key(), cursor); p >= 0 {
			move(p)
			run := 0
			for i+run < len(leaves) && p+run < len(from) && leaves[i+run].key() == from[p+run].key() {
				run++
			}
			add(leafCopy, run, i)
			i, cursor = i+run, cursor+run
			continue
		}
		run, q := 0, -1
		for i+run < len(leaves) {
			if q = next(leaves[i+run].key(), cursor); q >= 0 {
				break
			}
			run++
		}
		// Where more old leaves went than new ones came, those of the same
		// length are taken for the same.
		gap := len(from) - cursor
		if q >= cursor {
			gap = q - cursor
		}
		for run > 0 {
			most := run
			if like != nil {
				if like[i] >= 0 {
					move(like[i])
				}
				for most = 1; most < run && (like[i+most] < 0 || like[i+most] == cursor+most); {
					most++
				}
			} else if gap > run && i < len(leaves) && cursor < len(from) && from[cursor].size != leaves[i].size {
				if k := sized(leaves[i].size, cursor+1) - cursor; k <= gap-run {
					move(cursor + k)
					gap -= k
				}
			}
			same := 0
			for same < most && cursor+same < len(from) && leaves[i+same].size == from[cursor+same].size {
				same++
			}
			kind, count := byte(leafSame), same
			if same == 0 {
				kind, count = leafSized, 1
				for count < most && (cursor+count >= len(from) || leaves[i+count].size != from[cursor+count].size) {
					count++
				}
			}
			add(kind, count, i)
			i, cursor, run, gap = i+count, cursor+count, run-count, gap-count
		}
	}
}
