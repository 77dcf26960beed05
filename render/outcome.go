package render

import (
	"errors"
	"fmt"

	"idlewild/job"
)

// OutcomeError is an error that knows which outcome it means for the task:
// would another peer fail too?
type OutcomeError struct {
	Outcome job.Outcome
	Reason  string // one sentence for people
	Log     []byte // of the process, where there was one; at most MaxLogBytes
}

func (e *OutcomeError) Error() string { return e.Reason }

// BrokenError returns an error that means Broken: another peer would not fail.
func BrokenError(format string, args ...any) error {
	return &OutcomeError{Outcome: job.Broken, Reason: fmt.Sprintf(format, args...)}
}

// Why a request got no closing event, besides the end of its context.
var (
	// ErrDied is matched by the error of a process that ended by itself.
	ErrDied = errors.New("the process ended")
	// ErrTimeout is matched by the error of a request that took too long.
	ErrTimeout = errors.New("over its time")
	// ErrMemory is matched by the error of a process that was ended because
	// it used more memory than this machine gives.
	ErrMemory = errors.New("over its memory")
	// ErrThreads is matched by the error of a process that was ended because
	// it started too many others.
	ErrThreads = errors.New("over its threads")
	// ErrDisk is matched by the error of a process that was ended because it
	// wrote too much.
	ErrDisk = errors.New("over its disk space")
	// ErrCPU is matched by the error of a process that was ended because it
	// computed too long.
	ErrCPU = errors.New("over its processor time")
	// ErrContract is matched by the error of a runner that wrote something
	// else than events.
	ErrContract = errors.New("the runner broke its contract")
)

// ofDeath is what the end of a process means for the task.
func ofDeath(err error) job.Outcome {
	if errors.Is(err, ErrMemory) {
		return job.OutOfMemory
	}
	return job.Broken
}

// end fills in how r ended from err: an OutcomeError says so itself, all
// others mean otherwise.
func (r Result) end(err error, otherwise job.Outcome) Result {
	r.Outcome = otherwise
	var o *OutcomeError
	if errors.As(err, &o) && o.Outcome.Valid() && o.Outcome != job.Succeeded {
		r.Outcome = o.Outcome
		if len(r.Log) == 0 {
			r.Log = o.Log
		}
	}
	r.Reason = sentence(err.Error(), job.MaxReasonBytes)
	return r
}
