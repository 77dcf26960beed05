// Package worker is the provider's half: it finds open work, takes what this
// machine can do, runs it and keeps each receipt until the requester settled
// it.
//
// A Worker owns one link per requester it works for and one queue per device.
// What it needs of the network and the store is declared here.
package worker

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Swarm finds requesters.
type Swarm interface {
	// Offers yields open work as it is announced, until ctx ends.
	Offers(ctx context.Context) iter.Seq[job.Offer]
	// Join opens the sync stream to a requester. ctx bounds the opening, not
	// the life of the link.
	Join(ctx context.Context, requester peer.ID) (Link, error)
}

// Link is one open sync stream.
type Link interface {
	// Send queues a report; it returns an error once the link is cut.
	Send(ctx context.Context, r job.Report) error
	// Orders yields what the requester says, until the link is cut or closed.
	Orders() iter.Seq[job.Order]
	// Close ends the link after what was sent has gone out, as far as that
	// goes within a second or so.
	Close() error
}

// Unpacked returns the folder in which another content of the same requester
// lies complete, and when it was; empty where it does not. It stays until
// release is called.
type Unpacked func(input job.Ref) (dir string, since time.Time, release func())

// ErrNoRoom is matched by Extend's error about a folder that would be too large.
var ErrNoRoom = errors.New("too large for the unpacked content of one job")

// Content is what came of unpacking one.
type Content struct {
	Moved int64 // bytes that crossed the network
	// Elsewhere: files of it lie outside of its folder, and only this process
	// knows where.
	Elsewhere bool
}

// Assets moves content between blocks and folders.
type Assets interface {
	// Materialize makes dir hold the files of lease's input that its tasks read
	// (job.Lease.Wants), fetching what is missing from the requester and from
	// others who may serve it. They are all there or an error came back. It may
	// share files with a folder that unpacked names.
	Materialize(ctx context.Context, requester peer.ID, l job.Lease, input job.Ref, dir string, unpacked Unpacked, progress func(fraction float64)) (Content, error)
	// Extend adds to a folder that Materialize made, for a lease with other tasks,
	// what these read and is not in it: each file at once and whole, since tasks
	// may look at the folder. More than room bytes are ErrNoRoom.
	Extend(ctx context.Context, requester peer.ID, l job.Lease, input job.Ref, dir string, room int64, progress func(fraction float64)) (Content, error)
	// Sound reports why a folder that Materialize made may not be used any more;
	// nil: it may.
	Sound(dir string) error
	// Prior makes dir hold a predecessor's outputs under their names, but for
	// folders (job.MediaTree): these are inputs like others.
	Prior(ctx context.Context, requester peer.ID, l job.Lease, p job.Prior, dir string) error
	// Collect stores the outputs that rules name in dir as blocks pinned
	// under the job, and the small ones once more for the report. A file that
	// a rule names and that is not there is an error.
	Collect(ctx context.Context, requester peer.ID, id job.ID, dir string, rules []job.OutputRule) ([]job.Output, []job.Block, error)
	// Log stores an attempt's log.
	Log(ctx context.Context, requester peer.ID, id job.ID, text []byte) (job.Ref, error)
	// Release gives up what Collect and Log pinned under the job. What this
	// machine's own requester pinned for the same job is something else.
	Release(ctx context.Context, id job.ID) error
}

type waitingKey struct{}

// withWaiting marks what a device waits for.
func withWaiting(ctx context.Context) context.Context {
	return context.WithValue(ctx, waitingKey{}, true)
}

// Waiting reports whether a device stands idle until what is fetched with ctx is
// here: it goes before what is fetched ahead.
func Waiting(ctx context.Context) bool { return ctx.Value(waitingKey{}) != nil }
