package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// versionKind says of each task whether what it reads is the same.
type versionKind struct {
	fakeKind
	same func(job.Task) bool
	saw  []job.ChangedFile
}

func (k *versionKind) Compare(_ context.Context, v job.Versions) (func(job.Task) bool, string, error) {
	if k.saw = v.Changed; len(v.Changed) == 0 {
		return func(job.Task) bool { return true }, "", nil
	}
	return k.same, "changed: Cube", nil
}

func (w *world) Changed(_ context.Context, was, now cid.Cid) ([]job.ChangedFile, error) {
	if w.full {
		return nil, errors.New("block not found")
	}
	if was == now {
		return nil, nil
	}
	return []job.ChangedFile{{Name: "scene", Was: true, Now: true}}, nil
}

func (w *world) FetchFile(context.Context, cid.Cid, string, string) error {
	return errors.New("not in this world")
}

// there puts what was delivered into the output folder.
func (w *world) there() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path := range w.files {
		w.existing[strings.TrimPrefix(path, "/out/")] = true
	}
}

func reusing(rate float64) func(*job.Spec) {
	return func(s *job.Spec) { s.Policy.Reuse, s.Policy.Recheck = true, &rate }
}

func TestResubmittedJobRunsWhatChanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		k := &versionKind{same: func(t job.Task) bool { return !strings.HasPrefix(t.Label, "2") }}
		w.kind, w.touched = k, map[string]time.Time{}
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		f.home()
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		asked := fakeParams{Frames: 6, Parts: 2, Film: true}
		first := f.submit(asked, reusing(0))
		s := f.wait(first, time.Hour, job.StateFinished)
		if s.Delivered != 7 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Message, "no earlier job") {
			t.Fatalf("there was nothing to reuse: %+v", s)
		}
		w.there()
		w.snapshot = []byte("edited scene")
		w.touched["5.txt"] = time.Now().Add(time.Second) // painted over
		time.Sleep(2 * time.Second)
		second, err := f.d.Resubmit(f.ctx, first)
		if err != nil {
			t.Fatal(err)
		}
		s = f.wait(second, time.Hour, job.StateFinished)
		for label, runs := range map[string]int{"1.0": 1, "2.0": 2, "2.1": 2, "3.1": 1, "5.0": 2, "6.0": 1} {
			if a.ran[label] != runs {
				t.Errorf("%s ran %d times, not %d", label, a.ran[label], runs)
			}
		}
		if s.Reused != 4 || s.Skipped != 4 || s.Delivered != 3 || s.ReusedFrom != first || len(w.adopted) != 4 || w.delivered["/out/film.txt"] != 2 {
			t.Errorf("status %+v, adopted %v", s, w.adopted)
		}
		if want := []job.ChangedFile{{Name: "scene", Was: true, Now: true}}; !reflect.DeepEqual(k.saw, want) {
			t.Errorf("the kind saw %v", k.saw)
		}
		for _, x := range s.Frames {
			if x.State == "skipped" && x.Reason != fmt.Sprintf("reused from job %s", first) {
				t.Errorf("frame %s: %q", x.Label, x.Reason)
			}
		}
		if _, err := f.d.Resubmit(f.ctx, "no such job"); !errors.Is(err, job.ErrUnknownJob) {
			t.Errorf("resubmit of no job: %v", err)
		}
		// The journal says it again, and what was reused serves once more.
		f.stop()
		f = startFarm(t, w, dir)
		defer f.stop()
		f.home()
		a = newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		again := f.status(second)
		if again.Reused != 4 || again.ReusedFrom != first || !reflect.DeepEqual(again.Frames, s.Frames) {
			t.Errorf("after a restart: %+v", again)
		}
		third := f.submit(asked, reusing(0))
		if s = f.wait(third, time.Hour, job.StateFinished); s.Reused != 7 || s.ReusedFrom != second || len(a.ran) != 0 {
			t.Errorf("nothing changed: %+v, ran %v", s, a.ran)
		}
		// A frame that is asked for is run, and is reused no more.
		if err := f.d.Requeue(f.ctx, third, "4"); err != nil {
			t.Fatal(err)
		}
		if s = f.wait(third, time.Hour, job.StateFinished); s.Reused != 5 || a.ran["4.0"] != 1 || a.ran["3.0"] != 0 {
			t.Errorf("requeued: %+v, ran %v", s, a.ran)
		}
	})
}

