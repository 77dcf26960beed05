package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/p2p"
	"idlewild/render/echo"
)

// A second submission of an edited file costs what was edited, over a real
// network and also after the worker was restarted.
func TestEditedContentCostsItsEditsOverTheNetwork(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)
	in := filepath.Join(t.TempDir(), "input.bin")
	content := bytesOf(1, 3_000_000)
	submit := func(text string) job.Status {
		t.Helper()
		if err := os.WriteFile(in, content, 0o600); err != nil {
			t.Fatal(err)
		}
		spec := echoSpec(t, t.TempDir(), echo.Params{Count: 1, Text: text})
		spec.Input = in
		id, err := requester.client.Submit(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		s := requester.finish(t, id)
		if s.State != job.StateFinished {
			t.Fatalf("%+v", s)
		}
		return s
	}
	if s := submit("first"); s.UploadedBytes < 3_000_000 {
		t.Errorf("first: %d bytes were sent", s.UploadedBytes)
	}
	copy(content[1_500_000:], "an edit in the middle")
	if s := submit("edited"); s.UploadedBytes > 2_000 {
		t.Errorf("edited: %d bytes were sent", s.UploadedBytes)
	}
	worker.end(t)
	worker = runNode(t, worker.cfg)
	copy(content[700_000:], "another edit")
	if s := submit("edited again"); s.UploadedBytes > 2_000 {
		t.Errorf("edited after a restart: %d bytes were sent", s.UploadedBytes)
	}
}

func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

// editsPeer is a peer that holds a store's blocks, and may have no edits or bad
// ones.
type editsPeer struct {
	store  *diffupload.Memory
	broken func(doc []byte) ([]byte, error)
	edits  int // times that were asked for
	blocks int // that were asked for
}

func (p *editsPeer) FetchFrom(ctx context.Context, _ peer.ID, r p2p.BlockRequest) iter.Seq2[p2p.BlockResult, error] {
	return func(yield func(p2p.BlockResult, error) bool) {
		for _, w := range r.Wants {
			p.blocks++
			data, err := p.store.Get(ctx, w.ID)
			if !yield(p2p.BlockResult{ID: w.ID, Data: data, Moved: int64(len(data)), Err: err}, nil) {
				return
			}
		}
	}
}

func (p *editsPeer) Gather(ctx context.Context, r p2p.ShareRequest) iter.Seq2[p2p.BlockResult, error] {
	return p.FetchFrom(ctx, r.Requester, r.BlockRequest)
}

func (p *editsPeer) EditsFrom(ctx context.Context, _ peer.ID, r p2p.EditsRequest) ([]byte, int64, error) {
	p.edits++
	doc, err := diffupload.Edits(ctx, p.store, r.Have, r.Want)
	if err == nil && p.broken != nil {
		doc, err = p.broken(doc)
	}
	return doc, int64(len(doc)), err
}

func nothingUnpacked(job.Ref) (string, time.Time, func()) { return "", time.Time{}, nil }

// editsFarm is a worker's assets in front of one requester.
type editsFarm struct {
	assets    *assets
	peer      *editsPeer
	key       crypto.PrivKey
	requester peer.ID
	asked     int // for an unpacked folder
}

