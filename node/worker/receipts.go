package worker

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	bolt "go.etcd.io/bbolt"

	"idlewild/job"
)

// receipt is work that was done and that the requester has not settled yet.
// Its mutable fields are guarded by Worker.mu.
type receipt struct {
	requester peer.ID
	job       job.ID
	lease     job.LeaseID
	signed    job.Signed
	leaves    []promise // those that are not settled
	at        time.Time
	key       uint64 // on disk
	inline    []job.Block
	sent      int // the requester.link that carried it; 0: none

	// volatile: it only says what was not done, and need not outlive the link.
	volatile bool

	body job.Receipt // until it is signed
	from *lease      // until it is committed
}

// promise is a task of a receipt with the hash of its secret.
type promise struct {
	Task       job.TaskKey `cbor:"task"`
	SecretHash []byte      `cbor:"hash,omitempty"`
}

func (u *receipt) has(k job.TaskKey) bool {
	for _, l := range u.leaves {
		if l.Task == k {
			return true
		}
	}
	return false
}

// settle notes that the requester has one task, or all of the lease where k is
// not defined, and reports whether it has them all.
func (u *receipt) settle(k job.TaskKey) bool {
	left := u.leaves[:0]
	for _, l := range u.leaves {
		if k.Defined() && l.Task != k {
			left = append(left, l)
		}
	}
	u.leaves = left
	return len(left) == 0
}

// fits reports whether more blocks can travel in one report with the receipt.
func (u *receipt) fits(more []job.Block) bool {
	n, size := len(u.inline)+len(more), 0
	for _, b := range u.inline {
		size += len(b.Data)
	}
	for _, b := range more {
		size += len(b.Data)
	}
	return n <= maxReportBlocks && size <= job.MaxInlineBytes
}

// kept is a receipt as it lies on disk.
type kept struct {
	Requester string      `cbor:"requester"`
	Job       job.ID      `cbor:"job"`
	Lease     job.LeaseID `cbor:"lease"`
	Signed    job.Signed  `cbor:"signed"`
	Leaves    []promise   `cbor:"leaves"`
	At        int64       `cbor:"at"` // Unix seconds
}

const maxKeptBytes = 2 * job.MaxReceiptBytes

var (
	bucketReceipts = []byte("receipts") // uint64, big-endian -> kept
	bucketJobs     = []byte("jobs")     // job id -> Unix seconds of its last use, big-endian
)

// receiptStore keeps receipts on disk. What is forgotten may come back after a
// crash; what was put does not get lost.
type receiptStore struct {
	db *bolt.DB

	mu     sync.Mutex
	forgot []uint64
	gone   []job.ID
}

// openReceipts opens the store and returns what it holds, oldest first, and
// the jobs that may have pinned outputs.
func openReceipts(path string, log *slog.Logger) (*receiptStore, []*receipt, map[job.ID]time.Time, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err == bolt.ErrTimeout {
		return nil, nil, nil, fmt.Errorf("receipts %s: in use by another process", path)
	}
	if err != nil {
		// Unreadable receipts are work to be done again; a worker that cannot
		// start for them is worse. The file is kept for a person to look at.
		if _, serr := os.Stat(path); serr != nil {
			return nil, nil, nil, fmt.Errorf("receipts: %w", err)
		}
		log.Error("receipts cannot be read: put aside", "err", err, "file", path+".damaged")
		if rerr := os.Rename(path, path+".damaged"); rerr != nil {
			return nil, nil, nil, fmt.Errorf("receipts: %w", err)
		}
		if db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true}); err != nil {
			return nil, nil, nil, fmt.Errorf("receipts: %w", err)
		}
	}
	s := &receiptStore{db: db}
	var list []*receipt
	jobs := map[job.ID]time.Time{}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketReceipts)
		if err != nil {
			return err
		}
		var bad [][]byte
		err = b.ForEach(func(k, v []byte) error {
			u, err := readKept(k, v)
			if err != nil {
				log.Warn("a receipt cannot be read: dropped", "err", err)
				bad = append(bad, append([]byte(nil), k...))
				return nil
			}
			list = append(list, u)
			return nil
		})
		for _, k := range bad {
			if err == nil {
				err = b.Delete(k)
			}
		}
		if err != nil {
			return err
		}
		if b, err = tx.CreateBucketIfNotExists(bucketJobs); err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			if len(v) == 8 {
				jobs[job.ID(k)] = time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
			}
			return nil
		})
	})
	if err != nil {
		db.Close()
		return nil, nil, nil, fmt.Errorf("receipts: %w", err)
	}
	return s, list, jobs, nil
}

