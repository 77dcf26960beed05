package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
)

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
