package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render"
)

// Which files of a disk are used, and how they are looked at.
const (
	leastOnDisk  = 256 << 10       // a smaller one is sent as fast as it is found
	leastInPlace = 1 << 20         // a smaller one is copied from the disk
	mostInPlace  = 1024            // of one content: a sandbox with so many takes three seconds to start
	diskDraws    = 32              // chunks of one file that are compared at the least
	diskReaders  = 4               // files that are compared at once
	diskLookers  = 16              // whose times are looked at
	timesAgree   = 2 * time.Second // protocols round them
)

// disks are the disks of paths.map. The requester's half says which files of a
// job lie on them; the worker's half finds these on its own. A nil one has none.
type disks struct {
	self  peer.ID
	maps  []DiskMap
	shows bool                                // tasks can be shown single files
	named func(list []string, p peer.ID) bool // whether a list of ids and names has a member
	cache *diffupload.StatCache               // of files that were compared wholly; nil: none
	log   *slog.Logger

	mu    sync.Mutex
	shown map[string][]shownFile // by the folder that shows them
	use   map[string]*diskUse    // by From
}

// shownFile is a file that a task is shown where it lies.
type shownFile struct {
	name  string // in the content
	disk  DiskMap
	rel   string // on the disk
	stamp diffupload.Stamp
}

// diskUse is what came of one disk since the start.
type diskUse struct {
	away    string // why it is not there; empty: it is
	files   int    // used where they lie, or copied from there
	bytes   int64
	differs int    // files that were not what a job said
	last    string // of them, and why
}

func newDisks(self peer.ID, cfg PathsConfig, shows bool, named func([]string, peer.ID) bool, cache *diffupload.StatCache, log *slog.Logger) *disks {
	if len(cfg.Map) == 0 {
		return nil
	}
	d := &disks{
		self: self, maps: slices.Clone(cfg.Map), shows: shows, named: named, cache: cache, log: log,
		shown: map[string][]shownFile{}, use: map[string]*diskUse{},
	}
	// The folder that is furthest in counts.
	slices.SortStableFunc(d.maps, func(a, b DiskMap) int { return len(b.From) - len(a.From) })
	for _, m := range d.maps {
		d.use[m.From] = &diskUse{}
	}
	return d
}

// files are the files of a job as they are to be stored: what lies on a disk has
// its own bytes, which can be compared with it.
func (d *disks) files(deps []job.Dep) []diffupload.File {
	out := make([]diffupload.File, len(deps))
	for i, x := range deps {
		_, on := d.at(x.Path)
		out[i] = diffupload.File{Path: x.Path, Name: x.Name, Exact: on}
	}
	return out
}

// at is the path of a file of this machine by the name of its disk.
func (d *disks) at(path string) (string, bool) {
	if d == nil || diffupload.IsBlendName(path) {
		return "", false
	}
	for _, p := range []string{path, resolved(path)} {
		best, from := "", ""
		for _, m := range d.maps {
			if rel, ok := under(m.here(), p); ok && (from == "" || len(rel) < len(best)) {
				best, from = rel, m.From
			}
		}
		if from != "" {
			name, _ := slashed(from)
			return name + "/" + best, true
		}
	}
	return "", false
}

// has reports whether a file of this machine lies on a disk.
func (d *disks) has(path string) bool {
	_, on := d.at(path)
	return on
}

// resolved is a path without links, as far as it can be read.
func resolved(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}

// list is what workers are told of a job's files: of none that lies elsewhere.
func (d *disks) list(deps []job.Dep) (out []job.DiskFile) {
	for _, x := range deps {
		at, on := d.at(x.Path)
		if !on {
			continue
		}
		fi, err := os.Stat(x.Path)
		if err != nil || fi.Size() < leastOnDisk {
			continue
		}
		out = append(out, job.DiskFile{Name: x.Name, At: at, Size: fi.Size(), Mod: fi.ModTime().UnixNano()})
	}
	slices.SortStableFunc(out, func(a, b job.DiskFile) int { return cmp.Compare(b.Size, a.Size) })
	return out[:min(len(out), job.MaxDiskFiles)]
}

