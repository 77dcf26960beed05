package diffupload

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
)

// Tiered is a local store in front of a remote one: what is fetched from
// Remote stays in Local, so that a fetch that was cut off is resumed where it
// was. Missing, Put and pins are Local's alone.
type Tiered struct {
	Local  Store
	Remote Store
	// Owner, where it is not empty, is the job under which every block that
	// is asked for is pinned in Local, before Local is asked for it.
	Owner string
}

var (
	_ Store     = (*Tiered)(nil)
	_ PutManyer = (*Tiered)(nil)
	_ Pinner    = (*Tiered)(nil)
)

// How many fetched blocks wait to be stored as one group.
const (
	tieredGroup = 64
	tieredBytes = 4 << 20
)

// Missing implements Store.
func (t *Tiered) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	return t.Local.Missing(ctx, ids)
}

// Put implements Store.
func (t *Tiered) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return t.Local.Put(ctx, id, data)
}

// PutMany implements PutManyer.
func (t *Tiered) PutMany(ctx context.Context, blocks []Block) error {
	return PutMany(ctx, t.Local, blocks)
}

// Pin implements Pinner, and does nothing where Local does not pin.
func (t *Tiered) Pin(ctx context.Context, owner string, ids []cid.Cid) error {
	return pin(ctx, t.Local, owner, ids)
}

// Unpin implements Pinner.
func (t *Tiered) Unpin(ctx context.Context, owner string) error {
	if p, ok := t.Local.(Pinner); ok {
		return p.Unpin(ctx, owner)
	}
	return nil
}

// Pinned implements Pinner.
func (t *Tiered) Pinned(ctx context.Context, owner string, id cid.Cid) (bool, error) {
	if p, ok := t.Local.(Pinner); ok {
		return p.Pinned(ctx, owner, id)
	}
	return false, nil
}

// pin pins ids in s where there is an owner and s can.
func pin(ctx context.Context, s Store, owner string, ids []cid.Cid) error {
	p, ok := s.(Pinner)
	if owner == "" || !ok || len(ids) == 0 {
		return nil
	}
	return p.Pin(ctx, owner, ids)
}

// Fetch implements Store. A block from Remote that Local cannot take is
// yielded, and after the last block the trouble with storing it.
func (t *Tiered) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		ids := make([]cid.Cid, len(wants))
		for i, w := range wants {
			ids[i] = w.ID
		}
		fail := func(err error) { yield(Block{}, err) }
		if err := pin(ctx, t.Local, t.Owner, ids); err != nil {
			fail(err)
			return
		}
		missing, err := t.Local.Missing(ctx, ids)
		if err != nil {
			fail(err)
			return
		}
		lacks := make(map[cid.Cid]bool, len(missing))
		for _, id := range missing {
			lacks[id] = true
		}
		var near, far []Want
		for _, w := range wants {
			if lacks[w.ID] {
				far = append(far, w)
			} else {
				near = append(near, w)
			}
		}
		seen := make(map[cid.Cid]bool, len(near))
		for b, err := range t.Local.Fetch(ctx, near) {
			if err != nil {
				// Gone or damaged since it was asked for: Remote may help.
				continue
			}
			seen[b.ID] = true
			if !yield(b, nil) {
				return
			}
		}
		for _, w := range near {
			if !seen[w.ID] {
				far = append(far, w)
			}
		}
		if len(far) == 0 || ctx.Err() != nil {
			return
		}
		t.fetchRemote(ctx, far, yield)
	}
}

func (t *Tiered) fetchRemote(ctx context.Context, wants []Want, yield func(Block, error) bool) {
	var (
		group  []Block
		size   int
		stored error // first trouble with Local
	)
	// What crossed the network is kept even where the fetch is given up.
	keep := context.WithoutCancel(ctx)
	flush := func() {
		if len(group) > 0 && stored == nil {
			if err := PutMany(keep, t.Local, group); err != nil {
				stored = fmt.Errorf("keep %d fetched blocks: %w", len(group), err)
			}
		}
		group, size = nil, 0
	}
	for b, err := range t.Remote.Fetch(ctx, wants) {
		if err != nil {
			if !yield(b, err) {
				flush()
				return
			}
			continue
		}
		if stored == nil {
			// The receiver owns what is yielded.
			group = append(group, Block{ID: b.ID, Data: bytes.Clone(b.Data)})
			size += len(b.Data)
		}
		if !yield(b, nil) {
			flush()
			return
		}
		if len(group) >= tieredGroup || size >= tieredBytes {
			flush()
		}
	}
	flush()
	if stored != nil {
		yield(Block{}, stored)
	}
}
