package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

func newTrees(t *testing.T, dir string, max int64) *trees {
	t.Helper()
	ts, err := openTrees(dir, max, slog.New(slog.DiscardHandler), func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// bytesOf fills a tree with one file of that size.
func bytesOf(n int) func(context.Context, string, func(float64)) (Content, error) {
	return func(_ context.Context, dir string, _ func(float64)) (Content, error) {
		return Content{}, os.WriteFile(filepath.Join(dir, "file"), make([]byte, n), 0o400)
	}
}

func mustNot(t *testing.T) func(context.Context, string, func(float64)) (Content, error) {
	return func(context.Context, string, func(float64)) (Content, error) {
		t.Error("made again")
		return Content{}, nil
	}
}

func TestTreesAreKeptWithinTheirBoundLeastRecentlyUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newPeer(t)
		ts := newTrees(t, t.TempDir(), 250)
		use := func(name string, fill func(context.Context, string, func(float64)) (Content, error)) *tree {
			tr, err := ts.acquire(t.Context(), p, ref(name), "", fill, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			return tr
		}
		a, b := use("a", bytesOf(100)), use("b", bytesOf(100))
		ts.release(b)
		ts.release(a)                    // used last
		ts.release(use("a", mustNot(t))) // again
		c := use("c", bytesOf(100))      // b goes
		d := use("d", bytesOf(100))      // a goes
		if ts.has(p, ref("b")) || ts.has(p, ref("a")) || !ts.has(p, ref("c")) || !ts.has(p, ref("d")) {
			t.Error("not the least recently used")
		}
		e := use("e", bytesOf(100)) // over the bound, but all in use
		for _, x := range []*tree{c, d, e} {
			if _, err := os.Stat(filepath.Join(x.dir, "file")); err != nil {
				t.Error(err)
			}
		}
		ts.release(c)
		if ts.has(p, ref("c")) || ts.size != 200 {
			t.Errorf("%d bytes", ts.size)
		}
		if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
			t.Error("folder stays")
		}
		// The same root again is another folder: a warm process may remember
		// the old one.
		ts.release(d)
		if again := use("c", bytesOf(100)); again.dir == c.dir {
			t.Error("the same folder name")
		}
	})
}

func TestTreesAreMadeOnceForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newPeer(t)
		_, q := newPeer(t)
		ts := newTrees(t, t.TempDir(), 1<<20)
		var made atomic.Int32
		slow := func(ctx context.Context, dir string, _ func(float64)) (Content, error) {
			made.Add(1)
			select {
			case <-time.After(time.Minute):
				return Content{}, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
			case <-ctx.Done():
				return Content{}, ctx.Err()
			}
		}
		first, leave := context.WithCancel(t.Context())
		errs := make(chan error, 3)
		go func() { _, err := ts.acquire(first, p, ref("x"), "", slow, nil); errs <- err }()
		synctest.Wait()
		for range 2 {
			go func() { _, err := ts.acquire(t.Context(), p, ref("x"), "", slow, nil); errs <- err }()
		}
		synctest.Wait()
		leave() // who began it goes; the others still get it
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if made.Load() != 1 {
			t.Errorf("made %d times", made.Load())
		}
		// Another requester that knows the root does not get the same files.
		if ts.has(q, ref("x")) {
			t.Error("shared between requesters")
		}

		// Nobody waits any more: the making ends, and leaves nothing.
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, err := ts.acquire(ctx, q, ref("y"), "", slow, nil); errs <- err }()
		synctest.Wait()
		at := time.Now()
		leave()
		<-errs
		ts.fills.Wait()
		if time.Since(at) > 0 {
			t.Error("went on for nobody")
		}
		if left, _ := os.ReadDir(filepath.Join(ts.dir, q.String())); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	})
}

