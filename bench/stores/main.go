// Command stores sets the store of package diffupload/store beside go-ds-flatfs
// and go-ds-pebble (values in files of their own), both behind boxo's
// blockstore: ingest in durable groups, look-up, reading, and deleting half of
// what is there. Run it in its folder: go run . [-blocks N] [-rounds N].
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

// contender is a store under test.
type contender interface {
	// put stores a group that survives a power cut once it returns.
	put(ctx context.Context, group []blocks.Block) error
	has(ctx context.Context, id cid.Cid) (bool, error)
	get(ctx context.Context, id cid.Cid) ([]byte, error)
	// keep drops all but the given blocks.
	keep(ctx context.Context, these, others []cid.Cid) error
	close() error
}

type ours struct{ *store.Local }

func (o ours) put(ctx context.Context, group []blocks.Block) error {
	bs := make([]diffupload.Block, len(group))
	for i, b := range group {
		bs[i] = diffupload.Block{ID: b.Cid(), Data: b.RawData()}
	}
	return o.PutHashed(ctx, bs)
}

func (o ours) has(ctx context.Context, id cid.Cid) (bool, error) { return o.Has(ctx, id) }

func (o ours) get(ctx context.Context, id cid.Cid) ([]byte, error) { return o.Get(ctx, id) }

func (o ours) keep(ctx context.Context, these, _ []cid.Cid) error {
	if err := o.Pin(ctx, "bench", these); err != nil {
		return err
	}
	_, err := o.GC(ctx, 0)
	return err
}

func (o ours) close() error { return o.Close() }

// boxo is a datastore behind boxo's blockstore.
type boxo struct {
	d interface {
		ds.Batching
		io.Closer
	}
	blockstore.Blockstore
}

func behind(d interface {
	ds.Batching
	io.Closer
}) boxo {
	return boxo{d, blockstore.NewBlockstore(d, blockstore.WriteThrough(true), blockstore.NoPrefix())}
}

func (b boxo) put(ctx context.Context, group []blocks.Block) error {
	if err := b.PutMany(ctx, group); err != nil {
		return err
	}
	return b.d.Sync(ctx, ds.NewKey("/"))
}

func (b boxo) has(ctx context.Context, id cid.Cid) (bool, error) { return b.Has(ctx, id) }

func (b boxo) get(ctx context.Context, id cid.Cid) ([]byte, error) {
	x, err := b.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return x.RawData(), nil
}

func (b boxo) keep(ctx context.Context, _, others []cid.Cid) error {
	for _, id := range others {
		if err := b.DeleteBlock(ctx, id); err != nil {
			return err
		}
	}
	return b.d.Sync(ctx, ds.NewKey("/"))
}

func (b boxo) close() error { return b.d.Close() }

var contenders = []struct {
	name string
	open func(dir string) (contender, error)
}{
	{"idlewild packs", func(dir string) (contender, error) {
		l, err := store.Open(dir, store.Options{Grace: -1, Now: clock})
		return ours{l}, err
	}},
	{"go-ds-flatfs", func(dir string) (contender, error) {
		d, err := flatfs.CreateOrOpen(dir, flatfs.NextToLast(2), true)
		if err != nil {
			return nil, err
		}
		return behind(d), nil
	}},
	{"go-ds-pebble", func(dir string) (contender, error) {
		o := &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation}
		o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
			return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 4096, MaxBlobReferenceDepth: 10, RewriteMinimumAge: time.Minute, TargetGarbageRatio: 0.2}
		}
		d, err := pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(o), pebbleds.WithPebbleWriteOptions(pebble.Sync))
		if err != nil {
			return nil, err
		}
		return behind(d), nil
	}},
}

// clock runs ahead by an hour with each question, so that nothing is too new
// to be dropped.
var clock = func() func() time.Time {
	now := time.Now()
	return func() time.Time { now = now.Add(time.Second); return now }
}()

// cost of one step.
type cost struct{ cpu, wall float64 }

func timed(f func() error) (cost, error) {
	before, began := ownCPU(), time.Now()
	err := f()
	return cost{ownCPU() - before, time.Since(began).Seconds()}, err
}

func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

