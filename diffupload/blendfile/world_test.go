package blendfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testDNA are structs like those of Blender, without padding.
const testDNA = `
raw_data
Link *Link:next *Link:prev
ListBase *void:first *void:last
SessionUUID uint64_t:uuid_
ID *void:next *void:prev *ID:newid *Library:lib char:name[66] short:flag int:us int:icon_id int:recalc int:session_uuid *IDProperty:properties
Library ID:id char:name[64]
IDPropertyData *void:pointer ListBase:group int:val int:val2
IDProperty *IDProperty:next *IDProperty:prev char:type char:subtype short:flag char:name[64] IDPropertyData:data int:len int:totallen
PreviewImage int:w[2] int:h[2] *int:rect[2]
Modifier *Modifier:next *Modifier:prev SessionUUID:session_uuid float:strength *void:cache
CustomDataLayer int:type *void:data
CustomData *CustomDataLayer:layers int:totlayer
Object ID:id *void:data **Material:mat int:totcol ListBase:modifiers float:loc[3] (*void:draw)()
Mesh ID:id *float:co int:totvert *MVert:mvert *MVert:active CustomData:vdata
MVert *void:dw float:weight
Material ID:id *PreviewImage:preview float:r
ViewLayer *ViewLayer:next char:name[64]
bNodeTree ID:id int:nodes
Scene ID:id ListBase:view_layers *bNodeTree:nodetree *Object:camera
bScreen ID:id *Scene:scene
FileGlobal char:subvstr[4] *bScreen:curscreen *Scene:curscene *ViewLayer:cur_view_layer int:fileflags char:filename[256]
`

var testSizes = map[string]int{"void": 0, "char": 1, "short": 2, "int": 4, "float": 4, "uint64_t": 8}

// world is a .blend being made, in one layout, with addresses out of a seed.
type world struct {
	shape
	dna    []byte
	sdna   *sdna
	out    []byte
	random *rand.Rand
	named  map[string]uint64 // addresses by what they are for
	taken  map[uint64]bool
}

func newWorld(t testing.TB, l shape, seed uint64) *world {
	return worldOf(t, l, seed, encodeDNA(l, testDNA))
}

func worldOf(t testing.TB, l shape, seed uint64, dna []byte) *world {
	t.Helper()
	w := &world{shape: l, random: rand.New(rand.NewPCG(seed, 1)), named: map[string]uint64{}, taken: map[uint64]bool{}, dna: dna}
	var err error
	if w.sdna, err = parseDNA(w.dna, l.byteOrder(), l.info.Pointer); err != nil {
		t.Fatal(err)
	}
	w.out = []byte(l.header)
	return w
}

func (l shape) byteOrder() binary.ByteOrder {
	if l.info.Endian == Big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// encodeDNA writes DNA1 for a text of structs.
func encodeDNA(l shape, text string) []byte {
	var names, types []string
	var sizes []int
	index := func(list *[]string, s string) int {
		i := slices.Index(*list, s)
		if i < 0 {
			i = len(*list)
			*list = append(*list, s)
		}
		return i
	}
	known := map[string]int{}
	for k, v := range testSizes {
		known[k] = v
	}
	var structs [][]int
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		size := 0
		fields := []int{}
		for _, w := range words[1:] {
			typ, name, _ := strings.Cut(w, ":")
			bare := strings.TrimLeft(typ, "(*")
			name = typ[:len(typ)-len(bare)] + name
			count := 1
			if _, dim, ok := strings.Cut(name, "["); ok {
				fmt.Sscanf(dim, "%d", &count)
			}
			if name[0] == '*' || name[0] == '(' {
				size += l.info.Pointer * count
			} else {
				size += known[bare] * count
			}
			fields = append(fields, index(&types, bare), index(&names, name))
		}
		known[words[0]] = size
		structs = append(structs, append([]int{index(&types, words[0])}, fields...))
	}
	for _, t := range types {
		sizes = append(sizes, known[t])
	}
	b := []byte("SDNANAME")
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	b = l.order.AppendUint32(b, uint32(len(names)))
	for _, n := range names {
		b = append(append(b, n...), 0)
	}
	pad()
	b = l.order.AppendUint32(append(b, "TYPE"...), uint32(len(types)))
	for _, n := range types {
		b = append(append(b, n...), 0)
	}
	pad()
	b = append(b, "TLEN"...)
	for _, n := range sizes {
		b = l.order.AppendUint16(b, uint16(n))
	}
	pad()
	b = l.order.AppendUint32(append(b, "STRC"...), uint32(len(structs)))
	for _, s := range structs {
		b = l.order.AppendUint16(b, uint16(s[0]))
		b = l.order.AppendUint16(b, uint16(len(s)/2))
		for _, v := range s[1:] {
			b = l.order.AppendUint16(b, uint16(v))
		}
	}
	return b
}

