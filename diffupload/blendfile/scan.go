package blendfile

import (
	"bytes"
	"fmt"
)

// scanner finds the arrays of pointers. Nothing in a block of raw data says
// that it is one. Those that a field **x leads to are, and those of an
// IDProperty that is an array of groups. Raw data in which an address of the
// file shows up elsewhere is one if it holds addresses and nothing else;
// otherwise the file is not vouched for.
type scanner struct {
	*plan
	w        *window
	suspects []suspect
	pictures map[uint32]int64  // blocks that are pictures of previews, and their sizes
	tables   map[uint32]uint32 // blocks that are layers of a table, and its elements
	lengths  map[uint32]int64  // blocks of raw data, and the bytes that mean something
	near     uint32            // guess of the block that the next pointer leads to
}

// maxPictures bounds the previews that are looked for at a time, maxRoomy the
// blocks that something leads into, maxLengths those of known length.
const (
	maxPictures = 4096
	maxRoomy    = 1 << 17
	maxLengths  = 1 << 17
)

// suspect is raw data that holds addresses of the file.
type suspect struct {
	block uint32
	pure  bool // and else zeros
}

// Kinds of an IDProperty: an array of groups is one of pointers to properties.
const (
	propertyString  = 0
	propertyArray   = 5
	propertyGroup   = 6
	propertyBoolean = 10
)

// Types of a CustomDataLayer whose elements have one byte.
const (
	layerInt8    = 45
	layerBoolean = 50
)

func newScanner(p *plan, w *window) *scanner {
	return &scanner{plan: p, w: w, pictures: map[uint32]int64{}, tables: map[uint32]uint32{}, lengths: map[uint32]int64{}}
}

func (x *scanner) block(s, i uint32, h head, at int64) error {
	l, err := x.blockLayout(h)
	if err != nil {
		return err
	}
	if l == nil {
		return x.raw(s, i, h, at)
	}
	if l.preview != nil && h.size == int64(l.size) && len(x.pictures) < maxPictures {
		return x.preview(s, i, l, at)
	}
	if len(l.pointers) == 0 {
		return nil
	}
	for n := int64(0); n < h.size; n += int64(l.size) {
		b, err := x.w.peek(at+n, l.size)
		if err != nil {
			return err
		}
		x.pointers(s, l, b)
		if elements, ok := x.tables[i]; ok && l.layer != nil {
			if t := x.order.Uint32(b[l.layer.typ:]); t == layerInt8 || t == layerBoolean {
				x.length(s, x.word(b[l.layer.data:]), elements)
			}
		}
	}
	delete(x.tables, i)
	return nil
}

// pointers looks at those of one struct.
func (x *scanner) pointers(s uint32, l *layout, b []byte) {
	for _, a := range l.pointers {
		v := x.word(b[a:])
		if v == 0 {
			continue
		}
		if block, _, ok := x.find(s, v, x.near); ok {
			x.near = block + 1
		} else if block, ok := x.into(s, v); ok && len(x.roomy) < maxRoomy {
			x.roomy[block] = 0
		}
	}
	for _, a := range l.arrays {
		x.array(s, x.word(b[a:]))
	}
	for _, a := range l.texts {
		x.length(s, x.word(b[a:]), untilNUL)
	}
	for _, t := range l.tables {
		if block, owner, ok := x.find(s, x.word(b[t.layers:]), 0); ok && owner == s && len(x.tables) < maxLengths {
			x.tables[block] = x.order.Uint32(b[t.count:])
		}
	}
	if p := l.property; p != nil {
		switch kind, of := b[p.typ], b[p.subtype]; {
		case kind == propertyArray && of == propertyGroup:
			x.array(s, x.word(b[p.pointer:]))
		case kind == propertyString, kind == propertyArray && of == propertyBoolean:
			x.length(s, x.word(b[p.pointer:]), x.order.Uint32(b[p.length:]))
		}
	}
}

// untilNUL is the length of a text whose end has to be looked for.
const untilNUL = 1<<32 - 1

// length notes how many bytes of raw data mean something. Blender writes
// multiples of four bytes, and what lies in memory behind the data with them.
func (x *scanner) length(s uint32, address uint64, n uint32) {
	if n%4 == 0 || len(x.lengths) >= maxLengths || len(x.tails) >= maxLengths {
		return
	}
	if b, owner, ok := x.find(s, address, 0); ok && owner == s && b > x.scopes[s].first {
		x.lengths[b] = int64(n)
	}
}

// array notes that what an address leads to is an array of pointers.
func (x *scanner) array(s uint32, address uint64) {
	if b, owner, ok := x.find(s, address, 0); ok && owner == s && b > x.scopes[s].first {
		x.arrays.set(b)
	}
}

// preview drops a preview of a datablock. Its pictures follow it.
func (x *scanner) preview(s, i uint32, l *layout, at int64) error {
	b, err := x.w.peek(at, l.size)
	if err != nil {
		return err
	}
	x.dropped = append(x.dropped, i)
	for k := range uint32(2) {
		size := 4 * int64(x.order.Uint32(b[l.preview.width+4*k:])) * int64(x.order.Uint32(b[l.preview.height+4*k:]))
		picture, owner, ok := x.find(s, x.word(b[l.preview.rect+uint32(x.pointer)*k:]), 0)
		if ok && owner == s && picture > i && size > 0 {
			x.pictures[picture] = size
		}
	}
	return nil
}

// raw looks for addresses in raw data.
func (x *scanner) raw(s, i uint32, h head, at int64) error {
	if size, ok := x.pictures[i]; ok {
		delete(x.pictures, i)
		if size == h.size {
			x.dropped = append(x.dropped, i)
			return nil
		}
	}
	if n, ok := x.lengths[i]; ok {
		delete(x.lengths, i)
		if n == untilNUL && h.size >= 4 {
			b, err := x.w.peek(at+h.size-4, 4)
			if err != nil {
				return err
			}
			if end := bytes.IndexByte(b, 0); end >= 0 {
				n = h.size - 3 + int64(end)
			}
		}
		if n%4 != 0 && h.size == (n+3)&^3 {
			x.tails[i] = uint8(h.size - n)
		}
	}
	var found, other bool
	low := uint64(1 << 32) // smaller ones are likely numbers
	if x.pointer == 4 {
		low = 1 << 16
	}
	for n := int64(0); h.size-n >= int64(x.pointer); {
		size := int(min(h.size-n, windowBytes)) / x.pointer * x.pointer
		b, err := x.w.peek(at+n, size)
		if err != nil {
			return err
		}
		n += int64(size)
		for ; len(b) >= x.pointer; b = b[x.pointer:] {
			v := x.word(b)
			if v == 0 {
				continue
			}
			if x.filter.has(v) {
				if _, _, ok := x.find(s, v, 0); ok && v >= low {
					found = true
					continue
				}
			}
			other = true
		}
	}
	if found && (x.pointer == 8 || !other) {
		x.suspects = append(x.suspects, suspect{i, !other})
	}
	return nil
}

// finish decides about the suspects.
func (x *scanner) finish() error {
	for _, u := range x.suspects {
		switch {
		case x.arrays.has(u.block):
		case u.pure && x.pointer == 8:
			x.arrays.set(u.block)
		default:
			return fmt.Errorf("%w: block %d is raw data that holds addresses", ErrNotVouched, u.block)
		}
	}
	return nil
}
