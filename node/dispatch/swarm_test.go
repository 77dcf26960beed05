package dispatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
)

// farm is a Dispatcher with its world, in fake time.
type farm struct {
	t   *testing.T
	w   *world
	d   *Dispatcher
	dir string
	ctx context.Context
	wg  sync.WaitGroup
	end context.CancelFunc
}

func startFarm(t *testing.T, w *world, dir string) *farm {
	t.Helper()
	key, self := testPeer(t, "requester")
	d, err := NewDispatcher(w.deps(dir, key, self), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{t: t, w: w, d: d, dir: dir}
	f.ctx, f.end = context.WithCancel(context.Background())
	f.wg.Go(func() {
		if err := d.Run(f.ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return f
}

func (f *farm) stop() {
	f.end()
	f.wg.Wait()
}

// add lets a worker work until the returned function is called.
func (f *farm) add(x *fakeWorker) (kill func()) {
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	f.wg.Go(func() { defer close(done); x.run(ctx, f.d) })
	return func() { cancel(); <-done }
}

// home adds the requester's own slot for checks and finishing.
func (f *farm) home() *fakeWorker {
	x := newFakeWorker(f.t, f.w, "requester", 100*time.Millisecond).homeOnly()
	f.add(x)
	return x
}

func (f *farm) submit(p fakeParams, change ...func(*job.Spec)) job.ID {
	f.t.Helper()
	s := spec(p)
	for _, c := range change {
		c(&s)
	}
	id, err := f.d.Submit(f.ctx, s)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// wait lets time pass until the job is in one of the states, a second at a time.
func (f *farm) wait(id job.ID, most time.Duration, states ...job.State) job.Status {
	f.t.Helper()
	for range int(most / time.Second) {
		s := f.status(id)
		if slices.Contains(states, s.State) {
			return s
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	s := f.status(id)
	f.t.Fatalf("job is %s after %v: %+v", s.State, most, s)
	return s
}

func (f *farm) status(id job.ID) job.Status {
	f.t.Helper()
	s, err := f.d.Status(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// check holds what was delivered against the truth.
func (f *farm) check(frames int) {
	f.t.Helper()
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for i := range frames {
		path := fmt.Sprintf("/out/%d.txt", i+1)
		b := string(f.w.files[path])
		if b != fmt.Sprintf("picture of %d", i+1) && b != fmt.Sprintf("picture of join %d", i+1) {
			f.t.Errorf("%s holds %q", path, b)
		}
	}
	if len(f.w.files) != frames {
		f.t.Errorf("%d files, not %d", len(f.w.files), frames)
	}
}

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestAJobIsDeliveredByTwoWorkers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.rate = .5
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.home()
		a, b := newFakeWorker(t, w, "a", 2*time.Second), newFakeWorker(t, w, "b", 4*time.Second)
		f.add(a)
		f.add(b)
		start := time.Now()
		id := f.submit(fakeParams{Frames: 48, Check: job.CheckExact})
		s := f.wait(id, time.Hour, job.StateFinished)
		took := time.Since(start)
		f.check(48)
		if s.Delivered != 48 || s.Accepted != 48 || s.Rejected != 0 || s.FailedN != 0 || s.Running != 0 || s.Waiting != 0 {
			t.Errorf("status: %+v", s)
		}
		if s.Rechecked == 0 || s.Rechecked == 48 {
			t.Errorf("%d of 48 rechecked at a rate of one half", s.Rechecked)
		}
		// Ideal: 48 frames at 1/2 + 1/4 frames per second.
		if ideal := 64 * time.Second; took > ideal*110/100 {
			t.Errorf("took %v, ideal is %v", took, ideal)
		}
		if s.Efficiency < .9 {
			t.Errorf("efficiency %v", s.Efficiency)
		}
		if s.UploadedBytes != 42 || s.ContentBytes != 5 || s.NewBytes != 3 || s.ResultBytes == 0 || s.WallSeconds < 60 || s.RenderSeconds < 90 {
			t.Errorf("status: %+v", s)
		}
		if n := a.ran["1"] + b.ran["1"]; n != 1 {
			t.Errorf("task 1 ran %d times", n)
		}
		w.mu.Lock()
		if len(w.offers) == 0 || w.offers[0].Open == 0 || w.offers[0].Job != id {
			t.Errorf("offers: %+v", w.offers)
		}
		if len(w.released) != 1 {
			t.Errorf("released %v", w.released)
		}
		w.mu.Unlock()
		// Every receipt was settled, with its secret.
		time.Sleep(time.Second)
		for _, x := range []*fakeWorker{a, b} {
			x.mu.Lock()
			if len(x.unsent) != 0 || x.secrets == 0 {
				t.Errorf("%d receipts unsettled, %d secrets shown", len(x.unsent), x.secrets)
			}
			x.mu.Unlock()
		}
		for _, dir := range []string{"staging", "evidence"} {
			if _, err := os.Stat(filepath.Join(f.dir, "jobs", string(id), dir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		}
	})
}

func TestNoOpTasksTakeAtMostTwoMessagesEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a := newFakeWorker(t, w, "a", time.Millisecond)
		f.add(a)
		const n = 300
		start := time.Now()
		id := f.submit(fakeParams{Frames: n})
		s := f.wait(id, time.Hour, job.StateFinished)
		if per := float64(a.orders+a.reports) / n; per > 2 {
			t.Errorf("%v messages per task (%d orders, %d reports)", per, a.orders, a.reports)
		}
		if s.Messages == 0 || s.Messages > 2*n+4 {
			t.Errorf("%d messages counted", s.Messages)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		t.Logf("%d orders, %d reports for %d tasks, %v", a.orders, a.reports, n, s.WallSeconds)
	})
}

func TestPartsAreJoinedAtTheRequester(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.rate = 1
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		h := f.home()
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		id := f.submit(fakeParams{Frames: 5, Parts: 3, Check: job.CheckExact})
		s := f.wait(id, time.Hour, job.StateFinished)
		f.check(5)
		if s.Tasks != 5 || s.Delivered != 5 || s.Rechecked != 15 {
			t.Errorf("status: %+v", s)
		}
		for i := range 5 {
			if l := fmt.Sprint(i + 1); h.ran[l] != 1 || a.ran[l] != 0 {
				t.Errorf("join of %s ran %d times at home, %d times elsewhere", l, h.ran[l], a.ran[l])
			}
		}
	})
}

func TestACheatIsCaughtAndItsOtherWorkIsLookedAt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.home()
		a, c := newFakeWorker(t, w, "a", 2*time.Second), newFakeWorker(t, w, "cheat", time.Second)
		c.cheat = func(job.Task) bool { return true }
		f.add(a)
		f.add(c)
		id := f.submit(fakeParams{Frames: 40, Check: job.CheckExact})
		time.Sleep(5500 * time.Millisecond)
		if s := f.status(id); s.Delivered < 4 || s.Rechecked != 0 {
			t.Fatalf("nothing was to be checked yet: %+v", s)
		}
		w.mu.Lock()
		w.rate = 1
		w.mu.Unlock()
		s := f.wait(id, time.Hour, job.StateFinished)
		f.check(40) // also those that were delivered unseen before
		if s.Rejected < 4 || s.Delivered != 40 {
			t.Errorf("status: %+v", s)
		}
		if !strings.Contains(c.resting, "rejected") {
			t.Errorf("the cheat was told %q", c.resting)
		}
		if w.Score(c.id).Rejected == 0 || w.Score(a.id).Rejected != 0 {
			t.Errorf("scores: cheat %+v, honest %+v", w.Score(c.id), w.Score(a.id))
		}
		found := false
		for _, x := range s.Workers {
			if x.Peer == c.id.String() {
				found = x.Rejected == s.Rejected && strings.Contains(x.Resting, "rejected") && x.Tasks == 0
			}
		}
		if !found {
			t.Errorf("workers: %+v", s.Workers)
		}
	})
}

func TestWithOnlyACheatTheJobWaitsAndSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.rate = 1
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.home()
		c := newFakeWorker(t, w, "cheat", time.Second)
		c.cheat = func(job.Task) bool { return true }
		f.add(c)
		id := f.submit(fakeParams{Frames: 3, Check: job.CheckExact})
		time.Sleep(time.Minute)
		synctest.Wait()
		s := f.status(id)
		if s.State != job.StatePlanned || s.Delivered != 0 || !strings.Contains(s.Reason, "rejected") {
			t.Errorf("status: %+v", s)
		}
		f.add(newFakeWorker(t, w, "honest", time.Second))
		f.wait(id, time.Hour, job.StateFinished)
		f.check(3)
	})
}

func TestAWorkerThatVanishesCostsOneLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a, b := newFakeWorker(t, w, "a", 2*time.Second), newFakeWorker(t, w, "b", 2*time.Second)
		f.add(a)
		kill := f.add(b)
		id := f.submit(fakeParams{Frames: 30})
		time.Sleep(5 * time.Second)
		kill()
		s := f.wait(id, time.Hour, job.StateFinished)
		f.check(30)
		if s.WallSeconds > 130 {
			t.Errorf("took %v s", s.WallSeconds)
		}
	})
}

func TestACutLinkLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a := newFakeWorker(t, w, "a", 3*time.Second)
		id := f.submit(fakeParams{Frames: 10})
		for i := range 200 {
			kill := f.add(a)
			time.Sleep(7 * time.Second)
			kill()
			a.session = fmt.Sprint("s", i) // its process restarted
			if f.status(id).State.Ended() {
				break
			}
		}
		f.wait(id, time.Hour, job.StateFinished)
		f.check(10)
		for label, n := range w.delivered {
			if n != 1 {
				t.Errorf("%s delivered %d times", label, n)
			}
		}
	})
}

func TestNobodyHere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		id := f.submit(fakeParams{Frames: 1, Needs: map[string]string{"fake": "2"}})
		time.Sleep(time.Second)
		if s := f.status(id); s.Reason != "no machine that could work on it is connected" {
			t.Errorf("reason %q", s.Reason)
		}
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		time.Sleep(time.Second)
		if s := f.status(id); !strings.Contains(s.Reason, "needs fake 2, here is [1]") {
			t.Errorf("reason %q", s.Reason)
		}
		offers := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.offers) }
		n := offers()
		time.Sleep(5 * time.Minute)
		if m := offers() - n; m != 5 {
			t.Errorf("%d offers in five minutes", m)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		for name, s := range map[string]job.Spec{
			"kind":   {Kind: "other", Output: "/out"},
			"output": func() job.Spec { s := spec(fakeParams{Frames: 1}); s.Output = "/nowhere"; return s }(),
			"path":   func() job.Spec { s := spec(fakeParams{Frames: 1}); s.Input = "rel"; return s }(),
		} {
			if _, err := f.d.Submit(f.ctx, s); !errors.Is(err, job.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, c := range []struct {
			p       fakeParams
			reason  string
			refused bool
		}{
			{fakeParams{Frames: 1, Bad: "texture.png is missing"}, "texture.png is missing", true},
			{fakeParams{Frames: 0}, "nothing to do", true},
			{fakeParams{Frames: 1, Crash: "the program is broken"}, "the program is broken", false},
		} {
			id := f.submit(c.p)
			s := f.wait(id, time.Minute, job.StateFailed)
			if !strings.Contains(s.Reason, c.reason) || (len(s.Problems) > 0) != c.refused {
				t.Errorf("%s: reason %q, problems %v", c.reason, s.Reason, s.Problems)
			}
		}
		if _, err := f.d.Status("nope"); !errors.Is(err, job.ErrUnknownJob) {
			t.Error(err)
		}
		if err := f.d.Steer(f.ctx, "nope", job.Cancel); !errors.Is(err, job.ErrUnknownJob) {
			t.Error(err)
		}
	})
}