var steps = []string{"ingest", "look-up", "read", "delete half"}

func main() {
	n := flag.Int("blocks", 4000, "blocks of 16 to 128 KiB")
	rounds := flag.Int("rounds", 3, "rounds, of which the medians are told")
	flag.Parse()
	if err := run(context.Background(), *n, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "stores:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n, rounds int) error {
	got := map[string]map[string][]cost{}
	disk, heap := map[string]int64{}, map[string]float64{}
	for round := range rounds {
		list, absent, err := content(n, uint64(round))
		if err != nil {
			return err
		}
		for _, c := range contenders {
			dir, err := os.MkdirTemp("", "idlewild-stores-")
			if err != nil {
				return err
			}
			costs, used, err := one(ctx, dir, c.open, list, absent)
			if err == nil {
				disk[c.name] = size(dir)
				heap[c.name] = used
			}
			os.RemoveAll(dir)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if got[c.name] == nil {
				got[c.name] = map[string][]cost{}
			}
			for step, v := range costs {
				got[c.name][step] = append(got[c.name][step], v)
			}
		}
	}
	fmt.Printf("%d blocks, medians of %d\n%-16s", n, rounds, "")
	for _, s := range steps {
		fmt.Printf("%22s", s)
	}
	fmt.Printf("%12s%14s\n", "disk MB", "heap B/block")
	for _, c := range contenders {
		fmt.Printf("%-16s", c.name)
		for _, s := range steps {
			v := got[c.name][s]
			fmt.Printf("%10.3f CPU %6.3f s", median(v, func(c cost) float64 { return c.cpu }), median(v, func(c cost) float64 { return c.wall }))
		}
		fmt.Printf("%12.0f%14.0f\n", float64(disk[c.name])/1e6, heap[c.name])
	}
	return nil
}

func median(v []cost, f func(cost) float64) float64 {
	out := make([]float64, len(v))
	for i, c := range v {
		out[i] = f(c)
	}
	slices.Sort(out)
	return out[len(out)/2]
}

// content is n blocks and as many addresses that nobody has.
func content(n int, seed uint64) (list []blocks.Block, absent []cid.Cid, err error) {
	r := mrand.New(mrand.NewPCG(seed, 1))
	for range n {
		b := make([]byte, 16<<10+r.IntN(112<<10))
		if _, err := rand.Read(b); err != nil {
			return nil, nil, err
		}
		x, err := blocks.NewBlockWithCid(b, diffupload.ChunkID(b))
		if err != nil {
			return nil, nil, err
		}
		list = append(list, x)
		absent = append(absent, diffupload.ChunkID(b[:100]))
	}
	return list, absent, nil
}

func one(ctx context.Context, dir string, open func(string) (contender, error), list []blocks.Block, absent []cid.Cid) (map[string]cost, float64, error) {
	heapBefore := heapBytes()
	c, err := open(dir)
	if err != nil {
		return nil, 0, err
	}
	defer c.close()
	out := map[string]cost{}
	out["ingest"], err = timed(func() error {
		for group := range slices.Chunk(list, 64) {
			if err := c.put(ctx, group); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	heap := float64(heapBytes()-heapBefore) / float64(len(list))
	order := mrand.New(mrand.NewPCG(7, 7)).Perm(len(list))
	out["look-up"], err = timed(func() error {
		for range 10 {
			for _, i := range order {
				if ok, err := c.has(ctx, list[i].Cid()); !ok || err != nil {
					return fmt.Errorf("a block is gone: %w", err)
				}
				if ok, err := c.has(ctx, absent[i]); ok || err != nil {
					return fmt.Errorf("a block that nobody put: %w", err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	out["read"], err = timed(func() error {
		for _, i := range order {
			if b, err := c.get(ctx, list[i].Cid()); err != nil || len(b) != len(list[i].RawData()) {
				return fmt.Errorf("%d bytes: %w", len(b), err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	var these, others []cid.Cid
	for i, x := range list {
		if i%2 == 0 {
			these = append(these, x.Cid())
		} else {
			others = append(others, x.Cid())
		}
	}
	out["delete half"], err = timed(func() error { return c.keep(ctx, these, others) })
	return out, heap, err
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func size(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}
