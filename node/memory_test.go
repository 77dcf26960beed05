package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryThatGroupsLeave(t *testing.T) {
	mount := t.TempDir()
	write := func(group, name, text string) {
		t.Helper()
		dir := filepath.Join(mount, group)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b", "memory.max", "max\n")
	write("a/b", "memory.current", "900\n")
	if got := groupMemory(mount, "a/b", 1000); got != 1000 {
		t.Errorf("no limit leaves %d", got)
	}
	write("a", "memory.max", "700\n")
	write("a", "memory.current", "600\n")
	write("a", "memory.stat", "anon 500\ninactive_file 50\n")
	if got := groupMemory(mount, "a/b", 1000); got != 150 {
		t.Errorf("the group around leaves %d, want 150", got)
	}
	if got := groupMemory(mount, "", 1000); got != 1000 {
		t.Errorf("no group leaves %d", got)
	}
	write("a", "memory.current", "900\n")
	if got := groupMemory(mount, "a/b", 1000); got != 0 {
		t.Errorf("a full group leaves %d", got)
	}
}

func TestAvailableMemoryIsKnownHere(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("NOT RUN: no /proc/meminfo")
	}
	if all, left := physicalMemory(), availableMemory(); left <= 0 || left > all {
		t.Errorf("%d of %d bytes available", left, all)
	}
}