func TestATaskThatFailsOnTwoPeersFailsAndTheRestGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		for _, name := range []string{"a", "b", "c"} {
			x := newFakeWorker(t, w, name, time.Second)
			x.outcome = func(t job.Task) job.Outcome {
				if t.Label == "3" {
					return job.Failed
				}
				return ""
			}
			f.add(x)
		}
		id := f.submit(fakeParams{Frames: 9})
		s := f.wait(id, time.Hour, job.StateFailed)
		if s.Delivered != 8 || s.FailedN != 1 || !strings.Contains(s.Reason, "1 of 9 tasks failed; 3: failed on two peers") {
			t.Errorf("status: %+v", s)
		}
		log, err := f.d.Log(f.ctx, id, "3")
		if err != nil || !strings.Contains(string(log), "it happened") {
			t.Errorf("log %q: %v", log, err)
		}
		if s.Frames[2].State != "failed" || s.Frames[2].Attempts != 2 {
			t.Errorf("frame: %+v", s.Frames[2])
		}
	})
}

func TestASingleWorkerThatBreaksIsTriedAgainWithGrowingRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a := newFakeWorker(t, w, "a", time.Second)
		n := 0
		a.outcome = func(job.Task) job.Outcome {
			if n++; n <= 3 {
				return job.Broken
			}
			return ""
		}
		f.add(a)
		id := f.submit(fakeParams{Frames: 2})
		s := f.wait(id, time.Hour, job.StateFinished)
		if s.WallSeconds < 2+4+8 || s.WallSeconds > 40 {
			t.Errorf("took %v s", s.WallSeconds)
		}
		// One that always breaks does not keep the job for ever.
		b := newFakeWorker(t, w, "b", time.Second)
		b.outcome = func(job.Task) job.Outcome { return job.Broken }
		a.outcome = b.outcome
		id = f.submit(fakeParams{Frames: 2})
		s = f.wait(id, time.Hour, job.StateFailed)
		if !strings.Contains(s.Reason, "broke") {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

func TestPauseResumeCancel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a := newFakeWorker(t, w, "a", 5*time.Second)
		id := f.submit(fakeParams{Frames: 6})
		steer := func(x job.Action) {
			t.Helper()
			if err := f.d.Steer(f.ctx, id, x); err != nil {
				t.Fatal(err)
			}
		}
		steer(job.Pause)
		f.add(a)
		time.Sleep(time.Minute)
		if s := f.status(id); s.State != job.StatePaused || len(a.ran) != 0 || s.Reason != "paused" {
			t.Errorf("paused: %+v, ran %v", s, a.ran)
		}
		steer(job.Resume)
		time.Sleep(7 * time.Second)
		steer(job.Pause)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := f.status(id); s.Delivered == 0 || s.Delivered == 6 || s.Running != 0 {
			t.Errorf("what ran should be delivered, no more: %+v", s)
		}
		steer(job.Resume)
		time.Sleep(time.Second)
		if s := f.status(id); s.Running == 0 {
			t.Errorf("resumed: %+v", s)
		}
		steer(job.Cancel)
		time.Sleep(time.Second)
		s := f.status(id)
		if s.State != job.StateCancelled {
			t.Errorf("cancelled: %+v", s)
		}
		if err := f.d.Steer(f.ctx, id, job.Pause); err == nil {
			t.Error("a cancelled job was paused")
		}
		steer(job.Cancel) // once more does no harm
		n := s.Delivered
		time.Sleep(time.Minute)
		if s := f.status(id); s.Delivered != n {
			t.Errorf("delivered %d after the cancel", s.Delivered-n)
		}
	})
}

func TestFullOutputFolderIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.full = true
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.add(newFakeWorker(t, w, "a", time.Second))
		id := f.submit(fakeParams{Frames: 3})
		time.Sleep(time.Minute)
		if s := f.status(id); !strings.Contains(s.Reason, "no space left") || s.State != job.StatePlanned {
			t.Errorf("status: %+v", s)
		}
		w.mu.Lock()
		w.full = false
		w.mu.Unlock()
		f.wait(id, time.Hour, job.StateFinished)
		f.check(3)
	})
}

// TestAnOutputFolderThatIsRenamedIsWaitedFor: what is done meanwhile waits, also
// over a restart, and once the folder is back all files are in one place. The
// first file of a job makes the folder, and so does one after the job's end.
func TestAnOutputFolderThatIsRenamedIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		move := func(away bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.moved = away
		}
		move(true) // it is not made yet
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		f.add(newFakeWorker(t, w, "a", 5*time.Second))
		id := f.submit(fakeParams{Frames: 4})
		for f.status(id).Delivered == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		if s := f.status(id); s.Delivered != 1 || s.State != job.StatePlanned || !strings.Contains(s.Reason, "/out is not there") {
			t.Errorf("status: %+v", s)
		}
		f.stop()
		f = startFarm(t, w, dir)
		defer func() { f.stop() }()
		f.add(newFakeWorker(t, w, "a", 5*time.Second))
		time.Sleep(time.Minute)
		if s := f.status(id); s.Delivered != 1 || !strings.Contains(s.Reason, "/out is not there") {
			t.Errorf("after a restart: %+v", s)
		}
		move(false)
		f.wait(id, time.Hour, job.StateFinished)
		f.check(4)
		move(true)
		if err := f.d.Requeue(f.ctx, id, "2"); err != nil {
			t.Fatal(err)
		}
		f.wait(id, time.Hour, job.StateFinished)
		if n := w.delivered["/out/2.txt"]; n != 2 {
			t.Errorf("frame 2 was delivered %d times", n)
		}
	})
}

