package recordlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forgetful is a disk in memory. It goes off after so many operations; what was
// not synced then is there or not, in any combination, sector by sector.
type forgetful struct {
	r       *rand.Rand
	left    int // operations until it goes off
	names   map[string]*inode
	durable map[string]*inode
	pending []func(names map[string]*inode) // of names, since the folder was synced
}

// inode is a file: what is surely on disk, what is read, and what was done
// in between.
type inode struct {
	synced, now []byte
	pending     []func(b []byte) []byte
}

var errOff = errors.New("the power is off")

func newForgetful(r *rand.Rand) *forgetful {
	return &forgetful{r: r, names: map[string]*inode{}, durable: map[string]*inode{}}
}

func (d *forgetful) op() error {
	if d.left <= 0 {
		return errOff
	}
	d.left--
	return nil
}

// change does f with the names now, and perhaps with those after a cut.
func (d *forgetful) change(f func(map[string]*inode)) {
	f(d.names)
	d.pending = append(d.pending, f)
}

// cut is the disk after the power came back.
func (d *forgetful) cut() *forgetful {
	out := newForgetful(d.r)
	names := maps.Clone(d.durable)
	for _, f := range d.pending {
		if d.r.IntN(2) == 0 {
			f(names)
		}
	}
	for name, x := range names {
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
		y := &inode{synced: b, now: slices.Clone(b)}
		out.names[name], out.durable[name] = y, y
	}
	return out
}

func (d *forgetful) MkdirAll(string) error { return d.op() }

func (d *forgetful) List(string) ([]string, error) {
	var out []string
	for name := range d.names {
		out = append(out, filepath.Base(name))
	}
	slices.Sort(out)
	return out, d.op()
}

func (d *forgetful) Read(path string) ([]byte, error) {
	x := d.names[path]
	if x == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(x.now), d.op()
}

func (d *forgetful) Rename(from, to string) error {
	if err := d.op(); err != nil {
		return err
	}
	x := d.names[from]
	d.change(func(names map[string]*inode) {
		delete(names, from)
		names[to] = x
	})
	return nil
}

func (d *forgetful) Remove(path string) error {
	if err := d.op(); err != nil {
		return err
	}
	d.change(func(names map[string]*inode) { delete(names, path) })
	return nil
}

func (d *forgetful) SyncDir(string) error {
	if err := d.op(); err != nil {
		return err
	}
	d.durable, d.pending = maps.Clone(d.names), nil
	return nil
}

func (d *forgetful) Open(path string, flag int) (file, error) {
	if err := d.op(); err != nil {
		return nil, err
	}
	x := d.names[path]
	if x == nil {
		if flag&os.O_CREATE == 0 {
			return nil, fs.ErrNotExist
		}
		x = &inode{}
		d.change(func(names map[string]*inode) { names[path] = x })
	}
	f := &opened{d, x}
	if flag&os.O_TRUNC != 0 {
		return f, f.Truncate(0)
	}
	return f, nil
}

type opened struct {
	d *forgetful
	x *inode
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
		if err := f.d.op(); err != nil {
			return n, err
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
	if err := f.d.op(); err != nil {
		return err
	}
	f.change(func(b []byte) []byte { return slices.Clone(b[:min(len(b), int(size))]) })
	return nil
}

func (f *opened) Sync() error {
	if err := f.d.op(); err != nil {
		return err
	}
	f.x.synced, f.x.pending = slices.Clone(f.x.now), nil
	return nil
}

// TestPowerCuts cuts the power at every operation of appending, syncing, rotating,
// rewriting, opening and repairing, several times in a row. What was synced is
// there ever after; what is there was written, in that order.
// IDLEWILD_CRASHES says how many cuts; see make chaos.
func TestPowerCuts(t *testing.T) {
	cuts := 2000
	if s := os.Getenv("IDLEWILD_CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		cuts = n
	}
	rewritten, rotated, torn := 0, 0, 0
	for seed := 0; cuts > 0; seed++ {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		d := newForgetful(r)
		var written []string // in their order
		safe := 0            // of them, acknowledged
		for life := 0; life < 4 && cuts > 0; life++ {
			d.left = 1 + r.IntN(150)
			if life == 0 {
				d.left += 4
			}
			o := Options{Magic: "test", Version: 1, MaxRecord: 1 << 12, SegmentBytes: int64(100 + r.IntN(1500)), disk: d}
			i := 0
			var got []string
			l, err := Open("log", o, func(b []byte) error { got = append(got, string(b)); i++; return nil })
			if d.left > 0 {
				if err != nil {
					t.Fatalf("seed %d, life %d: cannot be opened: %v", seed, life, err)
				}
				if len(got) < safe || len(got) > len(written) || !slices.Equal(got, written[:len(got)]) {
					t.Fatalf("seed %d, life %d: %d records came back, %d were written, %d of them acknowledged:\n%s", seed, life, len(got), len(written), safe, strings.Join(got, "\n"))
				}
				if l.Torn != "" {
					torn++
				}
				// Whatever came back is on disk or gone for good after the next sync.
				written, safe = got, min(safe, len(got))
			}
			for n := 0; d.left > 0 && err == nil; n++ {
				switch k := r.IntN(10); {
				case k < 6:
					var recs [][]byte
					for range 1 + r.IntN(3) {
						recs = append(recs, fmt.Appendf(nil, "%d.%d.%d %s", seed, life, len(written)+len(recs), strings.Repeat("x", r.IntN(200))))
					}
					seq := l.seq
					for _, rec := range recs {
						written = append(written, string(rec))
					}
					if err = l.Append(recs...); err == nil && l.seq > seq {
						rotated++
					}
				case k < 9:
					if err = l.Sync(); err == nil {
						safe = len(written)
					}
				default:
					var recs [][]byte
					for _, w := range written {
						recs = append(recs, []byte(w))
					}
					if err = l.Rewrite(recs...); err == nil {
						rewritten++
						safe = len(written)
					}
				}
			}
			d = d.cut()
			cuts--
		}
	}
	t.Logf("%d rewritten, %d rotated, %d torn", rewritten, rotated, torn)
	if rewritten == 0 || rotated == 0 || torn == 0 {
		t.Error("not everything was tried")
	}
}
