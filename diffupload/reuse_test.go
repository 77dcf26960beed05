package diffupload

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

func TestUnchangedFilesAreShared(t *testing.T) {
	m := &Memory{}
	old := content{"a.bin": noise(1, 5000), "b.bin": noise(2, 5000), "c.bin": noise(3, 5000), "d/e.txt": []byte("small"), "gone": []byte("x")}
	fresh := content{"a.bin": noise(1, 5000), "b.bin": noise(4, 5000), "c.bin": noise(3, 5000), "d/e.txt": []byte("small"), "f.bin": noise(5, 3000)}
	have, want := keepIn(t, m, old, small), keepIn(t, m, fresh, small)
	top := t.TempDir()
	from, to := filepath.Join(top, "old"), filepath.Join(top, "new")
	if err := Materialize(t.Context(), m, have, from, nil); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	// A file that was touched since is not trusted.
	if err := os.WriteFile(filepath.Join(from, "c.bin"), noise(9, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(from, "c.bin"), time.Time{}, since.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := MaterializeFrom(t.Context(), m, Earlier{Store: m, Root: have, Dir: from, Since: since}, Here{}, want, to, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, fresh)
	for name, shared := range map[string]bool{"a.bin": true, "b.bin": false, "c.bin": false, "d/e.txt": true} {
		a, aerr := os.Stat(filepath.Join(from, name))
		b, berr := os.Stat(filepath.Join(to, name))
		if aerr != nil || berr != nil || os.SameFile(a, b) != shared {
			t.Errorf("%s shared: %v, want %v (%v, %v)", name, !shared, shared, aerr, berr)
		}
	}
	// A folder that is gone, or a manifest that cannot be read, only costs.
	for what, e := range map[string]Earlier{
		"gone":  {Store: m, Root: have, Dir: filepath.Join(top, "nowhere"), Since: since},
		"empty": {Store: m, Root: cid.Undef, Dir: from, Since: since},
		"blank": {Store: &Memory{}, Root: have, Dir: from, Since: since},
	} {
		dir := filepath.Join(top, what)
		if err := MaterializeFrom(t.Context(), m, e, Here{}, want, dir, Limits{}, nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		wantTree(t, dir, fresh)
	}
}

// A folder that was exchanged for a link to another one, whose files are older,
// does not bring these into the new tree.
func TestNothingOutsideIsShared(t *testing.T) {
	m := &Memory{}
	have := keepIn(t, m, content{"d/e.bin": noise(1, 5000), "f": []byte("old")}, small)
	fresh := content{"d/e.bin": noise(1, 5000), "f": []byte("new")}
	want := keepIn(t, m, fresh, small)
	top := t.TempDir()
	from, to, away := filepath.Join(top, "old"), filepath.Join(top, "new"), filepath.Join(top, "away")
	if err := os.Mkdir(away, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(away, "e.bin"), []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Materialize(t.Context(), m, have, from, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(from, "d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(away, filepath.Join(from, "d")); err != nil {
		t.Skipf("NOT RUN: no symbolic links here: %v", err)
	}
	if err := MaterializeFrom(t.Context(), m, Earlier{Store: m, Root: have, Dir: from, Since: time.Now()}, Here{}, want, to, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, fresh)
}
