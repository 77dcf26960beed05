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