// address is where in memory the thing of that name was.
func (w *world) address(name string) uint64 {
	if name == "" {
		return 0
	}
	if base, add, ok := strings.Cut(name, "+"); ok { // into a block
		n, err := strconv.Atoi(add)
		if err != nil {
			panic(err)
		}
		return w.address(base) + uint64(n)
	}
	if w.named[name] == 0 {
		for {
			a := 0x7f0000000000 | w.random.Uint64N(1<<28)<<12
			if w.info.Pointer == 4 {
				a = 1<<26 | w.random.Uint64N(1<<16)<<12
			}
			if !w.taken[a] {
				w.taken[a], w.named[name] = true, a
				break
			}
		}
	}
	return w.named[name]
}

// raw adds a block.
func (w *world) raw(code, name string, sdna, count int, data []byte) {
	b := append([]byte(code), 0, 0, 0, 0)[:4]
	u32 := func(n uint32) { b = w.order.AppendUint32(b, n) }
	u64 := func(n uint64) { b = w.order.AppendUint64(b, n) }
	switch {
	case w.info.Large:
		u32(uint32(sdna))
		u64(w.address(name))
		u64(uint64(len(data)))
		u64(uint64(count))
	case w.info.Pointer == 8:
		u32(uint32(len(data)))
		u64(w.address(name))
		u32(uint32(sdna))
		u32(uint32(count))
	default:
		u32(uint32(len(data)))
		u32(uint32(w.address(name)))
		u32(uint32(sdna))
		u32(uint32(count))
	}
	w.out = append(append(w.out, b...), data...)
}

// add adds a block of structs, each given as the values of its fields: uint64
// for what follows as it is, string for text or, of pointers, what it leads to.
func (w *world) add(code, name, typ string, elements ...map[string]any) {
	index := slices.IndexFunc(w.sdna.structs, func(s structure) bool { return w.sdna.types[s.typ] == typ })
	var data []byte
	for _, e := range elements {
		one := make([]byte, w.sdna.sizes[w.sdna.structs[index].typ])
		for path, v := range e {
			w.put(one, typ, path, v)
		}
		data = append(data, one...)
	}
	w.raw(code, name, index, len(elements), data)
}

func (w *world) put(b []byte, typ, path string, v any) {
	order := w.byteOrder()
	at := 0
	for {
		name, rest, more := strings.Cut(path, ".")
		name, index, _ := strings.Cut(name, "[")
		i := slices.IndexFunc(w.sdna.structs, func(s structure) bool { return w.sdna.types[s.typ] == typ })
		fields, err := w.sdna.fields(i, order)
		if err != nil {
			panic(err)
		}
		k := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		f := fields[k]
		at += f.at
		if index != "" {
			var n int
			fmt.Sscanf(index, "%d", &n)
			at += n * f.size
		}
		if more {
			typ, path = f.typ, rest
			continue
		}
		switch v := v.(type) {
		case string:
			if f.stars == 0 {
				copy(b[at:at+f.size*f.count], v)
			} else {
				w.putPointer(b[at:], w.address(v))
			}
		case int:
			switch f.size {
			case 1:
				b[at] = byte(v)
			case 2:
				order.PutUint16(b[at:], uint16(v))
			case 4:
				order.PutUint32(b[at:], uint32(v))
			default:
				order.PutUint64(b[at:], uint64(v))
			}
		}
		return
	}
}

func (w *world) putPointer(b []byte, v uint64) {
	if w.info.Pointer == 8 {
		w.byteOrder().PutUint64(b, v)
	} else {
		w.byteOrder().PutUint32(b, uint32(v))
	}
}

// pointers is raw data that leads to the names.
func (w *world) pointers(names ...string) []byte {
	b := make([]byte, len(names)*w.info.Pointer)
	for i, n := range names {
		w.putPointer(b[i*w.info.Pointer:], w.address(n))
	}
	return b
}

func (w *world) end() []byte {
	w.raw("DNA1", "dna", 0, 1, w.dna)
	return append(w.out, w.head("ENDB", 0)...)
}

// id are the values of a datablock's head, with what differs from run to run.
func (w *world) id(name string, more map[string]any) map[string]any {
	m := map[string]any{
		"id.name": name, "id.session_uuid": int(w.random.Uint32()), "id.recalc": int(w.random.Uint32()), "id.icon_id": 7 + int(w.random.Uint32N(9)),
		"id.next": "a neighbour", "id.prev": "another", "id.newid": "stale", "id.us": 1,
	}
	for k, v := range more {
		m[k] = v
	}
	return m
}

