package diffupload

import (
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

// onDisk is a folder with files, and a store that has their manifest's nodes and
// none of their chunks.
func onDisk(t *testing.T, files content, exact bool) (dir string, store *Counting, root cid.Cid, entries map[string]Entry) {
	t.Helper()
	dir, list := tree(t, files)
	for i := range list {
		list[i].Exact = exact
	}
	all := &Memory{}
	r, err := Snapshot(t.Context(), all, list, small)
	if err != nil {
		t.Fatal(err)
	}
	store = &Counting{Store: &Faulty{Store: all, Drop: func(id cid.Cid) bool { return id.Type() == cid.Raw }}}
	found, err := List(t.Context(), store, r.Root, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	entries = map[string]Entry{}
	for _, e := range found {
		entries[e.Name] = e
	}
	return dir, store, r.Root, entries
}

func TestCompareFindsWhatDiffers(t *testing.T) {
	same := noise(1, 300_000)
	other := append([]byte(nil), same...)
	other[150_000] ^= 1
	dir, store, _, entries := onDisk(t, content{"a": same, "one": noise(2, 5000), "few": []byte("inline")}, true)
	compare := func(name string, data []byte, draws int, all bool) error {
		path := filepath.Join(dir, "now")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		read, err := Compare(t.Context(), store, entries[name], f, draws, all)
		if err == nil && all && read < int64(len(data)) {
			t.Errorf("%s: %d bytes were compared of %d", name, read, len(data))
		}
		return err
	}
	if err := compare("a", same, 8, true); err != nil {
		t.Error(err)
	}
	if err := compare("one", noise(2, 5000), 2, true); err != nil {
		t.Error(err)
	}
	if err := compare("a", other, 0, true); !errors.Is(err, ErrDiffers) {
		t.Errorf("one bit, all read: %v", err)
	}
	// A sample of so many chunks has one of each eventually.
	found := false
	for range 1000 {
		found = found || errors.Is(compare("a", other, 32, false), ErrDiffers)
	}
	if !found {
		t.Error("one bit was in no sample")
	}
	for what, data := range map[string][]byte{
		"first": append([]byte{same[0] ^ 1}, same[1:]...), "last": append(same[:len(same)-1:len(same)-1], same[len(same)-1]^1),
		"another": noise(3, len(same)), "short": same[:len(same)-1], "empty": nil,
	} {
		if err := compare("a", data, 2, false); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s, by the ends alone: %v", what, err)
		}
	}
	if err := compare("few", []byte("inline"), 2, true); !errors.Is(err, ErrOtherForm) {
		t.Errorf("a file in the manifest: %v", err)
	}
}

// An image can be compared where its own bytes were stored, and a .blend never.
func TestOwnBytesOfAFile(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 200, 100))
	copy(img.Pix, noise(1, len(img.Pix)))
	files := content{"a.png": pngOf(t, img, png.DefaultCompression)}
	dir, store, _, entries := onDisk(t, files, false)
	f, err := os.Open(filepath.Join(dir, "a.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Compare(t.Context(), store, entries["a.png"], f, 2, true); !errors.Is(err, ErrOtherForm) {
		t.Errorf("another form: %v", err)
	}
	_, store, _, entries = onDisk(t, files, true)
	if _, err := Compare(t.Context(), store, entries["a.png"], f, 2, true); err != nil {
		t.Error(err)
	}
	if s := (&snapshot{}); s.exact(File{Path: "a.blend", Exact: true}) || !s.exact(File{Path: "a.png", Exact: true}) || s.exact(File{Path: "a.png"}) {
		t.Error("which files are stored as they are")
	}
}

func TestWhatIsHereIsNotFetched(t *testing.T) {
	files := content{"big.vdb": noise(1, 200_000), "d/copied.vdb": noise(2, 50_000), "d/z.txt": []byte("small")}
	dir, store, root, _ := onDisk(t, files, true)
	here := Here{
		InPlace: map[string]bool{"big.vdb": true},
		Open: func(name string) *os.File {
			f, _ := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
			return f
		},
	}
	to := filepath.Join(t.TempDir(), "to")
	if err := MaterializeFrom(t.Context(), store, Earlier{}, here, root, to, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, content{"big.vdb": nil, "d/copied.vdb": files["d/copied.vdb"], "d/z.txt": files["d/z.txt"]})

	// A chunk that is not right is fetched, and here nobody has it.
	other := append([]byte(nil), files["d/copied.vdb"]...)
	other[40_000] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "d", "copied.vdb"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := MaterializeFrom(t.Context(), store, Earlier{}, here, root, bad, Limits{}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that differs: %v", err)
	}
	// The empty file that stands for one in place is no earlier version of it.
	all := &Memory{}
	_, list := tree(t, files)
	r, err := Snapshot(t.Context(), all, list, small)
	if err != nil || r.Root != root {
		t.Fatal(err)
	}
	again := filepath.Join(filepath.Dir(to), "again")
	e := Earlier{Store: store, Root: root, Dir: to, Since: time.Now(), Without: here.InPlace}
	fresh := keepIn(t, all, content{"big.vdb": files["big.vdb"], "d/copied.vdb": files["d/copied.vdb"]}, small)
	if err := MaterializeFrom(t.Context(), all, e, Here{}, fresh, again, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, again, content{"big.vdb": files["big.vdb"], "d/copied.vdb": files["d/copied.vdb"]})
}

func TestComparedFilesAreRemembered(t *testing.T) {
	dir, _, _, entries := onDisk(t, content{"a": noise(1, 5000)}, true)
	path := filepath.Join(dir, "a")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenStatCache(filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	c.SetCompared(path, StampOf(st), time.Now(), entries["a"])
	if c.Compared(path, StampOf(st), entries["a"]) {
		t.Error("a file that was just written is believed in")
	}
	c.SetCompared(path, StampOf(st), time.Now().Add(time.Hour), entries["a"])
	later := StampOf(st)
	later.Ctime++
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if c, err = OpenStatCache(filepath.Join(dir, "cache")); err != nil {
		t.Fatal(err)
	}
	if !c.Compared(path, StampOf(st), entries["a"]) || c.Compared(path, later, entries["a"]) || (*StatCache)(nil).Compared(path, later, entries["a"]) {
		t.Error("what is remembered")
	}
}
