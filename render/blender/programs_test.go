package blender

import (
	"errors"
	"testing"

	"idlewild/internal/scenes"
)

// onEach runs a test with the Blender on PATH, and with the package bpy where there
// is a Python that has it.
func onEach(t *testing.T, f func(t *testing.T, k *Kind, p scenes.Program)) {
	t.Run("program", func(t *testing.T) {
		f(t, testKind(t, Options{}), scenes.Program{Path: needBlender(t)})
	})
	t.Run("bpy", func(t *testing.T) {
		python := needBpy(t)
		f(t, testKind(t, Options{Blender: python}), scenes.Program{Path: python, Python: true})
	})
}

// makeScenes makes scenes of package scenes.
func makeScenes(t *testing.T, p scenes.Program, script string, args ...string) {
	t.Helper()
	if err := p.Make(t.Context(), script, args...); errors.Is(err, scenes.ErrFluids) {
		t.Skip("NOT RUN: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// plainly renders frames of a file without us, into a folder that it returns.
func plainly(t *testing.T, p scenes.Program, r scenes.Render) string {
	t.Helper()
	r.To = t.TempDir()
	if err := p.Render(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r.To
}
