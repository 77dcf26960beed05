package blendfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// maxDNA bounds the block DNA1, head and all, so that it is one piece. Blender
// 5 writes 150 kB.
const maxDNA = maxPiece

// Bounds of what a description of structs may make us keep.
const (
	maxDepth = 16      // structs within structs; Blender has 6
	maxMarks = 1 << 20 // offsets kept over all structs of a file; Blender has 20 000
)

// sdna is a file's own description of its structs (block DNA1).
//
//	SDNA NAME n:i32 text* TYPE n:i32 text* TLEN n*u16 STRC n:i32 struct*
//	struct = type:u16 fields:u16 (type:u16 name:u16)*
//
// A text ends in NUL; each of the tags lies at a multiple of 4. A name says
// what the field is: *x and (*x)() are pointers, **x leads to an array of
// pointers, x[3][4] is an array.
type sdna struct {
	pointer int
	names   []string
	types   []string
	sizes   []int // of the types
	structs []structure
	byType  map[int]int // struct of a type
	layouts []*layout   // by struct, as they are asked for
	marks   int
}

type structure struct {
	typ    int
	fields []byte // as in the file
}

// layout says where in a struct the canonical form differs from the file.
type layout struct {
	name     string
	size     int
	id       bool // begins with an ID
	pointers []uint32
	arrays   []uint32 // those of pointers that lead to an array of pointers
	zeros    []span
	loose    []span   // what counts for nothing in an outline
	selected []uint32 // fields of 16 bits, whose lowest counts for nothing in one
	flags    []flags
	chars    []span // texts
	property *property
	preview  *preview
	texts    []uint32 // those of pointers that lead to a text
	tables   []table  // of layers of elements
	layer    *layer
}

type span struct{ at, size uint32 }

// flags are an int32 of which some bits are kept.
type flags struct {
	at   uint32
	keep uint32
}

// property is where an IDProperty says what its pointer leads to.
type property struct{ typ, subtype, length, pointer uint32 }

// table is where the pointer to an array of CustomDataLayer lies, and how many
// elements each of these layers has.
type table struct{ layers, count uint32 }

// layer is where a CustomDataLayer says what its pointer leads to.
type layer struct{ typ, data uint32 }

// counts are the fields that count the elements of a table, by its name.
var counts = map[string][]string{
	"vdata": {"totvert"}, "vert_data": {"totvert", "verts_num"},
	"edata": {"totedge"}, "edge_data": {"totedge", "edges_num"},
	"ldata": {"totloop"}, "corner_data": {"corners_num"}, "loop_data": {"totloop"},
	"pdata": {"totpoly", "totpoint"}, "face_data": {"faces_num"}, "poly_data": {"totpoly"},
	"point_data": {"point_num", "point_size"}, "curve_data": {"curve_num", "curve_size"},
}

// preview is where a PreviewImage holds its two pictures.
type preview struct{ width, height, rect uint32 }

func parseDNA(d []byte, order binary.ByteOrder, pointer int) (*sdna, error) {
	s := &sdna{pointer: pointer, byType: map[int]int{}}
	p := dnaReader{all: d, order: order}
	p.tag("SDNA")
	p.tag("NAME")
	s.names = p.texts()
	p.tag("TYPE")
	s.types = p.texts()
	p.tag("TLEN")
	for range s.types {
		s.sizes = append(s.sizes, p.u16())
	}
	p.tag("STRC")
	n := p.count(4)
	for i := 0; i < n && p.err == nil; i++ {
		t, count := p.u16(), p.u16()
		if t >= len(s.types) {
			p.fail("struct %d has type %d of %d", i, t, len(s.types))
			break
		}
		s.structs = append(s.structs, structure{t, p.take(4 * count)})
		if _, ok := s.byType[t]; ok {
			p.fail("struct %q comes twice", s.types[t])
		}
		s.byType[t] = i
	}
	if p.err != nil {
		return nil, p.err
	}
	s.layouts = make([]*layout, len(s.structs))
	return s, nil
}

// dnaReader reads DNA1; after the first error it reads zeros.
type dnaReader struct {
	all   []byte
	at    int
	order binary.ByteOrder
	err   error
}

func (p *dnaReader) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: DNA1: %s", ErrNotVouched, fmt.Sprintf(format, args...))
	}
}

func (p *dnaReader) take(n int) []byte {
	if p.err != nil || n > len(p.all)-p.at {
		p.fail("ends early")
		return nil
	}
	b := p.all[p.at : p.at+n]
	p.at += n
	return b
}

