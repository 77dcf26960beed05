package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"idlewild/job"
	"idlewild/render/echo"
)

// What was learnt of a Blender is worth a start of it: it stays in the data
// folder, also where no daemon runs, and nowhere else if that cannot be written.
func TestEmbeddedFarmRemembersInTheDataFolder(t *testing.T) {
	run := func(dir string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.DataDir = dir
		cfg.Sandbox.Mode = "off"
		cfg.Blender.Path = filepath.Join(t.TempDir(), "no-such-program")
		s, err := RunEmbedded(t.Context(), EmbeddedOptions{
			Nodes: 1, Config: cfg, Spec: echoSpec(t, t.TempDir(), echo.Params{Count: 1}), Log: slog.New(slog.DiscardHandler),
		}, nil)
		if err != nil || s.State != job.StateFinished {
			t.Fatalf("%s: %v", s.State, err)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	run(data)
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) != 1 || entries[0].Name() != "runners" {
		t.Errorf("in the data folder: %v, %v", entries, err)
	}
	if entries, err = os.ReadDir(filepath.Join(data, "runners")); err != nil || len(entries) == 0 {
		t.Errorf("in the runners' folder: %v, %v", entries, err)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(filepath.Join(file, "below"))
	// A folder that is there and that even root cannot write to.
	if _, err := os.Stat("/proc/self"); err == nil {
		run("/proc/self")
	}
}

func TestFoldersThatCannotBeWritten(t *testing.T) {
	if err := writable(filepath.Join(t.TempDir(), "a", "b")); err != nil {
		t.Error(err)
	}
	if os.Getuid() == 0 {
		t.Skip("NOT RUN: root can write to every folder")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if writable(dir) == nil {
		t.Error("a folder without the right to write")
	}
}
