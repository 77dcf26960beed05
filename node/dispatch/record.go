package dispatch

import (
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"idlewild/job"
)

// Records are the durable facts of one job, in the order in which they became
// true. A record is one byte that names its sort and a CBOR array. Tasks, peers
// and receipts are named by their index: the order in which they came.
const (
	recJob     byte = 1
	recTasks   byte = 2
	recPlan    byte = 3
	recPeer    byte = 4
	recGrant   byte = 5
	recReceipt byte = 6
	recReturn  byte = 7
	recAttempt byte = 8
	recJudge   byte = 9
	recDeliver byte = 10
	recState   byte = 11
	recReset   byte = 12
	recFail    byte = 13
	recAccount byte = 14
	recClean   byte = 15
	recGiven   byte = 16
)

// maxRecordBytes bounds one record: a batch of planned tasks is the largest.
const maxRecordBytes = 16 << 20

// tasksPerRecord is how many planned tasks one record holds.
const tasksPerRecord = 1024

type record interface{ sort() byte }

type (
	// jobRecord is the first of every job.
	jobRecord struct {
		_         struct{} `cbor:",toarray"`
		ID        job.ID
		Spec      job.Spec
		Secret    []byte
		Submitted int64 // Unix microseconds
	}
	// tasksRecord holds tasks From, From+1, … : zstd over their encoding. They
	// count once a planRecord follows.
	tasksRecord struct {
		_    struct{} `cbor:",toarray"`
		From int
		Zip  []byte
	}
	planRecord struct {
		_        struct{} `cbor:",toarray"`
		Tasks    int
		Facts    []byte
		Problems []job.Problem
		Root     job.Ref
		Files    int
		Bytes    int64
		NewBytes int64
		Blocks   int
		Skipped  []int // indexes
	}
	peerRecord struct {
		_  struct{} `cbor:",toarray"`
		ID string
	}
	// grantRecord is written without waiting for the disk: losing it costs at
	// most a piece of work, done again.
	grantRecord struct {
		_      struct{} `cbor:",toarray"`
		Lease  []byte   // ULID
		Peer   int
		Device string
		Fence  uint64 // of the first task; the others follow
		Tasks  []int
	}
	receiptRecord struct {
		_    struct{} `cbor:",toarray"`
		Peer int
		Body []byte
		Sig  []byte
	}
	// returnRecord: a result is safe here, in its staging folder.
	returnRecord struct {
		_       struct{} `cbor:",toarray"`
		Task    int
		Receipt int
		Leaf    int
		Moved   int64
	}
	// attemptRecord: an attempt ended without a result.
	attemptRecord struct {
		_       struct{} `cbor:",toarray"`
		Task    int
		Peer    int
		Lease   []byte
		Fence   uint64
		Outcome job.Outcome
		Reason  string
	}
	judgeRecord struct {
		_     struct{} `cbor:",toarray"`
		Task  int
		Fence uint64
		Take  bool // it is the task's result now
		// Standard is the index of a standard verdict, -1 where Verdict says more.
		Standard int
		Verdict  *job.Verdict
	}
	deliverRecord struct {
		_     struct{} `cbor:",toarray"`
		Task  int
		Files []string // nil: the final names in the output folder
	}
	stateRecord struct {
		_        struct{} `cbor:",toarray"`
		State    job.State
		Reason   string
		At       int64
		Problems []job.Problem
		Messages int
	}
	// resetRecord: these tasks run again.
	resetRecord struct {
		_     struct{} `cbor:",toarray"`
		Tasks []int
	}
	// givenRecord: a task's delivered files are stored again for those after it.
	givenRecord struct {
		_       struct{} `cbor:",toarray"`
		Task    int
		Outputs []job.Output
	}
	failRecord struct {
		_      struct{} `cbor:",toarray"`
		Task   int
		Reason string
	}
	// accountRecord is lazy, too: the time a device was joined, in all.
	accountRecord struct {
		_      struct{} `cbor:",toarray"`
		Peer   int
		Device string
		Millis int64
	}
	// cleanRecord: staging is gone and the content released.
	cleanRecord struct {
		_      struct{} `cbor:",toarray"`
		Served int64
	}
)

