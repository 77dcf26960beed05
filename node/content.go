package node

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/chunker"
	"idlewild/diffupload"
	"idlewild/internal/ondisk"
	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/p2p"
)

// blockStore is this machine's store, as the adapters need it.
type blockStore interface {
	diffupload.Store
	diffupload.Pinner
}

// content is the requester's side of the store: dispatch.Content and
// dispatch.Results.
type content struct {
	self   peer.ID
	store  blockStore
	blocks p2p.Blocks // nil where there is no network
	cache  *diffupload.StatCache
	farm   contentKeyer // nil where there is no network
	disks  *disks       // that workers may have too; nil: none

	mu     sync.Mutex
	served map[job.ID]int64
}

// contentKeyer is p2p.Membership.
type contentKeyer interface {
	ContentKey() ([32]byte, bool)
}

// cuts says how content of our jobs is cut: with the farm's key, where there
// is one.
func (c *content) cuts() chunker.Params {
	if c.farm != nil {
		if key, ok := c.farm.ContentKey(); ok {
			return chunker.Params{Key: key}
		}
	}
	return chunker.Params{}
}

// how is how content of our jobs is stored.
func (c *content) how() diffupload.Options {
	return diffupload.Options{Chunk: c.cuts(), Cache: c.cache}
}

var (
	_ dispatch.Content   = (*content)(nil)
	_ dispatch.Results   = (*content)(nil)
	_ dispatch.Adopter   = (*content)(nil)
	_ dispatch.Versioned = (*content)(nil)
)

// Snapshot implements dispatch.Content.
func (c *content) Snapshot(ctx context.Context, id job.ID, deps []job.Dep, exact bool) (dispatch.Snapshot, error) {
	r, err := diffupload.Snapshot(ctx, c.store, c.disks.files(deps), diffupload.Options{Exact: exact, Chunk: c.cuts(), Cache: c.cache, Owner: ownContent(id)})
	if err != nil {
		return dispatch.Snapshot{}, err
	}
	if c.cache != nil {
		if err := c.cache.Save(); err != nil {
			return dispatch.Snapshot{}, fmt.Errorf("remember what was read: %w", err)
		}
	}
	s := dispatch.Snapshot{Root: r.Root, Files: r.Files, Bytes: r.Bytes, NewBytes: r.NewBytes, NewBlocks: r.NewBlocks}
	s.Disks, err = c.onDisks(ctx, id, deps)
	return s, err
}

// onDisks stores the list of those files that lie on disks which workers may
// have too; undefined: none do.
func (c *content) onDisks(ctx context.Context, id job.ID, deps []job.Dep) (cid.Cid, error) {
	for list := c.disks.list(deps); len(list) > 0; list = list[:len(list)/2] {
		b, err := job.EncodeDiskFiles(list)
		if err != nil {
			return cid.Undef, err
		}
		if len(b) > job.MaxDiskListBytes {
			continue // the largest of them are first
		}
		r, err := diffupload.SnapshotReader(ctx, c.store, bytes.NewReader(b), diffupload.Options{Exact: true, Owner: ownContent(id)})
		return r.Root, err
	}
	return cid.Undef, nil
}

