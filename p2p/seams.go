// Package p2p is the swarm: host, membership, discovery, offers, sync and
// blocks, over libp2p.
//
// A Host is this machine on the network. Membership decides who may speak to
// it. Offers and news of the membership travel by gossip; a worker and a requester
// share one long-lived sync stream; bulk moves by the blocks protocol. The
// package knows bytes and CIDs, not files.
package p2p

import (
	"context"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Coordinator is what an inbound sync stream is handed to.
type Coordinator interface {
	// Open starts a worker's session. Reports of the worker are sent on the
	// first channel, which the caller closes when the stream ends; orders for
	// it are read from the second until the coordinator closes it. A newer
	// session of the same peer ends the older one.
	Open(ctx context.Context, worker peer.ID) (chan<- job.Report, <-chan job.Order)
}

// Grants decides who may read what. It is asked for each block.
type Grants interface {
	// Allow reports whether p may have block id of the job, showing the read
	// grant it sent with its request (empty where it sent none).
	Allow(p peer.ID, requester peer.ID, id job.ID, grant job.Signed, block cid.Cid) bool
	// Had reports whether past shows that p could once read the manifest at
	// root, of a job of requester that may have ended long ago: what edits of
	// that manifest say about it is then no news to p.
	Had(p peer.ID, requester peer.ID, past job.Signed, root cid.Cid) bool
}

// Words is what members tell each other about others, each its own. p2p knows
// only bytes that their author signed.
type Words interface {
	// Words is what this machine says, the newest first.
	Words() []job.Signed
	// Heard is called with what a proven member sent; nothing is checked yet.
	Heard(from peer.ID, s job.Signed)
}

// Source is where blocks to serve lie: this machine's store.
type Source interface {
	Get(ctx context.Context, id cid.Cid) ([]byte, error)
	Has(ctx context.Context, id cid.Cid) (bool, error)
}

// Codec makes deltas of blocks, which are an encoding on the wire and never an
// address.
type Codec interface {
	// Encode returns a delta that makes block out of base, or false where it
	// would not be smaller.
	Encode(base, block []byte) ([]byte, bool)
	// Decode applies a delta; the result has at most max bytes.
	Decode(base, delta []byte, max int) ([]byte, error)
}

// Editor makes documents of edits. Like a Codec's deltas they are an encoding
// on the wire and never an address.
type Editor interface {
	// Edits returns what turns the manifest at have, which may be undefined,
	// into that at want: at most wire.MaxEdits bytes, always the same for the
	// same roots. An error means that there is no such document: a manifest is
	// not here, or it would be too large.
	Edits(ctx context.Context, have, want cid.Cid) ([]byte, error)
}

// BlockRequest is what a fetch asks of one peer.
type BlockRequest struct {
	Requester peer.ID // whose job it is
	Job       job.ID
	Grant     job.Signed
	Wants     []BlockWant
	Urgent    bool // a device waits for them
}

// BlockWant asks for one block, with blocks that the asker holds as bases.
type BlockWant struct {
	ID    cid.Cid
	Bases []cid.Cid
}

// BlockResult is one answer, checked against its CID.
type BlockResult struct {
	ID    cid.Cid
	Data  []byte
	Moved int64 // bytes that crossed the network for it
	Err   error // of this block; the peer has it not, or may not give it
}

// EditsRequest asks one peer for a document of edits.
type EditsRequest struct {
	Requester peer.ID // whose job it is
	Job       job.ID
	Grant     job.Signed
	Want      cid.Cid // root of the manifest to make
	Have      cid.Cid // root of one that the asker holds; undefined: none
	// Past is the read grant that the requester once signed for Have. It may
	// have expired.
	Past job.Signed
}

// Blocks fetches from peers.
type Blocks interface {
	// Gather asks all who have blocks of a job for them.
	Gather(ctx context.Context, r ShareRequest) iter.Seq2[BlockResult, error]
	FetchFrom(ctx context.Context, from peer.ID, r BlockRequest) iter.Seq2[BlockResult, error]
	// EditsFrom returns a document of edits and what crossed the network.
	EditsFrom(ctx context.Context, from peer.ID, r EditsRequest) (doc []byte, moved int64, err error)
}
