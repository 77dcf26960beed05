package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node/worker"
	"idlewild/p2p"
)

// assets is the worker's side of the store: worker.Assets.
type assets struct {
	self    peer.ID
	store   blockStore
	blocks  p2p.Blocks       // nil where there is no network
	members func() []peer.ID // all that are known, this machine left out
	near    func() []peer.ID // those that are connected: they may hold a job's content too
	// stranger says of a requester that it is no member; nil: none is.
	stranger func(peer.ID) bool
	// treeBytes bounds one job's unpacked content; 0: defaultTreeBytes.
	treeBytes int64
	earlier   *earlier     // what was fetched; nil: nothing is remembered
	disks     *disks       // that other machines have too; nil: none
	apart     bool         // unpacked folders share no files: tasks could write to them
	log       *slog.Logger // nil: nothing is logged
}

var _ worker.Assets = (*assets)(nil)

// from is our store in front of those who may have a job's content.
func (a *assets) from(requester peer.ID, id job.ID, grant job.Signed) (diffupload.Store, *remote) {
	r := &remote{blocks: a.blocks, requester: requester, job: id, grant: grant}
	if requester == a.self || a.blocks == nil {
		return a.store, r // the content is here already
	}
	r.from = append([]peer.ID{requester}, a.near()...)
	return &diffupload.Tiered{Local: a.store, Remote: r, Owner: input(requester, id)}, r
}

// Materialize implements worker.Assets. What came of this requester before
// serves as base: a scene that was edited costs what was edited. What lies on a
// disk that is here too is not fetched.
func (a *assets) Materialize(ctx context.Context, requester peer.ID, l job.Lease, in job.Ref, dir string, unpacked worker.Unpacked, progress func(float64)) (c worker.Content, err error) {
	store, r := a.from(requester, l.Job, l.Read)
	defer func() { c.Moved = r.moved.Load() }()
	f := &fetching{a: a, requester: requester, lease: l, root: in.Cid, store: store, far: r}
	known := a.known(requester, l, in)
	if err := f.fetchTop(ctx, known); err != nil {
		return c, err
	}
	lacking := f.lacks(ctx)
	wants := l.Wants(in)
	disk, err := a.disks.look(ctx, f, a.disksOf(requester, l, in), wants.Has, true)
	if err != nil {
		return c, err
	}
	defer disk.close()
	limits := diffupload.Limits{Bytes: a.limit() + disk.bytes}
	size := f.top.Size
	if !wants.All() {
		limits.Only = func(name string) bool { return wants.Has(name) || disk.inPlace[name] }
		if size, err = f.sizeOf(ctx, limits.Only); err != nil {
			return c, err
		}
	}
	if size-disk.bytes > a.limit() {
		return c, fmt.Errorf("the job's files have %d bytes, and this machine takes at most %d (worker.tree_bytes)", size-disk.bytes, a.limit())
	}
	earlier := diffupload.Earlier{Store: a.store}
	base, ok := f.base(ctx, known)
	if ok {
		earlier.Root = base.Root.Cid
		if !a.apart {
			if dir, since, release := unpacked(base.Root); dir != "" {
				defer release()
				earlier.Dir, earlier.Since, earlier.Without = dir, since, a.disks.without(dir)
			}
		}
	}
	var lacks lacked
	switch {
	case disk.any():
		// A document of edits would bring what is here.
		lacks, err = f.rest(ctx, earlier.Root, disk, limits)
	case ok:
		lacks, err = f.edit(ctx, base, lacking, limits)
	default:
		lacks, err = f.whole(ctx, limits)
	}
	if err != nil {
		return c, err
	}
	gathered := 0.0 // of the progress
	err = f.gather(ctx, lacks, a.limit(), func(part float64) {
		if gathered = gatherPart * part; progress != nil {
			progress(gathered)
		}
	})
	if err != nil {
		return c, err
	}
	err = diffupload.MaterializeFrom(ctx, f.store, earlier, disk.here(), in.Cid, dir, limits, func(done, total int64) {
		if progress != nil && total > 0 {
			progress(gathered + (1-gathered)*float64(done)/float64(total))
		}
	})
	if err != nil {
		return c, err
	}
	if len(r.from) > 0 && !l.Made(in) {
		a.remember(requester, in, l.Read)
	}
	a.disks.keep(dir, disk.shown)
	c.Elsewhere = len(disk.shown) > 0
	return c, nil
}

// known are earlier contents of which this one may be a version.
func (a *assets) known(requester peer.ID, l job.Lease, in job.Ref) []earlierContent {
	if l.Made(in) {
		return nil
	}
	return a.earlier.list(requester, in.Cid)
}

