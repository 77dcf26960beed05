// Package faulty is a disk for tests: in memory, without room when it is told
// so, and forgetful as a disk is whose power goes off.
package faulty

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"idlewild/internal/recordlog"
)

// ErrOff is what every operation gives once the disk is off.
var ErrOff = errors.New("the power is off")

// Never is a number of operations that no test does.
const Never = 1 << 40

// Disk is a recordlog.Disk. It goes off after so many operations; what was not
// synced then is there or not, in any combination, sector by sector.
type Disk struct {
	Left int  // operations until it goes off
	Done int  // operations so far
	Full bool // what would take room is refused

	r       *rand.Rand
	names   map[string]*inode
	durable map[string]*inode
	pending map[string][]func(names map[string]*inode) // of names, since their folder was synced
}

// inode is a file: what is surely on disk, what is read, and what was done
// in between.
type inode struct {
	synced, now []byte
	pending     []func(b []byte) []byte
}

// New makes an empty disk; r decides what a cut leaves.
func New(r *rand.Rand) *Disk {
	return &Disk{Left: Never, r: r, names: map[string]*inode{}, durable: map[string]*inode{}, pending: map[string][]func(map[string]*inode){}}
}

// Op counts one operation, of this disk or of whoever uses it.
func (d *Disk) Op() error {
	if d.Left <= 0 {
		return ErrOff
	}
	d.Left--
	d.Done++
	return nil
}

func (d *Disk) grow() error {
	if err := d.Op(); err != nil {
		return err
	}
	if d.Full {
		return syscall.ENOSPC
	}
	return nil
}

// change does f with the names now, and perhaps with those after a cut.
func (d *Disk) change(path string, f func(map[string]*inode)) {
	f(d.names)
	dir := filepath.Dir(path)
	d.pending[dir] = append(d.pending[dir], f)
}

// Cut is the disk after the power came back.
func (d *Disk) Cut() *Disk {
	out := New(d.r)
	names := maps.Clone(d.durable)
	for _, dir := range slices.Sorted(maps.Keys(d.pending)) {
		for _, f := range d.pending[dir] {
			if d.r.IntN(2) == 0 {
				f(names)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x := names[name]
		b := slices.Clone(x.synced)
		todo := slices.Clone(x.pending)
		if d.r.IntN(2) == 0 {
			d.r.Shuffle(len(todo), func(i, k int) { todo[i], todo[k] = todo[k], todo[i] })
		}
		for _, f := range todo {
			if d.r.IntN(2) == 0 {
				b = f(b)
			}
		}
		out.put(name, b)
	}
	return out
}

// Killed is the disk after its process was killed, which d is not to be used for
// any more: everything that was written is there, and what was not synced may
// still go with the power.
func (d *Disk) Killed() *Disk {
	d.Left = 0
	out := *d
	out.Left, out.Done = Never, 0
	return &out
}

func (d *Disk) put(name string, b []byte) {
	x := &inode{synced: b, now: slices.Clone(b)}
	d.names[name], d.durable[name] = x, x
}

// MkdirAll makes nothing: a folder is there when a file is.
func (d *Disk) MkdirAll(string) error { return d.Op() }

// List names what is in dir, files and folders.
func (d *Disk) List(dir string) ([]string, error) {
	in := map[string]bool{}
	for name := range d.names {
		for ; len(name) > len(dir); name = filepath.Dir(name) {
			if filepath.Dir(name) == dir {
				in[filepath.Base(name)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(in)), d.Op()
}

func (d *Disk) Read(path string) ([]byte, error) {
	x := d.names[path]
	if x == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(x.now), d.Op()
}

func (d *Disk) Rename(from, to string) error {
	if err := d.Op(); err != nil {
		return err
	}
	x := d.names[from]
	d.change(to, func(names map[string]*inode) {
		delete(names, from)
		names[to] = x
	})
	return nil
}

func (d *Disk) Remove(path string) error {
	if err := d.Op(); err != nil {
		return err
	}
	d.change(path, func(names map[string]*inode) { delete(names, path) })
	return nil
}

// RemoveAll removes the files below dir one by one.
func (d *Disk) RemoveAll(dir string) error {
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		if strings.HasPrefix(name, dir+string(filepath.Separator)) {
			if err := d.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Disk) SyncDir(dir string) error {
	if err := d.Op(); err != nil {
		return err
	}
	for _, f := range d.pending[dir] {
		f(d.durable)
	}
	delete(d.pending, dir)
	return nil
}

func (d *Disk) Open(path string, flag int) (recordlog.File, error) {
	if err := d.Op(); err != nil {
		return nil, err
	}
	x := d.names[path]
	if x == nil {
		if flag&os.O_CREATE == 0 {
			return nil, fs.ErrNotExist
		}
		if d.Full {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOSPC}
		}
		x = &inode{}
		d.change(path, func(names map[string]*inode) { names[path] = x })
	}
	f := &opened{d, x, path}
	if flag&os.O_TRUNC != 0 {
		return f, f.Truncate(0)
	}
	return f, nil
}

type opened struct {
	d    *Disk
	x    *inode
	path string
}

func (f *opened) Close() error { return nil }

func (f *opened) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.x.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.x.now[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *opened) change(g func([]byte) []byte) {
	f.x.now = g(f.x.now)
	f.x.pending = append(f.x.pending, g)
}

// WriteAt writes sector by sector: each is there after a cut or not.
func (f *opened) WriteAt(b []byte, at int64) (int, error) {
	const sector = 64
	for n := 0; n < len(b); {
		if err := f.d.grow(); err != nil {
			return n, &fs.PathError{Op: "write", Path: f.path, Err: err}
		}
		end := min(len(b), n+sector-int(at+int64(n))%sector)
		part, from := slices.Clone(b[n:end]), int(at)+n
		f.change(func(b []byte) []byte {
			b = slices.Clone(b)
			if grow := from + len(part) - len(b); grow > 0 {
				b = append(b, make([]byte, grow)...)
			}
			copy(b[from:], part)
			return b
		})
		n = end
	}
	return len(b), nil
}

func (f *opened) Truncate(size int64) error {
	if err := f.d.Op(); err != nil {
		return err
	}
	f.change(func(b []byte) []byte { return slices.Clone(b[:min(len(b), int(size))]) })
	return nil
}

func (f *opened) Sync() error {
	if err := f.d.Op(); err != nil {
		return err
	}
	f.x.synced, f.x.pending = slices.Clone(f.x.now), nil
	return nil
}

var _ recordlog.Disk = (*Disk)(nil)
