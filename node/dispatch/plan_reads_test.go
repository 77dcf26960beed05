package dispatch

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
)

// What tasks read comes back out of a journal, and many tasks that differ only
// in it share a sheet.
func TestPlansKeepWhatTasksRead(t *testing.T) {
	tasks := fakeTasks(fakeParams{Frames: 2000}, job.Ref{})
	for i := range tasks {
		tasks[i].Reads = []job.Reads{
			{Head: "tex/a_", Tail: ".png", Of: [][2]int{{1, 5000}}, Own: [][2]int{{i, i + 2}, {i + 9, i + 9}}},
			{Head: "v_", Tail: ".vdb", Of: [][2]int{{1, 50}}},
		}
	}
	blocks, err := folded(tasks)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	var d drawing
	for _, b := range blocks {
		size += len(b)
		if err := d.add(b); err != nil {
			t.Fatal(err)
		}
	}
	if plain, err := folded(fakeTasks(fakeParams{Frames: 2000}, job.Ref{})); err != nil || len(plain) != len(blocks) {
		t.Fatalf("%d blocks: %v", len(plain), err)
	} else if per := (size - len(plain[0])) / len(tasks); per > 100 {
		t.Errorf("%d bytes a task", per)
	}
	if len(d.sheets) > 4 {
		t.Errorf("%d sheets", len(d.sheets))
	}
	i := 0
	for _, b := range d.blocks {
		for j := range b {
			if diff := cmp.Diff(tasks[i].Reads, b[j].Task().Reads); diff != "" {
				t.Fatalf("task %d: %s", i, diff)
			}
			i++
		}
	}
	for name, runs := range map[string][][2]int{"backwards": {{5, 4}}, "before 0": {{-3, 2}}} {
		tasks[0].Reads[0].Own = runs
		blocks, err := folded(tasks[:1])
		if err != nil {
			t.Fatal(err)
		}
		if (&drawing{}).add(blocks[0]) == nil {
			t.Errorf("%s: read", name)
		}
	}
}