func TestOnlyMissingAndRequeue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.existing["2.txt"] = true
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.home()
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		id := f.submit(fakeParams{Frames: 3, Parts: 2}, func(s *job.Spec) { s.Policy.OnlyMissing = true })
		s := f.wait(id, time.Hour, job.StateFinished)
		if s.Skipped != 1 || s.Delivered != 2 || a.ran["2.0"] != 0 {
			t.Errorf("status: %+v, ran %v", s, a.ran)
		}
		for _, label := range []string{"2", "3"} {
			if err := f.d.Requeue(f.ctx, id, label); err != nil {
				t.Fatal(err)
			}
			s = f.wait(id, time.Hour, job.StateFinished)
		}
		if s.Delivered != 3 || s.Skipped != 0 || w.delivered["/out/3.txt"] != 2 || w.delivered["/out/1.txt"] != 1 || a.ran["3.0"] != 2 {
			t.Errorf("status: %+v, delivered %v, ran %v", s, w.delivered, a.ran)
		}
		if err := f.d.Requeue(f.ctx, id, "99"); err == nil {
			t.Error("an unknown task was requeued")
		}
		w.snapshot = []byte("edited scene")
		if err := f.d.Requeue(f.ctx, id, "1"); err == nil || !strings.Contains(err.Error(), "changed") {
			t.Errorf("requeued on changed files: %v", err)
		}
	})
}

