package dispatch

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"idlewild/job"
)

// Records are the durable facts of one job, in the order in which they became
// true. Tasks, peers, receipts, leases and texts are named by their index: the
// order in which they came. A frame of the log holds the records of one batch,
// each one byte that names its sort, with the bit packed set, and its fields:
// the frequent ones in the packer's encoding, the others as CBOR behind its
// length. A frame of format 1 is one record, a byte and CBOR.
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
	// From format 2 on.
	recBlock byte = 16
	recText  byte = 17
	recLease byte = 18
	recPiece byte = 19
	recTask  byte = 20
	recTotal byte = 21
	recGap   byte = 22
	recGiven byte = 23
	recAway  byte = 24
	recNeed  byte = 25
	// Of jobs that have stewards.
	recSteward byte = 28
	// Where files of the content lie on disks that several machines have.
	recDisks byte = 29
	recReuse byte = 30
	// What a job may take, changed since it was submitted.
	recLimits byte = 31

	packedRecord byte = 0x20
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
	// count once a planRecord follows. Format 1; see blockRecord.
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
	// receiptRecord holds a receipt: as it came in format 1, later Packed.
	receiptRecord struct {
		_      struct{} `cbor:",toarray"`
		Peer   int
		Body   []byte
		Sig    []byte
		Packed string `cbor:"-"`
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
	// reuseRecord: delivered files of the job From stay as they are for Tasks, and
	// are compared with what Drawn make. Without From: they do not, after all.
	reuseRecord struct {
		_         struct{} `cbor:",toarray"`
		From      job.ID
		Tasks     []int
		Drawn     []int
		Confirmed int
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
	// blockRecord holds tasks From, From+1, … as folded makes them. They count
	// once a planRecord follows.
	blockRecord struct {
		From int
		Zip  []byte
	}
	// textRecord names something that records repeat: a device, a build.
	textRecord struct{ Text string }
	// leaseRecord names a lease of which there is no grantRecord here.
	leaseRecord struct{ Lease []byte }
	// pieceRecord stands, in a journal that was rewritten, for everything that
	// was known of a result that nobody will look at again.
	pieceRecord struct {
		Task, Peer, Lease  int
		Fence              uint64
		Take               bool
		Standard           int
		Verdict            *job.Verdict
		Moved              int64
		Wall, Render, Load time.Duration
		Device             string
		Log                job.Ref
	}
	// taskRecord stands there for what else was known of a task.
	taskRecord struct {
		Task, Granted int
		Floor         uint64
		Placed        bool
		Files         []string // nil: the final names
	}
	// totalRecord stands there for sums over what is not there any more.
	totalRecord struct {
		Results  int64
		MaxFence uint64
		Messages int
	}
	// gapRecord: so many receipts are not kept.
	gapRecord struct{ N int }
	// limitsRecord: what the job may take from now on.
	limitsRecord struct {
		_      struct{} `cbor:",toarray"`
		Limits job.Limits
	}
	// disksRecord: the CID of a file with the list of job.DiskFile.
	disksRecord struct {
		_    struct{} `cbor:",toarray"`
		Root job.Ref
	}
	// awayRecord, in a journal that was rewritten: what the results of these tasks
	// left was let go of, at an end of the job.
	awayRecord struct{ Tasks []int }
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
func (*blockRecord) sort() byte   { return recBlock }
func (*textRecord) sort() byte    { return recText }
func (*leaseRecord) sort() byte   { return recLease }
func (*pieceRecord) sort() byte   { return recPiece }
func (*taskRecord) sort() byte    { return recTask }
func (*totalRecord) sort() byte   { return recTotal }
func (*gapRecord) sort() byte     { return recGap }
func (*awayRecord) sort() byte    { return recAway }
func (*reuseRecord) sort() byte   { return recReuse }
func (*limitsRecord) sort() byte  { return recLimits }
func (*disksRecord) sort() byte   { return recDisks }

// lazy reports whether nothing need wait for r to be on disk.
func lazy(r record) bool {
	switch r.(type) {
	case *grantRecord, *accountRecord, *peerRecord, *textRecord, *leaseRecord, *needRecord:
		return true
	}
	return false
}

func newRecord(sort byte) (record, error) {
	switch sort {
	case recJob:
		return new(jobRecord), nil
	case recTasks:
		return new(tasksRecord), nil
	case recPlan:
		return new(planRecord), nil
	case recPeer:
		return new(peerRecord), nil
	case recGrant:
		return new(grantRecord), nil
	case recReceipt:
		return new(receiptRecord), nil
	case recReturn:
		return new(returnRecord), nil
	case recAttempt:
		return new(attemptRecord), nil
	case recJudge:
		return new(judgeRecord), nil
	case recDeliver:
		return new(deliverRecord), nil
	case recState:
		return new(stateRecord), nil
	case recReset:
		return new(resetRecord), nil
	case recFail:
		return new(failRecord), nil
	case recAccount:
		return new(accountRecord), nil
	case recClean:
		return new(cleanRecord), nil
	case recBlock:
		return new(blockRecord), nil
	case recText:
		return new(textRecord), nil
	case recLease:
		return new(leaseRecord), nil
	case recPiece:
		return new(pieceRecord), nil
	case recTask:
		return new(taskRecord), nil
	case recTotal:
		return new(totalRecord), nil
	case recGap:
		return new(gapRecord), nil
	case recGiven:
		return new(givenRecord), nil
	case recAway:
		return new(awayRecord), nil
	case recNeed:
		return new(needRecord), nil
	case recSteward:
		return new(stewardRecord), nil
	case recReuse:
		return new(reuseRecord), nil
	case recLimits:
		return new(limitsRecord), nil
	case recDisks:
		return new(disksRecord), nil
	}
	return nil, fmt.Errorf("record of unknown sort %d", sort)
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