// Changed implements dispatch.Versioned.
func (c *content) Changed(ctx context.Context, was, now cid.Cid) ([]job.ChangedFile, error) {
	before, err := diffupload.List(ctx, c.store, was, diffupload.Limits{})
	if err != nil {
		return nil, err
	}
	after, err := diffupload.List(ctx, c.store, now, diffupload.Limits{})
	if err != nil {
		return nil, err
	}
	old := make(map[string]diffupload.Entry, len(before))
	for _, e := range before {
		old[e.Name] = e
	}
	var out []job.ChangedFile
	for _, e := range after {
		o, ok := old[e.Name]
		delete(old, e.Name)
		if !ok || !e.Same(o) {
			out = append(out, job.ChangedFile{Name: e.Name, Was: ok, Now: true})
		}
	}
	for name := range old {
		out = append(out, job.ChangedFile{Name: name, Was: true})
	}
	slices.SortFunc(out, func(a, b job.ChangedFile) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// FetchFile implements dispatch.Versioned.
func (c *content) FetchFile(ctx context.Context, root cid.Cid, name, path string) error {
	files, err := diffupload.List(ctx, c.store, root, diffupload.Limits{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(files, func(e diffupload.Entry) bool { return e.Name == name })
	if i < 0 {
		return fmt.Errorf("manifest %s has no file %s", root, name)
	}
	return diffupload.MaterializeEntry(ctx, c.store, files[i], path)
}

// keepSpecimens stores the programs' own files for good, and lets go of those of
// programs that are gone.
func keepSpecimens(ctx context.Context, store blockStore, paths []string) error {
	if err := store.Unpin(ctx, specimens); err != nil {
		return err
	}
	files := make([]diffupload.File, len(paths))
	for i, p := range paths {
		files[i] = diffupload.File{Path: p, Name: fmt.Sprintf("%d/specimen.blend", i)}
	}
	_, err := diffupload.Snapshot(ctx, store, files, diffupload.Options{Owner: specimens})
	return err
}

// count notes bytes that went to another peer; it is a p2p.Served.
func (c *content) count(id job.ID, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served[id] += int64(n)
}

// Served implements dispatch.Content.
func (c *content) Served(id job.ID) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served[id]
}

// Release implements dispatch.Content. Once begun it is done, also where the
// program ends meanwhile: it is short, and the dispatcher waits for it.
func (c *content) Release(ctx context.Context, id job.ID) error {
	ctx = context.WithoutCancel(ctx)
	if err := c.store.Unpin(ctx, ownContent(id)); err != nil {
		return err
	}
	return c.store.Unpin(ctx, ownResults(id))
}

// Fetch implements dispatch.Results.
func (c *content) Fetch(ctx context.Context, x dispatch.Returned, dir string) (int64, error) {
	for _, o := range x.Leaf.Outputs {
		if err := bounded(o); err != nil {
			return 0, fmt.Errorf("result %s of %s: %w", o.Name, x.Worker, err)
		}
	}
	x.Keep = x.Keep || x.Origin != ""
	moved, here, err := c.keep(ctx, x)
	if err != nil {
		return moved, err
	}
	store, r := c.from(x.Worker, x.Job)
	if x.Origin != "" && job.FenceLane(x.Leaf.Fence) == 0 {
		r.requester, r.grant = x.Origin, x.Delegation // its worker did it for the requester
	}
	if here != nil {
		store = inlineFirst{here, store}
	}
	for _, o := range x.Leaf.Outputs {
		if o.Media == job.MediaTree {
			if err := takeTree(ctx, store, o); err != nil {
				return moved + r.moved.Load(), fmt.Errorf("result %s of %s: %w", o.Name, x.Worker, err)
			}
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(o.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return moved, err
		}
		err := diffupload.MaterializeFile(ctx, store, o.File.Cid, path, o.Bytes)
		if err == nil {
			var fi fs.FileInfo
			if fi, err = os.Stat(path); err == nil && fi.Size() != o.Bytes {
				err = fmt.Errorf("has %d bytes where its receipt says %d", fi.Size(), o.Bytes)
			}
		}
		if err != nil {
			return moved + r.moved.Load(), fmt.Errorf("result %s of %s: %w", o.Name, x.Worker, err)
		}
		// The file's own folder is synced with it; those above are not.
		for d := filepath.Dir(filepath.Dir(path)); len(d) >= len(dir); d = filepath.Dir(d) {
			if err := ondisk.SyncDir(d); err != nil {
				return moved + r.moved.Load(), err
			}
		}
	}
	if x.Origin != "" {
		if err := c.ward(ctx, x); err != nil {
			return moved + r.moved.Load(), err
		}
	}
	return moved + r.moved.Load(), nil
}

// takeTree has store hold all blocks of a folder that a task left. Only tasks
// that come after it read its files, so none is written here.
func takeTree(ctx context.Context, store diffupload.Store, o job.Output) error {
	files, err := diffupload.List(ctx, store, o.File.Cid, diffupload.Limits{Bytes: o.Bytes})
	if err != nil {
		return err
	}
	left := o.Bytes
	for _, f := range files {
		left -= f.Size
	}
	if left != 0 {
		return fmt.Errorf("has %d bytes where its receipt says %d", o.Bytes-left, o.Bytes)
	}
	var wants []diffupload.Want
	chunks := o.Bytes // a manifest may link to more than its sizes add up to
	fetch := func() error {
		open := make(map[cid.Cid]bool, len(wants))
		for _, w := range wants {
			open[w.ID] = true
		}
		for b, err := range store.Fetch(ctx, wants) {
			switch {
			case err != nil && (!b.ID.Defined() || open[b.ID]):
				return err
			case err != nil || !open[b.ID]:
				continue
			}
			delete(open, b.ID)
			if chunks -= int64(len(b.Data)); chunks < 0 {
				return fmt.Errorf("its chunks have more than %d bytes", o.Bytes)
			}
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if len(open) > 0 {
			return diffupload.ErrNotFound
		}
		wants = wants[:0]
		return nil
	}
	for id, err := range diffupload.Blocks(ctx, store, o.File.Cid) {
		if err != nil {
			return err
		}
		if id.Type() != cid.Raw {
			continue // read already
		}
		if wants = append(wants, diffupload.Want{ID: id}); len(wants) == wardBatch {
			if err := fetch(); err != nil {
				return err
			}
		}
	}
	return fetch()
}

// keep checks the blocks that came with a report. They are stored, as one
// group, where later tasks will ask for them; otherwise they are only returned
// by their names.
func (c *content) keep(ctx context.Context, x dispatch.Returned) (moved int64, here map[cid.Cid][]byte, err error) {
	if len(x.Inline) == 0 {
		return 0, nil, nil
	}
	here = make(map[cid.Cid][]byte, len(x.Inline))
	var ids []cid.Cid
	var blocks []diffupload.Block
	for _, b := range x.Inline {
		if err := diffupload.VerifyBlock(b.CID.Cid, b.Data); err != nil {
			return moved, nil, fmt.Errorf("results of %s: %w", x.Worker, err)
		}
		here[b.CID.Cid] = b.Data
		ids, blocks = append(ids, b.CID.Cid), append(blocks, diffupload.Block{ID: b.CID.Cid, Data: b.Data})
		if x.Worker != c.self {
			moved += int64(len(b.Data))
		}
	}
	if !x.Keep {
		return moved, here, nil
	}
	if err := c.store.Pin(ctx, ownResults(x.Job), ids); err != nil {
		return moved, nil, err
	}
	return moved, here, diffupload.PutMany(ctx, c.store, blocks)
}

// inlineFirst takes blocks from a report before it asks the store behind it.
type inlineFirst struct {
	here map[cid.Cid][]byte
	diffupload.Store
}

func (s inlineFirst) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		var rest []diffupload.Want
		for _, w := range wants {
			b, ok := s.here[w.ID]
			if !ok {
				rest = append(rest, w)
			} else if !yield(diffupload.Block{ID: w.ID, Data: b}, nil) {
				return
			}
		}
		if len(rest) == 0 {
			return
		}
		for b, err := range s.Store.Fetch(ctx, rest) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// Adopt stores delivered files as outputs again; it makes content a
// dispatch.Adopter.
func (c *content) Adopt(ctx context.Context, id job.ID, t job.Task, files []string) ([]job.Output, error) {
	out := make([]job.Output, len(files))
	for i, path := range files {
		r, err := diffupload.SnapshotFile(ctx, c.store, path, diffupload.Options{Exact: true, Owner: ownResults(id)})
		if err != nil {
			return nil, fmt.Errorf("delivered file %s: %w", path, err)
		}
		o := job.Output{Name: t.Outputs[i].Name, Media: t.Outputs[i].Media, File: job.RefOf(r.Root), Bytes: r.Bytes}
		if err := bounded(o); err != nil {
			return nil, fmt.Errorf("delivered file %s: %w", path, err)
		}
		out[i] = o
	}
	return out, nil
}

// maxLogBytes bounds a log that a peer sends.
const maxLogBytes = 1 << 20

// Log returns the log that a leaf names; it makes content a
// dispatch.LogFetcher.
func (c *content) Log(ctx context.Context, worker peer.ID, id job.ID, leaf job.Leaf) ([]byte, error) {
	store, _ := c.from(worker, id)
	return readFile(ctx, store, leaf.Log.Cid, maxLogBytes)
}

// from is our store in front of a worker's.
func (c *content) from(worker peer.ID, id job.ID) (diffupload.Store, *remote) {
	r := &remote{blocks: c.blocks, from: []peer.ID{worker}, requester: c.self, job: id, urgent: true}
	if c.blocks == nil || worker == c.self {
		r.from = nil
	}
	return &diffupload.Tiered{Local: c.store, Remote: r, Owner: ownResults(id)}, r
}