// TestAFilmIsMadeAgain: what is made of all frames takes those that are there
// from the output folder, and is made again when one of them is.
func TestAFilmIsMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"1.txt", "3.txt", "film.txt"} {
			w.existing[name] = true
		}
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		f.home()
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		missing := func(s *job.Spec) { s.Policy.OnlyMissing = true }
		id := f.submit(fakeParams{Frames: 3, Parts: 2, Film: true}, missing)
		s := f.wait(id, time.Hour, job.StateFinished)
		if s.Skipped != 2 || s.Delivered != 2 || a.ran["1.0"] != 0 || a.ran["2.0"] != 1 || w.delivered["/out/film.txt"] != 1 || len(w.adopted) != 2 {
			t.Errorf("only missing: %+v, ran %v, adopted %v", s, a.ran, w.adopted)
		}
		w.mu.Lock()
		w.existing["2.txt"] = true
		w.mu.Unlock()
		again := f.submit(fakeParams{Frames: 3, Parts: 2, Film: true}, missing)
		if s := f.wait(again, time.Hour, job.StateFinished); s.Skipped != 4 {
			t.Errorf("all of it is there: %+v", s)
		}

		// The job ended, and what its tasks left was let go of.
		w.adopted = nil
		if err := f.d.Requeue(f.ctx, id, "2"); err != nil {
			t.Fatal(err)
		}
		s = f.wait(id, time.Hour, job.StateFinished)
		if a.ran["1.0"] != 0 || a.ran["2.0"] != 2 || w.delivered["/out/film.txt"] != 2 || len(w.adopted) != 2 {
			t.Errorf("requeued: %+v, ran %v, adopted %v", s, a.ran, w.adopted)
		}
		// A frame that is gone is rendered for it. The journal says all this again.
		delete(w.existing, "3.txt")
		f.stop()
		f = startFarm(t, w, dir)
		defer f.stop()
		f.home()
		a = newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		if err := f.d.Requeue(f.ctx, id, "film"); err != nil {
			t.Fatal(err)
		}
		s = f.wait(id, time.Hour, job.StateFinished)
		if a.ran["1.0"] != 0 || a.ran["2.0"] != 0 || a.ran["3.0"] != 1 || w.delivered["/out/film.txt"] != 3 || s.Delivered+s.Skipped != 4 {
			t.Errorf("gone: %+v, ran %v, adopted %v", s, a.ran, w.adopted)
		}
	})
}

func TestTailIsCopiedToAFasterWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		a, b := newFakeWorker(t, w, "a", 10*time.Second), newFakeWorker(t, w, "b", 10*time.Second)
		var slow atomic.Bool // its owner plays
		b.cost = func(t job.Task) time.Duration {
			if slow.Load() {
				return time.Hour
			}
			return 10 * time.Second
		}
		f.add(a)
		f.add(b)
		id := f.submit(fakeParams{Frames: 12})
		time.Sleep(25 * time.Second)
		slow.Store(true)
		s := f.wait(id, 10*time.Minute, job.StateFinished)
		f.check(12)
		if s.WallSeconds > 300 {
			t.Errorf("took %v s", s.WallSeconds)
		}
	})
}

func TestWatchSeesEverythingInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		var mu sync.Mutex
		var got []job.Event
		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		seq := f.d.Watch(ctx, "", 0)
		f.wg.Go(func() {
			for e := range seq {
				mu.Lock()
				got = append(got, e)
				mu.Unlock()
			}
		})
		f.add(newFakeWorker(t, w, "a", time.Second))
		id := f.submit(fakeParams{Frames: 2})
		f.wait(id, time.Hour, job.StateFinished)
		mu.Lock()
		defer mu.Unlock()
		count := map[job.EventType]int{}
		for i, e := range got {
			if i > 0 && e.Seq != got[i-1].Seq+1 {
				t.Errorf("event %d after %d", e.Seq, got[i-1].Seq)
			}
			count[e.Type]++
		}
		if count[job.EventDelivered] != 2 || count[job.EventReturned] != 2 || count[job.EventJudged] != 2 || count[job.EventState] != 3 || count[job.EventPhase] != 3 {
			t.Errorf("events: %v", count)
		}
		n := 0
		rctx, rcancel := context.WithTimeout(f.ctx, time.Second)
		defer rcancel()
		for e := range f.d.Watch(rctx, id, got[2].Seq) {
			if e.Seq != got[3+n].Seq {
				t.Errorf("replayed %d", e.Seq)
			}
			n++
		}
		if n != len(got)-3 {
			t.Errorf("%d of %d events replayed", n, len(got)-3)
		}
	})
}

