package dispatch

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Event is something that happened outside the board.
type Event interface{ event() }

type (
	// Submitted: a person asked for a job. Ack is answered when it is on disk.
	Submitted struct {
		ID     job.ID
		Spec   job.Spec
		Secret []byte
		Ack    any
	}
	// Prepared says how far inspecting, storing and planning are.
	Prepared struct {
		ID       job.ID
		Text     string
		Fraction float64
	}
	// Refused: the job does not begin.
	Refused struct {
		ID       job.ID
		Problems []job.Problem
		Reason   string
	}
	// Planned: the tasks are known.
	Planned struct {
		ID       job.ID
		Facts    []byte
		Problems []job.Problem
		Snapshot Snapshot
		Tasks    []job.Task
		Skipped  []int // indexes of tasks that need not run
		Reuse    Reuse // why some of them need not
	}
	// Opened: a worker's stream is there. A newer one of the same peer ends
	// the older.
	Opened struct {
		Peer   peer.ID
		Stream uint64
		Score  Score
	}
	// Reported: a report came on a stream, with its receipts opened.
	Reported struct {
		Peer     peer.ID
		Stream   uint64
		Report   job.Report
		Receipts []OpenedReceipt
	}
	// Closed: the stream ended.
	Closed struct {
		Peer   peer.ID
		Stream uint64
	}
	// Fetched: outputs of a result, or of a check, are in their folder and on
	// disk, or could not be had.
	Fetched struct {
		ID    job.ID
		Fence uint64
		Moved int64
		Err   error
		Local bool // Err is this machine's own: a full disk, say
	}
	// Challenged: what a result is compared with; no tasks: it is not checked.
	Challenged struct {
		ID    job.ID
		Fence uint64
		Tasks []job.Task
		Share float64 // of the peer's results that are checked
		Err   error
	}
	// Judged: a verdict was found.
	Judged struct {
		ID      job.ID
		Fence   uint64
		Verdict job.Verdict
	}
	// Booked: the verdict is in the book, or could not be written.
	Booked struct {
		ID     job.ID
		Fence  uint64
		Worker peer.ID
		Strike bool // see Enter
		Score  Score
		Err    error
	}
	// Scored: a peer stands otherwise than before, by what the owner or other
	// members said.
	Scored struct {
		Peer  peer.ID
		Score Score
	}
	// Delivered: the final files of a task are in the output folder, or not.
	Delivered struct {
		ID    job.ID
		Task  int
		Fence uint64
		Files []string
		// Differs says how the files differ from those that they were compared
		// with; nothing was delivered then.
		Differs string
		Err     error
	}
	// Adopted: delivered files of a task are stored again for those after it,
	// or cannot be.
	Adopted struct {
		ID      job.ID
		Task    int
		Outputs []job.Output
		Err     error
	}
	// Lost: the folder of a result is gone; it counts as never returned.
	Lost struct {
		ID    job.ID
		Fence uint64
	}
	// Crowded: other programs of this machine's owner keep its processor busy,
	// or no longer do. Its checks rest for a while after each, see checkRest.
	Crowded struct{ Crowded bool }
	// Steered: a person cancels, pauses or resumes.
	Steered struct {
		ID     job.ID
		Action job.Action
		Ack    any
	}
	// Requeued: a person wants tasks of that label again.
	Requeued struct {
		ID    job.ID
		Label string
		Ack   any
	}
	// Cleaned: the job's folders are gone and its content is released.
	Cleaned struct {
		ID     job.ID
		Served int64
	}
	// Tick: time passed; see Board.Deadline.
	Tick struct{}
)

func (Submitted) event()  {}
func (Prepared) event()   {}
func (Refused) event()    {}
func (Planned) event()    {}
func (Opened) event()     {}
func (Reported) event()   {}
func (Closed) event()     {}
func (Fetched) event()    {}
func (Challenged) event() {}
func (Judged) event()     {}
func (Booked) event()     {}
func (Crowded) event()    {}
func (Scored) event()     {}
func (Delivered) event()  {}
func (Adopted) event()    {}
func (Lost) event()       {}
func (Steered) event()    {}
func (Requeued) event()   {}
func (Cleaned) event()    {}
func (Tick) event()       {}

