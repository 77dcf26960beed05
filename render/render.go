// Package render runs tasks on this machine: folders, sandbox, warm
// processes, events and outcome.
//
// A Kind turns a job.Task into a Command (how to start a process for it) and
// a Request (what to ask of it). A Process starts sessions; a session is a warm
// process, a Blender with a scene open on a device, that answers one request
// after the other. An Executor runs one task from folders to outcome; the
// decorators around it (retry, health, log) each do one thing more.
package render

import (
	"context"
	"errors"
	"time"

	"idlewild/job"
)

// Executor runs tasks.
type Executor interface {
	// Ready says whether a task can be taken now, and if not why.
	Ready(ctx context.Context) error
	// Execute runs t to its end. Trouble is in the Result, never beside it.
	// It returns when no process of the task is left to write into dirs.
	Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result
}

// Task is a job.Task with where it runs.
type Task struct {
	job.Task
	Requester string // peer id: sessions are never shared between requesters
	Content   string // identity of the files in Dirs.In
	Device    job.Device
}

// Dirs are the folders of one task, made by the caller. In and Prior are only
// read, Out is only written.
type Dirs struct {
	In    string   // the materialised input tree; the same folder for all tasks of one Content
	Prior []string // outputs of the predecessors, same order as Task.After
	Out   string   // empty at the start
	// Given are files of one more folder, the last of the predecessors', which are
	// in memory: path with slashes to content.
	Given map[string][]byte
	// Trees are folders that predecessors left, in no folder of Prior: they are
	// shown where they lie, and may get more files.
	Trees []Tree
	// Shown are files that lie elsewhere and appear in In, in place of the empty
	// ones there; the same for all tasks of one In.
	Shown []Shown
}

// Tree is a folder that a predecessor left.
type Tree struct {
	Prior int    // its index
	Name  string // the predecessor's output
	Dir   string // on this machine; in a Mount, where the process sees it
}

// Shown is a file of this machine that a process sees, read-only, among its
// inputs. It is this very file or the process does not start: whoever may write
// to its folder could put something else under its name.
type Shown struct {
	Name  string `json:"name"` // in the folder of inputs, with slashes
	Path  string `json:"path,omitempty"`
	Dev   uint64 `json:"dev"`
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // nanoseconds since 1970
}

// errNotShown is why a process that has no mounts of its own is not started.
var errNotShown = errors.New("files that lie elsewhere can only be shown inside a sandbox")

// Progress of a running task.
type Progress struct {
	Phase    string  // "loading", "rendering", "saving"
	Fraction float64 // 0 to 1
	// Data is what is known of the outputs by now, where somebody waits for it:
	// JSON, of the kind's own. It is the process's claim like any output.
	Data []byte
}

// Result is how an attempt ended.
type Result struct {
	Outcome job.Outcome
	Reason  string // of anything but succeeded: one sentence for people
	Meter   job.Meter
	Device  string // name of the device that did the work, asserted by the runner
	Build   string // of the program that did it
	Runner  string // CID of the runner's files
	Log     []byte // the attempt's own output, bounded (MaxLogBytes)

	reused bool // a warm session died, or had too little memory, when it was used again
}

// MaxLogBytes bounds the log kept of one attempt: its beginning and its end.
const MaxLogBytes = 1 << 20

// Kind is a sort of work, on the side that runs it. All but Probe is pure.
type Kind interface {
	// Probe finds out what this machine can do for the kind: facts for
	// job.Machine, and warnings for people where something is missing.
	Probe(ctx context.Context) (facts map[string][]string, warnings []string, err error)
	// Session names the warm process that t needs and how to start it.
	// Tasks with equal keys may use one process, one after the other.
	Session(t Task, dirs Dirs) (key string, cmd Command, err error)
	// Request is what to ask of that process.
	Request(t Task, at Mount) (Request, error)
}

// Follower is a Kind whose processes say how far they are in words of their
// own, beside "progress" events.
type Follower interface {
	// Follow is for one request; say takes what was understood.
	Follow(say func(Progress)) Listener
}

// Explainer is a Kind that can tell from the log of a process that ended by
// itself what that means for the task: the empty Outcome where it cannot.
type Explainer interface {
	Explain(log []byte) job.Outcome
}

// Listener hears a process while it works on one request. Its methods may be
// called at the same time.
type Listener interface {
	// Event gets every event but the closing one.
	Event(Event)
	// Line gets every line of the process's log, as Request.Lines does.
	Line(line []byte)
}

// Measurer is a Listener that hears how much memory of its device the process
// takes.
type Measurer interface {
	Peak() int64 // bytes at the highest; 0: nothing was said
}

// Mount tells a Request where the process sees its folders.
type Mount struct {
	In    string
	Prior []string
	Trees []Tree
	Out   string
}

// Command starts a session's process.
type Command struct {
	Path string   // of the program
	Args []string // In is at MountIn inside the sandbox: use expand's variables {in} and {runner}
	Env  []string // complete: nothing is inherited
	// Runner is a folder of files that the process may read, at {runner}.
	Runner string
	// Devices are what it needs of the machine's accelerators (device nodes).
	Devices []job.Device
	// ReadOnly are folders of this machine that the program itself needs.
	ReadOnly     []string
	MemoryBytes  int64 // the session is recycled when its process exceeds this
	MemoryLimit  int64 // the process is ended when it exceeds this; 0: the Process's own limit
	StartTimeout time.Duration
	Priority     Priority
}

// Request is one line for a warm process: JSON, an object.
type Request struct {
	JSON    []byte
	Timeout time.Duration
	// Lines, where it is not nil, gets each line that the process prints, as
	// long as the request runs: without its end, at most 4 KiB, valid only
	// during the call.
	Lines func(line []byte)
}

// Event is one line that a runner wrote: a JSON object with at least "event".
type Event struct {
	Name string // "ready", "progress", "error", "done", or the kind's own
	JSON []byte
}

// Exit is how one request ended.
type Exit struct {
	// Done is the runner's closing event; nil where the process ended or was
	// ended before it came.
	Done []byte
	// Err is why there is no Done: the process died (with its exit code or
	// signal), was over its memory or time, or ctx ended.
	Err   error
	Log   []byte
	Meter job.Meter
}

// Process starts sessions.
type Process interface {
	// Start starts cmd for a session whose folders are below root: root/in is
	// read-only, root/work is writable. It returns once the runner is ready.
	Start(ctx context.Context, cmd Command, root SessionRoot) (Session, error)
}

// SessionRoot is what a session's process may see of the disk.
type SessionRoot struct {
	In   string // read-only, at MountIn
	Work string // writable, at MountWork; holds one folder per request
	// Shown are files that appear in In; see Dirs.
	Shown []Shown
	// Trees are further folders, read-only, at MountTrees by their number.
	Trees []string
}

// Where a session's folders appear inside the sandbox. Without a sandbox they
// are the real paths.
const (
	MountIn     = "/idlewild/in"
	MountWork   = "/idlewild/work"
	MountRunner = "/idlewild/runner"
	MountTrees  = "/idlewild/trees"
)

// Session is a warm process.
type Session interface {
	// Mounts tells where the process sees In and Work.
	Mounts() (in, work string)
	// Trees tells where it sees SessionRoot.Trees, in their order.
	Trees() []string
	// Do sends one request and passes on its events until the closing one.
	// When ctx ends the whole process tree is killed; the session is over.
	Do(ctx context.Context, r Request, events func(Event)) Exit
	// Alive reports whether another Do can succeed.
	Alive() bool
	// Close ends the process tree and waits for it.
	Close() error
}
