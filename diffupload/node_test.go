package diffupload

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func chunkLink(n int) Link {
	b := bytes.Repeat([]byte{byte(n)}, n)
	return Link{CID: Ref{ChunkID(b)}, Size: int64(n)}
}

func fileNode(links ...Link) *FileNode {
	n := &FileNode{V: 1, Type: "file", Links: links}
	if links == nil {
		n.Links = []Link{}
	}
	for _, l := range links {
		n.Size += l.Size
	}
	return n
}

func partNode(depth int, links ...Link) *PartNode {
	n := &PartNode{V: 1, Type: "part", Depth: depth, Links: links}
	for _, l := range links {
		n.Size += l.Size
	}
	return n
}

func treeNode(entries ...Entry) *TreeNode {
	n := &TreeNode{V: 1, Type: "tree", Entries: entries}
	if entries == nil {
		n.Entries = []Entry{}
	}
	for _, e := range entries {
		n.Size += e.Size
		if e.Kind == KindShard {
			n.Depth = max(n.Depth, 1)
		}
	}
	return n
}

func entryOf(t testing.TB, name string, n Node, kind EntryKind, size int64) Entry {
	t.Helper()
	b, err := EncodeNode(n)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Name: name, CID: Ref{b.ID}, Size: size, Kind: kind}
}

func sampleNodes(t testing.TB) []Node {
	f := fileNode(chunkLink(3), chunkLink(5))
	exec := fileNode(chunkLink(7))
	exec.Mode, exec.Encoding = 1, BlendOpen
	part := partNode(0, chunkLink(2), chunkLink(9))
	pb, err := EncodeNode(part)
	if err != nil {
		t.Fatal(err)
	}
	long := fileNode(Link{CID: Ref{pb.ID}, Size: part.Size})
	long.Depth = 1
	sub := treeNode(entryOf(t, "x.png", f, KindFile, f.Size))
	return []Node{
		treeNode(
			Entry{Name: "chunk", CID: chunkLink(3).CID, Size: 3, Kind: KindChunk},
			Entry{Name: "empty", Kind: KindInline},
			Entry{Name: "run", CID: chunkLink(4).CID, Size: 4, Kind: KindChunk, Mode: 1},
			Entry{Name: "small", Size: 2, Kind: KindInline, Mode: 1, Data: []byte("#!")},
		),
		fileNode(), f, exec, part, long, sub,
		treeNode(),
		treeNode(entryOf(t, "a", f, KindFile, f.Size), entryOf(t, "dir", sub, KindTree, sub.Size), entryOf(t, "日本", exec, KindFile, exec.Size)),
		treeNode(entryOf(t, "x.png", sub, KindShard, sub.Size)),
	}
}

