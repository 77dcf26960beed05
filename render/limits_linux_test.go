package render

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLimitsOver(t *testing.T) {
	l := Limits{MemoryBytes: 100 << 20, Threads: 10, DiskBytes: 50 << 20, CPU: time.Minute}
	ok := held{memory: 100 << 20, threads: 10, cpu: time.Minute, disk: usage{bytes: 50 << 20, files: maxFiles, free: minFreeBytes, known: true}}
	for _, c := range []struct {
		name   string
		change func(*held)
		want   error
		says   string
	}{
		{"just within", func(*held) {}, nil, ""},
		{"memory", func(h *held) { h.memory = 101 << 20 }, ErrMemory, "101 MiB used, 100 MiB allowed"},
		{"threads", func(h *held) { h.threads++ }, ErrThreads, "11 run, 10 are allowed"},
		{"processor time", func(h *held) { h.cpu = 2 * time.Minute }, ErrCPU, "2m0s used"},
		{"disk", func(h *held) { h.disk.bytes = 60 << 20 }, ErrDisk, "60 MiB written"},
		{"files", func(h *held) { h.disk.files++ }, ErrDisk, "files"},
		{"depth", func(h *held) { h.disk.tooDeep = true }, ErrDisk, "deep"},
		{"a full disk", func(h *held) { h.disk.free = 1 << 20 }, ErrDisk, "make room"},
		{"a disk that does not tell", func(h *held) { h.disk.free, h.disk.known = 0, false }, nil, ""},
	} {
		h := ok
		c.change(&h)
		err := l.over(h)
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := (Limits{}).over(h); err != nil {
			t.Errorf("%s, without limits: %v", c.name, err)
		}
	}
}

func TestDiskUsage(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path string, n int) {
		t.Helper()
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "big"), 8<<20)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "a", "b", "f"), 1<<20)
	for _, name := range []string{"g", "h"} {
		if err := os.Link(filepath.Join(dir, "a", "b", "f"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	u := diskUsage(dir)
	if u.bytes < 1<<20 || u.bytes > 1<<20+64<<10 || u.files != 6 || !u.known || u.free == 0 || u.tooDeep {
		t.Errorf("%+v", u)
	}
	// Deeper than a path can be long, as only who goes step by step can make it.
	deep, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxWatchedDepth + 2 {
		name := strings.Repeat("d", 200)
		if err := unix.Mkdirat(deep, name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(deep, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(deep)
		if err != nil {
			t.Fatal(err)
		}
		deep = next
	}
	unix.Close(deep)
	if u := diskUsage(dir); !u.tooDeep {
		t.Errorf("%+v", u)
	}
	if u := diskUsage(filepath.Join(dir, "nothing")); u != (usage{}) {
		t.Errorf("%+v", u)
	}
}

func TestUnnamedFiles(t *testing.T) {
	self, ok := readProc(os.Getpid())
	if !ok {
		t.Fatal("no /proc")
	}
	diskBefore, memoryBefore := unnamedFiles([]proc{self})
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("f", 0)
	if err != nil {
		t.Fatal(err)
	}
	m := os.NewFile(uintptr(fd), "memfd")
	defer m.Close()
	if _, err := m.Write(make([]byte, 5<<20)); err != nil {
		t.Fatal(err)
	}
	disk, memory := unnamedFiles([]proc{self, self})
	if d := disk - diskBefore; d < 3<<20 || d > 4<<20 {
		t.Errorf("%d bytes of a disk", d)
	}
	if d := memory - memoryBefore; d != 5<<20 {
		t.Errorf("%d bytes of memory", d)
	}
}

// What is missing is said, and the best is tried first.
func TestSandboxNamesWhatIsMissing(t *testing.T) {
	steps := ladder()
	if all := (grants{true, true, true, true, true}); steps[0] != all || strings.Contains(all.String(), "missing") && !strings.Contains(all.String(), "missing: Landlock") {
		t.Errorf("first %+v: %v", steps[0], steps[0])
	}
	if last := steps[len(steps)-1]; last != (grants{}) || !strings.Contains(last.String(), "missing: another user, no further user namespaces, bounded temporary folders, system call filter, resource limits, Landlock") {
		t.Errorf("last %+v: %v", last, last)
	}
	seen := map[grants]bool{}
	for _, g := range steps {
		if seen[g] {
			t.Errorf("%+v twice", g)
		}
		seen[g] = true
	}
	if len(steps) != 24 {
		t.Errorf("%d steps", len(steps))
	}
}

// Each layer less is a sandbox still, as far as this machine has the others.
func TestSandboxWithoutALayer(t *testing.T) {
	whole, err := NewSandbox(t.Context(), nil, Limits{})
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	for _, g := range ladder() {
		// A layer that this machine does not have was found out already.
		have := whole.grants
		if (g.user && !have.user) || (g.noUserns && !have.noUserns) || (g.sized && !have.sized) || (g.filter && !have.filter) || (g.confine && !have.confine) {
			continue
		}
		s := *whole
		s.grants = g
		if err := s.probe(t.Context()); err != nil {
			t.Errorf("%v: %v", g, err)
		}
	}
}