// TestRestartLosesNothingAndRedoesLittle ends the dispatcher again and again in the middle of a job; its
// workers stay, and what they did is not done twice.
func TestRestartLosesNothingAndRedoesLittle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.rate = .3
		dir := t.TempDir()
		const frames = 40
		a := newFakeWorker(t, w, "a", 3*time.Second)
		b := newFakeWorker(t, w, "b", 2*time.Second)
		home := newFakeWorker(t, w, "requester", 100*time.Millisecond).homeOnly()
		var id job.ID
		kills := 0
		epoch := uint64(0)
		for {
			f := startFarm(t, w, dir)
			if e := f.d.Epoch(); e != epoch+1 {
				t.Fatalf("epoch %d after %d", e, epoch)
			}
			epoch++
			f.add(home)
			if id == "" {
				id = f.submit(fakeParams{Frames: frames, Check: job.CheckExact})
			}
			f.add(a)
			f.add(b)
			time.Sleep(time.Duration(3+kills%5) * time.Second)
			s := f.status(id)
			if s.State == job.StateFinished {
				if s.Delivered != frames {
					t.Errorf("status: %+v", s)
				}
				f.stop()
				break
			}
			f.stop()
			kills++
			if kills > 100 {
				t.Fatalf("no end: %+v", s)
			}
		}
		f := startFarm(t, w, dir)
		defer f.stop()
		f.check(frames)
		if s := f.status(id); s.State != job.StateFinished || s.Delivered != frames || s.UploadedBytes != 42 {
			t.Errorf("after all: %+v", s)
		}
		runs := 0
		for _, x := range []*fakeWorker{a, b} {
			for _, n := range x.ran {
				runs += n
			}
		}
		t.Logf("%d starts, %d runs of %d tasks", kills+1, runs, frames)
		if runs > frames+2*kills {
			t.Errorf("%d runs of %d tasks in %d starts", runs, frames, kills+1)
		}
		if l := f.d.List(); len(l) != 1 || l[0].Job != id || l[0].Frames != nil {
			t.Errorf("list: %+v", l)
		}
	})
}

func TestTwoDispatchersWithOneJournal(t *testing.T) {
	w := newWorld(t)
	key, self := testPeer(t, "requester")
	dir := t.TempDir()
	d, err := NewDispatcher(w.deps(dir, key, self), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDispatcher(w.deps(dir, key, self), Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Submit(t.Context(), spec(fakeParams{Frames: 1})); !errors.Is(err, ErrStopped) {
		t.Errorf("submit after the end: %v", err)
	}
	d, err = NewDispatcher(w.deps(dir, key, self), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := NewDispatcher(Deps{}, Options{}); err == nil {
		t.Error("made of nothing")
	}
}

func TestCloseWaitsForRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		f.add(newFakeWorker(t, w, "a", time.Second))
		f.submit(fakeParams{Frames: 5})
		time.Sleep(2500 * time.Millisecond)
		if err := f.d.Close(); err != nil {
			t.Fatal(err)
		}
		g := startFarm(t, w, dir) // the folder is free again
		g.stop()
		f.stop()
		if err := f.d.Run(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("run after close: %v", err)
		}
	})
}

// auditFunc is an Audit.
type auditFunc func(Given) error

func (f auditFunc) Given(g Given) error { return f(g) }

