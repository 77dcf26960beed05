package ledger

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/ondisk"
	"idlewild/internal/recordlog"
	"idlewild/job"
)

// Sorts of records: one byte before the CBOR.
const (
	recReceipt byte = 1 // job.Signed of a job.Receipt, before the first entry on it
	recEntry   byte = 2 // job.Signed of an Entry
	recBan     byte = 3
	recPardon  byte = 4
	recWord    byte = 5 // told: what a member said
)

const maxEntryBytes = 64 << 10

var logOptions = recordlog.Options{Magic: "book", Version: 1, MaxRecord: job.MaxReceiptBytes + 4096}

// Entry is one verdict on one leaf. With the worker's receipt beside it, which
// Receipt names, it is an account of work that both sides signed.
type Entry struct {
	Version int           `cbor:"v"`              // 1
	Farm    string        `cbor:"farm,omitempty"` // in which they met; empty: in none
	Worker  string        `cbor:"worker"`
	Job     job.ID        `cbor:"job"`
	Lease   job.LeaseID   `cbor:"lease"`
	Task    job.TaskKey   `cbor:"task"`
	Fence   uint64        `cbor:"fence"`
	Root    []byte        `cbor:"root"`    // job.Leaf.Root of what was judged
	Receipt []byte        `cbor:"receipt"` // sha2-256 of the receipt's body
	Class   string        `cbor:"class"`   // device class that did the work
	Work    time.Duration `cbor:"work"`    // of the device, by the worker's clock
	// Credit is what the work is worth where it was checked and accepted:
	// device-seconds, by the rate of the class, for all the results that this
	// one stands for (Verdict.Share).
	Credit  float64     `cbor:"credit,omitempty"`
	Verdict job.Verdict `cbor:"verdict"`
	At      time.Time   `cbor:"at"`
}

type notice struct {
	Farm   string    `cbor:"farm,omitempty"`
	Peer   string    `cbor:"peer"`
	Reason string    `cbor:"reason,omitempty"`
	At     time.Time `cbor:"at"`
	Until  time.Time `cbor:"until,omitzero"` // of a ban; zero: until a pardon
}

// Book implements dispatch.Book. Its methods may be called from several
// goroutines.
type Book struct {
	key    job.Signer
	self   peer.ID
	farm   func() string
	now    func() time.Time
	policy Policy
	log    *recordlog.Log
	lock   io.Closer

	mu      sync.Mutex
	peers   map[key]*Account
	say     map[key]Word // the newest about each peer
	heardOf int          // peers that words are kept about
	// wrote holds the receipts written last, so that one with many leaves is
	// stored once.
	wrote [64][32]byte
	next  int
}

// key is whom an account is about: what a peer did in one farm says nothing in
// another.
type key struct {
	farm string
	peer peer.ID
}

// Options of a Book. Key, Self and Policy.Rate are required.
type Options struct {
	Key    job.Signer // signs entries and words
	Self   peer.ID    // whose key it is
	Farm   func() string
	Policy Policy
	Now    func() time.Time // nil: the clock
}

