package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
)

// Bounds of what is written as one group.
const (
	groupBlocks = 512
	groupBytes  = 16 << 20
)

// request is something for the writer, the one goroutine that changes what is
// on disk. One of put, drop and gc is set.
type request struct {
	put  []diffupload.Block
	drop cid.Cid // if it is damaged
	gc   bool
	keep int64 // of gc: bytes to leave

	freed int64 // of gc
	err   error
	done  chan struct{}
}

// ask hands r to the writer and waits. Once the writer has it the wait goes on
// past the end of ctx, because the writer reads the caller's bytes.
func (l *Local) ask(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.quit:
		return ErrClosed
	}
	<-r.done
	return r.err
}

func (l *Local) write() {
	defer close(l.done)
	for {
		var r *request
		select {
		case r = <-l.requests:
		case <-l.quit:
			return
		}
		if r.put == nil {
			l.serve(r)
			continue
		}
		// Who waits now goes along: one group for many callers.
		group := []*request{r}
		blocks, size := weigh(r)
		var other *request
		for other == nil && blocks < groupBlocks && size < groupBytes {
			select {
			case next := <-l.requests:
				if next.put == nil {
					other = next
					break
				}
				n, s := weigh(next)
				group, blocks, size = append(group, next), blocks+n, size+s
				continue
			default:
			}
			break
		}
		l.putGroup(group)
		if other != nil {
			l.serve(other)
		}
	}
}

func weigh(r *request) (blocks, size int) {
	for _, b := range r.put {
		size += len(b.Data)
	}
	return len(r.put), size
}

func (l *Local) serve(r *request) {
	switch {
	case r.gc:
		r.freed, r.err = l.collect(l.index.bytes.Load() - r.keep)
	default:
		r.err = l.dropDamaged(r.drop)
	}
	close(r.done)
}

// putGroup writes the group at once, and where that fails each request by
// itself, so that nobody fails for another's sake.
func (l *Local) putGroup(group []*request) {
	var all []diffupload.Block
	for _, r := range group {
		all = append(all, r.put...)
	}
	err := l.putBlocks(all)
	for _, r := range group {
		r.err = err
		if err != nil && len(group) > 1 {
			r.err = l.putBlocks(r.put)
		}
		close(r.done)
	}
}

func (l *Local) putBlocks(bs []diffupload.Block) error {
	ids := make([]cid.Cid, len(bs))
	for i, b := range bs {
		ids[i] = b.ID
	}
	missing, have, err := l.index.split(ids)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	l.used.add(l.opts.Now(), have...)
	lacks := make(map[key]bool, len(missing))
	for _, id := range missing {
		lacks[keyOf(id)] = true
	}
	if len(lacks) == 0 {
		return nil
	}
	var size int64
	fresh := make(map[key]entry, len(lacks))
	var put []diffupload.Block
	for _, b := range bs {
		k := keyOf(b.ID)
		if _, twice := fresh[k]; twice || !lacks[k] {
			continue
		}
		fresh[k] = entry{}
		put = append(put, b)
		size += int64(len(b.Data))
	}
	if err := l.makeRoom(size); err != nil {
		return err
	}
	if err := l.soil(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	places, err := l.packs.append(put)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return fmt.Errorf("store: %w: %w", diffupload.ErrFull, err)
		}
		return fmt.Errorf("store: %w", err)
	}
	for i, b := range put {
		fresh[keyOf(b.ID)] = entry{uint32(len(b.Data)), l.opts.Now().Unix(), places[i]}
	}
	// Packs before index: what a crash leaves between is found by recover.
	if err := l.index.add(fresh); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, e := range fresh {
		l.packs.count(e)
	}
	return nil
}

// makeRoom sees to it that size more bytes are within the quota.
func (l *Local) makeRoom(size int64) error {
	quota := l.opts.QuotaBytes
	if quota <= 0 || l.index.bytes.Load()+size <= quota {
		return nil
	}
	// A tenth more than needed, or each group would look through the index.
	if _, err := l.collect(l.index.bytes.Load() + size - quota + quota/10); err != nil {
		return err
	}
	if have := l.index.bytes.Load(); have+size > quota {
		return fmt.Errorf("%w: %d of %d bytes are in use by jobs or were used just now, no room for %d more", diffupload.ErrFull, have, quota, size)
	}
	return nil
}

// collect drops the unpinned blocks used least recently, want bytes of them
// where there are so many. Only the writer calls it.
func (l *Local) collect(want int64) (freed int64, err error) {
	if want <= 0 {
		return 0, nil
	}
	if err := l.index.touch(l.used.take()); err != nil {
		return 0, fmt.Errorf("collect: %w", err)
	}
	kept, err := l.mark()
	if err != nil {
		return 0, fmt.Errorf("collect: %w", err)
	}
	before := l.opts.Now().Unix()
	if l.opts.Grace > 0 {
		before = l.opts.Now().Add(-l.opts.Grace).Unix()
	}
	before = l.roots.notHeld(before)
	cutoff, err := l.index.cutoff(want, before, kept)
	if err != nil {
		return 0, fmt.Errorf("collect: %w", err)
	}
	const portion = 4096
	var at key
	for freed < want {
		found, err := l.index.oldest(&at, portion, cutoff, kept)
		if err != nil {
			return freed, fmt.Errorf("collect: %w", err)
		}
		if len(found) == 0 {
			break
		}
		var keys []key
		rest := want - freed
		for _, f := range found {
			if rest <= 0 {
				break
			}
			keys = append(keys, f.key)
			rest -= int64(f.size)
		}
		l.dropping.Lock()
		var gone []entry
		var size int64
		if err = l.index.touch(l.used.take()); err == nil {
			gone, size, err = l.index.remove(keys, false, cutoff)
		}
		l.dropping.Unlock()
		if err != nil {
			return freed, fmt.Errorf("collect: %w", err)
		}
		freed += size
		for _, e := range gone {
			l.packs.discount(e)
		}
	}
	if err := l.compact(); err != nil {
		return freed, fmt.Errorf("collect: %w", err)
	}
	l.opts.Log.Debug("blocks collected", slog.Int64("freed_bytes", freed), slog.Int64("size_bytes", l.index.bytes.Load()))
	return freed, nil
}

// dropDamaged takes a block that is damaged or gone off the disk and the
// index, unless it is whole by now.
func (l *Local) dropDamaged(id cid.Cid) error {
	_, err := l.read(id)
	damaged := errors.Is(err, diffupload.ErrCorrupt)
	if !damaged && !errors.Is(err, diffupload.ErrNotFound) {
		return err
	}
	if err := l.doubt(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	gone, _, err := l.index.remove([]key{keyOf(id)}, true, 0)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, e := range gone {
		l.packs.discount(e)
	}
	if damaged || len(gone) > 0 {
		l.opts.Log.Warn("damaged block dropped", slog.String("cid", id.String()))
	}
	return nil
}