func (p *dnaReader) tag(want string) {
	p.at = min(len(p.all), (p.at+3)&^3)
	if got := p.take(4); p.err == nil && string(got) != want {
		p.fail("%q where %s should be", got, want)
	}
}

func (p *dnaReader) u16() int {
	b := p.take(2)
	if p.err != nil {
		return 0
	}
	return int(p.order.Uint16(b))
}

// count reads a number of things that take at least least bytes each. Indexes
// of things have 16 bits.
func (p *dnaReader) count(least int) int {
	b := p.take(4)
	if p.err != nil {
		return 0
	}
	n := int(p.order.Uint32(b))
	if n > 1<<16 || n*least > len(p.all)-p.at {
		p.fail("has %d parts in %d bytes", n, len(p.all)-p.at)
		return 0
	}
	return n
}

func (p *dnaReader) texts() []string {
	var out []string
	for n := p.count(1); n > 0 && p.err == nil; n-- {
		end := bytes.IndexByte(p.all[p.at:], 0)
		if end < 0 {
			p.fail("a name without end")
			return nil
		}
		out = append(out, string(p.all[p.at:p.at+end]))
		p.at += end + 1
	}
	return out
}

// field is one field of a struct.
type field struct {
	owner, typ, name string // name without stars, brackets and parentheses
	stars            int    // 0 is no pointer
	at, size, count  int    // size of one
	inner            int    // struct of the type, or -1
}

// fields lists the fields of struct i and checks that they fill it.
func (s *sdna) fields(i int, order binary.ByteOrder) ([]field, error) {
	st := s.structs[i]
	owner := s.types[st.typ]
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: DNA1: struct %q: %s", ErrNotVouched, owner, fmt.Sprintf(format, args...))
	}
	out := make([]field, 0, len(st.fields)/4)
	at := 0
	for b := st.fields; len(b) >= 4; b = b[4:] {
		t, n := int(order.Uint16(b)), int(order.Uint16(b[2:]))
		if t >= len(s.types) || n >= len(s.names) {
			return nil, bad("field of type %d and name %d", t, n)
		}
		f := field{owner: owner, typ: s.types[t], at: at, size: s.sizes[t], count: 1, inner: -1}
		name, dims, _ := strings.Cut(s.names[n], "[")
		f.name = strings.TrimLeft(name, "*")
		f.stars = len(name) - len(f.name)
		if strings.HasPrefix(name, "(") {
			f.name, f.stars = strings.Trim(name, "(*)"), 1
		}
		for dims != "" {
			var one string
			one, dims, _ = strings.Cut(dims, "[")
			k, err := strconv.Atoi(strings.TrimSuffix(one, "]"))
			if err != nil || k < 0 || k > 1<<16 || f.count*k > 1<<16 {
				return nil, bad("field %q", s.names[n])
			}
			f.count *= k
		}
		if f.stars > 0 {
			f.size = s.pointer
		} else if j, ok := s.byType[t]; ok {
			f.inner = j
		}
		at += f.size * f.count
		out = append(out, f)
	}
	if at != s.sizes[st.typ] {
		return nil, bad("%d bytes of fields in %d", at, s.sizes[st.typ])
	}
	return out, nil
}

// layout returns what to do with struct i. Structs that no block of a file has
// are never looked at.
func (s *sdna) layout(i int, order binary.ByteOrder) (*layout, error) {
	return s.layoutAt(i, order, 0)
}

