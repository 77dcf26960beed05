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
	"iter"

	"github.com/ipfs/go-cid"
)

// ErrNotFound is returned for a block that a store has not and cannot get.
var ErrNotFound = errors.New("block not found")

// Store is a place for blocks: this machine's disk, or other machines.
// storetest.Run holds every implementation to this text.
type Store interface {
	// Missing returns those of ids that the store does not hold, in order.
	Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error)
	// Fetch yields each wanted block as it comes, in any order, checked
	// against its CID; an error is yielded for the block it concerns, and
	// ErrNotFound where there is none. It ends early when ctx ends.
	Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error]
	// Put stores data, which must hash to id. Storing twice is no error.
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

// Pinner is a Store that keeps what a job uses. Optional.
type Pinner interface {
	// Pin keeps ids as long as the job named owner has not been unpinned.
	Pin(ctx context.Context, owner string, ids []cid.Cid) error
	// Unpin gives up everything that owner pinned.
	Unpin(ctx context.Context, owner string) error
	// Pinned reports whether owner pinned id.
	Pinned(ctx context.Context, owner string, id cid.Cid) (bool, error)
}

// Bounds of what a manifest from elsewhere can ask for.
const (
	MaxBlockBytes = 1 << 20 // one block, chunk or node
	MaxFileBytes  = 1 << 42
	MaxTreeFiles  = 1 << 20
)
