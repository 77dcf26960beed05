package job

import (
	"strings"
	"testing"
)

func TestWantedFiles(t *testing.T) {
	in := RefOf(sum([]byte("in")))
	of := [][2]int{{1, 40}}
	seq := func(own ...[2]int) []Reads { return []Reads{{Head: "tex/a_", Tail: ".png", Of: of, Own: own}} }
	lease := func(reads ...[]Reads) Lease {
		var l Lease
		for _, r := range reads {
			l.Tasks = append(l.Tasks, Granted{Task: Task{Input: in, Reads: r}})
		}
		return l
	}
	for name, c := range map[string]struct {
		lease Lease
		has   string
		not   string
	}{
		"one task":       {lease(seq([2]int{3, 4})), "tex/a_0003.png tex/a_4.png scene.blend tex/a_0041.png tex/a_0003.exr a_0009.png tex/a_x.png tex/a_.png", "tex/a_0005.png tex/a_0002.png"},
		"two tasks":      {lease(seq([2]int{3, 4}), seq([2]int{9, 9})), "tex/a_0003.png tex/a_0009.png", "tex/a_0005.png tex/a_0010.png"},
		"reads none":     {lease(seq()), "scene.blend", "tex/a_0001.png"},
		"one reads all":  {lease(seq([2]int{3, 4}), nil), "tex/a_0005.png", ""},
		"of other files": {lease(seq([2]int{3, 4}), []Reads{{Head: "tex/a_", Tail: ".png", Of: [][2]int{{1, 39}}, Own: nil}}), "tex/a_0005.png tex/a_0040.png", ""},
		"of one of two": {lease(append(seq([2]int{1, 1}), Reads{Head: "v", Tail: ".vdb", Of: of}), seq([2]int{2, 2})),
			"v7.vdb tex/a_2.png", "tex/a_3.png"},
		"another input": {Lease{Tasks: []Granted{{Task: Task{Reads: seq()}}}}, "tex/a_0001.png", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := c.lease.Wants(in)
			for _, f := range strings.Fields(c.has) {
				if !w.Has(f) {
					t.Errorf("%s is not wanted", f)
				}
			}
			for _, f := range strings.Fields(c.not) {
				if w.Has(f) {
					t.Errorf("%s is wanted", f)
				}
			}
			if w.All() != (c.not == "") || w.All() != (w.Key() == "") {
				t.Errorf("all: %v, key %q", w.All(), w.Key())
			}
		})
	}
	if lease(seq([2]int{3, 4}, [2]int{5, 6})).Wants(in).Key() != lease(seq([2]int{5, 6}), seq([2]int{3, 4})).Wants(in).Key() {
		t.Error("the same files have two keys")
	}
}

// Of a folder that a predecessor left a lease wants what its tasks read in it, and
// what they say of that has nothing to do with the input's files.
func TestWantedOfAPredecessorsFolder(t *testing.T) {
	in, left := RefOf(sum([]byte("in"))), RefOf(sum([]byte("left")))
	task := func(frame int) Granted {
		return Granted{
			Task: Task{Input: in, Reads: []Reads{
				{Head: "tex/a_", Tail: ".png", Of: [][2]int{{1, 9}}, Own: [][2]int{{frame, frame}}},
				{Head: Within("bake") + "frames/", Tail: "/", Of: [][2]int{{0, 9}}, Own: [][2]int{{frame, frame + 1}}},
			}},
			Prior: []Prior{{Outputs: []Output{{Name: "bake", Media: MediaTree, File: left}, {Name: "frame.exr", Media: MediaEXR, File: in}}}},
		}
	}
	l := Lease{Tasks: []Granted{task(2), task(5)}}
	if l.Made(in) || !l.Made(left) {
		t.Error("a folder that was left is taken for an input, or the other way about")
	}
	for input, names := range map[Ref][2]string{
		in:   {"tex/a_2.png tex/a_5.png frames/4/x bake/frames/4/x", "tex/a_3.png tex/a_6.png"},
		left: {"file.blend tex/a_3.png frames/2/x frames/6/a/b/c.vdb frames/10/x frames/x/4 frames/4", "frames/1/x frames/4/a/b.vdb frames/7/x"},
	} {
		w := l.Wants(input)
		for i, list := range names {
			for _, f := range strings.Fields(list) {
				if w.Has(f) != (i == 0) {
					t.Errorf("%s of %s: wanted %v", f, input, i != 0)
				}
			}
		}
	}
	l.Tasks[1].Task.Reads = nil
	if !l.Wants(left).All() || !l.Wants(in).All() {
		t.Error("a task that reads everything gets a part")
	}
	if err := (Task{Kind: "x", Outputs: []OutputRule{{Name: "bake", Media: MediaTree, Final: "bake"}}}).Validate(); err == nil {
		t.Error("a folder is to be delivered")
	}
}

func TestReadsAreNoPartOfATasksKey(t *testing.T) {
	a := Task{Kind: "x"}
	b := a
	b.Reads = []Reads{{Head: "a", Of: [][2]int{{1, 2}}}}
	if a.Key() != b.Key() {
		t.Error("another key")
	}
}

func TestReadsHaveBounds(t *testing.T) {
	for name, r := range map[string][]Reads{
		"many":        make([]Reads, MaxReads+1),
		"long name":   {{Head: strings.Repeat("a", MaxNameBytes+1)}},
		"many runs":   {{Of: make([][2]int, MaxReadSpans+1)}},
		"backwards":   {{Of: [][2]int{{2, 1}}}},
		"negative":    {{Own: [][2]int{{-1, 1}}}},
		"over 32 bit": {{Own: [][2]int{{1, 1 << 40}}}},
	} {
		if err := (Task{Kind: "x", Reads: r}).Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
