package render

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What was looked at is what is copied: a process that is still there may swap
// a file for another between the two.
func TestASwappedFileIsNotCopied(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	src, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	for _, name := range []string{"out", "other"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte("12345"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := src.Lstat("out")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := copyFile(src, "out", fi, dst, "as it was", 5); n != 5 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := copyFile(src, "out", fi, dst, "too long", 4); !errors.Is(err, errUnsafe) {
		t.Errorf("a file over its bound: %v", err)
	}
	if err := os.Rename(filepath.Join(from, "other"), filepath.Join(from, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := copyFile(src, "out", fi, dst, "swapped", 5); !errors.Is(err, errUnsafe) {
		t.Errorf("another file of the same name: %v", err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