func (*jobRecord) sort() byte     { return recJob }
func (*tasksRecord) sort() byte   { return recTasks }
func (*planRecord) sort() byte    { return recPlan }
func (*peerRecord) sort() byte    { return recPeer }
func (*grantRecord) sort() byte   { return recGrant }
func (*receiptRecord) sort() byte { return recReceipt }
func (*returnRecord) sort() byte  { return recReturn }
func (*attemptRecord) sort() byte { return recAttempt }
func (*judgeRecord) sort() byte   { return recJudge }
func (*deliverRecord) sort() byte { return recDeliver }
func (*stateRecord) sort() byte   { return recState }
func (*resetRecord) sort() byte   { return recReset }
func (*givenRecord) sort() byte   { return recGiven }
func (*failRecord) sort() byte    { return recFail }
func (*accountRecord) sort() byte { return recAccount }
func (*cleanRecord) sort() byte   { return recClean }

// lazy reports whether nothing need wait for r to be on disk.
func lazy(r record) bool {
	switch r.(type) {
	case *grantRecord, *accountRecord, *peerRecord:
		return true
	}
	return false
}

func encodeRecord(r record) ([]byte, error) {
	b, err := job.Encode(r)
	if err != nil {
		return nil, err
	}
	return append([]byte{r.sort()}, b...), nil
}

func decodeRecord(b []byte) (record, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("empty record")
	}
	var r record
	switch b[0] {
	case recJob:
		r = new(jobRecord)
	case recTasks:
		r = new(tasksRecord)
	case recPlan:
		r = new(planRecord)
	case recPeer:
		r = new(peerRecord)
	case recGrant:
		r = new(grantRecord)
	case recReceipt:
		r = new(receiptRecord)
	case recReturn:
		r = new(returnRecord)
	case recAttempt:
		r = new(attemptRecord)
	case recJudge:
		r = new(judgeRecord)
	case recDeliver:
		r = new(deliverRecord)
	case recState:
		r = new(stateRecord)
	case recReset:
		r = new(resetRecord)
	case recFail:
		r = new(failRecord)
	case recAccount:
		r = new(accountRecord)
	case recGiven:
		r = new(givenRecord)
	case recClean:
		r = new(cleanRecord)
	default:
		return nil, fmt.Errorf("record of unknown sort %d", b[0])
	}
	if err := job.Decode(b[1:], maxRecordBytes, r); err != nil {
		return nil, fmt.Errorf("record of sort %d: %w", b[0], err)
	}
	return r, nil
}

// zipTasks packs tasks for a record.
func zipTasks(tasks []job.Task) ([]byte, error) {
	b, err := job.Encode(tasks)
	if err != nil {
		return nil, err
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(b, nil), nil
}

func unzipTasks(b []byte) ([]job.Task, error) {
	const most = tasksPerRecord * (job.MaxTaskBytes + 64<<10)
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(most))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := r.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	var tasks []job.Task
	if err := job.Decode(raw, most, &tasks); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	if len(tasks) > tasksPerRecord {
		return nil, fmt.Errorf("tasks: %d in one record", len(tasks))
	}
	return tasks, nil
}

func packLease(id job.LeaseID) []byte {
	u, err := ulid.ParseStrict(string(id))
	if err != nil {
		return []byte(id) // never of our making; kept as it is
	}
	return u[:]
}

func unpackLease(b []byte) job.LeaseID {
	var u ulid.ULID
	if len(b) != len(u) {
		return job.LeaseID(b)
	}
	copy(u[:], b)
	return job.LeaseID(u.String())
}

func micros(t time.Time) int64     { return t.UnixMicro() }
func fromMicros(n int64) time.Time { return time.UnixMicro(n) }

// standardVerdicts are those that most results get; a record names them by
// index, which therefore never changes.
var standardVerdicts = []job.Verdict{
	{Ruling: job.Accepted, Method: "trusted", Reason: "not drawn for a check"},
	{Ruling: job.Accepted, Method: "trusted", Reason: "nothing to check"},
	{Ruling: job.Accepted, Method: "trusted", Reason: "made by this machine itself"},
}

const (
	verdictNotDrawn = iota
	verdictNoCheck
	verdictSelf
)

// isStandard returns the index of the standard verdict that v is, or -1.
func isStandard(v job.Verdict) int {
	for i, s := range standardVerdicts {
		if v.Ruling == s.Ruling && v.Method == s.Method && v.Reason == s.Reason && len(v.Numbers) == 0 && v.CostSeconds == 0 {
			return i
		}
	}
	return -1
}