// Open opens the book in dir, making it if need be.
func Open(dir string, o Options) (*Book, error) {
	lock, err := ondisk.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	b := newBook(o)
	b.lock = lock
	if b.log, err = recordlog.Open(dir, logOptions, b.replay); err != nil {
		lock.Close()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return b, nil
}

func newBook(o Options) *Book {
	b := &Book{key: o.Key, self: o.Self, farm: o.Farm, now: o.Now, policy: o.Policy, peers: map[key]*Account{}, say: map[key]Word{}}
	if b.farm == nil {
		b.farm = func() string { return "" }
	}
	if b.now == nil {
		b.now = time.Now
	}
	return b
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
		b.heed(rec[0], key{n.Farm, p}, n)
	case recWord:
		var t told
		if err := job.Decode(rec[1:], maxEntryBytes, &t); err != nil {
			return err
		}
		author, err := peer.Decode(t.Author)
		if err != nil {
			return err
		}
		w, err := openWord(t.Said, author)
		if err != nil {
			return err
		}
		b.hear(w)
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
	if e.Version != 1 || len(e.Root) != 32 || !(e.Credit >= 0) {
		return e, fmt.Errorf("entry of version %d", e.Version)
	}
	return e, nil
}

func (b *Book) account(k key) *Account {
	a := b.peers[k]
	if a == nil {
		a = NewAccount(&b.policy)
		b.peers[k] = a
	}
	return a
}

// count puts an entry into its peer's account.
func (b *Book) count(e Entry) error {
	p, err := peer.Decode(e.Worker)
	if err != nil {
		return err
	}
	k := key{e.Farm, p}
	b.account(k).Count(e)
	if e.Verdict.Confirmed && e.Verdict.Ruling == job.Rejected {
		b.word(k, Word{Job: e.Job, Root: e.Root, Reason: e.Verdict.Reason, At: e.At})
	}
	return nil
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
	e := Entry{
		Version: 1, Farm: b.farm(), Worker: worker.String(), Job: r.Job, Lease: r.Lease, Task: leaf.Task, Fence: leaf.Fence, Root: root[:],
		Receipt: body[:], Class: leaf.DeviceClass, Work: worked(leaf), Verdict: v, At: b.now().UTC(),
	}
	e.Credit = b.policy.Worth(e)
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

// worked is the time that counts.
func worked(leaf job.Leaf) time.Duration {
	if leaf.Meter.Render > 0 {
		return leaf.Meter.Render
	}
	return leaf.Meter.Wall
}

// maxStand bounds for how many results one that was checked can stand.
const maxStand = 100

// Worth is the credit of an entry.
func (p *Policy) Worth(e Entry) float64 {
	if e.Verdict.Ruling != job.Accepted || e.Verdict.Method == job.MethodTrusted {
		return 0
	}
	rate := 1.0
	if p.ClassRate != nil {
		rate = p.ClassRate(e.Class)
	}
	stands := 1.0
	if s := e.Verdict.Share; s > 0 && s < 1 {
		stands = min(1/s, maxStand)
	}
	seconds := e.Work.Seconds()
	if most := e.Verdict.MostSeconds; most > 0 {
		seconds = min(seconds, most)
	}
	return seconds * rate * stands
}

// Score says how a peer stands in this machine's farm.
func (b *Book) Score(worker peer.ID) job.Score {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.peers[key{b.farm(), worker}]
	if a == nil {
		a = NewAccount(&b.policy)
	}
	return a.Score(b.now())
}

// Ban keeps a peer from all work until then, or with a zero time until Pardon.
// The reason is shown to it.
func (b *Book) Ban(worker peer.ID, reason string, until time.Time) error {
	if reason == "" {
		reason = "banned by this machine's owner"
	}
	return b.notice(recBan, notice{Peer: worker.String(), Reason: reason, Until: until.UTC()}, worker)
}

// Pardon ends every ban of a peer here, also one that members' words led to,
// and tells the members so. What was found about the peer stays, and so does
// what it lost.
func (b *Book) Pardon(worker peer.ID, reason string) error {
	return b.notice(recPardon, notice{Peer: worker.String(), Reason: reason}, worker)
}

func (b *Book) notice(sort byte, n notice, worker peer.ID) error {
	n.Farm, n.At = b.farm(), b.now().UTC()
	if n.Until.IsZero() {
		n.Until = time.Time{}
	}
	rec, err := encode(sort, n)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if len(rec) > maxEntryBytes {
		return fmt.Errorf("ledger: reason of %d bytes", len(n.Reason))
	}
	b.mu.Lock()
	err = b.log.Append(rec)
	if err == nil {
		b.heed(sort, key{n.Farm, worker}, n)
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

// heed makes a ban or a pardon true. mu is held.
func (b *Book) heed(sort byte, k key, n notice) {
	a := b.account(k)
	if sort == recBan {
		a.owners = ban{n.Reason, n.Until}
		return
	}
	a.owners, a.caught = ban{}, ban{}
	for _, w := range a.words {
		if a.pardons == nil {
			a.pardons = map[peer.ID]time.Time{}
		}
		a.pardons[w.author] = n.At // said before that, it counts no more
	}
	a.words = nil
	if _, said := b.say[k]; said {
		b.word(k, Word{Pardon: true, Reason: n.Reason, At: n.At})
	}
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
