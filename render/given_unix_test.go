//go:build unix

package render

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A process that guesses the name of its next request's folder and puts a pipe or a
// link where a file is to be given holds nobody up and has nothing written elsewhere.
func TestGivenFilesAreNewOnes(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := &slot{work: root}
	other := filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(other, []byte("mine"), 0o600), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Symlink("other", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "link", "other"} {
		done := make(chan error, 1)
		go func() { done <- s.write(".", map[string][]byte{name: []byte("given")}) }()
		select {
		case err := <-done:
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it waits for somebody to read", name)
		}
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if err := s.write(".", map[string][]byte{"a/b": []byte("given")}); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a", "b")); err != nil || string(b) != "given" {
		t.Errorf("%q, %v", b, err)
	}
}
