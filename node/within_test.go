package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

// TestALongFrameIsSeenToGetOn renders one frame of many tiles on another
// machine until its requester has heard several times how far it is.
func TestALongFrameIsSeenToGetOn(t *testing.T) {
	t.Parallel()
	program := needBlender(t)
	dir := t.TempDir()
	scene, script := filepath.Join(dir, "scene.blend"), filepath.Join(dir, "scene.py")
	long := strings.Replace(smallScene, "scene.cycles.samples = 16\n", "scene.cycles.samples = 4096\nscene.cycles.use_auto_tile, scene.cycles.tile_size = True, 8\n", 1)
	if err := os.WriteFile(script, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	real := func(c *Config) {
		c.Blender.Path, c.Sandbox.Mode = "", "auto"
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	}
	requester := startNode(t, "requester", func(c *Config) { real(c); c.Worker.Enabled = false })
	worker := startNode(t, "worker", func(c *Config) { real(c); c.Worker.Threads = 1 })
	join(t, requester, worker)
	spec, err := SpecFor(scene, SpecOptions{Output: filepath.Join(dir, "out"), Frames: "1"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var seen []float64
	eventually(t, "the frame gets on", func() error {
		s, err := requester.client.Job(t.Context(), id)
		if err != nil {
			return err
		}
		if len(s.Frames) != 1 || s.State.Ended() {
			return fmt.Errorf("%s, %d frames: %s", s.State, len(s.Frames), s.Reason)
		}
		f := s.Frames[0]
		if len(seen) > 0 && f.Fraction < seen[len(seen)-1] {
			t.Errorf("%v after %v", f.Fraction, seen)
		}
		if f.Fraction > 0.051 && f.Fraction < 0.97 && (len(seen) == 0 || f.Fraction > seen[len(seen)-1]) {
			if s.UnderWay != f.Fraction {
				t.Errorf("%v of the job is under way, %v of its only frame", s.UnderWay, f.Fraction)
			}
			seen = append(seen, f.Fraction)
		}
		switch {
		case len(seen) < 4:
			return fmt.Errorf("seen so far: %v, %s", seen, f.State)
		case s.LeftSeconds <= 0:
			return errors.New("no time left is known")
		}
		return nil
	})
	t.Log(seen)
	if _, err := requester.client.Steer(t.Context(), id, job.Cancel); err != nil {
		t.Error(err)
	}
	if s := requester.finish(t, id); s.State != job.StateCancelled {
		t.Error(s.State, s.Reason)
	}
}
