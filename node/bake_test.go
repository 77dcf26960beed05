package node

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"idlewild/job"
)

// TestBakedOnAFarm has one of two workers bake a cloth, and both render frames
// of it in whatever order. Each is what one Blender bakes and renders alone.
func TestBakedOnAFarm(t *testing.T) {
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("-b", "--factory-startup", "--python-exit-code", "1", "-P", "../render/blender/testdata/bakes.py", "--", dir, "cloth")
	scene := filepath.Join(dir, "cloth.blend")
	run("-b", "--factory-startup", "--python-exit-code", "1", scene, "--python-expr", "import bpy; bpy.ops.ptcache.bake_all(bake=True)",
		"-o", filepath.Join(dir, "plain-####"), "-f", "2..9")

	real := func(c *Config) {
		c.Blender.Path, c.Sandbox.Mode, c.Worker.Threads = "", "auto", 1
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	}
	requester := startNode(t, "requester", func(c *Config) { real(c); c.Worker.Enabled, c.Worker.HomeThreads = false, 1 })
	join(t, requester, startNode(t, "one", real), startNode(t, "two", real))
	out := filepath.Join(dir, "out")
	all := 1.0
	spec, err := SpecFor(scene, SpecOptions{Output: out, Frames: "2-9", Bake: true, Recheck: &all})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 8 {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	if s.Rechecked != 8 {
		t.Errorf("%d frames were checked, want 8", s.Rechecked)
	}
	for _, w := range s.Workers {
		if w.Rejected > 0 {
			t.Errorf("%d results of %s were rejected", w.Rejected, w.Peer)
		}
	}
	for frame := 2; frame <= 9; frame++ {
		name := fmt.Sprintf("%04d.png", frame)
		if worst := difference(t, filepath.Join(out, name), filepath.Join(dir, "plain-"+name)); worst > 0 {
			t.Errorf("frame %d differs from plain Blender's by %d of 255", frame, worst)
		}
	}
}
