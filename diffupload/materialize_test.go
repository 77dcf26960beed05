package diffupload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
)

// build puts nodes and chunks into a store by hand, as an enemy would.
type build struct {
	t testing.TB
	*Memory
}

func (b build) node(n Node) (Ref, int64) {
	b.t.Helper()
	e, err := EncodeNode(n)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.Put(b.t.Context(), e.ID, e.Data); err != nil {
		b.t.Fatal(err)
	}
	switch n := n.(type) {
	case *FileNode:
		return Ref{e.ID}, n.Size
	case *PartNode:
		return Ref{e.ID}, n.Size
	case *TreeNode:
		return Ref{e.ID}, n.Size
	}
	panic("unknown node")
}

func (b build) entry(name string, kind EntryKind, n Node) Entry {
	id, size := b.node(n)
	return Entry{Name: name, CID: id, Size: size, Kind: kind}
}

func (b build) chunk(data string) Link {
	id := ChunkID([]byte(data))
	if err := b.Put(b.t.Context(), id, []byte(data)); err != nil {
		b.t.Fatal(err)
	}
	return Link{CID: Ref{id}, Size: int64(len(data))}
}

func TestHostileManifestsAreRefused(t *testing.T) {
	b := build{t, &Memory{}}
	hello := fileNode(b.chunk("hello"))
	lying := func(e Entry, size int64) Entry { e.Size = size; return e }
	shards := func(runs ...[]string) *TreeNode {
		n := &TreeNode{V: 1, Type: "tree", Depth: 1}
		for _, names := range runs {
			var es []Entry
			for _, name := range names {
				es = append(es, b.entry(name, KindFile, hello))
			}
			e := b.entry(names[0], KindShard, treeNode(es...))
			n.Entries = append(n.Entries, e)
			n.Size += e.Size
		}
		return n
	}
	wrongShardName := shards([]string{"b", "c"})
	wrongShardName.Entries[0].Name = "a"
	nested := hello2tree(b, hello)
	for range 30 {
		nested = treeNode(b.entry(strings.Repeat("d", 100), KindTree, nested))
	}
	// Folders in folders, each twice: 2^40 of them in 40 blocks.
	bomb := treeNode(b.entry("f", KindFile, fileNode()))
	for range 40 {
		bomb = treeNode(b.entry("a", KindTree, bomb), b.entry("b", KindTree, bomb))
	}
	// Parts that are one part many times: a petabyte of "hello".
	part := partNode(0, b.chunk("hello"))
	for d := range 5 {
		id, size := b.node(part)
		next := partNode(d + 1)
		for range 100 {
			next.Links = append(next.Links, Link{CID: id, Size: size})
			next.Size += size
		}
		part = next
	}
	id, size := b.node(part)
	huge := &FileNode{V: 1, Type: "file", Size: size, Depth: 6, Links: []Link{{CID: id, Size: size}}}
	shallow := &FileNode{V: 1, Type: "file", Size: size, Depth: 3, Links: []Link{{CID: id, Size: size}}}
	liar := b.chunk("hello")
	liar.Size = 6

	cases := map[string]struct {
		root Node
		want string
	}{
		"file as root":      {hello, "not a tree"},
		"entry's size":      {treeNode(lying(b.entry("a", KindFile, hello), 6)), "not what its entry says"},
		"folder's size":     {treeNode(lying(b.entry("a", KindTree, hello2tree(b, hello)), 6)), "not what its entry says"},
		"folder as file":    {treeNode(b.entry("a", KindFile, hello2tree(b, hello))), "not what its entry says"},
		"file as folder":    {treeNode(b.entry("a", KindTree, hello)), "not what its entry says"},
		"empty folder":      {treeNode(b.entry("a", KindTree, treeNode())), "not what its entry says"},
		"shard's name":      {wrongShardName, "not what its entry says"},
		"shards overlap":    {shards([]string{"a", "c"}, []string{"b", "d"}), "not what its entry says"},
		"same in shards":    {shards([]string{"a", "b"}, []string{"b", "c"}), "not what its entry says"},
		"long path":         {nested, "bytes in manifest"},
		"folder bomb":       {bomb, "more than"},
		"many bytes":        {treeNode(b.entry("a", KindFile, huge)), "at most"},
		"part's depth":      {treeNode(b.entry("a", KindFile, shallow)), "at most"},
		"chunk's size":      {treeNode(b.entry("a", KindFile, fileNode(liar))), "its link says 6"},
		"block not there":   {treeNode(b.entry("a", KindFile, fileNode(chunkLink(77)))), "block not found"},
		"case of the names": {treeNode(b.entry("..a", KindFile, hello), b.entry("A", KindFile, hello)), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			root, _ := b.node(c.root)
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			err := MaterializeWithin(t.Context(), b.Memory, root.Cid, dir, Limits{Bytes: 1 << 20, Files: 1000}, nil)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want it to say %q", err, c.want)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	// With room for the bytes the lying depth is found before they are read.
	root, _ := b.node(treeNode(b.entry("a", KindFile, shallow)))
	err := Materialize(t.Context(), b.Memory, root.Cid, filepath.Join(t.TempDir(), "in"), nil)
	if err == nil || !strings.Contains(err.Error(), "not what its link says") {
		t.Errorf("lying depth: %v", err)
	}
}

func hello2tree(b build, hello *FileNode) *TreeNode {
	return treeNode(b.entry("hello", KindFile, hello))
}

func TestMaterialiseOverWhatIsThere(t *testing.T) {
	b := build{t, &Memory{}}
	root, _ := b.node(hello2tree(b, fileNode(b.chunk("hello"))))
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Materialize(t.Context(), b.Memory, root.Cid, full, nil); err == nil {
		t.Error("a folder with something in it was replaced")
	}
	empty := filepath.Join(parent, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Materialize(t.Context(), b.Memory, root.Cid, empty, nil); err != nil {
		t.Error(err)
	}
	if err := Materialize(t.Context(), b.Memory, root.Cid, filepath.Join(parent, "no", "such"), nil); err == nil {
		t.Error("a folder in no folder")
	}
}

func TestOneFile(t *testing.T) {
	data := noise(1, 3<<20)
	dir, list := tree(t, map[string][]byte{"a.exr": data})
	store := &Memory{}
	res, err := SnapshotFile(t.Context(), store, list[0].Path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Bytes != int64(len(data)) || res.Files != 1 || len(allOf(t, store, res.Root)) != store.Len() {
		t.Errorf("%+v", res)
	}
	out := filepath.Join(dir, "out.exr")
	if err := os.WriteFile(out, []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := MaterializeFile(t.Context(), store, res.Root, out, MaxFileBytes); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, map[string][]byte{"a.exr": data, "out.exr": data})
	if err := MaterializeFile(t.Context(), store, res.Root, out, int64(len(data))-1); err == nil {
		t.Error("a file over its bound was written")
	}
	same, err := SnapshotReader(t.Context(), store, strings.NewReader(string(data)), Options{})
	if err != nil || same.Root != res.Root || same.NewBlocks != 0 {
		t.Errorf("from a reader: %s, %d new, %v", same.Root, same.NewBlocks, err)
	}

	// A failure leaves the older file.
	bad := &Faulty{Store: store, Drop: func(id cid.Cid) bool { return id.Type() == cid.Raw }}
	if err := MaterializeFile(t.Context(), bad, res.Root, out, MaxFileBytes); !errors.Is(err, ErrNotFound) {
		t.Errorf("dropped blocks: %v", err)
	}
	wantTree(t, dir, map[string][]byte{"a.exr": data, "out.exr": data})
	if _, err := SnapshotFile(t.Context(), store, dir, Options{}); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a folder: %v", err)
	}
}

func TestMaterialiseThroughTrouble(t *testing.T) {
	files := map[string][]byte{}
	for i := range 30 {
		files[fmt.Sprintf("%02d", i)] = noise(uint64(i), 300_000)
	}
	_, list := tree(t, files)
	far := &Memory{}
	res, err := Snapshot(t.Context(), far, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	materialise := func(remote, local Store) (error, string) {
		dir := filepath.Join(t.TempDir(), "in")
		return Materialize(t.Context(), &Tiered{Local: local, Remote: remote, Owner: "job"}, res.Root, dir, nil), dir
	}
	t.Run("corrupt", func(t *testing.T) {
		var n atomic.Int64
		bad := &Faulty{Store: far, Corrupt: func(id cid.Cid) bool { return n.Add(1) == 40 }}
		err, dir := materialise(bad, &Memory{})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("a corrupted block: %v", err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("an incomplete folder is there")
		}
	})
	t.Run("full", func(t *testing.T) {
		err, _ := materialise(far, &Faulty{Store: &Memory{}, FullAfter: 5 << 20})
		if !errors.Is(err, ErrFull) {
			t.Errorf("a full disk: %v", err)
		}
	})
	t.Run("cut off and resumed", func(t *testing.T) {
		local := &Memory{}
		var n atomic.Int64
		cut := &Counting{Store: &Faulty{Store: far, Drop: func(cid.Cid) bool { return n.Add(1) > 100 }}}
		if err, _ := materialise(cut, local); !errors.Is(err, ErrNotFound) {
			t.Fatalf("cut off: %v", err)
		}
		_, first := cut.Fetched()
		rest := &Counting{Store: far}
		err, dir := materialise(rest, local)
		if err != nil {
			t.Fatal(err)
		}
		wantTree(t, dir, files)
		_, second := rest.Fetched()
		var all int64
		for _, id := range allOf(t, far, res.Root) {
			b, _ := Get(t.Context(), far, id)
			all += int64(len(b))
		}
		if first == 0 || first+second != all {
			t.Errorf("fetched %d and %d bytes of %d", first, second, all)
		}
		for _, id := range allOf(t, far, res.Root) {
			if ok, _ := local.Pinned(t.Context(), "job", id); !ok {
				t.Fatalf("%s is not pinned", id)
			}
		}
	})
	t.Run("damaged here", func(t *testing.T) {
		local := &Memory{}
		if err, _ := materialise(far, local); err != nil {
			t.Fatal(err)
		}
		var n atomic.Int64
		// Says it has them all and then cannot give some: Remote helps.
		flaky := &Faulty{Store: local, Drop: func(cid.Cid) bool { return n.Add(1)%7 == 0 }}
		err, dir := materialise(far, flaky)
		if err != nil {
			t.Fatal(err)
		}
		wantTree(t, dir, files)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dir := filepath.Join(t.TempDir(), "in")
		err := Materialize(ctx, far, res.Root, dir, func(done, total int64) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}