// scene adds one of everything; edit names what is different in it.
func (w *world) scene(edit string) *world {
	w.raw("REND", "stack", 0, 1, make([]byte, 72))
	w.raw("TEST", "thumb", 0, 1, bytes.Repeat([]byte{byte(w.random.Uint32())}, 264))
	w.add("GLOB", "stack", "FileGlobal", map[string]any{
		"subvstr": "   5", "curscreen": "screen", "curscene": "scene", "cur_view_layer": "layer", "fileflags": 1 | 1<<1 | 1<<23 | 1<<24,
		"filename": fmt.Sprintf("/home/anna/%d.blend", w.random.Uint32()),
	})
	w.add("SR", "screen", "bScreen", w.id("SRLayout", map[string]any{"scene": "scene"}))
	w.raw("DATA", "area", 0, 1, make([]byte, 20))
	w.add("SC", "scene", "Scene", w.id("SCScene", map[string]any{
		"view_layers.first": "layer", "view_layers.last": "layer", "nodetree": "compositor", "camera": "cube",
	}))
	w.add("DATA", "layer", "ViewLayer", map[string]any{"name": "View Layer"})
	w.add("DATA", "compositor", "bNodeTree", w.id("NTCompositing", map[string]any{"nodes": 3}))
	w.add("LI", "lib", "Library", w.id("LIprops.blend", map[string]any{"name": "//props.blend"}))
	w.add("ID", "linked", "ID", map[string]any{"name": "OBCube", "lib": "lib", "session_uuid": int(w.random.Uint32())})
	loc := 1
	if edit == "move" {
		loc = 2
	}
	w.add("OB", "cube", "Object", w.id("OBCube", map[string]any{
		"id.properties": "group", "data": "mesh", "mat": "mats", "totcol": 3, "modifiers.first": "mod", "modifiers.last": "mod", "loc[1]": loc, "draw": "code",
	}))
	w.add("DATA", "group", "IDProperty", map[string]any{"type": 6, "name": "root", "data.group.first": "list", "data.group.last": "list"})
	w.add("DATA", "list", "IDProperty", map[string]any{"type": propertyArray, "subtype": propertyGroup, "name": "list", "data.pointer": "items", "len": 2})
	w.raw("DATA", "items", 0, 1, w.pointers("item 0", "item 1"))
	w.add("DATA", "item 0", "IDProperty", map[string]any{"type": propertyString, "data.pointer": "text", "len": 6})
	w.raw("DATA", "text", 0, 1, append([]byte("hello\x00"), byte(w.random.Uint32()), 7))
	w.add("DATA", "item 1", "IDProperty", map[string]any{"type": 1, "data.val": 12})
	w.raw("DATA", "mats", 0, 1, w.pointers("red", "", "gone"))
	w.add("DATA", "mod", "Modifier", map[string]any{"session_uuid.uuid_": int(w.random.Uint32()), "strength": 9, "cache": "runtime"})
	w.add("ME", "mesh", "Mesh", w.id("MECube", map[string]any{"co": "coordinates", "totvert": 50001, "vdata.layers": "layers", "mvert": "verts", "active": fmt.Sprint("verts+", 17*w.sdnaSize("MVert"))}))
	co := make([]byte, 600000)
	for i := range co {
		co[i] = byte(i * i >> 7)
	}
	if edit == "vertex" {
		co[300001]++
	}
	w.add("DATA", "layers", "CustomDataLayer", map[string]any{"type": layerBoolean, "data": "flags"}, map[string]any{"type": 11, "data": "numbers"})
	flags := make([]byte, 50004)
	flags[50000] = 1
	numbers := bytes.Clone(flags)
	rest := byte(w.random.Uint32())
	flags[50001], flags[50002], flags[50003] = rest, rest, rest
	w.raw("DATA", "flags", 0, 1, flags)
	w.raw("DATA", "numbers", 0, 1, numbers)
	w.raw("DATA", "coordinates", 0, 1, co)
	var verts []map[string]any
	for i := range 300 {
		verts = append(verts, map[string]any{"dw": fmt.Sprint("dw", i), "weight": i})
	}
	w.add("DATA", "verts", "MVert", verts...)
	for i := range 300 {
		w.raw("DATA", fmt.Sprint("dw", i), 0, 1, []byte{byte(i), byte(i >> 8), 0, 0, 0, 0, 128, 63})
	}
	w.add("MA", "red", "Material", w.id("MARed", map[string]any{"preview": "preview", "r": 5}))
	w.add("DATA", "preview", "PreviewImage", map[string]any{"w[0]": 4, "h[0]": 4, "rect[0]": "picture"})
	w.raw("DATA", "picture", 0, 1, bytes.Repeat([]byte{byte(w.random.Uint32())}, 64))
	w.raw("WXYZ", "future", 0, 1, []byte("a block of the future"))
	return w
}
