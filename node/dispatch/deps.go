package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// Deps is what a Dispatcher needs of the rest of the program. All are
// required but Audit, Disk and Log.
type Deps struct {
	Self    peer.ID           // this machine: the requester, and the worker that may do AtRequester tasks
	Key     job.Signer        // of Self: signs read grants
	Kinds   map[job.Kind]Kind // the planners, by the name of their kind
	Content Content
	Market  Market
	// Results may also be a LogFetcher and an Adopter.
	Results Results
	Judge   Judge
	Book    Book
	Sink    Sink
	Audit   Audit          // nil: nobody keeps who was given what
	Dir     string         // journal, staging and evidence lie below it; used by one Dispatcher at a time
	Disk    recordlog.Disk // of the journal; nil: the machine's own
	Log     *slog.Logger
}

// Options tune a Dispatcher. The zero value is meant for use.
type Options struct {
	LeaseTTL  time.Duration // time after the last report until a lease is granted anew; 60 s
	BeatEvery time.Duration // how often workers report when nothing happens; 20 s
	Announce  time.Duration // how often open work is announced again; 60 s
	// MaxLeaseTasks bounds the tasks of one lease; 64.
	MaxLeaseTasks int
	// LeaseWork is how much predicted work goes into one lease at most, where
	// it holds more than one task; 25 s.
	LeaseWork time.Duration
	// Credit is how many leases one device may hold: one runs, the others are
	// fetched meanwhile; 2.
	Credit int
	// Fetches is how many results are fetched at a time; 16.
	Fetches int
	// Judges is how many results are judged at a time; 2.
	Judges int
	// Behind is how much checking may wait for this machine before members are
	// asked to help; 20 s.
	Behind time.Duration
	// Checkers are the members that may check for this machine whatever their
	// device class.
	Checkers []peer.ID
	// Member reports whether a peer belongs to the farm. One that does not is a
	// stranger: it works on jobs that say so, and decides nothing. nil: all do.
	Member func(peer.ID) bool
	// Name is what people call a peer, where something is said of it; the end of
	// its id.
	Name func(peer.ID) string
	// Remedy says how a machine comes to have a fact that a task needs, "" where
	// nothing is known; nothing is.
	Remedy func(fact string) string
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.Name == nil {
		o.Name = short
	}
	if o.Remedy == nil {
		o.Remedy = func(string) string { return "" }
	}
	set(&o.LeaseTTL, 60*time.Second)
	set(&o.BeatEvery, 20*time.Second)
	set(&o.Announce, 60*time.Second)
	set(&o.LeaseWork, 25*time.Second)
	set(&o.Behind, 20*time.Second)
	num(&o.MaxLeaseTasks, 64)
	num(&o.Credit, 2)
	num(&o.Fetches, 16)
	num(&o.Judges, 2)
	o.MaxLeaseTasks = min(o.MaxLeaseTasks, job.MaxTasksPerLease)
	return o
}

// Adopter is what Results may also be: it takes delivered files for outputs.
type Adopter interface {
	// Adopt stores files, one for each output of t, where workers get them. They
	// are the job's until its content is released.
	Adopt(ctx context.Context, id job.ID, t job.Task, files []string) ([]job.Output, error)
}

// LogFetcher is what Results may also be: it brings the log that a leaf names.
type LogFetcher interface {
	// Log gets the text of leaf.Log from worker or from here, at most
	// 1 MiB of it.
	Log(ctx context.Context, worker peer.ID, id job.ID, leaf job.Leaf) ([]byte, error)
}
