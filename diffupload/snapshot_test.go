package diffupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/chunker"
)

// noise returns n bytes that look random and depend on seed alone.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// tree writes files below a new folder and returns them as Snapshot takes them.
func tree(t testing.TB, files map[string][]byte) (string, []File) {
	t.Helper()
	dir := t.TempDir()
	var out []File
	for name, data := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
		out = append(out, File{Path: p, Name: name})
	}
	return dir, out
}

// wantTree checks that dir holds exactly files.
func wantTree(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(dir, p)
		want, ok := files[filepath.ToSlash(rel)]
		got, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if !ok || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d", rel, len(got), len(want))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(files) {
		t.Errorf("%d files, want %d", n, len(files))
	}
}

var small = Options{Chunk: chunker.Params{Min: 64, Avg: 256, Max: 1024}}

func TestSnapshotMaterialisesToTheSameFiles(t *testing.T) {
	files := map[string][]byte{
		"empty":          nil,
		"one":            {1},
		"a-b":            []byte("sorts before a/b"),
		"a/b":            noise(1, 100_000),
		"a/c/d/e.bin":    noise(2, 3000),
		"a/c.txt":        []byte("beside a folder of a like name"),
		"zeros":          make([]byte, 500_000),
		"ä ö/日本語.png":    noise(3, 70_000),
		"twice/a":        noise(4, 5000),
		"twice/b":        noise(4, 5000),
		"textures/1.exr": noise(5, 2_000_000),
	}
	_, list := tree(t, files)
	exec := list[0]
	if err := os.Chmod(exec.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"default": {}, "small chunks": small} {
		t.Run(name, func(t *testing.T) {
			var last, total int64
			o.Progress = func(d, n int64) {
				if d < last || d > n {
					t.Errorf("progress %d of %d after %d", d, n, last)
				}
				last, total = d, n
			}
			store := &Memory{}
			res, err := Snapshot(t.Context(), store, list, o)
			if err != nil {
				t.Fatal(err)
			}
			var bytes int64
			for _, d := range files {
				bytes += int64(len(d))
			}
			if res.Files != len(files) || res.Bytes != bytes || last != bytes || total != bytes || res.NewBlocks != store.Len() || res.Blocks < store.Len() || res.Read != len(files) {
				t.Errorf("%d files, %d bytes of %d, progress %d/%d, %d new blocks, %d listed, store has %d",
					res.Files, res.Bytes, bytes, last, total, res.NewBlocks, res.Blocks, store.Len())
			}
			last = 0
			again, err := Snapshot(t.Context(), store, list, o)
			if err != nil {
				t.Fatal(err)
			}
			if again.Root != res.Root || again.NewBytes != 0 || again.NewBlocks != 0 {
				t.Errorf("again: %s with %d new bytes, first %s", again.Root, again.NewBytes, res.Root)
			}
			all, err := All(t.Context(), store, res.Root)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != store.Len() {
				t.Errorf("walk finds %d blocks, the store has %d", len(all), store.Len())
			}
			dir := filepath.Join(t.TempDir(), "in")
			var done int64
			if err := Materialize(t.Context(), store, res.Root, dir, func(d, n int64) { done = d }); err != nil {
				t.Fatal(err)
			}
			if done != bytes {
				t.Errorf("progress ends at %d of %d", done, bytes)
			}
			wantTree(t, dir, files)
			st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(exec.Name)))
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode()&0o100 == 0 {
				t.Error("executable bit lost")
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".idlewild*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func allOf(t testing.TB, store Store, root cid.Cid) []cid.Cid {
	t.Helper()
	all, err := All(t.Context(), store, root)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestManifestDependsOnContentAlone(t *testing.T) {
	files := map[string][]byte{"a": noise(1, 50_000), "b/c": noise(2, 50_000), "b/d": nil}
	_, one := tree(t, files)
	_, two := tree(t, files)
	for i, j := 0, len(two)-1; i < j; i, j = i+1, j-1 {
		two[i], two[j] = two[j], two[i]
	}
	a, err := Snapshot(t.Context(), &Memory{}, one, small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Snapshot(t.Context(), &Memory{}, two, small)
	if err != nil {
		t.Fatal(err)
	}
	if a.Root != b.Root {
		t.Errorf("%s and %s for the same content", a.Root, b.Root)
	}
}

// A file of many thousand chunks and a folder of many thousand files go
// through part nodes and shards.
func TestLongListsAreCutIntoNodes(t *testing.T) {
	files := map[string][]byte{"long": noise(1, 2<<20)}
	for i := range 1300 {
		files[fmt.Sprintf("many/%05d", i)] = fmt.Appendf(nil, "%d", i)
	}
	_, list := tree(t, files)
	store := &Memory{}
	res, err := Snapshot(t.Context(), store, list, Options{Chunk: chunker.Params{Min: 64, Avg: 512, Max: 2048}})
	if err != nil {
		t.Fatal(err)
	}
	depth := map[string]int{}
	for _, id := range allOf(t, store, res.Root) {
		if id.Type() != cid.DagCBOR {
			continue
		}
		data, err := Get(t.Context(), store, id)
		if err != nil {
			t.Fatal(err)
		}
		n, err := DecodeNode(data)
		if err != nil {
			t.Fatal(err)
		}
		switch n := n.(type) {
		case *FileNode:
			depth["file"] = max(depth["file"], n.Depth)
		case *TreeNode:
			depth["tree"] = max(depth["tree"], n.Depth)
		}
	}
	if depth["file"] == 0 || depth["tree"] == 0 {
		t.Errorf("depths %v: the lists were not long enough", depth)
	}
	dir := filepath.Join(t.TempDir(), "in")
	if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, files)

	// One file more, one byte more: some nodes, not all of them.
	for _, f := range list {
		if f.Name == "long" {
			if err := os.WriteFile(f.Path, append([]byte{1}, files["long"]...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if f.Name == "many/00700" {
			p := f.Path + "x"
			if err := os.WriteFile(p, []byte("new"), 0o644); err != nil {
				t.Fatal(err)
			}
			list = append(list, File{Path: p, Name: f.Name + "x"})
		}
	}
	again, err := Snapshot(t.Context(), store, list, Options{Chunk: chunker.Params{Min: 64, Avg: 512, Max: 2048}})
	if err != nil {
		t.Fatal(err)
	}
	if again.NewBlocks > 30 {
		t.Errorf("an insertion in each list makes %d new blocks of %d", again.NewBlocks, again.Blocks)
	}
}

func TestAnEditStoresFewBytes(t *testing.T) {
	data := noise(1, 20<<20)
	_, list := tree(t, map[string][]byte{"big.abc": data, "other": noise(2, 1<<20)})
	store := &Memory{}
	if _, err := Snapshot(t.Context(), store, list, Options{}); err != nil {
		t.Fatal(err)
	}
	edited := append(append(append([]byte(nil), data[:9<<20]...), "an insertion"...), data[9<<20:]...)
	for _, f := range list {
		if f.Name == "big.abc" {
			if err := os.WriteFile(f.Path, edited, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	res, err := Snapshot(t.Context(), store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.NewBytes == 0 || res.NewBytes > 600<<10 {
		t.Errorf("12 bytes inserted in 20 MiB: %d new bytes", res.NewBytes)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	dir, list := tree(t, map[string][]byte{"a": []byte("x")})
	cases := map[string]struct {
		files []File
		want  string
	}{
		"missing":      {[]File{{Path: filepath.Join(dir, "gone.png"), Name: "gone.png"}}, "gone.png"},
		"folder":       {[]File{{Path: dir, Name: "dir"}}, "not a regular file"},
		"climbing":     {[]File{{Path: list[0].Path, Name: "../a"}}, "leaves its folder"},
		"absolute":     {[]File{{Path: list[0].Path, Name: "/a"}}, "empty component"},
		"backslash":    {[]File{{Path: list[0].Path, Name: `a\b`}}, "not allowed"},
		"not UTF-8":    {[]File{{Path: list[0].Path, Name: "a\xff"}}, "not UTF-8"},
		"twice":        {[]File{{Path: list[0].Path, Name: "a"}, {Path: list[0].Path, Name: "a"}}, "both named"},
		"file, folder": {[]File{{Path: list[0].Path, Name: "a"}, {Path: list[0].Path, Name: "a/b"}, {Path: list[0].Path, Name: "a-"}}, "also a folder"},
	}
	for name, c := range cases {
		_, err := Snapshot(t.Context(), &Memory{}, c.files, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.want)
		}
	}
}

func TestSnapshotNamesFilesThatCannotBeRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no pipes with names, no modes")
	}
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.exr")
	if out, err := exec.Command("mkfifo", pipe).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: mkfifo: %v %s", err, out)
	}
	// Opening a pipe that nobody writes to would wait for ever.
	_, err := Snapshot(t.Context(), &Memory{}, []File{{Path: pipe, Name: "pipe.exr"}}, Options{})
	if !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), pipe) {
		t.Errorf("a pipe: %v", err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, err := Snapshot(t.Context(), &Memory{}, []File{{Path: loop, Name: "loop"}}, Options{}); err == nil || !strings.Contains(err.Error(), loop) {
		t.Errorf("a loop: %v", err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(secret); err == nil {
		f.Close()
		return // root reads everything
	}
	if _, err := Snapshot(t.Context(), &Memory{}, []File{{Path: secret, Name: "secret"}}, Options{}); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), secret) {
		t.Errorf("a file without permission: %v", err)
	}
}

func TestSnapshotEndsWithItsStore(t *testing.T) {
	_, list := tree(t, map[string][]byte{"a": noise(1, 30<<20), "b": noise(2, 30<<20)})
	store := &Faulty{Store: &Memory{}, FullAfter: 8 << 20}
	if _, err := Snapshot(t.Context(), store, list, Options{}); !errors.Is(err, ErrFull) {
		t.Errorf("on a full store: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Snapshot(ctx, &Memory{}, list, Options{Progress: func(done, total int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAFileThatChangesIsReadAgainAndThenReported(t *testing.T) {
	for _, c := range []struct {
		changes int
		ok      bool
	}{{1, true}, {1 << 30, false}} {
		_, list := tree(t, map[string][]byte{"a": noise(1, 24<<20)})
		// The first blocks are put long before the end of the file is read.
		// What is written then makes every chunk a new one, so that blocks
		// are put again while it is read again.
		calls, left := 0, c.changes
		store := &Memory{}
		meddle := &Faulty{Store: store, Refuse: func(cid.Cid, []byte) error {
			calls++
			if left == 0 || calls%16 != 1 {
				return nil
			}
			left--
			f, err := os.OpenFile(list[0].Path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			for off := int64(0); off < 24<<20; off += 64 << 10 {
				if _, err := f.WriteAt(fmt.Appendf(nil, "%8d", calls), off); err != nil {
					return err
				}
			}
			return nil
		}}
		res, err := Snapshot(t.Context(), meddle, list, Options{})
		if c.ok {
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "in")
			if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(list[0].Path)
			if err != nil {
				t.Fatal(err)
			}
			wantTree(t, dir, map[string][]byte{"a": now})
		} else if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), list[0].Path) {
			t.Errorf("%d changes: %v", c.changes, err)
		}
	}
}

func TestStatCacheSavesReading(t *testing.T) {
	files := map[string][]byte{"a": noise(1, 100_000), "b/c": noise(2, 100_000)}
	_, list := tree(t, files)
	path := filepath.Join(t.TempDir(), "statcache")
	open := func(at time.Duration) *StatCache {
		c, err := OpenStatCache(path)
		if err != nil {
			t.Fatal(err)
		}
		c.Now = func() time.Time { return time.Now().Add(at) }
		return c
	}
	store := &Memory{}
	opts := func(c *StatCache) (Options, *int64) {
		var read int64
		return Options{Chunk: small.Chunk, Cache: c}, &read
	}
	c := open(0)
	o, _ := opts(c)
	first, err := Snapshot(t.Context(), store, list, o)
	if err != nil {
		t.Fatal(err)
	}
	if c.Len() != 0 {
		t.Error("files that were written a moment ago are remembered")
	}
	c = open(10 * time.Second)
	o, _ = opts(c)
	if _, err := Snapshot(t.Context(), store, list, o); err != nil {
		t.Fatal(err)
	}
	if c.Len() != 2 {
		t.Fatalf("%d files remembered, want 2", c.Len())
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}

	c = open(10 * time.Second)
	o, _ = opts(c)
	res, err := Snapshot(t.Context(), store, list, o)
	if err != nil || res.Read != 0 || res.Root != first.Root {
		t.Errorf("remembered over a restart: %d files read, %v", res.Read, err)
	}

	// Content that changes behind the back of size and times is found sooner or
	// later: of one file always.
	how, path1 := cacheHow(small), list[0].Path
	st, err := os.Stat(path1)
	if err != nil {
		t.Fatal(err)
	}
	real, ok := c.get(how, path1, StampOf(st))
	if !ok {
		t.Fatal("not remembered")
	}
	other, err := SnapshotReader(t.Context(), store, bytes.NewReader(noise(77, 100_000)), small)
	if err != nil {
		t.Fatal(err)
	}
	settled := time.Now().Add(time.Minute)
	c.put(how, path1, StampOf(st), settled, Entry{CID: Ref{other.Root}, Size: 100_000, Kind: KindFile})
	alone, err := Snapshot(t.Context(), store, list[:1], o)
	if err != nil || alone.Read != 1 || len(alone.Warnings) != 1 {
		t.Errorf("a forged file: %d read, %v, %v", alone.Read, alone.Warnings, err)
	}
	if e, ok := c.get(how, path1, StampOf(st)); !ok || !e.Same(real) {
		t.Errorf("remembered is %+v, want %+v", e, real)
	}

	// A block that is gone makes it read.
	for _, id := range allOf(t, store, first.Root) {
		if id.Type() == cid.Raw {
			store.Delete(id)
		}
	}
	res, err = Snapshot(t.Context(), store, list, o)
	if err != nil {
		t.Fatal(err)
	}
	if missing, _ := store.Missing(t.Context(), allOf(t, store, res.Root)); res.Root != first.Root || len(missing) > 0 {
		t.Errorf("after blocks were lost: root %s, %d blocks missing", res.Root, len(missing))
	}

	// So does a touch.
	if err := os.WriteFile(list[0].Path, noise(9, len(files[list[0].Name])), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err = Snapshot(t.Context(), store, list, o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Root == first.Root {
		t.Error("a changed file was not read")
	}
	if err := os.WriteFile(path, []byte("idlewild statcache 1\nnonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if c := open(0); c.Len() != 0 {
		t.Error("nonsense was read as a cache")
	}
}
