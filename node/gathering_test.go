package node

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/p2p"
)

// sharePeer counts how its blocks are asked for.
type sharePeer struct {
	editsPeer
	gathered int
	err      error // of every Gather
}

func (p *sharePeer) Gather(ctx context.Context, r p2p.ShareRequest) iter.Seq2[p2p.BlockResult, error] {
	return func(yield func(p2p.BlockResult, error) bool) {
		if p.gathered++; p.err != nil {
			yield(p2p.BlockResult{}, p.err)
			return
		}
		p.editsPeer.Gather(ctx, r)(yield)
	}
}

func TestManyBlocksAreGathered(t *testing.T) {
	_, requester, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	_, worker, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	var there diffupload.Memory
	wants := make([]diffupload.Want, 2*shareFrom)
	for i := range wants {
		b := fmt.Appendf(nil, "block %d", i)
		wants[i].ID = diffupload.ChunkID(b)
		if err := there.Put(t.Context(), wants[i].ID, b); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		wants         []diffupload.Want
		holder        peer.ID
		err           error
		gathered, one int
	}{
		"many":              {wants, requester, nil, 1, 0},
		"few":               {wants[:shareFrom-1], requester, nil, 0, shareFrom - 1},
		"of an old version": {wants, requester, p2p.ErrNoShare, 1, 2 * shareFrom},
		"of a result":       {wants, worker, nil, 0, 2 * shareFrom},
	} {
		t.Run(name, func(t *testing.T) {
			p := &sharePeer{editsPeer: editsPeer{store: &there}, err: c.err}
			r := &remote{blocks: p, from: []peer.ID{c.holder}, requester: requester}
			got := map[cid.Cid]bool{}
			for b, err := range r.Fetch(t.Context(), c.wants) {
				if err != nil {
					t.Fatal(err)
				}
				got[b.ID] = true
			}
			one := p.blocks
			if c.gathered > 0 && c.err == nil {
				one -= len(c.wants) // the fake gathers by fetching
			}
			if len(got) != len(c.wants) || p.gathered != c.gathered || one != c.one {
				t.Errorf("%d blocks, %d gatherings, %d asked for one by one", len(got), p.gathered, one)
			}
		})
	}
}