// disksOf names the list of a lease's files that may lie on a disk of this machine.
// Whoever is no member is shown nothing that lies here.
func (a *assets) disksOf(requester peer.ID, l job.Lease, in job.Ref) job.Ref {
	if l.Made(in) {
		return job.Ref{}
	}
	if a.stranger != nil && a.stranger(requester) {
		return job.Ref{}
	}
	return l.Disks
}

// Extend implements worker.Assets.
func (a *assets) Extend(ctx context.Context, requester peer.ID, l job.Lease, in job.Ref, dir string, room int64, progress func(float64)) (c worker.Content, err error) {
	store, r := a.from(requester, l.Job, l.Read)
	defer func() { c.Moved = r.moved.Load() }()
	f := &fetching{a: a, requester: requester, lease: l, root: in.Cid, store: store, far: r}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return c, err
	}
	defer to.Close()
	files, err := diffupload.List(ctx, store, in.Cid, diffupload.Limits{Only: l.Wants(in).Has})
	if err != nil {
		return c, err
	}
	var size int64
	lacking := map[string]bool{}
	files = slices.DeleteFunc(files, func(e diffupload.Entry) bool {
		// A file stands where it belongs once it is whole.
		if _, err := to.Lstat(filepath.FromSlash(e.Name)); err == nil {
			return true
		}
		size += e.Size
		lacking[e.Name] = true
		return false
	})
	if len(files) == 0 {
		return c, nil
	}
	if size > room {
		return c, fmt.Errorf("%w: %d bytes more, and %d are left (worker.tree_bytes)", worker.ErrNoRoom, size, room)
	}
	limits := diffupload.Limits{Only: func(name string) bool { return lacking[name] }}
	disk, err := a.disks.look(ctx, f, a.disksOf(requester, l, in), limits.Only, false)
	if err != nil {
		return c, err
	}
	defer disk.close()
	earlier := diffupload.Earlier{Store: a.store}
	if known := a.known(requester, l, in); len(known) > 0 {
		if err := f.fetchTop(ctx, known); err != nil {
			return c, err
		}
		if base, ok := f.base(ctx, known); ok {
			earlier.Root = base.Root.Cid
		}
	}
	if err := f.gather(ctx, f.files(ctx, slices.DeleteFunc(slices.Clone(files), func(e diffupload.Entry) bool { return disk.has(e.Name) })), a.limit(), func(part float64) {
		if progress != nil {
			progress(gatherPart * part)
		}
	}); err != nil {
		return c, err
	}
	// What a killed process leaves of it is no tree, and goes with the next start.
	aside := filepath.Join(filepath.Dir(dir), "more-"+rand.Text())
	defer os.RemoveAll(aside)
	if err := diffupload.MaterializeFrom(ctx, f.store, earlier, disk.here(), in.Cid, aside, limits, nil); err != nil {
		return c, err
	}
	for _, e := range files {
		name := filepath.FromSlash(e.Name)
		if err := to.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return c, err
		}
		if _, err := to.Lstat(name); err == nil {
			continue // another lease was faster
		}
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(dir, name)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Sound implements worker.Assets.
func (a *assets) Sound(dir string) error { return a.disks.sound(dir) }

func (a *assets) limit() int64 {
	if a.treeBytes == 0 {
		return defaultTreeBytes
	}
	return a.treeBytes
}

// maxOutputBytes bounds one result on either side: a small manifest can name a
// very large file. It is as much as a task may write (render.Options).
const maxOutputBytes = 8 << 30

var resultLimits = media.Limits{Samples: media.ResultSamples}

// alongside begins f; what it returns waits for the end.
func alongside(f func() ([]byte, error)) func() ([]byte, error) {
	var b []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		b, err = f()
	}()
	return func() ([]byte, error) { <-done; return b, err }
}

// bounded reports what no result may ask for.
func bounded(o job.Output) error {
	if o.Bytes < 0 || o.Bytes > maxOutputBytes {
		return fmt.Errorf("has %d bytes, at most %d are taken", o.Bytes, int64(maxOutputBytes))
	}
	return nil
}

// remember notes that a requester's content is here, with the grant for it.
func (a *assets) remember(requester peer.ID, root job.Ref, read job.Signed) {
	c := earlierContent{Root: root}
	if g, err := job.OpenReadGrant(read, requester, a.self, time.Time{}); err == nil && g.Root == root {
		c.Body, c.Sig = read.Body, read.Sig
	}
	if err := a.earlier.add(requester, c); err != nil {
		a.debug("contents not written down", "err", err)
	}
}

func (a *assets) debug(what string, attrs ...any) {
	if a.log != nil {
		a.log.Debug(what, attrs...)
	}
}

