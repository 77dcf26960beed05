package diffupload

import "crypto/sha256"

// leveled turns a list that may be too long for one node into nodes of nodes.
//
// Up to MaxLinks items stay one list, if they weigh no more than maxRun. A
// longer list is cut after every item that marks says is a boundary, not before
// minRun items, and where the next item would make it more than MaxLinks or
// heavier than maxRun: so where nodes end depends on their own content, and an
// insertion in a list of a million changes one node on each level.
type leveled[T any] struct {
	marks  func(T) bool
	weight func(T) int                         // of an item, at least its bytes in a node
	emit   func(depth int, run []T) (T, error) // stores a node, returns the item that leads to it

	levels []*level[T]
}

type level[T any] struct {
	whole   []T  // while the list still fits one node
	cutting bool // it does not
	run     []T
	weight  int // of whole or run
}

// maxRun is the weight of the heaviest node: one with small files in it should
// be sent about as fast as a large chunk.
const maxRun = 256 << 10

// minRun keeps nodes from being tiny; with one boundary in 256 the mean is
// about 288 items.
const minRun = 32

func (t *leveled[T]) add(item T) error { return t.addAt(0, item) }

func (t *leveled[T]) addAt(depth int, item T) error {
	if depth == len(t.levels) {
		t.levels = append(t.levels, &level[T]{})
	}
	l := t.levels[depth]
	if l.cutting {
		return t.push(depth, item)
	}
	l.whole = append(l.whole, item)
	l.weight += t.weight(item)
	if len(l.whole) <= MaxLinks && l.weight <= maxRun {
		return nil
	}
	items := l.whole
	l.cutting, l.whole, l.weight = true, nil, 0
	for _, it := range items {
		if err := t.push(depth, it); err != nil {
			return err
		}
	}
	return nil
}

func (t *leveled[T]) push(depth int, item T) error {
	l := t.levels[depth]
	w := t.weight(item)
	if len(l.run) > 0 && l.weight+w > maxRun {
		if err := t.flush(depth); err != nil {
			return err
		}
	}
	l.run = append(l.run, item)
	l.weight += w
	if len(l.run) == MaxLinks || len(l.run) >= minRun && t.marks(item) {
		return t.flush(depth)
	}
	return nil
}

func (t *leveled[T]) flush(depth int) error {
	l := t.levels[depth]
	up, err := t.emit(depth, l.run)
	if err != nil {
		return err
	}
	l.run, l.weight = nil, 0
	return t.addAt(depth+1, up)
}

// finish returns the list of the topmost node, and its depth.
func (t *leveled[T]) finish() ([]T, int, error) {
	for depth := 0; depth < len(t.levels); depth++ {
		l := t.levels[depth]
		if !l.cutting {
			return l.whole, depth, nil
		}
		if len(l.run) > 0 {
			if err := t.flush(depth); err != nil {
				return nil, 0, err
			}
		}
	}
	return []T{}, 0, nil
}

// linkMarks: the last byte of the link's hash is zero.
func linkMarks(l Link) bool {
	b := l.CID.Bytes()
	return b[len(b)-1] == 0
}

// entryMarks: the first byte of sha2-256 of the name is zero.
func entryMarks(e Entry) bool {
	sum := sha256.Sum256([]byte(e.Name))
	return sum[0] == 0
}

// A link has at most 60 bytes in a node; an entry at most 82 beside its name
// and data.
func linkWeight(Link) int { return 64 }

func entryWeight(e Entry) int { return 96 + len(e.Name) + len(e.Data) }
