package node

import (
	"os"
	"path/filepath"
	"testing"

	"idlewild/internal/scenes"
	"idlewild/job"
)

// realBlender returns Blender, or ends a test that is not run in short runs.
func realBlender(t *testing.T) scenes.Program {
	t.Helper()
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	return scenes.Program{Path: program}
}

// withBlender has a node render with Blender, on one core, in a sandbox.
func withBlender(t *testing.T, c *Config) {
	t.Helper()
	c.Blender.Path, c.Sandbox.Mode, c.Worker.Threads = "", "auto", 1
	knowBlender(t, filepath.Join(c.DataDir, "runners"))
}

// blenderFarm starts a requester, which only finishes and checks, and a worker of
// each name, which change may change.
func blenderFarm(t *testing.T, change func(name string, c *Config), names ...string) (requester *testNode, workers map[string]*testNode) {
	t.Helper()
	requester = startNode(t, "requester", func(c *Config) {
		withBlender(t, c)
		c.Worker.Enabled, c.Worker.HomeThreads = false, 2
		if change != nil {
			change("requester", c)
		}
	})
	workers = map[string]*testNode{}
	var all []*testNode
	for _, name := range names {
		w := startNode(t, name, func(c *Config) {
			withBlender(t, c)
			if change != nil {
				change(name, c)
			}
		})
		workers[name], all = w, append(all, w)
	}
	join(t, requester, all...)
	return requester, workers
}

// renders has a job done, which has so many frames.
func (x *testNode) renders(t *testing.T, file string, o SpecOptions, frames int) job.Status {
	t.Helper()
	spec, err := SpecFor(file, o)
	if err != nil {
		t.Fatal(err)
	}
	id, err := x.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := x.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != frames {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	return s
}

// foundOut fails where nothing of a cheat was rejected, or something of others.
func foundOut(t *testing.T, s job.Status, cheat *testNode) {
	t.Helper()
	if s.Rechecked == 0 {
		t.Error("nothing was checked")
	}
	for _, w := range s.Workers {
		switch mine := cheat != nil && w.Peer == cheat.self.String(); {
		case !mine && w.Rejected > 0:
			t.Errorf("%d honest results of %s were rejected", w.Rejected, w.Peer)
		case mine && w.Tasks > 0 && w.Rejected == 0:
			t.Errorf("nothing of the cheat's %d results was rejected", w.Tasks)
		}
	}
	for _, f := range s.Frames {
		if cheat != nil && f.Worker == cheat.self.String() {
			t.Errorf("frame %s of the cheat was delivered", f.Label)
		}
	}
}

// plainly renders frames without us, into a folder that it returns.
func plainly(t *testing.T, p scenes.Program, r scenes.Render) string {
	t.Helper()
	r.To = t.TempDir()
	if err := p.Render(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r.To
}

// asPlain fails where pictures in a folder are not those of plain Blender, all of
// them.
func asPlain(t *testing.T, out, plain string) {
	t.Helper()
	want, err := os.ReadDir(plain)
	if err != nil || len(want) == 0 {
		t.Fatalf("plain Blender left %d files: %v", len(want), err)
	}
	for _, f := range want {
		if worst := difference(t, filepath.Join(out, f.Name()), filepath.Join(plain, f.Name())); worst > 0 {
			t.Errorf("%s differs from plain Blender's by %d of 255", f.Name(), worst)
		}
	}
}

// sequence are the numbers from first to last.
func sequence(first, last int) (out []int) {
	for i := first; i <= last; i++ {
		out = append(out, i)
	}
	return out
}
