package blender

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render"
)

// asSpare stands in the log of a Blender that began as a spare.
const asSpare = "idlewild: this Blender was started before it had a file"

// TestASpareRendersAsABlenderOfItsOwn renders a file after an edit in a Blender
// that waited for it and in one that was started with it.
func TestASpareRendersAsABlenderOfItsOwn(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{Threads: 1})
	const script = `
import bpy, sys
for obj in bpy.data.objects:
    if obj.type == "MESH":
        obj.delta_location.x += 0.2
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], copy=True, compress=False, relative_remap=False)
`
	edited := filepath.Join(t.TempDir(), filepath.Base(file))
	if out, err := exec.CommandContext(t.Context(), "blender", "-b", "-Y", "--factory-startup", "--python-exit-code", "9", file,
		"--python-expr", script, "--", edited).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, lastLines(out, 15))
	}
	for _, scene := range []string{"multi", "comp"} {
		tasks, in := plan(t, k, file, SpecParams{Frames: "5", Scene: scene})
		main := ""
		for _, d := range in.Deps {
			if d.Path == file {
				main = d.Name
			}
		}
		claim := func(work *shop) (string, render.Result) {
			out, r := work.run(tasks[0])
			if r.Outcome != job.Succeeded {
				t.Fatalf("%s: %s\n%s", r.Outcome, r.Reason, lastLines(r.Log, 15))
			}
			return filepath.Join(out, tasks[0].Outputs[0].Name), r
		}
		work, cold := spareShop(t, k, in.Deps), newShop(t, k, in.Deps)
		before, r := claim(work)
		if strings.Contains(string(r.Log), asSpare) {
			t.Error("the first content was given to a spare")
		}
		tree := work.in
		work.in, work.of = filepath.Join(t.TempDir(), "in"), "edited"
		for _, s := range []*shop{work, cold} {
			for _, d := range in.Deps {
				copyFile(t, d.Path, filepath.Join(s.in, filepath.FromSlash(d.Name)))
			}
			copyFile(t, edited, filepath.Join(s.in, filepath.FromSlash(main)))
		}
		have, r := claim(work)
		if !strings.Contains(string(r.Log), asSpare) {
			t.Errorf("%s: no spare was used\n%s", scene, r.Log)
		}
		want, r := claim(cold)
		if strings.Contains(string(r.Log), asSpare) {
			t.Error("what is to be compared with is a spare")
		}
		sameEXR(t, scene+", edited", readEXR(t, want), readEXR(t, have))
		if a, b := readEXR(t, before), readEXR(t, have); len(a.Channels) > 0 && equal(a.Channels[0].Data, b.Channels[0].Data) && equal(a.Channels[1].Data, b.Channels[1].Data) {
			t.Errorf("%s: the edit is not in the picture", scene)
		}
		// The session of the file as it was still shows that.
		work.in, work.of = tree, "c"
		again, _ := claim(work)
		sameEXR(t, scene+", as it was", readEXR(t, before), readEXR(t, again))
	}
}

func equal(a, b []float32) bool {
	n, _ := differ(a, b)
	return n == 0
}
