package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/internal/scenes"
)

// TestViewsOnAFarm renders both eyes on two machines, one of which takes half of
// the samples, in both views or in the second alone: it is found out, and what
// arrives is what plain Blender writes.
func TestViewsOnAFarm(t *testing.T) {
	t.Parallel()
	p := realBlender(t)
	scene := filepath.Join(t.TempDir(), "scene.blend")
	source := strings.Replace(smallScene, "scene.frame_start", "scene.render.use_multiview = True\nscene.frame_start", 1)
	blenderRun(t, p.Path, "-b", "--factory-startup", "--python-exit-code", "1", "--python-expr", source, "--", scene)
	plain := plainly(t, p, scenes.Render{File: scene, Frames: sequence(1, 4)})
	modes := []string{"later-layers", "half-samples"}
	if os.Getenv("IDLEWILD_SLOW") == "" {
		modes = modes[:1]
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			requester, workers := blenderFarm(t, func(name string, c *Config) {
				if name == "cheat" {
					c.Worker.Saboteur = mode
				}
			}, "honest", "cheat")
			out := filepath.Join(t.TempDir(), "out")
			s := requester.renders(t, scene, SpecOptions{Output: out}, 4)
			foundOut(t, s, workers["cheat"])
			asPlain(t, out, plain)
		})
	}
}