func TestReusedFramesAreCompared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.kind = &versionKind{same: func(job.Task) bool { return true }}
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		defer func() { f.stop() }()
		f.home()
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		more := []*fakeWorker{newFakeWorker(t, w, "b", time.Second), newFakeWorker(t, w, "c", time.Second)}
		for _, b := range more {
			f.add(b)
		}
		asked := fakeParams{Frames: 40, Check: job.CheckExact}
		f.wait(f.submit(asked), time.Hour, job.StateFinished)
		w.there()
		w.snapshot = []byte("edited scene")
		s := f.wait(f.submit(asked, reusing(.5)), time.Hour, job.StateFinished)
		if s.Reused == 0 || s.Delivered == 0 || s.ReuseChecked != s.Delivered || s.Reused+s.Delivered != 40 {
			t.Errorf("half of them compared: %+v", s)
		}
		// One that came out differently says that the others may have, too.
		w.differs = map[string]string{}
		for i := range 40 {
			w.differs[fmt.Sprint(i+1)] = "another picture"
		}
		w.snapshot = []byte("scene edited again")
		w.mu.Lock()
		before := maps.Clone(w.delivered)
		w.mu.Unlock()
		s = f.wait(f.submit(asked, reusing(.5)), time.Hour, job.StateFinished)
		if s.Reused != 0 || s.Skipped != 0 || s.Delivered != 40 || s.ReuseChecked != 0 || s.ReusedFrom != "" {
			t.Errorf("they differ: %+v", s)
		}
		for i := range 40 {
			if path := fmt.Sprintf("/out/%d.txt", i+1); w.delivered[path] != before[path]+1 {
				t.Errorf("%s was delivered %d times more", path, w.delivered[path]-before[path])
			}
		}
	})
}

func TestNothingIsReusedInDoubt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.kind = &versionKind{same: func(job.Task) bool { return true }}
		f := startFarm(t, w, t.TempDir())
		defer f.stop()
		f.home()
		f.add(newFakeWorker(t, w, "a", time.Second))
		first := f.submit(fakeParams{Frames: 3})
		if _, err := f.d.Resubmit(f.ctx, first); !errors.Is(err, job.ErrRefused) {
			t.Errorf("resubmit of a job that runs: %v", err)
		}
		second := f.submit(fakeParams{Frames: 3}, reusing(0))
		f.wait(first, time.Hour, job.StateFinished)
		w.there()
		whole := func(id job.ID, why string) {
			t.Helper()
			s := f.wait(id, time.Hour, job.StateFinished)
			if s.Reused != 0 || s.Delivered != 3 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Message, why) {
				t.Errorf("%s: %+v", why, s)
			}
		}
		whole(second, "still writes into the folder")
		elsewhere := f.submit(fakeParams{Frames: 3}, reusing(0), func(s *job.Spec) { s.Output = "/other" })
		whole(elsewhere, "no earlier job")
		w.mu.Lock()
		w.full = true // see Changed
		w.mu.Unlock()
		third := f.submit(fakeParams{Frames: 3}, reusing(0))
		time.Sleep(time.Minute)
		w.mu.Lock()
		w.full = false
		w.mu.Unlock()
		whole(third, "not stored here any more")
		// Other parameters are other tasks.
		s := f.wait(f.submit(fakeParams{Frames: 3, Parts: 2}, reusing(0)), time.Hour, job.StateFinished)
		if s.Reused != 0 || s.Delivered != 3 {
			t.Errorf("in parts: %+v", s)
		}
	})
}

// TestReuseIsPacked: a rewritten journal says what was reused.
func TestReuseIsPacked(t *testing.T) {
	r := &reused{from: "J", tasks: map[int32]bool{3: true, 1: true}, drawn: map[int32]bool{2: true}, confirmed: 4}
	b, err := encodeRecord(r.record())
	if err != nil {
		t.Fatal(err)
	}
	have, err := decodeRecord(b)
	if want := (&reuseRecord{From: "J", Tasks: []int{1, 3}, Drawn: []int{2}, Confirmed: 4}); err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("%+v, %v", have, err)
	}
	j := newJobState("J2")
	if err := j.apply(have.(*reuseRecord)); err == nil {
		t.Error("tasks that are not there are reused")
	}
}