// onDisk is what of a content is here on disks. The zero value is nothing.
type onDisk struct {
	inPlace map[string]bool // they are not written
	shown   []shownFile
	copied  map[string]shownFile // their chunks are read from there
	bytes   int64                // of those in place
	roots   map[string]*os.Root  // by From
}

func (h onDisk) close() {
	for _, r := range h.roots {
		r.Close()
	}
}

// has reports whether a file need not be fetched.
func (h onDisk) has(name string) bool {
	_, ok := h.copied[name]
	return ok || h.inPlace[name]
}

func (h onDisk) any() bool { return len(h.inPlace)+len(h.copied) > 0 }

// here is h as diffupload needs it.
func (h onDisk) here() diffupload.Here {
	return diffupload.Here{InPlace: h.inPlace, Open: func(name string) *os.File {
		c, ok := h.copied[name]
		if !ok {
			return nil
		}
		f, _, err := openOn(h.roots[c.disk.From], c.rel)
		if err != nil {
			return nil // then it is fetched
		}
		return f
	}}
}

// openOn opens a regular file on a disk. Links lead nowhere outside of it.
func openOn(root *os.Root, rel string) (*os.File, fs.FileInfo, error) {
	// A pipe would have us wait for its writer.
	f, err := root.OpenFile(filepath.FromSlash(rel), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = diffupload.ErrNotRegular
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// candidate is a file of a content that should be on a disk here.
type candidate struct {
	shownFile
	entry diffupload.Entry
	mod   time.Time
	place bool // it is to be used in place
}

// look finds which files of a content are here on disks, and compares them. The
// error is that of ctx: whatever else is wrong, the files are fetched.
// What is used where it lies is so for all tasks: a warm process cannot be shown
// more files, so that later, with place false, files are copied only. Of the
// others those count that are wanted.
func (d *disks) look(ctx context.Context, f *fetching, list job.Ref, wanted func(name string) bool, place bool) (onDisk, error) {
	if d == nil || !list.Defined() {
		return onDisk{}, nil
	}
	h := onDisk{inPlace: map[string]bool{}, copied: map[string]shownFile{}, roots: map[string]*os.Root{}}
	likely, err := d.candidates(ctx, f, list, place)
	if err == nil {
		likely = slices.DeleteFunc(likely, func(c candidate) bool { return !c.place && !wanted(c.name) })
	}
	if err != nil {
		d.log.Debug("what lies on disks is not known", "job", f.lease.Job, "err", err)
		return h, context.Cause(ctx)
	}
	d.open(&h, likely)
	var mu sync.Mutex
	var read int64
	each(ctx, diskReaders, len(likely), func(i int) {
		c := likely[i]
		root := h.roots[c.disk.From]
		if root == nil {
			return
		}
		n, err := d.compare(ctx, f, root, &c)
		mu.Lock()
		defer mu.Unlock()
		read += n
		switch {
		case ctx.Err() != nil:
		case err != nil:
			d.differs(f, c, err)
		case c.place:
			h.inPlace[c.name] = true
			h.shown = append(h.shown, c.shownFile)
			h.bytes += c.entry.Size
		default:
			h.copied[c.name] = c.shownFile
		}
	})
	if ctx.Err() != nil {
		h.close()
		return onDisk{}, context.Cause(ctx)
	}
	d.count(h, likely)
	if d.cache != nil {
		if err := d.cache.Save(); err != nil {
			d.log.Debug("what was compared is not written down", "err", err)
		}
	}
	if h.any() {
		d.log.Info("files are on disks that are here", "job", f.lease.Job, "requester", f.requester, "in_place", len(h.inPlace),
			"in_place_bytes", h.bytes, "copied", len(h.copied), "compared_bytes", read)
	}
	return h, nil
}

// candidates are the files of a list that should be here, the largest first.
func (d *disks) candidates(ctx context.Context, f *fetching, list job.Ref, place bool) ([]candidate, error) {
	b, err := readFile(ctx, f.store, list.Cid, job.MaxDiskListBytes)
	if err != nil {
		return nil, err
	}
	files, err := job.DecodeDiskFiles(b)
	if err != nil {
		return nil, err
	}
	var out []candidate
	at := map[string]int{}
	for _, x := range files {
		c := candidate{shownFile: shownFile{name: x.Name}, mod: time.Unix(0, x.Mod)}
		for _, m := range d.maps {
			if rel, ok := under(m.From, x.At); ok {
				c.disk, c.rel = m, rel
				break
			}
		}
		if _, twice := at[x.Name]; c.rel == "" || twice {
			continue
		}
		at[x.Name] = len(out)
		c.entry.Size = x.Size
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, nil
	}
	entries, err := diffupload.List(ctx, f.store, f.root, diffupload.Limits{})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if i, ok := at[e.Name]; ok && e.Size == out[i].entry.Size && (e.Kind == diffupload.KindFile || e.Kind == diffupload.KindChunk) {
			out[i].entry = e
		}
	}
	out = slices.DeleteFunc(out, func(c candidate) bool { return !c.entry.CID.Defined() })
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Compare(b.entry.Size, a.entry.Size) })
	for i := range out {
		out[i].place = place && d.shows && i < mostInPlace && out[i].entry.Size >= leastInPlace
	}
	return out, nil
}

