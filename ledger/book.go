package ledger

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// Sorts of records: one byte before the CBOR.
const (
	recReceipt byte = 1 // job.Signed of a job.Receipt, before the first entry on it
	recEntry   byte = 2 // job.Signed of an Entry
	recBan     byte = 3
	recPardon  byte = 4
)

const maxEntryBytes = 64 << 10

var logOptions = recordlog.Options{Magic: "book", Version: 1, MaxRecord: job.MaxReceiptBytes + 4096}

// Entry is one verdict on one leaf.
type Entry struct {
	Version int           `cbor:"v"` // 1
	Worker  string        `cbor:"worker"`
	Job     job.ID        `cbor:"job"`
	Lease   job.LeaseID   `cbor:"lease"`
	Task    job.TaskKey   `cbor:"task"`
	Fence   uint64        `cbor:"fence"`
	Root    []byte        `cbor:"root"`    // job.Leaf.Root of what was judged
	Receipt []byte        `cbor:"receipt"` // sha2-256 of the receipt's body
	Class   string        `cbor:"class"`   // device class that did the work
	Work    time.Duration `cbor:"work"`    // of the device, by the worker's clock
	Verdict job.Verdict   `cbor:"verdict"`
	At      time.Time     `cbor:"at"`
}

type notice struct {
	Peer   string    `cbor:"peer"`
	Reason string    `cbor:"reason,omitempty"`
	At     time.Time `cbor:"at"`
}

// trusted is the method of verdicts that rest on no check.
const trusted = "trusted"

// Book implements dispatch.Book. Its methods may be called from several
// goroutines.
type Book struct {
	key  job.Signer
	rate func(checked, rejected int) float64
	log  *recordlog.Log
	lock io.Closer

	mu    sync.Mutex
	peers map[peer.ID]*account
	// wrote holds the receipts written last, so that one with many leaves is
	// stored once.
	wrote [64][32]byte
	next  int
}

// account is what is known of one peer.
type account struct {
	score  job.Score
	credit time.Duration
	leaves map[[8]byte]standing // by the leaf's root
}

// standing is what the newest verdict on a leaf said.
type standing struct {
	ruling uint8
	work   time.Duration
}

const (
	stTrusted = iota
	stAccepted
	stRejected
	stUnsure
)

