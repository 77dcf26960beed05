package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/worker"
)

// readsLease is a lease of tasks that read some of the files t_1.bin to
// t_<count>.bin.
func readsLease(id job.ID, read job.Signed, root job.Ref, count int, own ...[2]int) job.Lease {
	l := job.Lease{Job: id, Read: read}
	for _, o := range own {
		l.Tasks = append(l.Tasks, job.Granted{Task: job.Task{
			Kind: "x", Input: root, Reads: []job.Reads{{Head: "seq/t_", Tail: ".bin", Of: [][2]int{{1, count}}, Own: [][2]int{o}}},
		}})
	}
	return l
}

// filesIn are the files below a folder, with slashes.
func filesIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLeasesFetchWhatTheirTasksRead(t *testing.T) {
	const count, size = 12, 200_000
	f := newEditsFarm(t, "")
	src := t.TempDir()
	var files []diffupload.File
	add := func(name string, b []byte) {
		t.Helper()
		path := filepath.Join(src, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, diffupload.File{Path: path, Name: name})
	}
	add("scene.bin", bytesOf(99, 50_000))
	add("seq/note.txt", []byte("read by all"))
	for i := 1; i <= count; i++ {
		add(fmt.Sprintf("seq/t_%d.bin", i), bytesOf(uint64(i), size))
	}
	snap, err := diffupload.Snapshot(t.Context(), f.peer.store, files, diffupload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, id := job.RefOf(snap.Root), job.NewID(time.Now())
	grant, err := job.Sign(f.key, job.ContextRead, job.ReadGrant{
		Version: 1, Job: id, Root: root, Reader: f.assets.self.String(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	c, err := f.assets.Materialize(t.Context(), f.requester, readsLease(id, grant, root, count, [2]int{1, 2}, [2]int{2, 3}), root, dir, nothingUnpacked, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"scene.bin", "seq/note.txt", "seq/t_1.bin", "seq/t_2.bin", "seq/t_3.bin"}
	if got := filesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("the first lease has %v", got)
	}
	if c.Moved < 3*size || c.Moved > 3*size+100_000 {
		t.Errorf("%d bytes came for three files of %d", c.Moved, size)
	}

	// The second lease adds what is new in it, and touches nothing else.
	before, err := os.Stat(filepath.Join(dir, "seq", "t_3.bin"))
	if err != nil {
		t.Fatal(err)
	}
	second := readsLease(id, grant, root, count, [2]int{3, 5})
	if _, err := f.assets.Extend(t.Context(), f.requester, second, root, dir, size, nil); !errors.Is(err, worker.ErrNoRoom) {
		t.Errorf("without room: %v", err)
	}
	if c, err = f.assets.Extend(t.Context(), f.requester, second, root, dir, 3*size, nil); err != nil {
		t.Fatal(err)
	}
	want = append(want, "seq/t_4.bin", "seq/t_5.bin")
	if got := filesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("the second lease has %v", got)
	}
	if c.Moved < 2*size || c.Moved > 2*size+20_000 {
		t.Errorf("%d bytes came for two files of %d", c.Moved, size)
	}
	if after, err := os.Stat(filepath.Join(dir, "seq", "t_3.bin")); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that was there was made anew: %v", err)
	}
	asked := f.peer.blocks
	if _, err := f.assets.Extend(t.Context(), f.requester, second, root, dir, 0, nil); err != nil || f.peer.blocks != asked {
		t.Errorf("the same again: %v, %d blocks", err, f.peer.blocks-asked)
	}

	// One that is cut off leaves whole files only, and is taken up again.
	losesFile(t, f.peer.store, root, "seq/t_9.bin")
	third := readsLease(id, grant, root, count, [2]int{8, 9})
	if _, err := f.assets.Extend(t.Context(), f.requester, third, root, dir, 10*size, nil); err == nil {
		t.Fatal("a file came that nobody has")
	}
	if got := filesIn(t, filepath.Dir(dir)); slices.ContainsFunc(got, func(n string) bool { return !strings.HasPrefix(n, "tree/") || strings.Contains(n, "t_9") }) {
		t.Errorf("left of it: %v", got)
	}
	if _, err := diffupload.Snapshot(t.Context(), f.peer.store, files, diffupload.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.assets.Extend(t.Context(), f.requester, third, root, dir, 10*size, nil); err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		at := filepath.Join(dir, filepath.FromSlash(file.Name))
		got, err := os.ReadFile(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if want, _ := os.ReadFile(file.Path); err != nil || string(got) != string(want) {
			t.Errorf("file %d, %s, is another: %v", i, file.Name, err)
		}
	}
	// A task that says nothing of what it reads gets everything.
	if _, err := f.assets.Extend(t.Context(), f.requester, job.Lease{Job: id, Read: grant, Tasks: []job.Granted{{Task: job.Task{Input: root}}}}, root, dir, 20*size, nil); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, dir); len(got) != len(files) {
		t.Errorf("%d of %d files", len(got), len(files))
	}
}

// A folder that a task left goes to the requester as blocks, and from there each
// worker fetches of it what its own tasks read.
func TestAFolderThatATaskLeft(t *testing.T) {
	const size = 100_000
	f := newEditsFarm(t, "")
	out, id := t.TempDir(), job.NewID(time.Now())
	for _, name := range []string{"file.blend", "frames/2/blendcache/a_000002_00.bphys", "frames/3/blendcache/a_000003_00.bphys", "frames/4/cache/0/data/d_0004.vdb"} {
		path := filepath.Join(out, "bake", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytesOf(uint64(len(name)+int(name[7])), size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(out, "other.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The one that bakes.
	_, baker, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	bakers := &diffupload.Memory{}
	rules := []job.OutputRule{{Name: "bake", Media: job.MediaTree}, {Name: "other.txt", Media: job.MediaFile}}
	outputs, inline, err := (&assets{self: baker, store: bakers}).Collect(t.Context(), f.requester, id, out, rules)
	if err != nil || len(outputs) != 2 || outputs[0].Bytes != 4*size || outputs[0].Media != job.MediaTree {
		t.Fatalf("collected %+v: %v", outputs, err)
	}
	if err := os.Symlink("/etc", filepath.Join(out, "bake", "folder")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&assets{self: baker, store: bakers}).Collect(t.Context(), f.requester, id, out, rules); err == nil {
		t.Error("a link to a folder is collected")
	}

	// The requester.
	requester := &content{self: f.requester, store: f.peer.store, blocks: &editsPeer{store: bakers}, served: map[job.ID]int64{}}
	take := func(change func(*job.Output)) error {
		x := dispatch.Returned{Worker: baker, Job: id, Leaf: job.Leaf{Outputs: slices.Clone(outputs)}, Inline: inline, Keep: true}
		if change != nil {
			change(&x.Leaf.Outputs[0])
		}
		to := t.TempDir()
		_, err := requester.Fetch(t.Context(), x, to)
		if _, gone := os.Stat(filepath.Join(to, "bake")); gone == nil {
			t.Error("its files are written, which nobody here reads")
		}
		return err
	}
	for name, change := range map[string]func(*job.Output){
		"another size": func(o *job.Output) { o.Bytes++ },
		"too small":    func(o *job.Output) { o.Bytes = size },
		"too large":    func(o *job.Output) { o.Bytes = maxOutputBytes + 1 },
		"a file":       func(o *job.Output) { o.File = outputs[1].File },
	} {
		if err := take(change); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := take(nil); err != nil {
		t.Fatal(err)
	}
	ids, err := diffupload.All(t.Context(), f.peer.store, outputs[0].File.Cid)
	if err != nil {
		t.Fatal(err)
	}
	if missing, err := f.peer.store.Missing(t.Context(), ids); err != nil || len(missing) > 0 {
		t.Errorf("%d of %d blocks are not here: %v", len(missing), len(ids), err)
	}
	for _, b := range ids {
		if pinned, err := f.peer.store.Pinned(t.Context(), ownResults(id), b); err != nil || !pinned {
			t.Fatalf("block %s may be collected: %v", b, err)
		}
	}

	// Workers.
	lease := func(frames ...int) job.Lease {
		l := job.Lease{Job: id}
		for _, n := range frames {
			l.Tasks = append(l.Tasks, job.Granted{
				Task:  job.Task{Kind: "x", Reads: []job.Reads{{Head: job.Within("bake") + "frames/", Tail: "/", Of: [][2]int{{0, 9}}, Own: [][2]int{{n, n}}}}},
				Prior: []job.Prior{{Outputs: outputs}},
			})
		}
		return l
	}
	root, dir := outputs[0].File, filepath.Join(t.TempDir(), "tree")
	c, err := f.assets.Materialize(t.Context(), f.requester, lease(3), root, dir, nothingUnpacked, nil)
	if err != nil || c.Moved < 2*size || c.Moved > 2*size+20_000 {
		t.Errorf("%d bytes came for two files of %d: %v", c.Moved, size, err)
	}
	want := []string{"file.blend", "frames/3/blendcache/a_000003_00.bphys"}
	if got := filesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("the first lease has %v", got)
	}
	if _, err := f.assets.Extend(t.Context(), f.requester, lease(3, 4), root, dir, 2*size, nil); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, dir); !slices.Equal(got, append(want, "frames/4/cache/0/data/d_0004.vdb")) {
		t.Errorf("the second lease has %v", got)
	}
	if known := f.assets.earlier.list(f.requester, root.Cid); len(known) > 0 {
		t.Errorf("what a task left is taken for a version of the scene: %v", known)
	}
	prior := t.TempDir()
	if err := f.assets.Prior(t.Context(), f.requester, lease(3), job.Prior{Outputs: outputs}, prior); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, prior); !slices.Equal(got, []string{"other.txt"}) {
		t.Errorf("beside it: %v", got)
	}
}

// losesFile takes the last chunk of a file out of a store.
func losesFile(t *testing.T, store *diffupload.Memory, root job.Ref, name string) {
	t.Helper()
	files, err := diffupload.List(t.Context(), store, root.Cid, diffupload.Limits{Only: func(n string) bool { return n == name }})
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	var last cid.Cid
	for id, err := range diffupload.Walk(t.Context(), store, files[0].CID.Cid) {
		if err != nil {
			t.Fatal(err)
		}
		last = id
	}
	store.Delete(last)
}