// open opens the disks that are needed.
func (d *disks) open(h *onDisk, likely []candidate) {
	for _, c := range likely {
		if _, tried := h.roots[c.disk.From]; tried {
			continue
		}
		root, err := os.OpenRoot(c.disk.here())
		d.mu.Lock()
		u := d.use[c.disk.From]
		was := u.away
		if u.away = ""; err != nil {
			u.away = rootCause(err)
		}
		away := u.away
		d.mu.Unlock()
		if err != nil {
			if away != was {
				d.log.Warn("a disk of paths.map is not there: its files are fetched", "from", c.disk.From, "to", c.disk.here(), "reason", away)
			}
			h.roots[c.disk.From] = nil
			continue
		}
		h.roots[c.disk.From] = root
	}
	for from, r := range h.roots {
		if r == nil {
			delete(h.roots, from)
		}
	}
}

// compare looks whether a file on a disk is that of the content. What is shown
// to tasks is compared wholly, or by a sample where the settings trust the
// requester with that and its times agree; of what is copied each chunk is
// compared later. A file that was written to just now is not shown: the next
// write might not show in its times.
func (d *disks) compare(ctx context.Context, f *fetching, root *os.Root, c *candidate) (int64, error) {
	scan := time.Now()
	file, fi, err := openOn(root, c.rel)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if fi.Size() != c.entry.Size {
		return 0, fmt.Errorf("%w: it has %d bytes, and the job's %d", diffupload.ErrDiffers, fi.Size(), c.entry.Size)
	}
	c.stamp = diffupload.StampOf(fi)
	c.place = c.place && c.stamp.Settled(scan)
	path := filepath.Join(c.disk.here(), filepath.FromSlash(c.rel))
	all := c.place && !(d.samples(c.disk, f.requester) && fi.ModTime().Sub(c.mod).Abs() <= timesAgree)
	known := all && d.cache.Compared(path, c.stamp, c.entry)
	read, err := diffupload.Compare(ctx, f.store, c.entry, file, diskDraws, all && !known)
	if err != nil {
		return read, err
	}
	after, err := file.Stat()
	if err != nil {
		return read, err
	}
	if diffupload.StampOf(after) != c.stamp {
		return read, errors.New("it changed while it was compared")
	}
	if all && !known {
		d.cache.SetCompared(path, c.stamp, scan, c.entry)
	}
	return read, nil
}

// samples reports whether a few pieces of a requester's file are enough.
func (d *disks) samples(m DiskMap, requester peer.ID) bool {
	return requester == d.self || slices.Contains(m.SampleFrom, "*") || d.named(m.SampleFrom, requester)
}

// differs notes that a file is not what a job says.
func (d *disks) differs(f *fetching, c candidate, err error) {
	if errors.Is(err, diffupload.ErrOtherForm) || errors.Is(err, diffupload.ErrNotFound) {
		d.log.Debug("a file on a disk cannot be compared", "file", c.rel, "disk", c.disk.From, "err", err)
		return
	}
	reason := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		reason = "it is not there"
	} else if !errors.Is(err, diffupload.ErrDiffers) {
		reason = rootCause(err)
	}
	d.log.Warn("a file on a disk of paths.map is not the job's: it is fetched", "file", c.rel, "disk", c.disk.From, "job", f.lease.Job,
		"requester", f.requester, "reason", reason)
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.use[c.disk.From]
	u.differs++
	u.last = fmt.Sprintf("%s: %s", c.rel, reason)
}

