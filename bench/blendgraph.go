package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"strings"

	"idlewild/diffupload/blendfile"
)

// graph is a .blend as its own description (SDNA) explains it: blocks, grouped
// by the datablock they belong to, and where each pointer leads. It is written
// for this benchmark alone and shares nothing with what makes files canonical,
// so that the two check each other. It is for files of ours: what is damaged is
// an error at best.
type graph struct {
	raw     []byte
	pointer int
	types   []string
	sizes   []int
	structs [][]field // by SDNA index, flat; nil for what the file leaves empty
	names   []string  // of the structs
	blocks  []block
	scopes  []scope
	byScope []map[uint64]int // last block of an address within the scope
	ids     map[uint64]int   // last ID block of an address
	any     map[uint64]int   // first block of an address
}

// field is a part of a struct that holds no struct itself.
type field struct {
	at, size int
	name     string
	pointer  bool
}

type block struct {
	code     string
	at, size int // of its data
	old      uint64
	sdna     int
	count    int
	scope    int
}

// scope is an ID's block and the DATA blocks that follow it.
type scope struct {
	key    string // code, name and which of that name it is
	blocks []int
}

// dropped are the datablocks that the canonical form leaves out: the window
// manager, screens and workspaces, and two that are no datablocks: the
// thumbnail and the summary for render farms.
var dropped = map[string]bool{"WM": true, "SR": true, "SN": true, "WS": true, "TEST": true, "REND": true}

