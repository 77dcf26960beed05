package confine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSameFile: whatever was done to a file since it was looked at is seen.
func TestSameFile(t *testing.T) {
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	write := func(path, text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(path string)
		same   bool
	}{
		"nothing":               {func(string) {}, true},
		"read":                  {func(p string) { os.ReadFile(p) }, true},
		"longer, as of then":    {func(p string) { write(p, "more text", old) }, false},
		"as long, as of now":    {func(p string) { write(p, "tekst", time.Now()) }, false},
		"a copy in its place":   {func(p string) { write(p+".new", "texts", old); os.Rename(p+".new", p) }, false},
		"a link in its place":   {func(p string) { os.Rename(p, p+".old"); os.Symlink(p+".old", p) }, false},
		"a folder in its place": {func(p string) { os.Remove(p); os.Mkdir(p, 0o755) }, false},
		"gone":                  {func(p string) { os.Remove(p) }, false},
	} {
		dir := t.TempDir()
		path, list := filepath.Join(dir, "f"), filepath.Join(dir, "list")
		write(path, "texts", old)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal([]Same{{Path: path, Dev: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano()}})
		if err == nil {
			err = os.WriteFile(list, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.change(path)
		if err := (Spec{Same: list}).same(); (err == nil) != c.same {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(list); err == nil {
			t.Errorf("%s: the list is left", name)
		}
	}
}
