package blendfile

import "fmt"

// scanner finds the arrays of pointers. Nothing in a block of raw data says
// that it is one. Those that a field **x leads to are, and those of an
// IDProperty that is an array of groups. Raw data in which an address of the
// file shows up elsewhere is one if it holds addresses and nothing else;
// otherwise the file is not vouched for.
type scanner struct {
	*plan
	w        *window
	suspects []suspect
}

// suspect is raw data that holds addresses of the file.
type suspect struct {
	block uint32
	pure  bool // and else zeros
}

// Kinds of an IDProperty that is an array of pointers to properties.
const (
	propertyArray = 5
	propertyGroup = 6
)

func (x *scanner) block(s, i uint32, h head, at int64) error {
	l, err := x.blockLayout(h)
	if err != nil {
		return err
	}
	if l == nil {
		return x.raw(s, i, h, at)
	}
	if len(l.arrays) == 0 && l.property == nil && l.preview == nil {
		return nil
	}
	mark := func(address uint64) {
		if b, owner, ok := x.find(s, address, 0); ok && owner == s && b > x.scopes[s].first {
			x.arrays.set(b)
		}
	}
	for n := int64(0); n < h.size; n += int64(l.size) {
		b, err := x.w.peek(at+n, l.size)
		if err != nil {
			return err
		}
		for _, a := range l.arrays {
			mark(x.word(b[a:]))
		}
		if p := l.property; p != nil && b[p.typ] == propertyArray && b[p.subtype] == propertyGroup {
			mark(x.word(b[p.pointer:]))
		}
	}
	return nil
}

// raw looks for addresses in raw data.
func (x *scanner) raw(s, i uint32, h head, at int64) error {
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
