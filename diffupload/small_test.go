package diffupload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

func TestSmallFilesStandInTheirFolder(t *testing.T) {
	files := map[string][]byte{
		"empty":     {},
		"one":       []byte("1"),
		"most":      noise(1, MaxInlineBytes),
		"more":      noise(2, MaxInlineBytes+1),
		"sub/chunk": noise(3, 12<<10),
		"long":      noise(4, 300<<10),
	}
	dir, list := tree(t, files)
	for _, name := range []string{"one", "more"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var store Memory
	r, err := Snapshot(t.Context(), &store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := List(t.Context(), &store, r.Root, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]EntryKind{
		"empty": KindInline, "one": KindInline, "most": KindInline,
		"more": KindChunk, "sub/chunk": KindChunk, "long": KindFile,
	}
	for _, e := range got {
		if e.Kind != kinds[e.Name] || e.Size != int64(len(files[e.Name])) {
			t.Errorf("%s: %s with %d bytes", e.Name, e.Kind, e.Size)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	var last int64
	if err := Materialize(t.Context(), &store, r.Root, out, func(done, total int64) { last = total - done }); err != nil {
		t.Fatal(err)
	}
	if last != 0 {
		t.Errorf("progress ends %d bytes short", last)
	}
	wantTree(t, out, files)
	for name := range files {
		fi, err := os.Stat(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if want := name == "one" || name == "more"; want != (fi.Mode()&0o100 != 0) {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	if all := allOf(t, &store, r.Root); len(all) != store.Len() {
		t.Errorf("%d blocks are stored, %d are of the manifest", store.Len(), len(all))
	}

	// A file by itself has a node, whatever its size: that is how results are
	// named.
	for _, n := range []int{0, 5, 2000} {
		f, err := SnapshotReader(t.Context(), &store, bytes.NewReader(noise(5, n)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := MaterializeFile(t.Context(), &store, f.Root, path, MaxFileBytes); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(path); !bytes.Equal(b, noise(5, n)) {
			t.Errorf("%d bytes came back as %d", n, len(b))
		}
	}
}

// Whoever has the list of a manifest can make its nodes again.
func TestAListMakesItsTree(t *testing.T) {
	files := map[string][]byte{}
	for i := range 3000 {
		files[fmt.Sprintf("cache/%d/fluid_%04d.vdb", i%3, i)] = noise(uint64(i), i%1500)
	}
	files["big"] = noise(1, 400<<10)
	_, list := tree(t, files)
	var store, again Memory
	r, err := Snapshot(t.Context(), &store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := List(t.Context(), &store, r.Root, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := run(t.Context(), &again, Options{}, false, func(s *snapshot) (cid.Cid, error) {
		e, err := s.tree(entries, 0)
		return e.CID.Cid, err
	})
	if err != nil || made.Root != r.Root {
		t.Errorf("root %s, want %s: %v", made.Root, r.Root, err)
	}
}

func TestTenThousandSmallFilesCostTheirBytes(t *testing.T) {
	files := map[string][]byte{}
	for i := range 10_000 {
		files[fmt.Sprintf("cache/frame_%05d.pc2", i)] = noise(uint64(i), 100)
	}
	_, list := tree(t, files)
	var store Memory
	r, err := Snapshot(t.Context(), &store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.NewBytes > 2<<20 || r.NewBlocks > 60 {
		t.Errorf("1 MB in 10 000 files is %d bytes in %d blocks", r.NewBytes, r.NewBlocks)
	}
	// One file that changes changes its shard and what leads there.
	if err := os.WriteFile(list[77].Path, noise(1<<20, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := Snapshot(t.Context(), &store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if next.NewBlocks > 3 || next.NewBytes > 300<<10 {
		t.Errorf("an edit of 100 bytes stores %d bytes in %d blocks", next.NewBytes, next.NewBlocks)
	}
}

// Nodes stay far below the bound of a block however long the names are.
func TestHeavyEntriesAreCutByWeight(t *testing.T) {
	var entries []Entry
	for i := range 3000 {
		data := noise(uint64(i), MaxInlineBytes)
		entries = append(entries, Entry{Name: fmt.Sprintf("%04d%s", i, strings.Repeat("x", 251)), Size: int64(len(data)), Kind: KindInline, Data: data})
	}
	var store Memory
	r, err := run(t.Context(), &store, Options{}, false, func(s *snapshot) (cid.Cid, error) {
		e, err := s.tree(entries, 0)
		return e.CID.Cid, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range allOf(t, &store, r.Root) {
		if b, err := store.Get(t.Context(), id); err != nil || len(b) > maxRun {
			t.Errorf("a node of %d bytes: %v", len(b), err)
		}
	}
	got, err := List(t.Context(), &store, r.Root, Limits{})
	if err != nil || len(got) != len(entries) {
		t.Fatalf("%d files listed: %v", len(got), err)
	}
	for i := range got {
		if got[i].Name != entries[i].Name || !got[i].Same(entries[i]) {
			t.Fatalf("file %d came back as %q", i, got[i].Name)
		}
	}
}
