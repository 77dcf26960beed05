package blendfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// canonicalOf joins the pieces of a content's canonical form.
func canonicalOf(t testing.TB, content []byte) (whole []byte, pieces [][]byte, err error) {
	t.Helper()
	seq, _, err := Canonical(context.Background(), bytes.NewReader(content), int64(len(content)), Options{TempDir: t.TempDir()})
	if err != nil {
		return nil, nil, err
	}
	for p, err := range seq {
		if err != nil {
			return nil, nil, err
		}
		if len(p.Data) == 0 || len(p.Data) > maxPiece {
			t.Fatalf("a piece of %d bytes", len(p.Data))
		}
		pieces = append(pieces, bytes.Clone(p.Data))
		whole = append(whole, p.Data...)
	}
	return whole, pieces, nil
}

func mustCanonical(t testing.TB, content []byte) ([]byte, [][]byte) {
	t.Helper()
	whole, pieces, err := canonicalOf(t, content)
	if err != nil {
		t.Fatal(err)
	}
	return whole, pieces
}

// parsed is a file taken apart by the plan, for looking at it.
type parsed struct {
	*plan
	raw   []byte
	heads []head
	at    []int64
}

func parse(t testing.TB, raw []byte) parsed {
	t.Helper()
	c := content{ReaderAt: bytes.NewReader(raw), size: int64(len(raw))}
	p, err := planOf(context.Background(), c, c.size)
	if err != nil {
		t.Fatal(err)
	}
	out := parsed{plan: p, raw: raw}
	if err := p.blocks(newWindow(c, 1<<12), func(_ int, h head, _ []byte, at int64) error {
		out.heads, out.at = append(out.heads, h), append(out.at, at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// block returns the first block whose code, or whose ID's name, is that.
func (p parsed) block(t testing.TB, name string) int {
	t.Helper()
	for _, s := range p.scopes {
		if s.name == name || s.name == "" && s.code == name {
			return int(s.first)
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// value returns the word at a field of the n-th struct of block i.
func (p parsed) value(t testing.TB, i, n int, path string) uint64 {
	t.Helper()
	l := p.dna.structs[p.heads[i].sdna].typ
	typ, at, size := p.dna.types[l], 0, p.dna.sizes[l]
	for {
		name, rest, more := strings.Cut(path, ".")
		k := slices.IndexFunc(p.dna.structs, func(s structure) bool { return p.dna.types[s.typ] == typ })
		fields, err := p.dna.fields(k, p.order)
		if err != nil {
			t.Fatal(err)
		}
		f := fields[slices.IndexFunc(fields, func(f field) bool { return f.name == name })]
		at += f.at
		if more {
			typ, path = f.typ, rest
			continue
		}
		b := p.raw[p.at[i]+int64(n*size+at):]
		if f.size == p.pointer {
			return p.word(b)
		}
		return uint64(p.order.Uint32(b))
	}
}

// follow returns the block that an address leads to; every block has its own.
func (p parsed) follow(t testing.TB, address uint64) int {
	t.Helper()
	found := -1
	for i, h := range p.heads {
		if h.old == address && address != 0 {
			if found >= 0 {
				t.Fatalf("blocks %d and %d have one address", found, i)
			}
			found = i
		}
	}
	return found
}

func TestMemoryLeavesNoTrace(t *testing.T) {
	for _, l := range shapes {
		first, pieces := mustCanonical(t, newWorld(t, l, 1).scene("").end())
		for seed := uint64(2); seed < 5; seed++ {
			other := newWorld(t, l, seed).scene("").end()
			for c, b := range map[Container][]byte{Raw: other, Gzip: gz(other), Zstd: zs(other)} {
				again, cuts := mustCanonical(t, b)
				if !bytes.Equal(first, again) || len(cuts) != len(pieces) {
					t.Fatalf("%s %s: another run of Blender gives another canonical form", l.header, c)
				}
			}
		}
		twice, cuts := mustCanonical(t, first)
		if !bytes.Equal(first, twice) || !slices.EqualFunc(pieces, cuts, bytes.Equal) {
			t.Errorf("%s: it is not its own canonical form", l.header)
		}
		if _, _, err := read(first); err != nil {
			t.Errorf("%s: %v", l.header, err)
		}
	}
}

func TestPointersLeadWhereTheyLed(t *testing.T) {
	for _, l := range shapes {
		whole, _ := mustCanonical(t, newWorld(t, l, 1).scene("").end())
		p := parse(t, whole)
		leads := func(from int, n int, path string, to int) {
			t.Helper()
			if got := p.follow(t, p.value(t, from, n, path)); got != to {
				t.Errorf("%s: %s leads to block %d, not %d", l.header, path, got, to)
			}
		}
		global, scene, cube, mesh, red := p.block(t, "GLOB"), p.block(t, "SCScene"), p.block(t, "OBCube"), p.block(t, "MECube"), p.block(t, "MARed")
		leads(global, 0, "curscene", scene)
		leads(global, 0, "cur_view_layer", scene+1)
		leads(global, 0, "curscreen", -1)
		leads(scene, 0, "view_layers.first", scene+1)
		leads(scene, 0, "nodetree", scene+2)
		leads(scene, 0, "camera", cube)
		leads(p.block(t, "IDOBCube"), 0, "lib", p.block(t, "LIprops.blend"))
		leads(cube, 0, "data", mesh)
		leads(cube, 0, "id.properties", cube+1)
		leads(cube, 0, "mat", cube+7)
		leads(cube, 0, "modifiers.last", cube+8)
		leads(cube+1, 0, "data.group.first", cube+2)
		leads(cube+2, 0, "data.pointer", cube+3)
		leads(mesh, 0, "co", mesh+4)
		for n := range 300 {
			leads(mesh+5, n, "dw", mesh+6+n)
		}
		if verts := p.heads[mesh+5].old; p.value(t, mesh, 0, "active") != verts+uint64(17*p.dna.sizes[slices.Index(p.dna.types, "MVert")]) {
			t.Errorf("%s: the active one of %#x is at %#x", l.header, verts, p.value(t, mesh, 0, "active"))
		}
		array := func(i, n int) int { return p.follow(t, p.word(p.raw[p.at[i]+int64(n*p.pointer):])) }
		if got := [5]int{array(cube+3, 0), array(cube+3, 1), array(cube+7, 0), array(cube+7, 1), array(cube+7, 2)}; got != [5]int{cube + 4, cube + 6, red, -1, -1} {
			t.Errorf("%s: arrays of pointers lead to %v", l.header, got)
		}
		for path, i := range map[string]int{
			"id.session_uuid": cube, "id.recalc": mesh, "id.icon_id": red, "id.next": cube, "id.newid": scene, "draw": cube,
			"cache": cube + 8, "preview": red, "session_uuid.uuid_": cube + 8,
		} {
			if v := p.value(t, i, 0, path); v != 0 {
				t.Errorf("%s: %s is %#x", l.header, path, v)
			}
		}
		if v := p.value(t, scene+2, 0, "id.session_uuid"); v != 0 {
			t.Errorf("%s: the embedded ID keeps %#x", l.header, v)
		}
		if v := p.value(t, global, 0, "fileflags"); v != 1 {
			t.Errorf("%s: flags of the file are %#x", l.header, v)
		}
		if v := p.value(t, cube+6, 0, "data.val"); v != 12 {
			t.Errorf("%s: a property's value is %d", l.header, v)
		}
		if at := p.at[mesh+2]; !bytes.Equal(whole[at+49996:at+50004], []byte{0, 0, 0, 0, 1, 0, 0, 0}) || whole[p.at[mesh+3]+50000] != 1 {
			t.Errorf("%s: flags end in % x", l.header, whole[at+49996:at+50004])
		}
		for _, gone := range []string{"REND", "TEST", "SR"} {
			if slices.ContainsFunc(p.scopes, func(s scope) bool { return s.code == gone }) {
				t.Errorf("%s: %s is still there", l.header, gone)
			}
		}
		if !bytes.Contains(whole, []byte("a block of the future")) {
			t.Errorf("%s: the unknown block is gone", l.header)
		}
		if red+1 != p.block(t, "WXYZ") {
			t.Errorf("%s: the preview is still there", l.header)
		}
	}
}

func TestAnEditTouchesFewBytes(t *testing.T) {
	for _, l := range shapes {
		before, _ := mustCanonical(t, newWorld(t, l, 1).scene("").end())
		for _, edit := range []string{"move", "vertex"} {
			after, _ := mustCanonical(t, newWorld(t, l, 2).scene(edit).end())
			if len(before) != len(after) {
				t.Fatalf("%s: %s changes the size", l.header, edit)
			}
			n := 0
			for i := range before {
				if before[i] != after[i] {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s: %s changes %d bytes", l.header, edit, n)
			}
		}
	}
}

// meshes makes a file of many datablocks of all sizes, without those named.
func meshes(t testing.TB, l shape, seed uint64, without ...string) []byte {
	w := newWorld(t, l, seed)
	sizes := rand.New(rand.NewPCG(7, 7))
	w.add("GLOB", "stack", "FileGlobal", map[string]any{})
	for i := range 400 {
		name := fmt.Sprintf("MEMesh %d", i)
		n := int(sizes.Uint32N(3000))
		if i%40 == 0 {
			n = 300000
		}
		data := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(data)
		if slices.Contains(without, name) {
			continue
		}
		w.add("ME", name, "Mesh", w.id(name, map[string]any{"co": name + " co"}))
		w.raw("DATA", name+" co", 0, 1, data)
	}
	return w.end()
}

func TestCutsStayWhereTheyAre(t *testing.T) {
	for _, l := range shapes {
		_, before := mustCanonical(t, meshes(t, l, 1))
		have := map[string]bool{}
		for _, p := range before {
			have[string(p)] = true
		}
		for _, gone := range []string{"MEMesh 3", "MEMesh 201", "MEMesh 240", "MEMesh 399"} {
			_, after := mustCanonical(t, meshes(t, l, 2, gone))
			fresh, size := 0, 0
			for _, p := range after {
				if !have[string(p)] {
					fresh++
					size += len(p)
				}
			}
			if fresh > 3 || size > 3*pieceFull {
				t.Errorf("%s: without %s %d of %d pieces are new, %d bytes", l.header, gone, fresh, len(after), size)
			}
		}
	}
}

func TestDNAIsAPieceOfItsOwn(t *testing.T) {
	for _, l := range shapes {
		_, one := mustCanonical(t, newWorld(t, l, 1).scene("").end())
		_, other := mustCanonical(t, meshes(t, l, 2))
		dna := func(pieces [][]byte) []byte {
			p := pieces[len(pieces)-2]
			if !bytes.HasPrefix(p, []byte("DNA1")) || !bytes.HasPrefix(pieces[len(pieces)-1], []byte("ENDB")) {
				t.Fatalf("%s: the last pieces are %.4q and %.4q", l.header, p, pieces[len(pieces)-1])
			}
			return p
		}
		if !bytes.Equal(dna(one), dna(other)) {
			t.Errorf("%s: two files of one Blender have two descriptions", l.header)
		}
	}
}

func TestIDsSayWhereDatablocksLie(t *testing.T) {
	for _, l := range shapes {
		whole, _ := mustCanonical(t, newWorld(t, l, 1).scene("").end())
		ids, err := IDs(context.Background(), bytes.NewReader(whole), int64(len(whole)))
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		at := int64(len(l.header))
		for _, id := range ids {
			keys = append(keys, id.Key)
			if id.Offset != at {
				t.Errorf("%s: %q at %d, not %d", l.header, id.Key, id.Offset, at)
			}
			at += id.Length
		}
		if at != int64(len(whole)) {
			t.Errorf("%s: they end at %d of %d", l.header, at, len(whole))
		}
		want := []string{"GLOB", "SCScene", "LIprops.blend", "IDOBCube\x00LIprops.blend", "OBCube", "MECube", "MARed", "WXYZ", "DNA1", "ENDB"}
		if !slices.Equal(keys, want) {
			t.Errorf("%s: %q", l.header, keys)
		}
	}
}

func TestNamesakesHaveAddressesOfTheirOwn(t *testing.T) {
	for _, l := range shapes {
		make := func(seed uint64) []byte {
			w := newWorld(t, l, seed)
			w.add("LI", "a", "Library", w.id("LIa.blend", nil))
			w.add("LI", "b", "Library", w.id("LIb.blend", nil))
			for _, lib := range []string{"", "a", "b", "b"} {
				w.add("OB", fmt.Sprint("ob", len(w.out)), "Object", w.id("OBCube", map[string]any{"id.lib": lib}))
			}
			return w.end()
		}
		whole, _ := mustCanonical(t, make(1))
		other, _ := mustCanonical(t, make(2))
		if !bytes.Equal(whole, other) {
			t.Errorf("%s: another run gives another form", l.header)
		}
		met := map[uint64]bool{}
		for _, h := range parse(t, whole).heads {
			if h.old != 0 && met[h.old] {
				t.Errorf("%s: %#x twice", l.header, h.old)
			}
			met[h.old] = true
		}
	}
}

func TestWhatIsNotVouchedFor(t *testing.T) {
	for _, l := range shapes {
		dna := func(text string) func(*world) []byte {
			return func(w *world) []byte {
				w.dna = encodeDNA(l, text)
				w.out = []byte(l.header)
				w.raw("ME", "mesh", 2, 1, make([]byte, w.sdnaSize("Mesh")))
				return w.end()
			}
		}
		for name, file := range map[string]func(*world) []byte{
			"no DNA1":   func(w *world) []byte { return append(w.out, w.head("ENDB", 0)...) },
			"two DNA1":  func(w *world) []byte { w.raw("DNA1", "dna", 0, 1, w.dna); return w.end() },
			"odd size":  func(w *world) []byte { w.raw("DATA", "x", 3, 1, make([]byte, 9)); return w.end() },
			"no struct": func(w *world) []byte { w.raw("DATA", "x", 999, 1, make([]byte, 9)); return w.end() },
			"negative":  func(w *world) []byte { w.raw("DATA", "x", -1, 1, make([]byte, 9)); return w.end() },
			"recursive": dna("raw_data\nID char:name[66] *Library:lib\nMesh ID:id Mesh:again"),
			"lying":     dna("raw_data\nID char:name[66] *Library:lib\nMesh ID:id Other:x\nOther Mesh:y"),
			"no ID":     dna("raw_data\nLink int:x\nMesh int:y"),
		} {
			_, _, err := canonicalOf(t, file(newWorld(t, l, 1)))
			if !errors.Is(err, ErrNotVouched) || len(err.Error()) < 40 {
				t.Errorf("%s %s: %v", l.header, name, err)
			}
		}
		if l.info.Pointer == 8 {
			w := newWorld(t, l, 1)
			w.add("ME", "mesh", "Mesh", w.id("MECube", nil))
			w.raw("DATA", "unknown", 0, 1, append(w.pointers("mesh"), 1, 2, 3, 4, 5, 6, 7, 8))
			if _, _, err := canonicalOf(t, w.end()); !errors.Is(err, ErrNotVouched) {
				t.Errorf("%s: raw data with an address: %v", l.header, err)
			}
		}
	}
}

func (w *world) sdnaSize(typ string) int { return w.sdna.sizes[slices.Index(w.sdna.types, typ)] }

func TestDamageComesBeforeThePieces(t *testing.T) {
	whole := newWorld(t, shapes[2], 1).scene("").end()
	for n := range 200 {
		cut := len(whole) * n / 200
		if _, _, err := canonicalOf(t, whole[:cut]); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrNotBlend) {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
}

func TestManyBlocksTakeBoundedMemory(t *testing.T) {
	l := shapes[0] // the smallest heads
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	z.Write([]byte(l.header))
	heads := bytes.Repeat(l.head("DATA", 0), 1000)
	for range 3000 {
		z.Write(heads)
	}
	z.Write(l.head("ENDB", 0))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err = canonicalOf(t, out.Bytes())
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrNotVouched) {
		t.Errorf("3 000 000 blocks in %d bytes: %v", out.Len(), err)
	}
	// All that was ever allocated, which growing a list makes several times
	// what is held at once.
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
}

func TestACompressedFileLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, shapes[2], 1).scene("")
	random := make([]byte, spoolMemory+spoolMemory/2)
	rand.NewChaCha8([32]byte{}).Read(random)
	w.raw("DATA", "big", 0, 1, random)
	b := zsOf(w.end(), 1<<20)
	dir := t.TempDir()
	for _, stop := range []bool{false, true} {
		seq, info, err := Canonical(context.Background(), bytes.NewReader(b), int64(len(b)), Options{TempDir: dir})
		if err != nil || info.Container != Zstd {
			t.Fatal(info, err)
		}
		for _, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if stop {
				break
			}
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func seeds(f *testing.F) {
	for _, l := range shapes {
		w := newWorld(f, l, 1)
		w.add("GLOB", "stack", "FileGlobal", map[string]any{"curscene": "scene"})
		w.add("SC", "scene", "Scene", w.id("SCScene", map[string]any{"view_layers.first": "layer"}))
		w.add("DATA", "layer", "ViewLayer", map[string]any{"name": "View Layer"})
		w.add("OB", "cube", "Object", w.id("OBCube", map[string]any{"mat": "mats"}))
		w.raw("DATA", "mats", 0, 1, w.pointers("cube", "scene"))
		f.Add(w.end())
	}
	for _, name := range sceneFiles() {
		if st, err := os.Stat(name); err != nil || st.Size() > 100<<10 {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if raw, _, err := read(b); err == nil {
			f.Add(raw)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, _, err := canonicalOf(t, b)
		if err != nil {
			return
		}
		if _, _, err := read(whole); err != nil {
			t.Fatalf("the canonical form is no .blend: %v", err)
		}
		twice, _, err := canonicalOf(t, whole)
		if err == nil && len(twice) != len(whole) {
			t.Fatalf("%d bytes become %d", len(whole), len(twice))
		}
	})
}

func FuzzGraph(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := GraphOf(context.Background(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		d := Compare(g, g)
		if changed := d.Changed(); len(changed) > 0 {
			t.Fatalf("%q differ from themselves", changed)
		}
		for _, x := range g.blocks {
			d.Same(x.key, nil, nil)
			d.Matter([]string{x.key})
		}
	})
}

func FuzzIDs(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := IDs(context.Background(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, id := range ids {
			if id.Offset < 0 || id.Length < 0 || id.Offset+id.Length > int64(len(b)) {
				t.Fatalf("%q at %d, %d bytes of %d", id.Key, id.Offset, id.Length, len(b))
			}
		}
	})
}

// Where many datablocks leave no room for one of many blocks, that is an error
// and no search without end.
func TestSpaceWithoutRoom(t *testing.T) {
	s := newSpace(4)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400_000 {
		if _, err := s.take(rng.Uint64(), 1); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.take(rng.Uint64(), 1<<16)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, ErrNotVouched) {
			t.Errorf("%v", err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("still searching")
	}
}