func newEditsFarm(t *testing.T, path string) *editsFarm {
	t.Helper()
	key, requester, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	_, self, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	e, err := loadEarlier(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &editsPeer{store: &diffupload.Memory{}}
	return &editsFarm{key: key, requester: requester, peer: p, assets: &assets{
		self: self, store: &diffupload.Memory{}, blocks: p, earlier: e,
		near: func() []peer.ID { return []peer.ID{requester} },
	}}
}

// fetch has the requester store a file and the worker fetch it, and returns
// what moved.
func (f *editsFarm) fetch(t *testing.T, name string, content []byte) int64 {
	t.Helper()
	return f.fetchAll(t, map[string][]byte{name: content})
}

// fetchAll is fetch for several files.
func (f *editsFarm) fetchAll(t *testing.T, files map[string][]byte) int64 {
	t.Helper()
	from := t.TempDir()
	var list []diffupload.File
	for name, content := range files {
		path := filepath.Join(from, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		list = append(list, diffupload.File{Path: path, Name: name})
	}
	r, err := diffupload.Snapshot(t.Context(), f.peer.store, list, diffupload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := job.NewID(time.Now())
	grant, err := job.Sign(f.key, job.ContextRead, job.ReadGrant{
		Version: 1, Job: id, Root: job.RefOf(r.Root), Reader: f.assets.self.String(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "in")
	unpacked := func(job.Ref) (string, time.Time, func()) {
		f.asked++
		return "", time.Time{}, nil
	}
	c, err := f.assets.Materialize(t.Context(), f.requester, job.Lease{Job: id, Read: grant}, job.RefOf(r.Root), dir, unpacked, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(content) {
			t.Fatalf("%s: %d bytes, want %d: %v", name, len(got), len(content), err)
		}
	}
	return c.Moved
}

func TestContentIsMadeOutOfWhatCameBefore(t *testing.T) {
	content := bytesOf(2, 1_000_000)
	edited := append([]byte(nil), content...)
	copy(edited[400_000:], "edited")
	for _, c := range []struct {
		name   string
		broken func([]byte) ([]byte, error)
		most   int64
	}{
		{"edits", nil, 300},
		{"no edits", func([]byte) ([]byte, error) { return nil, p2p.ErrNoEdits }, 400_000},
		{"edits of something else", func(d []byte) ([]byte, error) { return append(d, 1, 2, 3), nil }, 400_000},
		{"no document at all", func([]byte) ([]byte, error) { return []byte("hello"), nil }, 400_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newEditsFarm(t, filepath.Join(t.TempDir(), earlierFile))
			if moved := f.fetch(t, "scene.bin", content); moved < 1_000_000 {
				t.Errorf("first: %d bytes moved", moved)
			}
			f.peer.broken = c.broken
			if moved := f.fetch(t, "scene.bin", edited); moved > c.most {
				t.Errorf("edited: %d bytes moved, want at most %d", moved, c.most)
			}
			if f.peer.edits != 1 {
				t.Errorf("edits were asked for %d times", f.peer.edits)
			}
			f.peer.broken = nil
			asked := f.peer.edits
			if moved := f.fetch(t, "scene.bin", edited); moved > 100 || f.peer.edits != asked {
				t.Errorf("the same again: %d bytes moved, edits asked for %d times", moved, f.peer.edits-asked)
			}
		})
	}
}

// What an artist works on by turns is all remembered, also by the next process.
func TestEarlierContentsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), earlierFile)
	f := newEditsFarm(t, path)
	one, two := bytesOf(3, 300_000), bytesOf(4, 400_000)
	f.fetch(t, "one.bin", one)
	f.fetch(t, "two.bin", two)
	var err error
	if f.assets.earlier, err = loadEarlier(path); err != nil {
		t.Fatal(err)
	}
	copy(one[100:], "edited")
	if moved := f.fetch(t, "one.bin", one); moved > 300 {
		t.Errorf("%d bytes moved", moved)
	}
	if moved := f.fetch(t, "one, saved as.bin", one); moved > 300 {
		t.Errorf("under another name: %d bytes moved", moved)
	}
	for what, text := range map[string]string{
		"no JSON":         "what?",
		"another version": `{"version": 2}`,
		"too much":        string(make([]byte, maxEarlierBytes+1)),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := loadEarlier(path)
		if err == nil || e == nil || len(e.list(f.requester, cid.Undef)) != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEarlierContentsAreBounded(t *testing.T) {
	e := &earlier{}
	_, p, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * earlierPerRequester {
		if err := e.add(p, earlierContent{Root: job.RefOf(diffupload.NodeID(fmt.Append(nil, i)))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.list(p, cid.Undef)); n != earlierPerRequester {
		t.Errorf("%d of one peer", n)
	}
	for range earlierRequesters + 5 {
		_, q, err := newPeer()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.add(q, earlierContent{Root: job.RefOf(diffupload.NodeID(nil))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.of); n != earlierRequesters {
		t.Errorf("%d peers", n)
	}
	if len(e.list(p, cid.Undef)) != 0 {
		t.Error("the one that was longest ago is kept")
	}
	if err := (*earlier)(nil).add(p, earlierContent{}); err != nil {
		t.Error(errors.New("who remembers nothing fails"))
	}
}

func TestNearestEarlierContent(t *testing.T) {
	top := func(size int64, files ...string) *diffupload.TreeNode {
		n := &diffupload.TreeNode{Size: size}
		for i := 0; i < len(files); i += 2 {
			n.Entries = append(n.Entries, diffupload.Entry{Name: files[i], CID: diffupload.Ref{Cid: diffupload.NodeID([]byte(files[i+1]))}})
		}
		return n
	}
	fresh := top(1000, "a.blend", "2", "tex", "t")
	for _, c := range []struct {
		name string
		of   []*diffupload.TreeNode
		want int
	}{
		{"none", nil, -1},
		{"gone", []*diffupload.TreeNode{nil, nil}, -1},
		{"the one with its names", []*diffupload.TreeNode{top(1000, "b.blend", "1"), top(500, "a.blend", "1", "tex", "t")}, 1},
		{"the one with the same in it", []*diffupload.TreeNode{top(1000, "a.blend", "1", "tex", "x"), top(10, "a.blend", "1", "tex", "t")}, 1},
		{"the one nearest in size", []*diffupload.TreeNode{top(10, "a.blend", "1"), top(900, "a.blend", "0")}, 1},
		{"the newest", []*diffupload.TreeNode{top(900, "a.blend", "1"), top(900, "a.blend", "0")}, 0},
		{"saved under a new name", []*diffupload.TreeNode{nil, top(990, "b.blend", "1")}, 1},
		{"nothing like it", []*diffupload.TreeNode{top(10, "b.blend", "1")}, -1},
	} {
		if got := nearest(fresh, c.of); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Where tasks could write to what they are given, no two folders share a file.
func TestFoldersShareFilesOnlyInASandbox(t *testing.T) {
	for _, apart := range []bool{false, true} {
		f := newEditsFarm(t, filepath.Join(t.TempDir(), earlierFile))
		f.assets.apart = apart
		f.fetch(t, "scene.bin", bytesOf(2, 100_000))
		f.asked = 0
		f.fetch(t, "scene.bin", bytesOf(3, 100_000))
		if (f.asked == 0) != apart {
			t.Errorf("apart %v: asked %d times for an unpacked folder", apart, f.asked)
		}
	}
}