func (s *sdna) layoutAt(i int, order binary.ByteOrder, depth int) (*layout, error) {
	if l := s.layouts[i]; l != nil {
		return l, nil
	}
	name := s.types[s.structs[i].typ]
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: DNA1: struct %q holds more than %d levels of structs", ErrNotVouched, name, maxDepth)
	}
	fields, err := s.fields(i, order)
	if err != nil {
		return nil, err
	}
	l := &layout{name: name, size: s.sizes[s.structs[i].typ]}
	for n, f := range fields {
		if f.stars == 0 && looseFields[member{f.owner, f.name}] {
			l.loose = append(l.loose, span{uint32(f.at), uint32(f.size * f.count)})
		}
		if isSelected(f) {
			l.selected = append(l.selected, uint32(f.at))
		}
		switch whole := cleared(f.owner, f.name); {
		case whole:
			l.zeros = append(l.zeros, span{uint32(f.at), uint32(f.size * f.count)})
		case f.stars == 0 && f.size == 1 && charArrays[member{f.owner, f.name}]:
			l.chars = append(l.chars, span{uint32(f.at), uint32(f.count)})
		case f.stars > 0:
			for k := range f.count {
				at := uint32(f.at + k*f.size)
				l.pointers = append(l.pointers, at)
				if texts[member{f.owner, f.name}] {
					l.texts = append(l.texts, at)
				}
				if f.stars > 1 {
					l.arrays = append(l.arrays, at)
				}
			}
		case f.inner >= 0:
			in, err := s.layoutAt(f.inner, order, depth+1)
			if err != nil {
				return nil, err
			}
			l.id = l.id || n == 0 && (f.typ == "ID" || in.id)
			for k := range f.count {
				if s.marks > maxMarks {
					break
				}
				l.add(in, uint32(f.at+k*f.size))
				s.marks += len(in.pointers) + len(in.arrays) + len(in.zeros) + len(in.loose) + len(in.flags) + len(in.tables) + len(in.texts)
			}
		}
		if keep, ok := keptBits(f.owner, f.name); ok && f.size == 4 && f.count == 1 {
			l.flags = append(l.flags, flags{uint32(f.at), keep})
		}
		s.marks += f.count
		if s.marks > maxMarks {
			return nil, fmt.Errorf("%w: DNA1: structs of more than %d parts", ErrNotVouched, maxMarks)
		}
	}
	l.id = l.id || name == "ID"
	l.special(fields, s)
	s.layouts[i] = l
	return l, nil
}

func (l *layout) add(in *layout, at uint32) {
	for _, p := range in.pointers {
		l.pointers = append(l.pointers, at+p)
	}
	for _, p := range in.arrays {
		l.arrays = append(l.arrays, at+p)
	}
	for _, z := range in.zeros {
		l.zeros = append(l.zeros, span{at + z.at, z.size})
	}
	for _, z := range in.loose {
		l.loose = append(l.loose, span{at + z.at, z.size})
	}
	for _, f := range in.flags {
		l.flags = append(l.flags, flags{at + f.at, f.keep})
	}
	for _, p := range in.texts {
		l.texts = append(l.texts, at+p)
	}
	for _, t := range in.tables {
		l.tables = append(l.tables, table{at + t.layers, at + t.count})
	}
}

// special finds the parts of structs that have to be understood.
func (l *layout) special(fields []field, s *sdna) {
	at := map[string]field{}
	for _, f := range fields {
		at[f.name] = f
	}
	for _, f := range fields {
		if f.typ != "CustomData" || f.stars > 0 || f.count != 1 || f.size < s.pointer {
			continue
		}
		for _, name := range counts[f.name] {
			if n, ok := at[name]; ok && n.stars == 0 && n.size == 4 && n.count == 1 {
				l.tables = append(l.tables, table{uint32(f.at), uint32(n.at)}) // CustomData begins with the pointer
				break
			}
		}
	}
	switch l.name {
	case "CustomDataLayer":
		t, data := at["type"], at["data"]
		if t.size == 4 && t.count == 1 && data.stars == 1 && data.count == 1 {
			l.layer = &layer{uint32(t.at), uint32(data.at)}
		}
	case "IDProperty":
		t, sub, data := at["type"], at["subtype"], at["data"]
		length := at["len"]
		if length.size == 4 && length.count == 1 && t.size == 1 && t.count == 1 && sub.size == 1 && sub.count == 1 && data.size >= s.pointer && data.count == 1 && data.inner >= 0 {
			// IDPropertyData begins with its pointer.
			l.property = &property{uint32(t.at), uint32(sub.at), uint32(length.at), uint32(data.at)}
		}
	case "PreviewImage":
		w, h, rect := at["w"], at["h"], at["rect"]
		if w.size == 4 && h.size == 4 && w.count == 2 && h.count == 2 && rect.stars == 1 && rect.count == 2 {
			l.preview = &preview{uint32(w.at), uint32(h.at), uint32(rect.at)}
		}
	}
}

// empty says that the canonical form of the struct is its bytes.
func (l *layout) empty() bool {
	return len(l.pointers) == 0 && len(l.zeros) == 0 && len(l.flags) == 0 && len(l.chars) == 0
}

// offset returns where in the struct named owner a field lies that is no
// pointer or one, and its size.
func (s *sdna) offset(owner, name string, order binary.ByteOrder) (at, size int, err error) {
	for t, typ := range s.types {
		i, ok := s.byType[t]
		if typ != owner || !ok {
			continue
		}
		fields, err := s.fields(i, order)
		if err != nil {
			return 0, 0, err
		}
		for _, f := range fields {
			if f.name == name {
				return f.at, f.size * f.count, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("%w: DNA1: no %s.%s", ErrNotVouched, owner, name)
}
