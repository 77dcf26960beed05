// Package dispatch is the requester's half: it owns this machine's jobs, from
// Spec to delivered files.
//
// A pure Board decides: step(now, event) gives effects and never touches clock,
// disk or network. A Dispatcher drives it with one goroutine; another writes the
// journal before anything is acknowledged, carries out the effects and feeds
// back what came of them. What it needs of the rest of the program is declared
// here, in small interfaces.
package dispatch

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Kind plans one sort of work. All but Inspect is pure.
type Kind interface {
	// Inspect looks at what a spec asks for, on this machine. Problems are
	// for the artist; err is for trouble with looking.
	Inspect(ctx context.Context, s job.Spec) (job.Inspection, error)
	// Plan cuts a job into tasks, each with a distinct key. input is the
	// manifest of the inspection's Deps, undefined where there are none.
	Plan(s job.Spec, in job.Inspection, input cid.Cid) ([]job.Task, error)
}

// Content puts a job's files where workers can get them.
type Content interface {
	// Snapshot stores the files as a manifest pinned under the job.
	Snapshot(ctx context.Context, id job.ID, deps []job.Dep, exact bool) (Snapshot, error)
	// Served returns the bytes of the job's content that went to other peers.
	Served(id job.ID) int64
	// Release gives up the job's pins.
	Release(ctx context.Context, id job.ID) error
}

// Snapshot is what storing a job's files came to.
type Snapshot struct {
	Root      cid.Cid `json:"root"`
	Files     int     `json:"files"`
	Bytes     int64   `json:"bytes"`     // of the files
	NewBytes  int64   `json:"new_bytes"` // of blocks that no earlier job had
	NewBlocks int     `json:"new_blocks"`
	Disks     cid.Cid `json:"-"` // of a file with the list of job.DiskFile; undefined: there are none
}

// Market announces open work to the farm.
type Market interface {
	Announce(ctx context.Context, o job.Offer) error
}

// Results brings the outputs of a receipt here.
type Results interface {
	// Fetch gets every output of a result, checks the bytes against their
	// CIDs and writes them below dir under their names, on disk for good.
	// moved is what crossed the network.
	Fetch(ctx context.Context, r Returned, dir string) (moved int64, err error)
}

// Returned is a result that is still at its worker.
type Returned struct {
	Worker peer.ID
	Job    job.ID
	Leaf   job.Leaf
	Inline []job.Block // came with the report: used before asking
	// Keep says that later tasks read the outputs, so that their blocks have to
	// stay where workers get them; otherwise the files in dir are enough.
	Keep bool
	// Origin, where it is not empty, is the peer whose job this machine goes on
	// with; it will want the outputs as well. What its own workers did before they
	// give to whoever shows Delegation.
	Origin     peer.ID
	Delegation job.Signed
}

// Judge verifies results. Challenge is pure; Judge only reads files.
type Judge interface {
	// Challenge draws, from the secret and the leaf's root, the tasks whose
	// results the claim is compared with; none where the policy, the method
	// or the peer's score (see Book) asks for no check.
	Challenge(t job.Task, leaf job.Leaf, secret []byte, rate float64) ([]job.Task, error)
	// Judge compares the claim in dir with the evidence.
	Judge(ctx context.Context, t job.Task, leaf job.Leaf, dir string, evidence []Evidence) job.Verdict
	// Learn takes in what devices of two classes make of the same honest work.
	// It does not wait for anything.
	Learn(t job.Task, v Vouched)
}

// Vouched is a claim that Judge rejected, by what another device class renders,
// and that agrees with what a member of the worker's class renders in the same
// places.
type Vouched struct {
	Worker, By     peer.ID
	Class, Against string      // the device classes of the claim, and of what Judge compared it with
	Found          job.Verdict // what Judge said
}

// Evidence is the result of one challenge task.
type Evidence struct {
	Task job.Task
	Leaf job.Leaf
	Dir  string // its outputs
}

// Book remembers what was found about peers.
type Book interface {
	// Record stores a receipt's leaf with its verdict before it returns.
	Record(worker peer.ID, receipt job.Signed, leaf job.Leaf, v job.Verdict) error
	// Score says how a peer stands, from everything recorded.
	Score(worker peer.ID) Score
}

// Score of a peer.
type Score = job.Score

// Audit keeps who was given what.
type Audit interface {
	// Given is called before a peer gets the right to read a job's content. Once
	// it returned nil the fact is on disk.
	Given(g Given) error
}

// Given is a right to read that one peer gets.
type Given struct {
	At      time.Time
	Peer    peer.ID
	Job     job.ID
	Root    cid.Cid   // manifest of the job's content; undefined: the job has none, only results of its tasks
	Expires time.Time // the right ends
}

// Sink takes finished files.
type Sink interface {
	// Deliver puts the outputs that have a Final name, which lie in dir under
	// their Names, into the job's output folder: beside, fsync, rename.
	// Nothing has its final name before.
	Deliver(ctx context.Context, s job.Spec, t job.Task, dir string) ([]string, error)
	// Delivered reports whether every final file of t is already there.
	Delivered(s job.Spec, t job.Task) bool
	// Kept reports whether every final file of t is there and was not written to
	// after that time.
	Kept(s job.Spec, t job.Task, at time.Time) bool
	// Differs compares the outputs of t that lie in dir with its final files that
	// are there, as pictures where they are some, and says in which way they
	// differ; "" where they do not.
	Differs(ctx context.Context, s job.Spec, t job.Task, dir string) (string, error)
	// Check says whether the output folder can be written at all.
	Check(s job.Spec) error
}

// Housed is a Sink whose folder may be moved away while a job runs. It says what
// is wrong if the folder that files were delivered to is not there any more: the
// rest must not go into a second one without a word.
type Housed interface {
	Housed(s job.Spec) error
}
