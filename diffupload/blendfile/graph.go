package blendfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Graph is the datablocks of a .blend: what each says, and which lead to which.
type Graph struct {
	blocks []datablock
	index  map[string]int32 // by key
	base   [sha256.Size]byte
}

// datablock is one of a Graph.
type datablock struct {
	key   string // as ID.Key
	sum   [sha256.Size]byte
	links []link
}

// link leads to a datablock.
type link struct {
	to  int32
	how linkKind
}

type linkKind uint8

const (
	linkUse    linkKind = iota // of any sort
	linkMember                 // a collection or view layer has an object
	linkChild                  // a collection or view layer has a collection
)

// MaxLinks bounds the links of a Graph.
const MaxLinks = 1 << 24

// GraphOf reads the .blend in f, which has size bytes. What a render does not
// depend on is left out of what datablocks say: a closed list in this file.
// Errors are those of Canonical.
func GraphOf(ctx context.Context, f io.ReaderAt, size int64) (*Graph, error) {
	c, _, err := openContent(f, size, "")
	if err != nil {
		return nil, err
	}
	p, err := planOf(ctx, c, size)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	x := grapher{writer: writer{plan: p, c: c, w: newWindow(c, windowBytes)}, g: &Graph{index: map[string]int32{}}}
	err = x.read(ctx)
	return x.g, errors.Join(err, c.close())
}

// memberFields are the pointers by which a collection or a view layer has what
// is in it, by their struct.
var memberFields = map[string]struct {
	field string
	how   linkKind
}{
	"CollectionObject": {"ob", linkMember},
	"Base":             {"object", linkMember},
	"CollectionChild":  {"collection", linkChild},
	"LayerCollection":  {"collection", linkChild},
}

// idleFields are what no render depends on: selection, what the viewport shows
// and is at, what is computed anew when a file is opened, counts of users.
var idleFields = fieldsOf(map[string][]string{
	"ID":              {"us"},
	"Library":         {"filepath_abs"},
	"FileGlobal":      {"curscene", "cur_view_layer"}, // a task names its own
	"Object":          {"obmat", "object_to_world", "imat", "imat_ren", "world_to_object", "mode", "restore_mode", "base_flag", "base_local_view_bits"},
	"Base":            {"flag", "flag_legacy", "local_view_bits", "local_collections_bits"},
	"ViewLayer":       {"basact", "active_collection"},
	"LayerCollection": {"runtime_flag", "local_collections_bits"},
	"RenderData":      {"cfra", "subframe"},
	"bNode":           {"locx", "locy", "location", "width", "height", "miniwidth", "offsetx", "offsety", "ui_order"},
	"FCurve":          {"curval", "prev_norm_factor", "prev_offset", "active_keyframe_index", "color"},
	"ChannelDriver":   {"curval"},
	"DriverVar":       {"curval"},
})

// grapher walks a file as writer does.
type grapher struct {
	writer
	g     *Graph
	scope uint32
	block datablock
	sum   hash.Hash
	nodes []int32 // by scope; -1: dropped
	near  uint32
	links int
	at    map[string]int64 // offset of a struct's member field; -1: none
}

func (x *grapher) read(ctx context.Context) error {
	met := map[string]int{}
	x.nodes, x.at = make([]int32, len(x.scopes)), map[string]int64{}
	for i := range x.scopes {
		s := &x.scopes[i]
		if x.nodes[i] = -1; s.dropped || s.code == "ENDB" {
			continue
		}
		key := x.text(s, 0)
		n := met[key]
		met[key]++
		if n > 0 {
			key = x.text(s, n)
		}
		x.nodes[i] = int32(len(x.g.blocks))
		x.g.index[key] = x.nodes[i]
		x.g.blocks = append(x.g.blocks, datablock{key: key})
	}
	b, err := x.w.peek(0, x.header)
	if err != nil {
		return err
	}
	base := sha256.New()
	base.Write(b)
	x.sum = sha256.New()
	s := -1
	close := func() {
		if s >= 0 && x.nodes[s] >= 0 {
			d := &x.g.blocks[x.nodes[s]]
			x.sum.Sum(d.sum[:0])
			if c := x.scopes[s].code; c == "DNA1" || c == "GLOB" {
				base.Write(d.sum[:])
			}
		}
		x.sum.Reset()
	}
	err = x.blocks(x.w, func(i int, h head, _ []byte, at int64) error {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i >= len(x.olds) || x.olds[i] != h.old {
			return errChanged
		}
		if s+1 < len(x.scopes) && int(x.scopes[s+1].first) == i {
			close()
			s++
		}
		if x.nodes[s] < 0 || x.isDropped(uint32(i)) {
			return nil
		}
		x.scope = uint32(s)
		return x.data(uint32(i), h, at)
	})
	close()
	base.Sum(x.g.base[:0])
	return err
}

func (x *grapher) data(i uint32, h head, at int64) error {
	l, err := x.blockLayout(h)
	if err != nil {
		return err
	}
	if h.code == "DNA1" {
		l = nil
	}
	old := uint64(0)
	if h.old != 0 {
		old = x.address(i, x.scope)
	}
	fmt.Fprintf(x.sum, "%s %d %d %d %d\n", h.code, h.size, h.sdna, h.count, old)
	r := &blockReader{
		writer: &x.writer, scope: x.scope, layout: l, array: l == nil && h.code != "DNA1" && x.arrays.has(i), tail: int(x.tails[i]), at: at, left: h.size,
		see: func(b []byte) { x.see(l, b) },
	}
	for r.left > 0 {
		b, err := r.next()
		if err != nil {
			return err
		}
		x.sum.Write(b)
	}
	if x.links > MaxLinks {
		return fmt.Errorf("%w: more than %d links", ErrNotVouched, MaxLinks)
	}
	return nil
}

// see looks at one struct, or at one pointer of an array, as the file has it.
func (x *grapher) see(l *layout, b []byte) {
	if l == nil {
		x.link(x.word(b), linkUse)
		return
	}
	for _, z := range l.idle {
		clear(b[z.at:][:z.size])
	}
	for _, at := range l.selected {
		x.order.PutUint16(b[at:], x.order.Uint16(b[at:])&^1)
	}
	member := x.member(l.name)
	for _, at := range l.pointers {
		how := linkUse
		if int64(at) == member {
			how = memberFields[l.name].how
		}
		x.link(x.word(b[at:]), how)
	}
}

func (x *grapher) member(name string) int64 {
	f, ok := memberFields[name]
	if !ok {
		return -1
	}
	at, ok := x.at[name]
	if !ok {
		at = -1
		if n, _, err := x.dna.offset(name, f.field, x.order); err == nil {
			at = int64(n)
		}
		x.at[name] = at
	}
	return at
}

func (x *grapher) link(address uint64, how linkKind) {
	b, owner, ok := x.find(x.scope, address, x.near)
	if !ok {
		return
	}
	x.near = b + 1
	if owner == x.scope || x.nodes[owner] < 0 || x.isDropped(b) {
		return
	}
	d := &x.g.blocks[x.nodes[x.scope]]
	to := link{x.nodes[owner], how}
	if n := len(d.links); n > 0 && d.links[n-1] == to {
		return
	}
	d.links = append(d.links, to)
	x.links++
}
