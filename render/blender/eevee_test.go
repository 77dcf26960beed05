package blender

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
)

// TestEevee renders with the engine that needs OpenGL, where that works at all.
func TestEevee(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: software OpenGL is slow")
	}
	file := testScenes(t)
	k := testKind(t, Options{})
	facts, _, err := k.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(facts[FactEngine], func(s string) bool {
		return strings.HasSuffix(s, " BLENDER_EEVEE") || strings.HasSuffix(s, " BLENDER_EEVEE_NEXT")
	}) {
		t.Skip("NOT RUN: Eevee does not render on this machine")
	}
	tasks, in := plan(t, k, file, SpecParams{Frames: "3", Scene: "plain", Engine: "eevee", Width: 48, Height: 32})
	if m := tasks[0].Check.Method; m != job.CheckReplica {
		t.Errorf("Eevee has no sampled noise to check, and is checked by %q", m)
	}
	work := newShop(t, k, in.Deps)
	work.must(tasks[0])
	out := work.must(tasks[1])
	m := decode(t, filepath.Join(out, "frame.png"))
	if m.Bounds().Dx() != 48 || m.Bounds().Dy() != 32 {
		t.Error(m.Bounds())
	}
}
