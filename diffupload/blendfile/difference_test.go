package blendfile

import (
	"bytes"
	"context"
	"slices"
	"testing"
)

// graph makes one: a line is a key, what it says, and keys that it leads to: "-"
// uses, "=" has as a member, "+" has as a child.
func graph(lines map[string][]string) *Graph {
	g := &Graph{index: map[string]int32{}}
	var keys []string
	for k := range lines {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		g.index[k] = int32(i)
		g.blocks = append(g.blocks, datablock{key: k, sum: [32]byte([]byte(lines[k][0] + "                                ")[:32])})
	}
	for i, k := range keys {
		for _, l := range lines[k][1:] {
			how := map[byte]linkKind{'-': linkUse, '=': linkMember, '+': linkChild}[l[0]]
			g.blocks[i].links = append(g.blocks[i].links, link{g.index[l[1:]], how})
		}
	}
	return g
}

func TestSameWhereHidden(t *testing.T) {
	lines := func(x, a string) map[string][]string {
		return map[string][]string{
			"SCs": {"1", "=OBX", "=OBY", "+GRin"}, "GRin": {"1", "=OBX", "+GRdeep"}, "GRdeep": {"1", "=OBX"},
			"OBX": {x, "-MEx"}, "MEx": {a}, "OBY": {"1"}, "OBZ": {"1"},
		}
	}
	was := lines("1", "1")
	hidden, none := map[string]bool{"OBX": true}, map[string]bool{}
	for _, c := range []struct {
		what     string
		was, now map[string][]string
		change   func(was, now map[string][]string)
		hidden   [2]map[string]bool
		want     bool
	}{
		{"its mesh, where it is hidden", was, lines("1", "2"), nil, [2]map[string]bool{hidden, hidden}, true},
		{"itself", was, lines("2", "1"), nil, [2]map[string]bool{hidden, hidden}, true},
		{"shown before", was, lines("1", "2"), nil, [2]map[string]bool{none, hidden}, false},
		{"shown now", was, lines("1", "2"), nil, [2]map[string]bool{hidden, none}, false},
		{"somebody looks at it", lines("1", "1"), lines("1", "2"), func(a, b map[string][]string) {
			a["OBY"], b["OBY"] = []string{"1", "-OBX"}, []string{"1", "-OBX"}
		}, [2]map[string]bool{hidden, hidden}, false},
		{"somebody looks at its collection", lines("1", "1"), lines("1", "2"), func(a, b map[string][]string) {
			a["OBY"], b["OBY"] = []string{"1", "-GRin"}, []string{"1", "-GRin"}
		}, [2]map[string]bool{hidden, hidden}, false},
		{"what nobody leads to", was, lines("1", "1"), func(_, b map[string][]string) { b["OBZ"] = []string{"2"} }, [2]map[string]bool{none, none}, true},
		{"the scene", was, lines("1", "1"), func(_, b map[string][]string) { b["SCs"][0] = "2" }, [2]map[string]bool{hidden, hidden}, false},
		{"the collection", was, lines("1", "1"), func(_, b map[string][]string) { b["GRdeep"][0] = "2" }, [2]map[string]bool{hidden, hidden}, false},
		{"it is gone", lines("1", "1"), lines("1", "1"), func(_, b map[string][]string) {
			delete(b, "OBX")
			b["SCs"], b["GRin"], b["GRdeep"] = []string{"2", "=OBY"}, []string{"2"}, []string{"2"}
		}, [2]map[string]bool{hidden, hidden}, false},
	} {
		if c.change != nil {
			c.change(c.was, c.now)
		}
		d := Compare(graph(c.was), graph(c.now))
		if have := d.Same("SCs", c.hidden[0], c.hidden[1]); have != c.want {
			t.Errorf("%s: %v", c.what, have)
		}
	}
	d := Compare(graph(lines("1", "1")), graph(lines("1", "2")))
	if m := d.Matter([]string{"OBX", "OBY", "OBnone"}); !slices.Equal(m, []string{"OBX"}) {
		t.Errorf("%q matter", m)
	}
	if c := d.Changed(); !slices.Equal(c, []string{"MEx"}) {
		t.Errorf("%q changed", c)
	}
	d.Except(func(key string) bool { return key == "MEx" })
	if len(d.Changed()) > 0 || !d.Same("SCs", none, none) || d.Same("SCnone", none, none) {
		t.Error("what is known to be the same is not")
	}
	other := graph(lines("1", "1"))
	other.base[0]++
	if Compare(graph(lines("1", "1")), other).Same("SCs", none, none) {
		t.Error("files of two Blenders are the same")
	}
}

func TestGraphsOfTheWorld(t *testing.T) {
	for _, l := range shapes {
		of := func(lead string, shown string) *Graph {
			w := newWorld(t, l, 1)
			w.add("GLOB", "stack", "FileGlobal", map[string]any{"curscene": shown})
			w.add("SC", "scene", "Scene", w.id("SCScene", map[string]any{"view_layers.first": "layer"}))
			w.add("DATA", "layer", "ViewLayer", map[string]any{"name": "View Layer"})
			w.add("SC", "other", "Scene", w.id("SCOther", nil))
			w.add("OB", "cube", "Object", w.id("OBCube", map[string]any{"mat": "mats"}))
			w.raw("DATA", "mats", 0, 1, w.pointers(lead))
			b := w.end()
			g, err := GraphOf(context.Background(), bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		g := of("scene", "scene")
		cube := g.blocks[g.index["OBCube"]]
		if len(cube.links) != 1 || cube.links[0] != (link{g.index["SCScene"], linkUse}) {
			t.Errorf("%v: the cube leads to %v", l, cube.links)
		}
		if c := Compare(g, of("other", "scene")).Changed(); !slices.Equal(c, []string{"OBCube"}) {
			t.Errorf("%v: %q changed", l, c)
		}
		if d := Compare(g, of("scene", "other")); len(d.Changed()) > 0 && !slices.Equal(d.Changed(), []string{"GLOB"}) || !d.Same("SCScene", nil, nil) {
			t.Errorf("%v: another scene is shown, and %q changed", l, d.Changed())
		}
	}
}
