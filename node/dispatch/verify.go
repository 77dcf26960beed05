package dispatch

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// Verified is what reading a job's journal came to.
type Verified struct {
	Job       job.ID    `json:"job"`
	State     job.State `json:"state"`
	Records   int       `json:"records"`
	Bytes     int64     `json:"bytes"`
	Tasks     int       `json:"tasks"`
	Accepted  int       `json:"accepted"` // tasks that have a result
	Delivered int       `json:"delivered"`
	Receipts  int       `json:"receipts"`      // that are still here: of a result that is done with the ledger has it
	Forged    int       `json:"forged"`        // receipts whose signature is not their worker's
	Bad       string    `json:"bad,omitempty"` // what is damaged, and where
}

// Recorder keeps a journal of what a board wants written, as a Dispatcher does
// but for waiting for the disk. It is for benchmarks.
type Recorder struct {
	n       *journal
	Written int64 // bytes appended, rewriting aside
}

// NewRecorder opens the journal in dir.
func NewRecorder(dir string) (*Recorder, error) {
	n, _, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	return &Recorder{n: n}, err
}

// Record writes the records among the effects of one step.
func (r *Recorder) Record(out []Effect) error {
	var ws []Write
	w := rewriter{}
	for _, e := range out {
		if x, ok := e.(Write); ok {
			ws = append(ws, x)
			w.add(x.Record)
		}
	}
	for _, f := range w.frames {
		r.Written += int64(len(f)) + recordlog.FrameBytes
	}
	_, err := r.n.append(ws)
	return err
}

// Bytes is the length of a job's journal now.
func (r *Recorder) Bytes(id job.ID) int64 {
	if l := r.n.logs[id]; l != nil {
		return l.Bytes()
	}
	return 0
}

// Close puts everything on disk.
func (r *Recorder) Close() error { return r.n.close() }

// Replay reads a job's journal as a start does, and says how many records it
// has.
func Replay(dir string, id job.ID) (records int, err error) {
	_, _, records, err = readJournal(dir, journalOptions, id)
	return records, err
}

// readJournal replays a journal and leaves it as it is.
func readJournal(dir string, o recordlog.Options, id job.ID) (j *jobState, found recordlog.Found, records int, err error) {
	path := filepath.Join((&journal{dir: dir}).jobDir(id), "journal")
	j = newJobState(id)
	found, err = recordlog.Check(path, o, j.replay)
	return j, found, j.records, err
}

// VerifyJournal reads the journal of a job below dir, as a Dispatcher would,
// checks each receipt's signature, and changes nothing.
func VerifyJournal(dir string, id job.ID) (Verified, error) {
	v := Verified{Job: id}
	j, found, records, err := readJournal(dir, journalOptions, id)
	v.Records = records
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, fmt.Errorf("%w: there is no journal of job %s in %s; see: idlewild status", job.ErrUnknownJob, id, dir)
	case errors.Is(err, recordlog.ErrNewer):
		return v, fmt.Errorf("journal of job %s: %w; update idlewild", id, err)
	case err != nil:
		return v, fmt.Errorf("journal of job %s: %w", id, err)
	}
	v.State, v.Bytes, v.Bad, v.Tasks = j.State(), found.Bytes, found.Bad, len(j.tasks)
	for _, t := range j.tasks {
		if t.accepted != nil {
			v.Accepted++
		}
		if t.placed {
			v.Delivered++
		}
	}
	for _, k := range j.receipts {
		if k.packed == "" {
			continue // not kept
		}
		v.Receipts++
		o, err := j.receiptOf(k)
		var r job.Receipt
		if err != nil || o.Signed.Open(o.Peer, job.ContextReceipt, job.MaxReceiptBytes, &r) != nil {
			v.Forged++
		}
	}
	return v, nil
}