func readKept(k, v []byte) (*receipt, error) {
	var d kept
	if err := job.Decode(v, maxKeptBytes, &d); err != nil {
		return nil, err
	}
	if len(k) != 8 || len(d.Leaves) == 0 {
		return nil, fmt.Errorf("bad record")
	}
	id, err := peer.Decode(d.Requester)
	if err != nil {
		return nil, err
	}
	return &receipt{
		requester: id, job: d.Job, lease: d.Lease, signed: d.Signed, leaves: d.Leaves,
		at: time.Unix(d.At, 0), key: binary.BigEndian.Uint64(k),
	}, nil
}

// put stores receipts durably, in one transaction with what was forgotten.
func (s *receiptStore) put(list []*receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list = slices.DeleteFunc(slices.Clone(list), func(u *receipt) bool { return u.volatile })
	if len(list) == 0 {
		return nil
	}
	keys := make([]uint64, len(list))
	err := s.db.Update(func(tx *bolt.Tx) error {
		b, jobs := tx.Bucket(bucketReceipts), tx.Bucket(bucketJobs)
		for i, u := range list {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			v, err := job.Encode(kept{
				Requester: u.requester.String(), Job: u.job, Lease: u.lease, Signed: u.signed, Leaves: u.leaves, At: u.at.Unix(),
			})
			if err != nil {
				return err
			}
			if err := b.Put(key(n), v); err != nil {
				return err
			}
			if err := jobs.Put([]byte(u.job), key(uint64(u.at.Unix()))); err != nil {
				return err
			}
			keys[i] = n
		}
		return s.clean(tx)
	})
	if err != nil {
		return err
	}
	for i, u := range list {
		u.key = keys[i]
	}
	s.forgot, s.gone = nil, nil
	return nil
}

func (s *receiptStore) clean(tx *bolt.Tx) error {
	for _, n := range s.forgot {
		if err := tx.Bucket(bucketReceipts).Delete(key(n)); err != nil {
			return err
		}
	}
	for _, id := range s.gone {
		if err := tx.Bucket(bucketJobs).Delete([]byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// forget drops a receipt, on disk with the next put or flush.
func (s *receiptStore) forget(u *receipt) {
	if u.volatile {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot = append(s.forgot, u.key)
}

// dropJob forgets a job, on disk with the next put or flush.
func (s *receiptStore) dropJob(id job.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, id)
}

// flush writes what was forgotten.
func (s *receiptStore) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forgot) == 0 && len(s.gone) == 0 {
		return nil
	}
	if err := s.db.Update(s.clean); err != nil {
		return err
	}
	s.forgot, s.gone = nil, nil
	return nil
}

func (s *receiptStore) close() error {
	err := s.flush()
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	return err
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// secrets remembers what the hashes of secrets were, for the newest tasks. The
// zero value is empty. Guarded by Worker.mu.
type secrets struct {
	hash  map[secretOf][]byte
	order []secretOf
}

type secretOf struct {
	lease job.LeaseID
	task  job.TaskKey
}

const maxSecrets = 16 << 10

func (s *secrets) add(l job.LeaseID, k job.TaskKey, hash []byte) {
	if len(hash) == 0 {
		return
	}
	if s.hash == nil {
		s.hash = map[secretOf][]byte{}
	}
	id := secretOf{l, k}
	if _, ok := s.hash[id]; !ok {
		s.order = append(s.order, id)
	}
	s.hash[id] = hash
	for len(s.order) > maxSecrets {
		delete(s.hash, s.order[0])
		s.order = s.order[1:]
	}
}

// take returns the hash and forgets it.
func (s *secrets) take(l job.LeaseID, k job.TaskKey) ([]byte, bool) {
	h, ok := s.hash[secretOf{l, k}]
	delete(s.hash, secretOf{l, k})
	return h, ok
}