// Nothing is given out before it is written down who gets it, and once a day
// is enough.
func TestNothingIsGivenBeforeItIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		key, self := testPeer(t, "requester")
		deps := w.deps(t.TempDir(), key, self)
		var mu sync.Mutex
		full := true
		var log []Given
		deps.Audit = auditFunc(func(g Given) error {
			mu.Lock()
			defer mu.Unlock()
			if full {
				return errors.New("no space left")
			}
			log = append(log, g)
			return nil
		})
		d, err := NewDispatcher(deps, Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := &farm{t: t, w: w, d: d}
		f.ctx, f.end = context.WithCancel(context.Background())
		f.wg.Go(func() {
			if err := d.Run(f.ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		defer f.stop()
		f.home()
		a := newFakeWorker(t, w, "a", 10*time.Second)
		f.add(a)
		id := f.submit(fakeParams{Frames: 20})
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := f.status(id); s.Delivered > 0 || !strings.Contains(s.Reason, "written down") {
			t.Errorf("%d delivered, and it says %q", s.Delivered, s.Reason)
		}
		mu.Lock()
		full = false
		mu.Unlock()
		if s := f.wait(id, time.Hour, job.StateFinished); s.Delivered != 20 {
			t.Fatalf("%+v", s)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(log) != 1 || log[0].Peer != a.id || log[0].Job != id || !log[0].Root.Defined() || log[0].Expires.Sub(log[0].At) != readGrantTime {
			t.Errorf("written down: %+v", log)
		}
	})
}

// The lists of a job say who works on it, checks it and has its content; what
// only this machine can do, it does whatever they say.
func TestListsOfAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFarm(t, newWorld(t), t.TempDir())
		defer f.stop()
		self := newFakeWorker(t, f.w, "requester", time.Second)
		self.machine.Devices = append(self.machine.Devices, job.Device{Name: job.HomeDevice, Type: "cpu"})
		f.add(self)
		a, b, c := newFakeWorker(t, f.w, "a", time.Second), newFakeWorker(t, f.w, "b", time.Second), newFakeWorker(t, f.w, "c", time.Second)
		for _, x := range []*fakeWorker{a, b, c} {
			f.add(x)
		}
		counts := func() map[string]int {
			out := map[string]int{}
			for name, x := range map[string]*fakeWorker{"self": self, "a": a, "b": b, "c": c} {
				x.mu.Lock()
				for _, n := range x.ran {
					out[name] += n
				}
				clear(x.ran)
				x.mu.Unlock()
			}
			return out
		}
		for what, q := range map[string]struct {
			only, not []string
			who       string // besides this machine for joining
		}{
			"everybody":        {nil, nil, "abcs"},
			"only a and b":     {[]string{a.id.String(), b.id.String()}, nil, "ab"},
			"not a":            {nil, []string{a.id.String()}, "bcs"},
			"not this machine": {nil, []string{self.id.String()}, "abc"},
			"this one alone":   {[]string{self.id.String()}, nil, "s"},
		} {
			id := f.submit(fakeParams{Frames: 40, Parts: 2}, func(s *job.Spec) { s.Policy.Only, s.Policy.Not = q.only, q.not })
			if s := f.wait(id, time.Hour, job.StateFinished); s.State != job.StateFinished || s.Delivered != 40 {
				t.Fatalf("%s: %s, %d delivered: %s", what, s.State, s.Delivered, s.Reason)
			}
			if !f.d.Allows(job.NewID(time.Now()), a.id) {
				t.Error("what was asked directly has no lists, and is not readable")
			}
			n := counts()
			for name, x := range map[string]*fakeWorker{"a": a, "b": b, "c": c} {
				if want := strings.Contains(q.who, name); (n[name] > 0) != want || f.d.Allows(id, x.id) != want {
					t.Errorf("%s: %s ran %d tasks, content allowed: %v", what, name, n[name], f.d.Allows(id, x.id))
				}
			}
			// 40 joins are this machine's in any case.
			if (n["self"] > 40) != strings.Contains(q.who, "s") || n["self"] < 40 {
				t.Errorf("%s: this machine ran %d tasks", what, n["self"])
			}
		}
		// Nobody who may is there: it waits, and says why.
		_, away := testPeer(t, "away")
		id := f.submit(fakeParams{Frames: 2}, func(s *job.Spec) { s.Policy.Only = []string{away.String()} })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := f.status(id); s.Delivered > 0 || !strings.Contains(s.Reason, "--only") {
			t.Errorf("%d delivered; it says %q", s.Delivered, s.Reason)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if !strings.Contains(a.resting, "for other machines") {
			t.Errorf("a is told %q", a.resting)
		}
	})
}
