package ledger

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/ondisk"
	"idlewild/internal/recordlog"
	"idlewild/job"
)

func newPeer(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	k, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, id
}

// rate is 1 for who was rejected or is new, else a tenth.
func rate(checked, rejected int) float64 {
	if rejected > 0 || checked < 3 {
		return 1
	}
	return .1
}

func work(t testing.TB, key crypto.PrivKey, worker peer.ID, fences ...uint64) (job.Signed, []job.Leaf) {
	t.Helper()
	r := job.Receipt{Version: 1, Worker: worker.String(), Requester: "r", Job: job.NewID(time.Now()), Lease: job.NewLeaseID(time.Now())}
	for _, f := range fences {
		r.Leaves = append(r.Leaves, job.Leaf{Task: job.Task{Kind: "k", Params: []byte{byte(f)}}.Key(), Fence: f, Outcome: job.Succeeded, Meter: job.Meter{Render: 2 * time.Second}})
	}
	s, err := job.SignReceipt(key, r)
	if err != nil {
		t.Fatal(err)
	}
	return s, r.Leaves
}

func options(t testing.TB, key crypto.PrivKey) Options {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Key: key, Self: id, Policy: Policy{Rate: rate}}
}

func open(t testing.TB, dir string, key crypto.PrivKey) *Book {
	t.Helper()
	b, err := Open(dir, options(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(t testing.TB, b *Book, p peer.ID, s job.Signed, l job.Leaf, r job.Ruling, method string) {
	t.Helper()
	if err := b.Record(p, s, l, job.Verdict{Ruling: r, Method: method, Reason: "because"}); err != nil {
		t.Fatal(err)
	}
}

func TestScoreSurvivesReopeningAndALeafCountsOnce(t *testing.T) {
	dir := t.TempDir()
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := open(t, dir, key)
	if _, err := Open(dir, options(t, key)); !errors.Is(err, ondisk.ErrLocked) {
		t.Fatalf("opened twice: %v", err)
	}
	s, leaves := work(t, wk, w, 1, 2, 3, 4, 5)
	for range 3 { // the same verdict again, as after a crash
		record(t, b, w, s, leaves[0], job.Accepted, "sampling")
	}
	record(t, b, w, s, leaves[1], job.Accepted, "sampling")
	record(t, b, w, s, leaves[2], job.Accepted, "sampling")
	record(t, b, w, s, leaves[3], job.Accepted, "trusted")
	record(t, b, w, s, leaves[4], job.Unsure, "sampling")
	want := job.Score{Checked: 3, Accepted: 3, Unsure: 1, Since: 3, Rate: .1, Credit: 6}
	check := func(when string) {
		t.Helper()
		if got := b.Score(w); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	check("first")
	b.Close()
	b = open(t, dir, key)
	check("reopened")

	// What was trusted is looked at after all, and one is found wrong.
	record(t, b, w, s, leaves[3], job.Rejected, "sampling")
	want = job.Score{Checked: 4, Accepted: 3, Rejected: 1, Unsure: 1, Since: 3, Rate: 1, Credit: 6, Against: "because"}
	check("caught")
	if err := b.Ban(w, "cheats", time.Time{}); err != nil {
		t.Fatal(err)
	}
	want.Banned = "cheats"
	b.Close()
	b = open(t, dir, key)
	check("banned, reopened")
	if err := b.Pardon(w, ""); err != nil {
		t.Fatal(err)
	}
	want.Banned = ""
	check("pardoned")
	b.Close()
	if _, other := newPeer(t); b.Score(other) != (job.Score{Rate: 1}) {
		t.Error("a stranger has a score")
	}
}

func TestEntriesAreSignedAndAReceiptIsStoredOnce(t *testing.T) {
	dir := t.TempDir()
	key, self := newPeer(t)
	wk, w := newPeer(t)
	b := open(t, dir, key)
	s, leaves := work(t, wk, w, 1, 2, 3)
	for _, l := range leaves {
		record(t, b, w, s, l, job.Accepted, "sampling")
	}
	b.Close()
	receipts, entries := 0, 0
	l, err := recordlog.Open(dir, logOptions, func(rec []byte) error {
		switch rec[0] {
		case recReceipt:
			var got job.Signed
			if err := job.Decode(rec[1:], 1<<20, &got); err != nil {
				return err
			}
			if !bytes.Equal(got.Body, s.Body) || !bytes.Equal(got.Sig, s.Sig) {
				t.Error("another receipt")
			}
			receipts++
		case recEntry:
			var got job.Signed
			if err := job.Decode(rec[1:], 1<<20, &got); err != nil {
				return err
			}
			var e Entry
			if err := got.Open(self, job.ContextVerdict, 1<<20, &e); err != nil {
				t.Error(err)
			}
			if e.Fence != uint64(entries+1) {
				t.Errorf("entry %d is of fence %d", entries, e.Fence)
			}
			entries++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if receipts != 1 || entries != 3 {
		t.Errorf("%d receipts, %d entries", receipts, entries)
	}
}

func TestATornTailCostsAtMostTheLastEntry(t *testing.T) {
	src := t.TempDir()
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := open(t, src, key)
	for f := range uint64(4) {
		s, leaves := work(t, wk, w, f+1)
		record(t, b, w, s, leaves[0], job.Accepted, "sampling")
	}
	b.Close()
	whole, err := os.ReadFile(filepath.Join(src, "00000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for cut := 0; cut <= len(whole); cut += 41 {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "00000001.log"), whole[:cut], 0o600)
		b := open(t, dir, key)
		n := b.Score(w).Accepted
		if n < last || n > 4 {
			t.Fatalf("cut at %d: %d accepted after %d", cut, n, last)
		}
		last = n
		b.Close()
	}
}

func TestConcurrentRecords(t *testing.T) {
	dir := t.TempDir()
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := open(t, dir, key)
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			for f := range uint64(10) {
				s, leaves := work(t, wk, w, g*10+f+1)
				record(t, b, w, s, leaves[0], job.Accepted, "sampling")
			}
		})
	}
	wg.Wait()
	b.Close()
	b = open(t, dir, key)
	defer b.Close()
	if n := b.Score(w).Accepted; n != 80 {
		t.Errorf("%d of 80", n)
	}
}

func FuzzReplay(f *testing.F) {
	key, _ := newPeer(f)
	_, w := newPeer(f)
	s, err := job.Sign(key, job.ContextVerdict, Entry{Version: 1, Worker: w.String(), Root: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	rec, _ := encode(recEntry, s)
	f.Add(rec)
	rec, _ = encode(recBan, notice{Peer: w.String(), Reason: "x"})
	f.Add(rec)
	f.Fuzz(func(t *testing.T, rec []byte) {
		b := newBook(Options{Policy: Policy{Rate: rate}})
		b.replay(rec) // must not panic
	})
}
