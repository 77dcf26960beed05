// Package store keeps blocks on this machine's disk, in packs: files in which
// blocks lie one behind the other, with an index in bbolt.
//
// The index knows where each block lies, its size and last use and who pinned
// it, so that questions cost no look at the disk and the least recently used
// blocks that nobody pinned make room when the quota is reached. Blocks are
// written in groups, each with one write and one sync; what a read finds damaged
// is dropped and was never there. The space of dropped blocks is won back by
// writing what is left of a pack into another.
//
// In a store's folder lie packs/ (see pack.go) and index.db (also the lock
// against a second daemon).
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
)

// ErrLocked is returned where another process has the store open.
var ErrLocked = errors.New("store is in use by another daemon")

// ErrClosed is returned by a store that was closed.
var ErrClosed = errors.New("store is closed")

// Options of a store. The zero value works.
type Options struct {
	// QuotaBytes is the most that all blocks together may have; 0 means as
	// much as the disk holds. A put for which no room can be made fails with
	// diffupload.ErrFull.
	QuotaBytes int64
	// Grace is how long a block that was put, asked for or found is kept even
	// if nobody pinned it; 0 means ten minutes, less than 0 not at all.
	Grace time.Duration
	Log   *slog.Logger     // nil: none
	Now   func() time.Time // nil: time.Now
}

// Local is a store on disk. It is safe for concurrent use.
type Local struct {
	// Constant after Open.
	opts  Options
	packs *packs
	index *index
	roots rooting

	clean    bool // the index says so; the writer's
	requests chan *request
	quit     chan struct{}
	done     chan struct{} // the writer has ended

	closeOnce sync.Once
	closeErr  error

	used usedBlocks
	// dropping is held to write while blocks are dropped that were not used
	// lately, and to read while it is found out that one is here.
	dropping sync.RWMutex
}

var (
	_ diffupload.Store        = (*Local)(nil)
	_ diffupload.PutManyer    = (*Local)(nil)
	_ diffupload.Rooter       = (*Local)(nil)
	_ diffupload.HashedPutter = (*Local)(nil)
)

// Open opens the store in dir, which is made where it is not there.
func Open(dir string, o Options) (*Local, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Grace == 0 {
		o.Grace = 10 * time.Minute
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	ix, err := openIndex(filepath.Join(dir, "index.db")) // first: it is the lock
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	packs, err := openPacks(filepath.Join(dir, "packs"))
	if err == nil {
		err = ix.load(packs.count)
	}
	if err != nil {
		ix.db.Close()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	l := &Local{
		opts: o, packs: packs, index: ix,
		requests: make(chan *request),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	if err := l.recover(); err != nil {
		packs.close()
		ix.db.Close()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	go l.write()
	return l, nil
}

// Close ends the store after what is being written.
func (l *Local) Close() error {
	l.closeOnce.Do(func() {
		close(l.quit)
		<-l.done
		l.packs.close()
		l.closeErr = errors.Join(
			l.index.flush(),
			l.index.touch(l.used.take()),
			l.tidy(),
			l.index.db.Close(),
		)
	})
	return l.closeErr
}

// tidy notes that the store was closed in order.
func (l *Local) tidy() error {
	if l.clean {
		return nil
	}
	return l.index.setClean(true)
}

// Missing implements diffupload.Store.
func (l *Local) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// What is said to be here is in use before anything else can be dropped.
	l.dropping.RLock()
	missing, have, err := l.index.split(ids)
	full := err == nil && l.used.add(l.opts.Now(), have...)
	l.dropping.RUnlock()
	if full {
		err = l.index.touch(l.used.take())
	}
	return missing, l.wrap(err)
}

// Has reports whether id is here.
func (l *Local) Has(ctx context.Context, id cid.Cid) (bool, error) {
	missing, err := l.Missing(ctx, []cid.Cid{id})
	return err == nil && len(missing) == 0, err
}

// Get returns one block, checked against its address, or ErrNotFound. A block
// that is damaged is dropped.
func (l *Local) Get(ctx context.Context, id cid.Cid) ([]byte, error) {
	if err := diffupload.CheckID(id); err != nil {
		return nil, err
	}
	data, err := l.read(id)
	switch {
	case err == nil:
		return data, l.touch(keyOf(id))
	case errors.Is(err, diffupload.ErrNotFound) || errors.Is(err, diffupload.ErrCorrupt):
		// The writer looks again and takes it off the index.
		if derr := l.ask(ctx, &request{drop: id}); derr != nil {
			return nil, derr
		}
		return nil, fmt.Errorf("block %s: %w", id, diffupload.ErrNotFound)
	}
	return nil, l.wrap(err)
}

// read returns a block's data, checked: ErrNotFound or ErrCorrupt where it is
// not here, or no longer itself.
func (l *Local) read(id cid.Cid) ([]byte, error) {
	for {
		e, ok, err := l.index.find(keyOf(id))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, diffupload.ErrNotFound
		}
		data, err := l.packs.read(e.place, e.size)
		if err != nil || diffupload.VerifyBlock(id, data) != nil {
			// It may have moved since the index was asked.
			if now, ok, ferr := l.index.find(keyOf(id)); ferr == nil && ok && now.place != e.place {
				continue
			}
		}
		switch {
		case notExist(err):
			return nil, diffupload.ErrNotFound
		case err != nil:
			return nil, err
		}
		if err := diffupload.VerifyBlock(id, data); err != nil {
			return nil, fmt.Errorf("%w: %w", diffupload.ErrCorrupt, err)
		}
		return data, nil
	}
}

// Fetch implements diffupload.Store.
func (l *Local) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		for _, w := range wants {
			if ctx.Err() != nil {
				return
			}
			data, err := l.Get(ctx, w.ID)
			if ctx.Err() != nil {
				return
			}
			if !yield(diffupload.Block{ID: w.ID, Data: data}, err) {
				return
			}
		}
	}
}

