package node

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWhatIsNoFileIsLeftOutAndSaid(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: no pipes with names")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"dir", "socket"}
	for link, to := range map[string]string{"link": "file", "dir": "."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Skipf("NOT RUN: a socket cannot be made here: %v", err)
	}
	defer l.Close()
	if err := exec.Command("mkfifo", filepath.Join(dir, "pipe")).Run(); err == nil {
		want = append(want, "pipe")
	}
	if err := exec.Command("mknod", filepath.Join(dir, "device"), "c", "1", "3").Run(); err == nil {
		want = append(want, "device")
	}
	cfg := Config{DataDir: filepath.Join(t.TempDir(), "data")}
	r, err := Snapshot(t.Context(), cfg, dir, SnapshotOptions{})
	if err != nil || r.Files != 2 {
		t.Fatalf("%d files, %v", r.Files, err)
	}
	all := strings.Join(r.Warnings, "\n")
	for _, name := range want {
		if !strings.Contains(all, filepath.Join(dir, name)+" is left out") {
			t.Errorf("nothing is said of %s: %s", name, all)
		}
	}
	if len(r.Warnings) != len(want) {
		t.Errorf("%d warnings: %s", len(r.Warnings), all)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := Snapshot(t.Context(), cfg, dir, SnapshotOptions{}); err == nil || !strings.Contains(err.Error(), "loop") {
		t.Errorf("a link to itself: %v", err)
	}
}
