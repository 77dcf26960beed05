// Package diffupload turns files into a manifest of content-addressed blocks
// and back, and moves only the blocks that the other side lacks.
//
// A Manifest is a tree of DAG-CBOR nodes known by its root CID; its leaves are
// raw chunks. Snapshot makes one of files, Materialize makes files of one, a
// Store is where blocks lie or come from. The format is docs/formats.md.
package diffupload

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
)

// ErrNotFound is returned for a block that a store has not and cannot get.
var ErrNotFound = errors.New("block not found")

// ErrCorrupt is returned for a block whose bytes do not hash to its CID.
var ErrCorrupt = errors.New("block does not match its address")

// ErrFull is returned by a store that has no room for a block: its disk is
// full, or its quota is taken by blocks that are in use.
var ErrFull = errors.New("store is full")

// Store is a place for blocks: this machine's disk, or other machines.
// storetest.Run holds every implementation to this text.
type Store interface {
	// Missing returns those of ids that the store does not hold, in order.
	Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error)
	// Fetch yields each wanted block as it comes, in any order, checked
	// against its CID; an error is yielded for the block it concerns, and
	// ErrNotFound where there is none. An error with an undefined ID concerns
	// the whole fetch. It ends early when ctx ends. The receiver may keep Data.
	Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error]
	// Put stores data, which must hash to id. Storing twice is no error. It
	// does not keep data once it returned, and a block that it accepted
	// survives a power cut where the store is a disk.
	Put(ctx context.Context, id cid.Cid, data []byte) error
}

// Want asks for a block.
type Want struct {
	ID cid.Cid
	// Bases are blocks that the asker has and that may be like the wanted one:
	// the answer may then be a delta against one of them.
	Bases []cid.Cid
}

// Block is content with its address.
type Block struct {
	ID   cid.Cid
	Data []byte
}

// PutManyer is a Store that puts a group of blocks cheaper than one by one.
// Optional; PutMany below uses it where it is there.
type PutManyer interface {
	// PutMany stores all blocks or says why not; some may be stored then.
	PutMany(ctx context.Context, blocks []Block) error
}

// PutMany stores blocks in s, as a group where s can do that.
func PutMany(ctx context.Context, s Store, blocks []Block) error {
	if m, ok := s.(PutManyer); ok {
		return m.PutMany(ctx, blocks)
	}
	for _, b := range blocks {
		if err := s.Put(ctx, b.ID, b.Data); err != nil {
			return err
		}
	}
	return nil
}

// Get fetches one block.
func Get(ctx context.Context, s Store, id cid.Cid) ([]byte, error) {
	for b, err := range s.Fetch(ctx, []Want{{ID: id}}) {
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", id, err)
		}
		if b.ID == id {
			return b.Data, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("block %s: %w", id, ErrNotFound)
}

// Pinner is a Store that keeps what a job uses. Optional.
type Pinner interface {
	// Pin keeps ids as long as the job named owner has not been unpinned.
	Pin(ctx context.Context, owner string, ids []cid.Cid) error
	// Unpin gives up everything that owner pinned.
	Unpin(ctx context.Context, owner string) error
	// Pinned reports whether owner pinned id.
	Pinned(ctx context.Context, owner string, id cid.Cid) (bool, error)
}

// Rooter is a Pinner that keeps a whole manifest by its root, at a cost that
// does not depend on how much lies below it. Optional.
type Rooter interface {
	Pinner
	// Hold has what is put or found from now on stay until release is called.
	Hold() (release func())
	// Whole says of each node whether it is known to be here with everything
	// below it, and of which state of the store that is true.
	Whole(ctx context.Context, nodes []cid.Cid) (known []bool, state uint64, err error)
	// PinRoot keeps root and everything below it as long as owner has not been
	// unpinned; without an owner it keeps nothing. whole are nodes of which the
	// caller found out that they are here with everything below, root among
	// them; they are known from now on. It does nothing and reports false
	// where blocks were dropped since state.
	PinRoot(ctx context.Context, owner string, root cid.Cid, whole []cid.Cid, state uint64) (bool, error)
}

// Bounds of what a manifest from elsewhere can ask for.
const (
	MaxBlockBytes = 1 << 20 // one block, chunk or node
	MaxFileBytes  = 1 << 42
	MaxTreeFiles  = 1 << 20
)
