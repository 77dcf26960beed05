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
