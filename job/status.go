package job

import (
	"errors"
	"strings"
	"time"
)

// State is where a job stands. States are past participles.
type State string

const (
	StateAccepted  State = "accepted"  // the spec is on disk; inspecting, storing or planning
	StatePlanned   State = "planned"   // tasks are known, work goes on
	StatePaused    State = "paused"    // no new leases until resumed
	StateFinished  State = "finished"  // every task is delivered
	StateFailed    State = "failed"    // some tasks failed for good, or it never began
	StateCancelled State = "cancelled" // by a person
)

// Ended reports whether nothing more will happen to the job.
func (s State) Ended() bool {
	return s == StateFinished || s == StateFailed || s == StateCancelled
}

// Status is a job as people and programs see it.
type Status struct {
	Job       ID        `json:"job"`
	Title     string    `json:"title"`
	Kind      Kind      `json:"kind"`
	State     State     `json:"state"`
	Reason    string    `json:"reason,omitempty"` // why it is in that state, or why nothing happens
	Submitted time.Time `json:"submitted"`
	File      string    `json:"file,omitempty"` // that was submitted, on this machine
	Output    string    `json:"output,omitempty"`
	Priority  int       `json:"priority,omitempty"` // among this machine's jobs, higher first

	Tasks     int `json:"tasks"` // that end in a delivered file
	Delivered int `json:"delivered"`
	Running   int `json:"running"`
	Waiting   int `json:"waiting"`
	FailedN   int `json:"failed"`
	Skipped   int `json:"skipped"` // were there already
	// Reused are those of the skipped that are as an earlier job delivered them,
	// because nothing that they depend on changed since.
	Reused       int `json:"reused,omitempty"`
	ReusedFrom   ID  `json:"reused_from,omitempty"`
	ReuseChecked int `json:"reuse_checked,omitempty"` // made anew, and found to be the same

	Rechecked int `json:"rechecked"`
	Accepted  int `json:"accepted"`
	Rejected  int `json:"rejected"`
	Unsure    int `json:"unsure"`

	ContentBytes int64 `json:"content_bytes"` // of the job's files
	NewBytes     int64 `json:"new_bytes"`     // of it, that no earlier job stored
	// UploadedBytes is what others read of the job here: content that went to workers,
	// results that later tasks need, and a steward's copies of both.
	UploadedBytes int64 `json:"uploaded_bytes"`
	ResultBytes   int64 `json:"result_bytes"` // outputs that crossed the network to here
	Messages      int   `json:"messages"`     // reports and orders that were about this job
	// UnderWay is how far the running tasks are, together: the sum of their fractions.
	UnderWay      float64 `json:"under_way,omitempty"`
	WallSeconds   float64 `json:"wall_s"`   // from submission to now or the end
	RenderSeconds float64 `json:"render_s"` // sum over accepted tasks, by the workers' clocks
	// Efficiency is RenderSeconds over the sum of the time that each worker
	// was joined to the job and the job had work for it, 0 to 1.
	Efficiency float64 `json:"efficiency"`
	// LeftSeconds is the expected time to the end; 0 where unknown.
	LeftSeconds float64 `json:"left_s,omitempty"`
	// LeftLow and LeftHigh are the range that it is meant to lie in.
	LeftLow  float64 `json:"left_low_s,omitempty"`
	LeftHigh float64 `json:"left_high_s,omitempty"`
	// DeviceSeconds is the device time of all results, as the budget counts it;
	// BudgetSeconds is what they may take, 0 without a budget.
	DeviceSeconds float64 `json:"device_s,omitempty"`
	BudgetSeconds float64 `json:"budget_s,omitempty"`
	// NeedMemoryBytes and NeedVRAMBytes are the memory that its tasks need, of a
	// machine and of a GPU: the most that one took, or that was too little; absent
	// before the first one ran.
	NeedMemoryBytes int64 `json:"need_memory_bytes,omitempty"`
	NeedVRAMBytes   int64 `json:"need_vram_bytes,omitempty"`
	// LeftDevice is the device time that the rest will take, in seconds, and
	// LeftResults the bytes of results that are still to come; absent where unknown.
	LeftDevice  *Span `json:"left_device_s,omitempty"`
	LeftResults *Span `json:"left_result_bytes,omitempty"`
	// Deadline is when the job should be finished, and LateSeconds how much later
	// than that it ended or is expected to end.
	Deadline    time.Time `json:"deadline,omitzero"`
	LateSeconds float64   `json:"late_s,omitempty"`
	// What else its requester asked for: see Limits and Policy.
	MaxWorkers  int      `json:"max_workers,omitempty"`
	Interactive bool     `json:"interactive,omitempty"`
	Only        []string `json:"only,omitempty"`
	Not         []string `json:"not,omitempty"`
	// Holder is the peer that grants the job's tasks now, where that is not its
	// requester on its own: a steward, on either machine.
	Holder string `json:"holder,omitempty"`
	// Origin, on a steward, is the peer whose job it is.
	Origin   string          `json:"origin,omitempty"`
	Stewards []StewardStatus `json:"stewards,omitempty"` // by rank
	Problems []Problem       `json:"problems,omitempty"`
	Frames   []TaskStatus    `json:"frames,omitempty"` // only where asked for
	Workers  []WorkerStatus  `json:"workers,omitempty"`
}

