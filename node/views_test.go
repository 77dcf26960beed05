package node

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

// TestViewsOnAFarm renders both eyes on two machines, one of which takes half of
// the samples: it is found out, and what arrives is what plain Blender writes.
func TestViewsOnAFarm(t *testing.T) {
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
	scene := filepath.Join(dir, "scene.blend")
	source := strings.Replace(smallScene, "scene.frame_start", "scene.render.use_multiview = True\nscene.frame_start", 1)
	run("-b", "--factory-startup", "--python-exit-code", "1", "--python-expr", source, "--", scene)
	run("-b", scene, "--factory-startup", "-o", filepath.Join(dir, "plain-####"), "-f", "1..4")
	real := func(c *Config) {
		c.Blender.Path, c.Sandbox.Mode, c.Worker.Threads = "", "auto", 1
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	}
	requester := startNode(t, "requester", func(c *Config) { real(c); c.Worker.Enabled, c.Worker.HomeThreads = false, 2 })
	honest := startNode(t, "honest", real)
	cheat := startNode(t, "cheat", func(c *Config) { real(c); c.Worker.Saboteur = "half-samples" })
	join(t, requester, honest, cheat)
	out := filepath.Join(dir, "out")
	spec, err := SpecFor(scene, SpecOptions{Output: out})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 4 {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	for _, w := range s.Workers {
		if w.Peer == honest.self.String() && w.Rejected > 0 {
			t.Errorf("%d honest results were rejected", w.Rejected)
		}
		if w.Peer == cheat.self.String() && w.Tasks > 0 && w.Rejected == 0 {
			t.Errorf("nothing of the cheat's %d results was rejected", w.Tasks)
		}
	}
	if s.Rechecked == 0 {
		t.Error("nothing was checked")
	}
	for _, name := range []string{"0001_L.png", "0001_R.png", "0004_L.png", "0004_R.png"} {
		if worst := difference(t, filepath.Join(out, name), filepath.Join(dir, "plain-"+name)); worst > 0 {
			t.Errorf("%s differs from plain Blender's by %d of 255", name, worst)
		}
	}
}