func TestTreesOutliveTheProcessButNotHalfOnesNorAPowerCut(t *testing.T) {
	dir := t.TempDir()
	_, p := newPeer(t)
	ts := newTrees(t, dir, 1<<20)
	if ts.boot == "" {
		t.Skip("NOT RUN: this system does not name its starts")
	}
	for _, name := range []string{"a", "b"} {
		tr, err := ts.acquire(t.Context(), p, ref(name), "", bytesOf(10), nil)
		if err != nil {
			t.Fatal(err)
		}
		ts.release(tr)
	}
	sub := filepath.Join(dir, p.String())
	half := filepath.Join(sub, ref("half").String()+"-00")
	os.Mkdir(half, 0o700)
	os.WriteFile(filepath.Join(half, "file"), nil, 0o600)
	os.WriteFile(filepath.Join(sub, ref("no folder").String()+"-00.complete"), []byte(ts.boot+" 1 0"), 0o600)
	os.WriteFile(filepath.Join(dir, "not a peer"), nil, 0o600)
	// b was written before the machine was started last.
	marks, _ := filepath.Glob(filepath.Join(sub, ref("b").String()+"-*.complete"))
	if len(marks) != 1 {
		t.Fatal(marks)
	}
	os.WriteFile(marks[0], []byte(strings.Repeat("0", len(ts.boot))+" 10 0"), 0o600)

	ts = newTrees(t, dir, 1<<20)
	if !ts.has(p, ref("a")) || ts.has(p, ref("b")) || ts.has(p, ref("half")) || ts.has(p, ref("no folder")) || ts.size != 10 {
		t.Errorf("size %d", ts.size)
	}
	entries, _ := os.ReadDir(sub)
	if len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
	if _, err := os.Stat(filepath.Join(dir, "not a peer")); err == nil {
		t.Error("a stray file stays")
	}
	tr, err := ts.acquire(t.Context(), p, ref("a"), "", mustNot(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	ts.release(tr)
}

// A tree that another one is made from stays meanwhile, and says when it was
// complete, also in the next process.
func TestTreesAreHeld(t *testing.T) {
	_, p := newPeer(t)
	_, q := newPeer(t)
	dir := t.TempDir()
	ts := newTrees(t, dir, 1<<20)
	before := time.Now()
	tr, err := ts.acquire(t.Context(), p, ref("a"), "", bytesOf(10), nil)
	if err != nil {
		t.Fatal(err)
	}
	ts.release(tr)
	for _, none := range []struct {
		of peer.ID
		in job.Ref
	}{{p, ref("b")}, {q, ref("a")}} {
		if dir, _, _ := ts.hold(none.of, none.in); dir != "" {
			t.Errorf("%s of %s is held", none.in, none.of)
		}
	}
	ts = newTrees(t, dir, 1<<20)
	held, since, release := ts.hold(p, ref("a"))
	if held != tr.dir || since.Before(before) || since.After(time.Now()) {
		t.Errorf("%q since %v", held, since)
	}
	ts.mu.Lock()
	ts.max = 0
	old := ts.evict()
	ts.mu.Unlock()
	if len(old) > 0 {
		t.Error("a held tree goes")
	}
	release()
	if _, err := os.Stat(held); err == nil {
		t.Error("a released tree stays, over the bound")
	}
}

func FuzzReadKept(f *testing.F) {
	b, err := job.Encode(kept{Requester: "12D3KooWEVTB22moTfexnoNZFY6Q8KQXg1JBStKDq8cesPXdNxpY", Leaves: []promise{{Task: ref("x")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key(1), b)
	f.Add(key(1), []byte("\xa0"))
	f.Fuzz(func(t *testing.T, k, v []byte) {
		u, err := readKept(k, v)
		if err == nil && (len(u.leaves) == 0 || u.requester == "") {
			t.Errorf("%+v", u)
		}
	})
}

// BenchmarkOneTaskLeases is what this half costs per task where each comes in
// a lease of its own: folders, signature and a synced receipt included.
func BenchmarkOneTaskLeases(b *testing.B) {
	self, requester := newBenchPeer(b), newBenchPeer(b)
	c := newConn()
	w := New(Deps{
		Self: self.id, Key: self.key, Assets: &assets{}, Exec: takes(0), Dir: b.TempDir(),
		Machine: func() job.Machine { return job.Machine{Devices: []job.Device{{Name: "cpu", Type: "cpu"}}} },
		Swarm:   &swarm{offers: make(chan job.Offer), join: func(context.Context, peerID) (Link, error) { return c, nil }},
	}, Options{Home: requester.id})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-c.reports
	for b.Loop() {
		l := newLease("cpu", 1, job.Ref{})
		c.orders <- job.Order{Epoch: 1, Leases: []job.Lease{l}}
		for r := range c.reports {
			if len(r.Receipts) > 0 {
				c.orders <- job.Order{Epoch: 1, Settled: []job.Settled{{Job: l.Job, Lease: l.ID}}}
				break
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// A tree with files that lie elsewhere is made anew once these changed, under a
// new name and beside the old one while that is in use, and by the next process.
func TestTreesThatAreNotSoundAreMadeAnew(t *testing.T) {
	_, p := newPeer(t)
	dir := t.TempDir()
	ts := newTrees(t, dir, 1<<20)
	bad := ""
	ts.sound = func(dir string) error {
		if dir == bad {
			return errors.New("a file changed")
		}
		return nil
	}
	made := 0
	fill := func(_ context.Context, dir string, _ func(float64)) (Content, error) {
		made++
		return Content{Elsewhere: true}, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 10), 0o400)
	}
	get := func() *tree {
		t.Helper()
		tr, err := ts.acquire(t.Context(), p, ref("a"), "", fill, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	first := get()
	if get() != first || made != 1 {
		t.Errorf("a sound tree was made %d times", made)
	}
	ts.release(first)
	bad = first.dir
	second := get()
	if second == first || second.dir == first.dir || made != 2 || ts.size != 10 {
		t.Errorf("made %d times, %d bytes", made, ts.size)
	}
	if _, err := os.Stat(first.dir); err != nil {
		t.Error("a tree in use was removed")
	}
	ts.release(first)
	if _, err := os.Stat(first.dir); err == nil {
		t.Error("a tree that nobody wants stays")
	}
	ts.release(second)
	if newTrees(t, dir, 1<<20).has(p, ref("a")) {
		t.Error("the next process believes in files elsewhere")
	}
	if _, err := os.Stat(second.dir); err == nil {
		t.Error("its folder stays")
	}
}

func TestTreesGrowAndAreMadeAnewWhereTheyAreFull(t *testing.T) {
	_, p := newPeer(t)
	dir := t.TempDir()
	ts := newTrees(t, dir, 250)
	tr, err := ts.acquire(t.Context(), p, ref("a"), "one", bytesOf(100), nil)
	if err != nil {
		t.Fatal(err)
	}
	adds := 0
	add := func(name string, n int) func(int64) error {
		return func(room int64) error {
			if adds++; int64(n) > room {
				return fmt.Errorf("%w: %d", ErrNoRoom, n)
			}
			return os.WriteFile(filepath.Join(tr.dir, name), make([]byte, n), 0o400)
		}
	}
	for _, wants := range []string{"one", "two", "two", "one"} {
		if err := ts.more(tr, wants, add("more", 100)); err != nil {
			t.Fatal(err)
		}
	}
	if adds != 1 || ts.size != 200 || tr.bytes != 200 {
		t.Errorf("added %d times, %d bytes", adds, ts.size)
	}
	if err := ts.more(tr, "three", add("too much", 51)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("no room: %v", err)
	}
	// After a restart nobody knows for whom it was: whoever comes looks. It keeps
	// the size that it grew to.
	again := newTrees(t, dir, 250)
	back, err := again.acquire(t.Context(), p, ref("a"), "two", mustNot(t), nil)
	if err != nil || back.dir != tr.dir || back.bytes != 200 {
		t.Fatalf("%+v: %v", back, err)
	}
	adds = 0
	if err := again.more(back, "two", add("more 2", 1)); err != nil || adds != 1 {
		t.Errorf("looked %d times: %v", adds, err)
	}
	// A whole one stays so.
	whole, err := again.acquire(t.Context(), p, ref("b"), "", bytesOf(10), nil)
	if err != nil {
		t.Fatal(err)
	}
	again.release(whole)
	third := newTrees(t, dir, 1000)
	if whole, err = third.acquire(t.Context(), p, ref("b"), "x", mustNot(t), nil); err != nil {
		t.Fatal(err)
	}
	adds = 0
	if err := third.more(whole, "x", add("none", 1)); err != nil || adds != 0 {
		t.Errorf("a whole tree was added to %d times: %v", adds, err)
	}
	// One that is let go of stays for whom it has, and the next is another.
	third.drop(whole)
	if _, err := os.Stat(whole.dir); err != nil {
		t.Error(err)
	}
	next, err := third.acquire(t.Context(), p, ref("b"), "y", bytesOf(10), nil)
	if err != nil || next.dir == whole.dir {
		t.Errorf("the same folder: %v", err)
	}
	third.release(whole)
	if _, err := os.Stat(whole.dir); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
}
