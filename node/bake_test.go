package node

import (
	"path/filepath"
	"testing"

	"idlewild/internal/scenes"
)

// TestBakedOnAFarm has one of two workers bake a cloth, and both render frames
// of it in whatever order. Each is what one Blender bakes and renders alone.
func TestBakedOnAFarm(t *testing.T) {
	t.Parallel()
	p := realBlender(t)
	dir := t.TempDir()
	if err := p.Make(t.Context(), "bakes", dir, "cloth"); err != nil {
		t.Fatal(err)
	}
	scene, out := filepath.Join(dir, "cloth.blend"), filepath.Join(dir, "out")
	plain := plainly(t, p, scenes.Render{File: scene, Frames: sequence(2, 9), Bake: true})
	requester, _ := blenderFarm(t, nil, "one", "two")
	all := 1.0
	s := requester.renders(t, scene, SpecOptions{Output: out, Frames: "2-9", Bake: true, Recheck: &all}, 8)
	if s.Rechecked != 8 {
		t.Errorf("%d frames were checked, want 8", s.Rechecked)
	}
	foundOut(t, s, nil)
	asPlain(t, out, plain)
}