func readGraph(path string) (*graph, error) {
	r, info, err := blendfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if info.Endian != blendfile.Little {
		return nil, fmt.Errorf("%s: its integers are big-endian, which is not supported here", path)
	}
	g := &graph{raw: raw, pointer: info.Pointer, ids: map[uint64]int{}, any: map[uint64]int{}}
	if err := g.readBlocks(info); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := g.readDNA(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g.readScopes()
	g.dropPreviews()
	return g, nil
}

func (g *graph) readBlocks(info blendfile.Info) error {
	le := binary.LittleEndian
	at, head := 12, 16+info.Pointer
	if info.Large {
		at, head = 17, 32
	}
	for at+head <= len(g.raw) {
		h := g.raw[at:]
		b := block{code: strings.TrimRight(string(h[:4]), "\x00"), at: at + head}
		switch {
		case info.Large:
			b.sdna, b.old = int(int32(le.Uint32(h[4:]))), le.Uint64(h[8:])
			b.size, b.count = int(le.Uint64(h[16:])), int(le.Uint64(h[24:]))
		case info.Pointer == 8:
			b.size, b.old = int(int32(le.Uint32(h[4:]))), le.Uint64(h[8:])
			b.sdna, b.count = int(int32(le.Uint32(h[16:]))), int(int32(le.Uint32(h[20:])))
		default:
			b.size, b.old = int(int32(le.Uint32(h[4:]))), uint64(le.Uint32(h[8:]))
			b.sdna, b.count = int(int32(le.Uint32(h[12:]))), int(int32(le.Uint32(h[16:])))
		}
		if b.code == "ENDB" {
			return nil
		}
		if b.size < 0 || b.at+b.size > len(g.raw) {
			return fmt.Errorf("block %q at %d has %d bytes", b.code, at, b.size)
		}
		g.blocks = append(g.blocks, b)
		at = b.at + b.size
	}
	return fmt.Errorf("no ENDB")
}

// readDNA reads the block DNA1: the names of fields, the types, their sizes,
// and for each struct its fields as pairs of the two.
func (g *graph) readDNA() error {
	le := binary.LittleEndian
	var d []byte
	for _, b := range g.blocks {
		if b.code == "DNA1" {
			d = g.raw[b.at : b.at+b.size]
		}
	}
	section := func(tag string) error {
		i := bytes.Index(d, []byte(tag))
		if i < 0 || len(d) < i+8 {
			return fmt.Errorf("no %s in DNA1", tag)
		}
		d = d[i+4:]
		return nil
	}
	texts := func(tag string) ([]string, error) {
		if err := section(tag); err != nil {
			return nil, err
		}
		n := int(le.Uint32(d))
		d = d[4:]
		var out []string
		for range n {
			i := bytes.IndexByte(d, 0)
			if i < 0 {
				return nil, fmt.Errorf("%s ends early in DNA1", tag)
			}
			out = append(out, string(d[:i]))
			d = d[i+1:]
		}
		return out, nil
	}
	names, err := texts("NAME")
	if err != nil {
		return err
	}
	if g.types, err = texts("TYPE"); err != nil {
		return err
	}
	if err := section("TLEN"); err != nil {
		return err
	}
	for i := range g.types {
		g.sizes = append(g.sizes, int(le.Uint16(d[2*i:])))
	}
	d = d[2*len(g.types):]
	if err := section("STRC"); err != nil {
		return err
	}
	n := int(le.Uint32(d))
	d = d[4:]
	members := make([][][2]int, n)
	byType := map[int]int{}
	for i := range n {
		t, count := int(le.Uint16(d)), int(le.Uint16(d[2:]))
		d = d[4:]
		byType[t] = i
		g.names = append(g.names, g.types[t])
		for range count {
			members[i] = append(members[i], [2]int{int(le.Uint16(d)), int(le.Uint16(d[2:]))})
			d = d[4:]
		}
	}
	g.structs = make([][]field, n)
	var flatten func(out []field, index, at int, prefix string) ([]field, int)
	flatten = func(out []field, index, at int, prefix string) ([]field, int) {
		for _, m := range members[index] {
			name := names[m[1]]
			count, bare := arrayOf(name)
			switch {
			case name[0] == '*' || name[0] == '(':
				for i := range count {
					out = append(out, field{at + i*g.pointer, g.pointer, prefix + indexed(bare, i, count), true})
				}
				at += count * g.pointer
			default:
				inner, isStruct := byType[m[0]]
				if !isStruct {
					out = append(out, field{at, g.sizes[m[0]] * count, prefix + bare, false})
					at += g.sizes[m[0]] * count
					continue
				}
				for i := range count {
					out, _ = flatten(out, inner, at, prefix+indexed(bare, i, count)+".")
					at += g.sizes[m[0]]
				}
			}
		}
		return out, at
	}
	for i := range n {
		g.structs[i], _ = flatten(nil, i, 0, "")
	}
	return nil
}

// arrayOf takes "*mat[4][2]" apart: 8 and "mat".
func arrayOf(name string) (count int, bare string) {
	count = 1
	bare, rest, _ := strings.Cut(name, "[")
	for rest != "" {
		var n int
		fmt.Sscan(rest, &n)
		count *= n
		_, rest, _ = strings.Cut(rest, "[")
	}
	return count, strings.Trim(bare, "*()")
}

func indexed(name string, i, count int) string {
	if count == 1 {
		return name
	}
	return fmt.Sprintf("%s[%d]", name, i)
}

func (g *graph) readScopes() {
	name := -1
	for i, n := range g.names {
		if n != "ID" {
			continue
		}
		for _, f := range g.structs[i] {
			if f.name == "name" {
				name = f.at
			}
		}
	}
	seen := map[string]int{}
	for i := range g.blocks {
		b := &g.blocks[i]
		if b.code != "DATA" || len(g.scopes) == 0 {
			key := b.code
			if len(b.code) == 2 && name >= 0 && b.size > name {
				text, _, _ := bytes.Cut(g.raw[b.at+name:min(b.at+b.size, b.at+name+258)], []byte{0})
				key += ":" + string(text)
			}
			seen[key]++
			if n := seen[key]; n > 1 {
				key = fmt.Sprintf("%s (%d)", key, n)
			}
			g.scopes = append(g.scopes, scope{key: key})
			g.byScope = append(g.byScope, map[uint64]int{})
			if !dropped[b.code] {
				g.ids[b.old] = i
			}
		}
		b.scope = len(g.scopes) - 1
		s := &g.scopes[b.scope]
		s.blocks = append(s.blocks, i)
		g.byScope[b.scope][b.old] = i
		if _, ok := g.any[b.old]; !ok && !g.leftOut(b.scope) {
			g.any[b.old] = i
		}
	}
}

// dropPreviews leaves out the small pictures that Blender shows of datablocks.
func (g *graph) dropPreviews() {
	for n := range g.scopes {
		s := &g.scopes[n]
		out := map[int]bool{}
		for _, i := range s.blocks {
			b := g.blocks[i]
			if b.sdna == 0 || b.count != 1 || g.names[b.sdna] != "PreviewImage" {
				continue
			}
			out[i] = true
			for _, f := range g.structs[b.sdna] {
				if strings.HasPrefix(f.name, "rect[") {
					if j, ok := g.byScope[n][g.word(b.at+f.at)]; ok {
						out[j] = true
					}
				}
			}
		}
		if len(out) == 0 {
			continue
		}
		var kept []int
		for _, i := range s.blocks {
			if !out[i] {
				kept = append(kept, i)
				continue
			}
			if g.byScope[n][g.blocks[i].old] == i {
				delete(g.byScope[n], g.blocks[i].old)
			}
			if g.any[g.blocks[i].old] == i {
				delete(g.any, g.blocks[i].old)
			}
		}
		s.blocks = kept
	}
}

func (g *graph) leftOut(scope int) bool { return dropped[g.blocks[g.scopes[scope].blocks[0]].code] }

// target names the block that a pointer from the scope leads to, as Blender
// looks it up: in the datablock, then among the IDs. Where it leads to nothing
// that is kept, ok is false.
func (g *graph) target(from int, address uint64) (where string, ok bool) {
	i, ok := g.byScope[from][address]
	if !ok {
		i, ok = g.ids[address]
	}
	if !ok {
		i, ok = g.any[address]
	}
	if !ok {
		return "", false
	}
	s := g.scopes[g.blocks[i].scope]
	return fmt.Sprintf("%s#%d", s.key, sort.SearchInts(s.blocks, i)), true
}

// follows says whether Blender looks the address up where it can be found: in
// the datablock and among the IDs. GLOB leads to a view layer of a scene.
func (g *graph) follows(from int, address uint64) bool {
	_, inside := g.byScope[from][address]
	_, id := g.ids[address]
	return inside || id || g.blocks[g.scopes[from].blocks[0]].code == "GLOB"
}

func (g *graph) word(at int) uint64 {
	if g.pointer == 4 {
		return uint64(binary.LittleEndian.Uint32(g.raw[at:]))
	}
	return binary.LittleEndian.Uint64(g.raw[at:])
}

// graphDifferences counts what differs, by struct, field and manner.
type graphDifferences map[string]int

// Manners. The pointers of manner dangling lead to nothing in the original.
const (
	lostPointer  = "pointer lost"
	wrongPointer = "pointer leads elsewhere"
	newPointer   = "pointer out of nothing"
	dangling     = "dangling pointer cleared"
	foreign      = "pointer into another datablock's own data cleared"
	missingBlock = "block missing"
	otherBlock   = "block of another kind or size"
	otherBytes   = "value differs"
	behindEnd    = "the last bytes differ"
	staleArray   = "addresses left in an array"
)

// harmful are the differences that are no mere values of the program's own.
func (d graphDifferences) harmful() []string {
	var out []string
	for k, n := range d {
		if reasonFor(graphAllowed, k) == "" {
			out = append(out, fmt.Sprintf("%s (%d)", k, n))
		}
	}
	sort.Strings(out)
	return out
}

// compareGraphs compares two files block by block.
func compareGraphs(original, other string) (graphDifferences, error) {
	a, err := readGraph(original)
	if err != nil {
		return nil, err
	}
	b, err := readGraph(other)
	if err != nil {
		return nil, err
	}
	d := graphDifferences{}
	scopes := map[string]int{}
	for i, s := range b.scopes {
		if !b.leftOut(i) {
			scopes[s.key] = i
		}
	}
	for i, s := range a.scopes {
		if a.leftOut(i) {
			continue
		}
		j, ok := scopes[s.key]
		delete(scopes, s.key)
		switch {
		case !ok:
			d[s.key[:2]+": "+missingBlock]++
		case len(b.scopes[j].blocks) != len(s.blocks):
			d[fmt.Sprintf("%s: %s: %d of %d", s.key, missingBlock, len(b.scopes[j].blocks), len(s.blocks))]++
		default:
			for k, from := range s.blocks {
				d.compareBlocks(a, b, from, b.scopes[j].blocks[k])
			}
		}
	}
	for key := range scopes {
		d[key[:2]+": more than there was"]++
	}
	return d, nil
}

func (d graphDifferences) compareBlocks(a, b *graph, i, j int) {
	x, y := a.blocks[i], b.blocks[j]
	kind := func(g *graph, k block) string {
		if k.sdna < 0 || k.sdna >= len(g.names) {
			return "?"
		}
		return g.names[k.sdna]
	}
	if x.code != y.code || kind(a, x) != kind(b, y) || x.count != y.count || x.size != y.size {
		d[fmt.Sprintf("%s: %s", kind(a, x), otherBlock)]++
		return
	}
	if x.code == "DNA1" {
		if !bytes.Equal(a.raw[x.at:x.at+x.size], b.raw[y.at:y.at+y.size]) {
			d["DNA1: "+otherBytes]++
		}
		return
	}
	if x.sdna == 0 {
		d.compareRaw(a, b, x, y)
		return
	}
	size := 0
	if x.count > 0 {
		size = x.size / x.count
	}
	fields := a.structs[x.sdna]
	for n := range x.count {
		for _, f := range fields {
			p, q := x.at+n*size+f.at, y.at+n*size+f.at
			if f.at+f.size > size {
				continue // the block is shorter than its struct: an array of something else
			}
			if !f.pointer {
				if !bytes.Equal(a.raw[p:p+f.size], b.raw[q:q+f.size]) {
					d[a.names[x.sdna]+"."+f.name+": "+otherBytes]++
				}
				continue
			}
			if manner := comparePointers(a, b, x.scope, y.scope, a.word(p), b.word(q)); manner != "" {
				d[a.names[x.sdna]+"."+f.name+": "+manner]++
			}
		}
	}
}

// comparePointers says in which manner two pointers differ.
func comparePointers(a, b *graph, from, to int, x, y uint64) string {
	if x == 0 && y == 0 {
		return ""
	}
	where, leads := a.target(from, x)
	there, also := b.target(to, y)
	switch {
	case x == 0:
		return newPointer
	case leads && also && where == there:
		return ""
	case leads && also:
		return wrongPointer
	case leads && !also && !a.follows(from, x):
		return foreign
	case leads:
		return lostPointer
	case also:
		return newPointer
	case y == 0:
		return dangling
	}
	return "" // to nothing in both
}

// compareRaw compares blocks without a struct. Such a block is numbers or text,
// or an array of pointers, which nothing in the file tells.
func (d graphDifferences) compareRaw(a, b *graph, x, y block) {
	owner := func() string {
		for _, i := range a.scopes[x.scope].blocks {
			o := a.blocks[i]
			if o.sdna == 0 || o.count == 0 {
				continue
			}
			size := o.size / o.count
			for n := range o.count {
				for _, f := range a.structs[o.sdna] {
					if f.pointer && f.at+f.size <= size && a.word(o.at+n*size+f.at) == x.old {
						return a.names[o.sdna] + "." + f.name + "[]"
					}
				}
			}
		}
		return "an array that nothing points to"
	}
	words, leading, manners := x.size/a.pointer, 0, map[string]int{}
	for n := range words {
		v, w := a.word(x.at+n*a.pointer), b.word(y.at+n*a.pointer)
		if v == 0 && w == 0 {
			continue
		}
		if _, ok := a.target(x.scope, v); ok && v != 0 {
			leading++
		}
		if m := comparePointers(a, b, x.scope, y.scope, v, w); m != "" {
			manners[m]++
		}
	}
	equal := bytes.Equal(a.raw[x.at:x.at+x.size], b.raw[y.at:y.at+y.size])
	if n := x.size - 3; !equal && leading == 0 && n > 0 && x.size%4 == 0 && bytes.Equal(a.raw[x.at:x.at+n], b.raw[y.at:y.at+n]) {
		d[owner()+": "+behindEnd]++
		return
	}
	switch {
	case leading == 0 && equal, leading > 0 && len(manners) == 0 && !equal:
	case equal:
		// Small numbers may look like the addresses of a canonical file by
		// chance, those of a heap hardly.
		if leading > 0 && len(manners) > 0 {
			d[owner()+": "+staleArray]++
		}
	case leading == 0 && len(manners) > 0:
		_, only := manners[dangling]
		if only && len(manners) == 1 {
			d[owner()+": "+dangling]++
		} else {
			d[owner()+": "+otherBytes]++
		}
	default:
		for m := range manners {
			d[owner()+": "+m]++
		}
		if len(manners) == 0 {
			d[owner()+": "+otherBytes]++
		}
	}
}