// Put implements diffupload.Store.
func (l *Local) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return l.PutMany(ctx, []diffupload.Block{{ID: id, Data: data}})
}

// PutMany implements diffupload.PutManyer. Puts that come at the same time are
// written as one group.
func (l *Local) PutMany(ctx context.Context, bs []diffupload.Block) error {
	for _, b := range bs {
		if err := diffupload.VerifyBlock(b.ID, b.Data); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	}
	return l.PutHashed(ctx, bs)
}

// PutHashed implements diffupload.HashedPutter.
func (l *Local) PutHashed(ctx context.Context, bs []diffupload.Block) error {
	for _, b := range bs {
		if err := diffupload.CheckID(b.ID); err != nil || len(b.Data) == 0 || len(b.Data) > diffupload.MaxBlockBytes {
			return fmt.Errorf("put: block %s of %d bytes", b.ID, len(b.Data))
		}
	}
	for len(bs) > 0 {
		n, size := 0, 0
		for n < len(bs) && n < groupBlocks && size < groupBytes {
			size += len(bs[n].Data)
			n++
		}
		if err := l.ask(ctx, &request{put: bs[:n]}); err != nil {
			return err
		}
		bs = bs[n:]
	}
	return nil
}

// Pin implements diffupload.Pinner. A block may be pinned before it is here.
func (l *Local) Pin(ctx context.Context, owner string, ids []cid.Cid) error {
	if owner == "" {
		return errors.New("pin: no owner")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.wrap(l.index.pin(owner, ids))
}

// Unpin implements diffupload.Pinner.
func (l *Local) Unpin(ctx context.Context, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.wrap(l.index.unpin(owner, l.opts.Now().Unix()))
}

// Pinned implements diffupload.Pinner.
func (l *Local) Pinned(ctx context.Context, owner string, id cid.Cid) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	ok, err := l.index.pinned(owner, id)
	if err == nil && !ok {
		ok, err = l.below(ctx, owner, id)
	}
	return ok, l.wrap(err)
}

// Owners returns who holds pins.
func (l *Local) Owners() ([]string, error) {
	out, err := l.index.owners()
	return out, l.wrap(err)
}

// Len is the number of blocks.
func (l *Local) Len() int { return int(l.index.blocks.Load()) }

// Stat describes a store.
type Stat struct {
	Blocks     int64 `json:"blocks"`
	Bytes      int64 `json:"size_bytes"`  // of the blocks
	DiskBytes  int64 `json:"disk_bytes"`  // of the packs, with what is not yet won back
	QuotaBytes int64 `json:"quota_bytes"` // 0: none
}

// Stat says how much is here.
func (l *Local) Stat() Stat {
	return Stat{Blocks: l.index.blocks.Load(), Bytes: l.index.bytes.Load(), DiskBytes: l.packs.disk.Load(), QuotaBytes: l.opts.QuotaBytes}
}

// GC drops the blocks used least recently that nobody pinned, until at most
// keep bytes are left or nothing more may go. It returns what it freed.
func (l *Local) GC(ctx context.Context, keep int64) (freed int64, err error) {
	r := &request{gc: true, keep: keep}
	err = l.ask(ctx, r)
	return r.freed, err
}

// Verify reads every block and drops those that are damaged or gone. It
// returns how many were read and how many dropped.
func (l *Local) Verify(ctx context.Context) (read, dropped int, err error) {
	// In portions: a transaction held open would keep the index from giving
	// back its pages.
	var at key
	keys, err := l.index.after(&at, 1024)
	for ; err == nil && len(keys) > 0; keys, err = l.index.after(&at, 1024) {
		for _, k := range keys {
			if ctx.Err() != nil {
				return read, dropped, ctx.Err()
			}
			read++
			switch _, err := l.Get(ctx, k.cid()); {
			case errors.Is(err, diffupload.ErrNotFound):
				dropped++
			case err != nil:
				return read, dropped, err
			}
		}
	}
	return read, dropped, l.wrap(err)
}

// touch notes that blocks were used.
func (l *Local) touch(keys ...key) error {
	if l.used.add(l.opts.Now(), keys...) {
		return l.wrap(l.index.touch(l.used.take()))
	}
	return nil
}

func (l *Local) wrap(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-l.quit:
		return ErrClosed
	default:
		return fmt.Errorf("store: %w", err)
	}
}

// usedBlocks collects uses in memory until they are written to the index with
// something else: a use that a crash forgets costs nothing.
type usedBlocks struct {
	mu sync.Mutex
	at map[key]int64
}

const maxUses = 1 << 14

// add reports whether there are so many that they should be written.
func (u *usedBlocks) add(now time.Time, keys ...key) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil {
		u.at = map[key]int64{}
	}
	for _, k := range keys {
		u.at[k] = now.Unix()
	}
	return len(u.at) > maxUses
}

func (u *usedBlocks) take() map[key]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.at
	u.at = nil
	return at
}
