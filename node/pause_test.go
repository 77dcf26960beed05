package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPauseOutlivesTheDaemon(t *testing.T) {
	first := startNode(t, "worker", nil)
	if _, err := first.client.SetPaused(t.Context(), true, "I am playing"); err != nil {
		t.Fatal(err)
	}
	first.end(t)
	again := runNode(t, first.cfg)
	v, err := again.client.Status(t.Context())
	if err != nil || v.Machine.Paused != "I am playing" {
		t.Fatalf("after a restart: %q, %v", v.Machine.Paused, err)
	}
	for _, d := range v.Machine.Devices {
		if d.Name == "cpu" && d.Doing != "resting: I am playing" {
			t.Errorf("%s: %s", d.Name, d.Doing)
		}
	}
	if _, err := again.client.SetPaused(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}
	again.end(t)
	if reason, err := loadPause(first.cfg.DataDir); reason != "" || err != nil {
		t.Errorf("after resume: %q, %v", reason, err)
	}
	// A damaged note is still a pause.
	if err := os.WriteFile(filepath.Join(first.cfg.DataDir, pauseFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, err := loadPause(first.cfg.DataDir); reason == "" || err != nil {
		t.Errorf("damaged note: %q, %v", reason, err)
	}
}