// A content that is new is here before it is unpacked; one that links to more
// than this machine takes is given up before it is.
func TestNewContentIsGathered(t *testing.T) {
	_, requester, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	_, self, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	var there diffupload.Memory
	path := filepath.Join(t.TempDir(), "scene.bin")
	data := bytesOf(7, 20<<20)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := diffupload.Snapshot(t.Context(), &there, []diffupload.File{{Path: path, Name: "scene.bin"}}, diffupload.Options{Exact: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, limit := range map[string]int64{"all of it": 1 << 30, "too much": 10 << 20} {
		t.Run(name, func(t *testing.T) {
			p := &sharePeer{editsPeer: editsPeer{store: &there}}
			a := &assets{
				self: self, store: &diffupload.Memory{}, blocks: p, near: func() []peer.ID { return nil }, treeBytes: limit,
				earlier: &earlier{},
			}
			store, far := a.from(requester, "job", job.Signed{})
			f := &fetching{a: a, requester: requester, root: s.Root, store: store, far: far}
			if err := f.fetchTop(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			var last float64
			whole, err := f.whole(t.Context(), diffupload.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			err = f.gather(t.Context(), whole, limit, func(part float64) {
				if part < last || part > 1 {
					t.Errorf("progress went from %v to %v", last, part)
				}
				last = part
			})
			if limit < int64(len(data)) {
				if err == nil || !strings.Contains(err.Error(), "worker.tree_bytes") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || p.gathered != 1 || last < 0.99 {
				t.Errorf("%v, %d gatherings, progress %v", err, p.gathered, last)
			}
			all, err := diffupload.All(t.Context(), &there, s.Root)
			if err != nil {
				t.Fatal(err)
			}
			if missing, err := a.store.Missing(t.Context(), all); err != nil || len(missing) > 0 {
				t.Errorf("%d of %d blocks are missing: %v", len(missing), len(all), err)
			}
		})
	}
}

// Where there is no document of edits, large files of new names are gathered,
// and what was there before comes as what changed in its blocks.
func TestNewFilesAreGatheredWithoutEdits(t *testing.T) {
	f := newEditsFarm(t, filepath.Join(t.TempDir(), earlierFile))
	p := &sharePeer{editsPeer: editsPeer{store: f.peer.store, broken: func([]byte) ([]byte, error) { return nil, p2p.ErrNoEdits }}}
	f.assets.blocks = p
	scene := bytesOf(15, 1<<20)
	f.fetchAll(t, map[string][]byte{"scene.bin": scene})
	scene = bytes.Clone(scene)
	copy(scene[500_000:], "an edit")
	small := map[string][]byte{"scene.bin": scene, "small.tex": bytesOf(16, gatherFile-1)}
	f.fetchAll(t, small)
	if p.gathered != 0 || p.edits != 1 {
		t.Errorf("%d gatherings of few blocks, edits were asked for %d times", p.gathered, p.edits)
	}
	f.fetchAll(t, map[string][]byte{"scene.bin": scene, "small.tex": small["small.tex"], "large.tex": bytesOf(17, 12<<20)})
	if p.gathered != 1 || p.edits != 2 {
		t.Errorf("%d gatherings of a large file, edits were asked for %d times", p.gathered, p.edits)
	}
}

// What is new in a later version leaves the requester about once, however many
// workers have the version before, and they still get what was edited as edits.
func TestWhatIsNewInALaterVersionIsShared(t *testing.T) {
	const workers, size = 3, 12 << 20
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false; c.Limits.UpBytes = size })
	var at []*testNode
	for i := range workers {
		at = append(at, startNode(t, fmt.Sprint("worker", i), nil))
	}
	join(t, requester, at...)
	eventually(t, "all are connected", func() error {
		if n := len(requester.near()); n != workers {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	everyJob := func(job.ID, peer.ID) bool { return true }
	requester.host.ServeBlocks(requester.blocks, newGrants(requester.self, requester.blocks, everyJob), diffupload.Codec{}, requester.content.count)
	all := make([]*assets, workers)
	for i, w := range at {
		all[i] = &assets{self: w.self, store: w.blocks, blocks: w.host, near: w.near, earlier: &earlier{}}
	}
	// fetch has all workers fetch a version at the same time, and returns what
	// left the requester.
	fetch := func(files map[string][]byte) int64 {
		t.Helper()
		from, dir := t.TempDir(), t.TempDir()
		id := job.NewID(time.Now())
		var list []diffupload.File
		for name, data := range files {
			path := filepath.Join(from, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			list = append(list, diffupload.File{Path: path, Name: name})
		}
		s, err := diffupload.Snapshot(t.Context(), requester.blocks, list, diffupload.Options{Owner: ownContent(id)})
		if err != nil {
			t.Fatal(err)
		}
		before := requester.host.Stats().BlockBytesOut
		var run sync.WaitGroup
		for i, a := range all {
			grant, err := job.Sign(requester.key, job.ContextRead, job.ReadGrant{
				Version: 1, Job: id, Root: job.RefOf(s.Root), Reader: a.self.String(), Expires: time.Now().Add(time.Hour),
			})
			if err != nil {
				t.Fatal(err)
			}
			run.Go(func() {
				to := filepath.Join(dir, fmt.Sprint(i))
				var last float64
				progress := func(part float64) {
					if part < last || part > 1 {
						t.Errorf("progress went from %v to %v", last, part)
					}
					last = part
				}
				if _, err := a.Materialize(t.Context(), requester.self, job.Lease{Job: id, Read: grant}, job.RefOf(s.Root), to, nothingUnpacked, progress); err != nil {
					t.Errorf("worker %d: %v", i, err)
				}
				for name, data := range files {
					if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, data) {
						t.Errorf("worker %d: %s has %d bytes: %v", i, name, len(got), err)
					}
				}
			})
		}
		run.Wait()
		return requester.host.Stats().BlockBytesOut - before
	}
	files := map[string][]byte{"scene.bin": bytesOf(11, 1<<20), "color.tex": bytesOf(12, 1<<20)}
	fetch(files)
	edit := func(at int) {
		files["scene.bin"] = bytes.Clone(files["scene.bin"])
		copy(files["scene.bin"][at:], "an edit")
	}
	edit(400_000)
	if out := fetch(files); out > workers*2000 {
		t.Errorf("an edit: %d bytes left the requester", out)
	}
	const most = 2 * size // nobody is faster than the others
	edit(500_000)
	files["bump.tex"] = bytesOf(13, size)
	if out := fetch(files); out < size || out > most {
		t.Errorf("an edit and a new file of %d bytes: %d left the requester", size, out)
	}
	edit(600_000)
	files["scene.bin"] = append(files["scene.bin"], bytesOf(14, size)...)
	if out := fetch(files); out < size || out > most {
		t.Errorf("an edit and %d new bytes in the same file: %d left the requester", size, out)
	}
}

func TestNetworkSettingsAreChecked(t *testing.T) {
	for key, value := range map[string]string{"network.exchange": "ftp", "network.metered": "perhaps", "limits.up_bytes_per_s": "-1"} {
		if _, _, err := LoadConfig("", map[string]string{"data_dir": t.TempDir(), key: value}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s = %s: %v", key, value, err)
		}
	}
	c, _, err := LoadConfig("", map[string]string{"data_dir": t.TempDir(), "network.exchange": "bitswap"})
	if err != nil || c.Network.exchange() != p2p.ExchangeBitswap || DefaultConfig().Network.exchange() != p2p.ExchangeOurs {
		t.Errorf("%v, %v", err, c.Network)
	}
}
