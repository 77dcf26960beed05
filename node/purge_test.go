package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"idlewild/job"
	"idlewild/node/localapi"
)

// Nothing is left of a daemon that worked, and nothing else is touched.
func TestPurge(t *testing.T) {
	x := startNode(t, "desk", nil)
	y := startNode(t, "tower", nil)
	join(t, x, y)
	id, err := x.client.Submit(t.Context(), job.Spec{Kind: "echo", Output: t.TempDir(), Params: []byte(`{"text":"x","count":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	x.finish(t, id)
	if _, err := x.client.Change(t.Context(), map[string]any{"idle.after_s": 5.0}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.client.Change(t.Context(), map[string]any{"idle.after_s": 6.0}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.client.Pause(t.Context(), localapi.PauseWish{Paused: true}); err != nil {
		t.Fatal(err)
	}
	x.end(t)
	y.end(t)
	if left, err := Purge(y.cfg.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left %v %v", left, err)
	}

	// A link goes and what it points to stays; so does what is not ours.
	dir := x.cfg.DataDir
	outside := filepath.Join(t.TempDir(), "mine")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(outside, "kept")
	if err := errors.Join(os.WriteFile(kept, nil, 0o600), os.Symlink(outside, filepath.Join(dir, "worker", "link")), os.Symlink(outside, filepath.Join(dir, "models")),
		os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600), os.Mkdir(filepath.Join(dir, "scratch", "locked"), 0o500)); err != nil {
		t.Fatal(err)
	}
	left, err := Purge(dir)
	if err != nil || len(left) != 1 || left[0] != "notes.txt" {
		t.Errorf("left %v %v", left, err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if _, err := Purge(outside); !errors.Is(err, job.ErrRefused) {
		t.Errorf("a folder of somebody else's: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}
