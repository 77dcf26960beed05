package blender

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
)

func TestFilesThatTasksRead(t *testing.T) {
	clip := Sequence{Head: "tex/a_", Tail: ".png", Numbers: [][2]int{{1, 100}}, Users: []SequenceUser{{1, 100, 0, "EXTEND"}}, Named: []int{1}}
	looped := Sequence{Head: "v_", Tail: ".vdb", Numbers: [][2]int{{1, 8}}, Users: []SequenceUser{{1, 8, 0, "REPEAT"}, {1, 8, 4, "CLIP"}}}
	of := [][2]int{{2, 100}}
	for name, c := range map[string]struct {
		facts Facts
		frame int
		want  []job.Reads
	}{
		"one file":       {Facts{Sequences: []Sequence{clip}}, 7, []job.Reads{{Head: "tex/a_", Tail: ".png", Of: of, Own: [][2]int{{7, 7}}}}},
		"motion blur":    {Facts{Sequences: []Sequence{clip}, Reach: 1}, 7, []job.Reads{{Head: "tex/a_", Tail: ".png", Of: of, Own: [][2]int{{6, 8}}}}},
		"behind the end": {Facts{Sequences: []Sequence{clip}}, 700, []job.Reads{{Head: "tex/a_", Tail: ".png", Of: of, Own: [][2]int{{100, 100}}}}},
		"the named one":  {Facts{Sequences: []Sequence{clip}}, 1, []job.Reads{{Head: "tex/a_", Tail: ".png", Of: of}}},
		"two users":      {Facts{Sequences: []Sequence{looped}}, 10, []job.Reads{{Head: "v_", Tail: ".vdb", Of: [][2]int{{1, 8}}, Own: [][2]int{{2, 2}}}}},
		"both show":      {Facts{Sequences: []Sequence{looped}}, 3, []job.Reads{{Head: "v_", Tail: ".vdb", Of: [][2]int{{1, 8}}, Own: [][2]int{{3, 3}, {7, 7}}}}},
		"no bounds":      {Facts{Sequences: []Sequence{clip}, Reach: 1e9}, 7, nil},
		"no sequences":   {Facts{}, 7, nil},
		"no users":       {Facts{Sequences: []Sequence{{Head: "a", Numbers: [][2]int{{1, 9}}}}}, 7, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, c.facts.reads(10).at(c.frame)); d != "" {
				t.Error(d)
			}
		})
	}
}

// Of a bake a frame reads the files of its number, and of those beside it where
// motion blur looks at them.
func TestWhatFramesReadOfABake(t *testing.T) {
	for name, c := range map[string]struct {
		facts Facts
		frame int
		want  []job.Reads
	}{
		"a frame":     {Facts{BakesByFrame: true}, 7, []job.Reads{{Head: "prior:bake/frames/", Tail: "/", Of: [][2]int{{0, 21}}, Own: [][2]int{{7, 7}}}}},
		"motion blur": {Facts{BakesByFrame: true, Reach: 0.5}, 20, []job.Reads{{Head: "prior:bake/frames/", Tail: "/", Of: [][2]int{{0, 22}}, Own: [][2]int{{19, 21}}}}},
		"before zero": {Facts{BakesByFrame: true}, -7, []job.Reads{{Head: "prior:bake/frames/", Tail: "/", Of: [][2]int{{0, 21}}}}},
		"other times": {Facts{}, 7, nil},
		"no bounds":   {Facts{BakesByFrame: true, Reach: 1e9}, 7, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.facts.reads(10)
			r.bake(c.facts, []int{-7, 7, 20})
			if d := cmp.Diff(c.want, r.at(c.frame)); d != "" {
				t.Error(d)
			}
		})
	}
}

// However many sequences there are, what a task says of them has bounds, and the
// longest sequences are said first.
func TestWhatTasksSayOfReadsHasBounds(t *testing.T) {
	var f Facts
	for i := range 1000 {
		f.Sequences = append(f.Sequences, Sequence{
			Head: fmt.Sprintf("%s/%d_", strings.Repeat("x", i%900), i), Numbers: [][2]int{{1, 10 + i}}, Users: []SequenceUser{{1, 1000, 0, "EXTEND"}},
		})
	}
	reads := f.reads(10).at(5)
	b, err := job.Encode(reads)
	if err != nil {
		t.Fatal(err)
	}
	if len(reads) == 0 || len(b) > 2*taskReads || len(b) > job.MaxReadsBytes || reads[0].Of[0][1] < 900 {
		t.Errorf("%d sequences in %d bytes: %v", len(reads), len(b), reads[:1])
	}
	if err := (job.Task{Kind: Name, Reads: reads}).Validate(); err != nil {
		t.Error(err)
	}
	if n := len(f.reads(1 << 20).at(5)); n > 1 {
		t.Errorf("each of a million tasks names %d sequences", n)
	}
}