// Prior implements worker.Assets.
func (a *assets) Prior(ctx context.Context, requester peer.ID, l job.Lease, p job.Prior, dir string) error {
	store, _ := a.from(requester, l.Job, l.Read)
	total := int64(0)
	for _, o := range p.Outputs {
		if err := bounded(o); err != nil {
			return fmt.Errorf("result %s of an earlier task: %w", o.Name, err)
		}
		if total += o.Bytes; total > a.limit() {
			return fmt.Errorf("results of an earlier task have more than the %d bytes that this machine takes (worker.tree_bytes)", a.limit())
		}
	}
	for _, o := range p.Outputs {
		if o.Media == job.MediaTree {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(o.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := diffupload.MaterializeFile(ctx, store, o.File.Cid, path, o.Bytes); err != nil {
			return fmt.Errorf("result %s of an earlier task: %w", o.Name, err)
		}
	}
	return nil
}

// inlineFile is up to which size an output rides along in the report.
const inlineFile = 32 << 10

// Collect implements worker.Assets.
func (a *assets) Collect(ctx context.Context, requester peer.ID, id job.ID, dir string, rules []job.OutputRule) ([]job.Output, []job.Block, error) {
	var outs []job.Output
	var inline []job.Block
	sent := 0
	for _, rule := range rules {
		path := filepath.Join(dir, filepath.FromSlash(rule.Name))
		if rule.Media == job.MediaTree {
			o, err := a.collectTree(ctx, path, rule, output(requester, id))
			if err != nil {
				return nil, nil, fmt.Errorf("output %s: %w", rule.Name, err)
			}
			outs = append(outs, o)
			continue
		}
		// Storing waits for the disk, hashing pixels for the processor.
		pixels := func() ([]byte, error) { return nil, nil }
		if rule.Media == job.MediaEXR || rule.Media == job.MediaPNG {
			pixels = alongside(func() ([]byte, error) {
				root, err := media.PixelRoot(path, resultLimits)
				return root[:], err
			})
		}
		r, err := diffupload.SnapshotFile(ctx, a.store, path, diffupload.Options{Exact: true, Owner: output(requester, id)})
		root, noImage := pixels()
		if err != nil {
			return nil, nil, fmt.Errorf("output %s: %w", rule.Name, err)
		}
		if noImage != nil {
			return nil, nil, fmt.Errorf("output %s is no readable image: %w", rule.Name, noImage)
		}
		o := job.Output{Name: rule.Name, Media: rule.Media, File: job.RefOf(r.Root), Bytes: r.Bytes, Pixels: root}
		outs = append(outs, o)
		if requester == a.self || r.Bytes > inlineFile || sent+int(r.Bytes) > inlineFile {
			continue
		}
		blocks, err := diffupload.All(ctx, a.store, r.Root)
		if err != nil {
			return nil, nil, fmt.Errorf("output %s: %w", rule.Name, err)
		}
		for _, c := range blocks {
			b, err := diffupload.Get(ctx, a.store, c)
			if err != nil {
				return nil, nil, fmt.Errorf("output %s: %w", rule.Name, err)
			}
			inline = append(inline, job.Block{CID: job.RefOf(c), Data: b})
			sent += len(b)
		}
	}
	return outs, inline, nil
}

// collectTree stores a folder that a task left.
func (a *assets) collectTree(ctx context.Context, dir string, rule job.OutputRule, owner string) (job.Output, error) {
	files, leftOut, err := filesBelow(dir)
	if err == nil && len(leftOut) > 0 {
		err = errors.New(leftOut[0])
	}
	if err != nil {
		return job.Output{}, err
	}
	r, err := diffupload.Snapshot(ctx, a.store, files, diffupload.Options{Exact: true, Owner: owner})
	if err != nil {
		return job.Output{}, err
	}
	return job.Output{Name: rule.Name, Media: rule.Media, File: job.RefOf(r.Root), Bytes: r.Bytes}, nil
}

// Log implements worker.Assets.
func (a *assets) Log(ctx context.Context, requester peer.ID, id job.ID, text []byte) (job.Ref, error) {
	r, err := diffupload.SnapshotReader(ctx, a.store, bytes.NewReader(text), diffupload.Options{Exact: true, Owner: output(requester, id)})
	if err != nil {
		return job.Ref{}, fmt.Errorf("store the log: %w", err)
	}
	return job.RefOf(r.Root), nil
}

// Release implements worker.Assets. A job's name says nothing of its requester,
// and only pins under both are safe from a member that borrows another's name
// for a job, so every member that could be it is tried.
func (a *assets) Release(ctx context.Context, id job.ID) error {
	for _, requester := range append(a.members(), a.self) {
		if err := a.store.Unpin(ctx, input(requester, id)); err != nil {
			return err
		}
		if err := a.store.Unpin(ctx, output(requester, id)); err != nil {
			return err
		}
	}
	return nil
}

// readFile returns the bytes of a stored file, at most max of them.
func readFile(ctx context.Context, store diffupload.Store, id cid.Cid, max int64) ([]byte, error) {
	if !id.Defined() {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "idlewild-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "file")
	if err := diffupload.MaterializeFile(ctx, store, id, path, max); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