// count notes what was used.
func (d *disks) count(h onDisk, likely []candidate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range likely {
		if h.has(c.name) {
			u := d.use[c.disk.From]
			u.files++
			u.bytes += c.entry.Size
		}
	}
}

// keep notes which files the folder dir shows.
func (d *disks) keep(dir string, files []shownFile) {
	if len(files) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for old := range d.shown {
		if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
			delete(d.shown, old)
		}
	}
	d.shown[dir] = files
}

// of returns which files a folder shows.
func (d *disks) of(dir string) []shownFile {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shown[dir]
}

// without are the names of the files that a folder does not hold itself.
func (d *disks) without(dir string) map[string]bool {
	out := map[string]bool{}
	for _, s := range d.of(dir) {
		out[s.name] = true
	}
	return out
}

// sound reports which file that a folder shows has changed; nil: none.
func (d *disks) sound(dir string) error {
	files := d.of(dir)
	if len(files) == 0 {
		return nil
	}
	roots := map[string]*os.Root{}
	for _, s := range files {
		if roots[s.disk.From] != nil {
			continue
		}
		root, err := os.OpenRoot(s.disk.here())
		if err != nil {
			return fmt.Errorf("the disk %s is not there any more: %s", s.disk.From, rootCause(err))
		}
		defer root.Close()
		roots[s.disk.From] = root
	}
	errs := make([]error, len(files))
	each(context.Background(), diskLookers, len(files), func(i int) {
		s := files[i]
		// Opening it has network file systems ask their server.
		f, fi, err := openOn(roots[s.disk.From], s.rel)
		if err == nil {
			f.Close()
			if diffupload.StampOf(fi) == s.stamp {
				return
			}
			err = errors.New("it was written to or replaced")
		}
		errs[i] = fmt.Errorf("%s changed on the disk %s while it was in use: %s", s.rel, s.disk.From, rootCause(err))
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls f with each number below n, some at once, until ctx ends.
func each(ctx context.Context, at, n int, f func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(at, n) {
		wg.Go(func() {
			for i := range next {
				if ctx.Err() == nil {
					f(i)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// onDisks shows tasks the files that lie elsewhere.
type onDisks struct {
	render.Executor
	disks *disks
}

// Execute implements render.Executor.
func (x onDisks) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	for _, s := range x.disks.of(dirs.In) {
		dirs.Shown = append(dirs.Shown, render.Shown{
			Name: s.name, Path: filepath.Join(s.disk.here(), filepath.FromSlash(s.rel)),
			Dev: s.stamp.Dev, Inode: s.stamp.Inode, Size: s.stamp.Size, Mtime: s.stamp.Mtime,
		})
	}
	return x.Executor.Execute(ctx, t, dirs, progress)
}

// findings are what is not as it should be with the disks, for the doctor.
func (d *disks) findings() (out []localapi.Finding) {
	if d == nil {
		return nil
	}
	add := func(severity, what, remedy string) {
		out = append(out, localapi.Finding{Severity: severity, What: what, Remedy: remedy})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.maps {
		u := d.use[m.From]
		if fi, err := os.Stat(m.here()); err != nil || !fi.IsDir() {
			what := "it is no folder"
			if err != nil {
				what = rootCause(err)
			}
			add("warning", fmt.Sprintf("the disk %s of paths.map is not at %s: %s", m.From, m.here(), what), "mount it, or correct [[paths.map]]; until then its files are fetched")
			continue
		}
		if u.differs > 0 {
			add("note", fmt.Sprintf("%d files on the disk %s were not what jobs say and were fetched, the last %s", u.differs, m.From, u.last),
				"they may have changed since they were submitted; or to = "+m.here()+" is another folder than the requester's")
		}
		if u.files > 0 {
			add("note", fmt.Sprintf("%d files with %d MB were used where they lie on the disk %s", u.files, u.bytes>>20, m.From), "")
		}
	}
	if !d.shows && runtime.GOOS == "linux" && len(d.maps) > 0 {
		add("note", "files on the disks of paths.map are copied from there, because tasks cannot be shown single files here", "install bubblewrap, and leave sandbox.mode at auto")
	}
	return out
}