// Effect is something that the board wants done, in this order. Every effect
// waits until the records before it are on disk.
type Effect interface{ effect() }

type (
	// Write appends a record to the job's journal.
	Write struct {
		ID     job.ID
		Record record
	}
	// Send gives an order to a worker's stream.
	Send struct {
		Peer   peer.ID
		Stream uint64
		Order  job.Order
	}
	// Hangup ends a worker's stream.
	Hangup struct {
		Peer   peer.ID
		Stream uint64
	}
	// Announce offers open work.
	Announce struct{ Offer job.Offer }
	// Prepare inspects, stores and plans.
	Prepare struct {
		ID   job.ID
		Spec job.Spec
	}
	// Fetch brings a result here; answered by Fetched.
	Fetch struct {
		ID     job.ID
		Fence  uint64
		For    uint64 // fence of the result that this is evidence for; 0: it is a result
		Worker peer.ID
		Leaf   job.Leaf
		Inline []job.Block
		Keep   bool // later tasks read the outputs
		// Origin is whose job it is, where it is not this machine's, and Delegation
		// what shows that.
		Origin     peer.ID
		Delegation job.Signed
	}
	// Challenge draws the checks of a result; answered by Challenged.
	Challenge struct {
		ID     job.ID
		Fence  uint64
		Worker peer.ID
		Task   job.Task
		Leaf   job.Leaf
		Secret []byte
		Rate   *float64 // asked for by the job; nil: by the book
		// Stranger is set where the worker is no member: then neither counts below
		// the book's and strangerRate.
		Stranger bool
	}
	// Compare judges a result; answered by Judged.
	Compare struct {
		ID       job.ID
		Fence    uint64
		Task     job.Task
		Leaf     job.Leaf
		Evidence []evidence
	}
	// Enter puts a verdict into the book; answered by Booked.
	Enter struct {
		ID      job.ID
		Fence   uint64
		Worker  peer.ID
		Signed  job.Signed
		Leaf    job.Leaf
		Verdict job.Verdict
		Strike  bool // it ends nothing: it is only counted
	}
	// Deliver hands finished files to the artist; answered by Delivered.
	Deliver struct {
		ID    job.ID
		Fence uint64
		Index int
		Spec  job.Spec
		Task  job.Task
		// Compare the files with those that are there first.
		Compare bool
		// Begun: others of the job were delivered, so its folder is there.
		Begun bool
	}
	// Adopt stores the delivered files of a task again; answered by Adopted.
	Adopt struct {
		ID    job.ID
		Index int
		Spec  job.Spec
		Task  job.Task
	}
	// Discard removes the folders of a result.
	Discard struct {
		ID    job.ID
		Fence uint64
	}
	// Vouch has the judge learn of a claim that it found wrong and that is right.
	Vouch struct {
		ID   job.ID
		Task job.Task
		Vouched
	}
	// SaveLog keeps what a task said in an attempt.
	SaveLog struct {
		ID     job.ID
		Index  int
		Worker peer.ID
		Leaf   job.Leaf
	}
	// Clean removes a job's folders and releases its content; answered by
	// Cleaned.
	Clean struct{ ID job.ID }
	// Emit tells whoever watches.
	Emit struct{ Event job.Event }
	// Ack answers a person.
	Ack struct {
		Token any
		Err   error
	}
	// Note is for the log.
	Note struct {
		Text string
		Args []any
	}
)

func (Write) effect()     {}
func (Send) effect()      {}
func (Hangup) effect()    {}
func (Announce) effect()  {}
func (Prepare) effect()   {}
func (Fetch) effect()     {}
func (Challenge) effect() {}
func (Compare) effect()   {}
func (Enter) effect()     {}
func (Deliver) effect()   {}
func (Adopt) effect()     {}
func (Discard) effect()   {}
func (Vouch) effect()     {}
func (SaveLog) effect()   {}
func (Clean) effect()     {}
func (Emit) effect()      {}
func (Ack) effect()       {}
func (Note) effect()      {}