func TestNodesRoundTrip(t *testing.T) {
	refs := cmp.Comparer(func(a, b Ref) bool { return a.Cid == b.Cid })
	for _, n := range sampleNodes(t) {
		b, err := EncodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeNode(b.Data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(n, got, refs); d != "" {
			t.Error(d)
		}
	}
}

// The format is what other programs read: it must not drift.
func TestNodeBytesAreFixed(t *testing.T) {
	b, err := EncodeNode(treeNode(entryOf(t, "a", fileNode(chunkLink(3)), KindFile, 3)))
	if err != nil {
		t.Fatal(err)
	}
	const want = "bafyreiaq4m3g32luorqqkwyewuf4zw7afi76s2wvm5m26vyq3frqnb4hxm"
	if b.ID.String() != want {
		t.Errorf("address of a known tree is %s, want %s: the format changed (%x)", b.ID, want, b.Data)
	}
}

func TestDecodeNodeRefuses(t *testing.T) {
	link := func(l Link) any {
		return map[string]any{"cid": l.CID, "size": l.Size}
	}
	file := func(change func(map[string]any)) []byte {
		l := chunkLink(3)
		m := map[string]any{"v": 1, "type": "file", "size": 3, "mode": 0, "encoding": "", "depth": 0, "links": []any{link(l)}}
		change(m)
		b, err := nodeEnc.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := DecodeNode(file(func(map[string]any) {})); err != nil {
		t.Fatal(err)
	}
	entry := func(name string, kind EntryKind) any {
		e := entryOf(t, name, fileNode(chunkLink(3)), kind, 3)
		return map[string]any{"name": e.Name, "cid": e.CID, "size": e.Size, "kind": string(e.Kind)}
	}
	tree := func(entries ...any) []byte {
		b, err := nodeEnc.Marshal(map[string]any{"v": 1, "type": "tree", "size": 3 * len(entries), "depth": 0, "entries": entries})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := DecodeNode(tree(entry("a", KindFile), entry("b", KindFile))); err != nil {
		t.Fatal(err)
	}
	many := make([]any, MaxLinks+1)
	for i := range many {
		many[i] = link(chunkLink(3))
	}
	long := string(bytes.Repeat([]byte("n"), 256))
	cases := map[string][]byte{
		"nothing":            nil,
		"no map":             {0x01},
		"trailing":           append(file(func(map[string]any) {}), 0),
		"version":            file(func(m map[string]any) { m["v"] = 2 }),
		"type":               file(func(m map[string]any) { m["type"] = "link" }),
		"unknown field":      file(func(m map[string]any) { m["x"] = 1 }),
		"missing field":      file(func(m map[string]any) { delete(m, "encoding") }),
		"no links":           file(func(m map[string]any) { m["links"] = nil; m["size"] = 0 }),
		"size off":           file(func(m map[string]any) { m["size"] = 4 }),
		"size negative":      file(func(m map[string]any) { m["size"] = -1 }),
		"size huge":          file(func(m map[string]any) { m["size"] = uint64(1) << 63 }),
		"mode":               file(func(m map[string]any) { m["mode"] = 0o4755 }),
		"encoding":           file(func(m map[string]any) { m["encoding"] = "zip" }),
		"depth without part": file(func(m map[string]any) { m["depth"] = 1 }),
		"deep":               file(func(m map[string]any) { m["depth"] = 100 }),
		"too many links":     file(func(m map[string]any) { m["links"] = many; m["size"] = 3 * len(many) }),
		"zero link":          file(func(m map[string]any) { m["links"] = []any{link(Link{CID: chunkLink(1).CID})}; m["size"] = 0 }),
		"huge chunk": file(func(m map[string]any) {
			m["links"] = []any{link(Link{CID: chunkLink(1).CID, Size: MaxBlockBytes + 1})}
			m["size"] = MaxBlockBytes + 1
		}),
		"link as bytes": file(func(m map[string]any) { m["links"] = []any{map[string]any{"cid": chunkLink(3).CID.Bytes(), "size": 3}} }),
		"other tag": file(func(m map[string]any) {
			m["links"] = []any{map[string]any{"cid": cbor.Tag{Number: 43, Content: []byte{0}}, "size": 3}}
		}),
		"unsorted":        tree(entry("b", KindFile), entry("a", KindFile)),
		"same name":       tree(entry("a", KindFile), entry("a", KindFile)),
		"dot dot":         tree(entry("..", KindFile)),
		"slash":           tree(entry("a/b", KindFile)),
		"backslash":       tree(entry(`a\b`, KindFile)),
		"drive":           tree(entry("c:", KindFile)),
		"NUL":             tree(entry("a\x00", KindFile)),
		"empty name":      tree(entry("", KindFile)),
		"long name":       tree(entry(long, KindFile)),
		"kind":            tree(entry("a", "symlink")),
		"shard at bottom": tree(entry("a", KindShard)),
		"chunk by a node": tree(entry("a", KindChunk)),
		"file by a chunk": tree(map[string]any{"name": "a", "cid": chunkLink(3).CID, "size": 3, "kind": "file"}),
		"empty chunk":     tree(map[string]any{"name": "a", "cid": chunkLink(3).CID, "size": 0, "kind": "chunk"}, entry("b", KindFile)),
		"mode of a chunk": tree(map[string]any{"name": "a", "cid": chunkLink(3).CID, "size": 3, "kind": "chunk", "mode": 2}),
		"mode said twice": tree(map[string]any{"name": "a", "cid": chunkLink(3).CID, "size": 3, "kind": "chunk", "mode": 0}),
		"mode of a file":  tree(map[string]any{"name": "a", "cid": NodeID(nil), "size": 3, "kind": "file", "mode": 1}),
		"file with data":  tree(map[string]any{"name": "a", "cid": Ref{NodeID(nil)}, "size": 3, "kind": "file", "data": []byte("abc")}),
		"no data":         tree(map[string]any{"name": "a", "size": 3, "kind": "inline"}),
		"empty data":      tree(map[string]any{"name": "a", "size": 0, "kind": "inline", "data": []byte{}}, entry("b", KindFile)),
		"data and cid":    tree(map[string]any{"name": "a", "cid": chunkLink(3).CID, "size": 3, "kind": "inline", "data": []byte("abc")}),
		"much data":       tree(map[string]any{"name": "a", "size": MaxInlineBytes + 1, "kind": "inline", "data": make([]byte, MaxInlineBytes+1)}),
		"data as text":    tree(map[string]any{"name": "a", "size": 3, "kind": "inline", "data": "abc"}),
		"too long":        make([]byte, MaxBlockBytes+1),
		// 1 encoded in two bytes.
		"longer integer": bytes.Replace(file(func(map[string]any) {}), []byte("av\x01"), []byte("av\x18\x01"), 1),
		"indefinite map": append(append([]byte{0xbf}, file(func(map[string]any) {})[1:]...), 0xff),
	}
	for name, b := range cases {
		if n, err := DecodeNode(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, n)
		}
	}
}

func TestSafeName(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "../a", "/a", "a/../b", "a//b", `a\b`, "c:x", "a\x00", "a/", "\xff", strings.Repeat("a/", 600), strings.Repeat("a", 256)} {
		if safeName(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, good := range []string{"a", "a/b", "ä b/0001.png", "..a", "a..", strings.Repeat("a", 255)} {
		if err := safeName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// What decodes has one encoding: nobody can make two manifests of one.
func FuzzDecodeNode(f *testing.F) {
	for _, n := range sampleNodes(f) {
		b, err := EncodeNode(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.Data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNode(b)
		if err != nil {
			return
		}
		again, err := EncodeNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Data, b) {
			t.Fatalf("%x decodes and encodes to %x", b, again.Data)
		}
	})
}