// Open opens the book in dir, making it if need be. key signs entries; rate is
// the policy: the share of a peer's results to check after so many checked and
// rejected ones.
func Open(dir string, key job.Signer, rate func(checked, rejected int) float64) (*Book, error) {
	lock, err := recordlog.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	b := &Book{key: key, rate: rate, lock: lock, peers: map[peer.ID]*account{}}
	if b.log, err = recordlog.Open(dir, logOptions, b.replay); err != nil {
		lock.Close()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return b, nil
}

func (b *Book) replay(rec []byte) error {
	if len(rec) == 0 {
		return fmt.Errorf("empty record")
	}
	switch rec[0] {
	case recReceipt:
	case recEntry:
		e, err := openEntry(rec)
		if err != nil {
			return err
		}
		return b.count(e)
	case recBan, recPardon:
		var n notice
		if err := job.Decode(rec[1:], maxEntryBytes, &n); err != nil {
			return err
		}
		p, err := peer.Decode(n.Peer)
		if err != nil {
			return err
		}
		b.account(p).score.Banned = n.Reason
	default:
		return fmt.Errorf("record of unknown sort %d", rec[0])
	}
	return nil
}

func openEntry(rec []byte) (Entry, error) {
	var s job.Signed
	var e Entry
	if err := job.Decode(rec[1:], maxEntryBytes, &s); err != nil {
		return e, err
	}
	if err := job.Decode(s.Body, maxEntryBytes, &e); err != nil {
		return e, err
	}
	if e.Version != 1 || len(e.Root) != 32 {
		return e, fmt.Errorf("entry of version %d", e.Version)
	}
	return e, nil
}

func (b *Book) account(p peer.ID) *account {
	a := b.peers[p]
	if a == nil {
		a = &account{leaves: map[[8]byte]standing{}}
		b.peers[p] = a
	}
	return a
}

// count puts an entry into the sums, in the place of an earlier one on the same
// leaf.
func (b *Book) count(e Entry) error {
	p, err := peer.Decode(e.Worker)
	if err != nil {
		return err
	}
	a := b.account(p)
	k := [8]byte(e.Root[:8])
	if old, ok := a.leaves[k]; ok {
		a.add(old, -1)
	}
	s := standing{work: e.Work}
	switch {
	case e.Verdict.Ruling == job.Rejected:
		s.ruling = stRejected
	case e.Verdict.Ruling == job.Unsure:
		s.ruling = stUnsure
	case e.Verdict.Method != trusted:
		s.ruling = stAccepted
	}
	a.leaves[k] = s
	a.add(s, 1)
	return nil
}

func (a *account) add(s standing, n int) {
	switch s.ruling {
	case stAccepted:
		a.score.Checked += n
		a.score.Accepted += n
		a.credit += time.Duration(n) * s.work
	case stRejected:
		a.score.Checked += n
		a.score.Rejected += n
	case stUnsure:
		a.score.Unsure += n
	}
}

// Record stores a verdict on a leaf, with the receipt that holds it: both are
// on disk when it returns. Calls that overlap share the wait.
func (b *Book) Record(worker peer.ID, receipt job.Signed, leaf job.Leaf, v job.Verdict) error {
	var r job.Receipt
	if err := job.Decode(receipt.Body, job.MaxReceiptBytes, &r); err != nil {
		return fmt.Errorf("ledger: receipt: %w", err)
	}
	root := leaf.Root()
	body := sha256.Sum256(receipt.Body)
	work := leaf.Meter.Render
	if work == 0 {
		work = leaf.Meter.Wall
	}
	e := Entry{
		Version: 1, Worker: worker.String(), Job: r.Job, Lease: r.Lease, Task: leaf.Task, Fence: leaf.Fence, Root: root[:],
		Receipt: body[:], Class: leaf.DeviceClass, Work: work, Verdict: v, At: time.Now().UTC(),
	}
	signed, err := job.Sign(b.key, job.ContextVerdict, e)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	rec, err := encode(recEntry, signed)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if len(rec) > maxEntryBytes {
		return fmt.Errorf("ledger: entry of %d bytes", len(rec))
	}
	if err := b.append(e, rec, receipt, body); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := b.log.Sync(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

func encode(sort byte, v any) ([]byte, error) {
	body, err := job.Encode(v)
	return append([]byte{sort}, body...), err
}

func (b *Book) append(e Entry, rec []byte, receipt job.Signed, body [32]byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	recs := [][]byte{rec}
	fresh := !slices.Contains(b.wrote[:], body)
	if fresh {
		whole, err := encode(recReceipt, receipt)
		if err != nil {
			return err
		}
		recs = [][]byte{whole, rec}
	}
	if err := b.log.Append(recs...); err != nil {
		return err
	}
	if fresh {
		b.wrote[b.next] = body
		b.next = (b.next + 1) % len(b.wrote)
	}
	return b.count(e)
}

// Score says how a peer stands.
func (b *Book) Score(worker peer.ID) job.Score {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s job.Score
	if a := b.peers[worker]; a != nil {
		s = a.score
	}
	s.Rate = min(1, max(0, b.rate(s.Checked, s.Rejected)))
	return s
}

// Credit is the work of a peer that was checked and accepted, in device time.
func (b *Book) Credit(worker peer.ID) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.peers[worker]; a != nil {
		return a.credit
	}
	return 0
}

// Ban keeps a peer from all work, until Pardon. The reason is shown to it.
func (b *Book) Ban(worker peer.ID, reason string) error {
	if reason == "" {
		reason = "banned by this machine's owner"
	}
	return b.notice(recBan, worker, reason)
}

// Pardon ends a ban. What was found about the peer stays.
func (b *Book) Pardon(worker peer.ID) error { return b.notice(recPardon, worker, "") }

func (b *Book) notice(sort byte, worker peer.ID, reason string) error {
	rec, err := encode(sort, notice{Peer: worker.String(), Reason: reason, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if len(rec) > maxEntryBytes {
		return fmt.Errorf("ledger: reason of %d bytes", len(reason))
	}
	b.mu.Lock()
	err = b.log.Append(rec)
	if err == nil {
		b.account(worker).score.Banned = reason
	}
	b.mu.Unlock()
	if err == nil {
		err = b.log.Sync()
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// Repaired says what was cut off when the book was opened, or "".
func (b *Book) Repaired() string { return b.log.Torn }

// Close closes the book.
func (b *Book) Close() error {
	err := b.log.Close()
	if lerr := b.lock.Close(); err == nil {
		err = lerr
	}
	return err
}