// Span is a number that is not known yet, and between what it is meant to lie.
type Span struct {
	Low    float64 `json:"low"`
	Likely float64 `json:"likely"`
	High   float64 `json:"high"`
}

// StewardStatus is a member that may go on with a job.
type StewardStatus struct {
	Peer string `json:"peer"`
	// State is "ready" (it has all that it needs), "following" (it still fetches),
	// "holding" (it goes on with the job, or did and gives it back), "silent" or
	// "refused".
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Heard  time.Time `json:"heard,omitzero"` // its last answer
}

// TaskStatus is one deliverable task of a job.
type TaskStatus struct {
	Label         string   `json:"label"`
	State         string   `json:"state"` // "waiting", "leased", "returned", "checked", "delivered", "failed", "skipped"
	Worker        string   `json:"worker,omitempty"`
	Attempts      int      `json:"attempts"`
	Fraction      float64  `json:"fraction,omitempty"`
	Verdict       *Verdict `json:"verdict,omitempty"`
	Reason        string   `json:"reason,omitempty"`
	Files         []string `json:"files,omitempty"`
	RenderSeconds float64  `json:"render_s,omitempty"`
}

// WorkerStatus is one peer's share of a job.
type WorkerStatus struct {
	Peer          string  `json:"peer"`
	Device        string  `json:"device"`
	Tasks         int     `json:"tasks"` // accepted or not checked
	Rejected      int     `json:"rejected"`
	RenderSeconds float64 `json:"render_s"`
	JoinedSeconds float64 `json:"joined_s"` // that it was here while there was work for it
	Resting       string  `json:"resting,omitempty"`
}

// Event is one thing that happened to a job, for whoever watches.
type Event struct {
	Seq      uint64    `json:"seq"` // grows by one; a watcher resumes after the last it saw
	Time     time.Time `json:"time"`
	Job      ID        `json:"job"`
	Type     EventType `json:"type"`
	Task     string    `json:"task,omitempty"` // label
	Worker   string    `json:"worker,omitempty"`
	Text     string    `json:"text,omitempty"`
	Files    []string  `json:"files,omitempty"`
	Verdict  *Verdict  `json:"verdict,omitempty"`
	Fraction float64   `json:"fraction,omitempty"`
}

// EventType says what an Event tells.
type EventType string

const (
	EventState     EventType = "state" // Text is the job's new State
	EventPhase     EventType = "phase" // Text says what is being done before tasks exist; Fraction
	EventLeased    EventType = "leased"
	EventProgress  EventType = "progress"
	EventReturned  EventType = "returned"
	EventJudged    EventType = "judged"    // Verdict
	EventDelivered EventType = "delivered" // Files
	EventBroken    EventType = "broken"    // an attempt ended and the task goes elsewhere
	EventFailed    EventType = "failed"    // a task failed for good
	EventWarning   EventType = "warning"
)

// Action is what a person does to a job.
type Action string

const (
	Cancel Action = "cancel"
	Pause  Action = "pause"
	Resume Action = "resume"
)

// ErrUnknownJob is returned for a job that this machine does not own.
var ErrUnknownJob = errors.New("no such job here")

// ErrRefused is matched by every error that keeps a job from beginning.
var ErrRefused = errors.New("refused")

// RefusedError says why a job does not begin.
type RefusedError struct{ Problems []Problem }

func (e *RefusedError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Refuse makes a RefusedError with one problem.
func Refuse(where, message, remedy string) error {
	return &RefusedError{Problems: []Problem{{Severity: SeverityError, Where: where, Message: message, Remedy: remedy}}}
}
