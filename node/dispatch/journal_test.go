package dispatch

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// recorded is the journal of a job in which nearly everything happened.
func recorded(t *testing.T) (*table, job.ID) {
	t.Helper()
	x := newTable(t)
	x.checks, x.ruling = true, job.Accepted
	for _, line := range strings.Split(`open self home
report self want=2 device=home
open a
open b
submit J frames=3 parts=1 check
report a want=1
report b want=1
report a want=1 done=L1:0:failed
report b want=1 done=L2:0
answer
steer J pause
steer J resume
report b want=2
report a want=2
report self want=2 device=home
pass 1s
answer`, "\n") {
		x.play(strings.Fields(line))
	}
	for range 40 {
		for l, h := range x.holder {
			delete(x.holder, l)
			dev := map[bool]string{true: " device=home"}[h == "self"]
			x.play(strings.Fields("report " + h + " want=2 done=" + l + ":0" + dev))
			x.answer(true)
			x.pass(time.Second)
		}
	}
	id := x.jobs["J"]
	if s := x.b.byID[id].State(); s != job.StateFinished {
		t.Fatalf("job is %s", s)
	}
	return x, id
}

func writeJournal(t *testing.T, dir string, id job.ID, recs [][]byte) string {
	t.Helper()
	path := filepath.Join(dir, "jobs", string(id), "journal")
	l, err := recordlog.Open(path, journalOptions, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(recs...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(path, "00000001.log")
}

// TestEveryPrefixOfAJournalIsAJob cuts a journal everywhere: what comes back
// is a state that was once true, and one that can go on.
func TestEveryPrefixOfAJournalIsAJob(t *testing.T) {
	x, id := recorded(t)
	states := []string{""}
	for n := range x.records[id] {
		j := newJobState(id)
		for _, rec := range x.records[id][:n+1] {
			r, err := decodeRecord(rec)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.apply(r); err != nil {
				t.Fatal(err)
			}
		}
		b := NewBoard(x.ids["self"], 7, Options{})
		b.restore(j)
		b.Step(x.now, Tick{})
		states = append(states, durable(b))
	}
	dir := t.TempDir()
	file := writeJournal(t, dir, id, x.records[id])
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	once := map[string]bool{}
	for _, s := range states {
		once[s] = true
	}
	seen := map[string]bool{}
	open := func(b []byte) string {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, jobs, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer n.close()
		board := NewBoard(x.ids["self"], 7, Options{})
		for _, j := range jobs {
			board.restore(j)
		}
		board.Step(x.now, Tick{})
		got := durable(board)
		if !once[got] {
			t.Fatalf("a state that never was:\n%s", got)
		}
		return got
	}
	// Each opening costs several fsyncs; recordlog's own tests cut at every byte.
	const step = 13
	for cut := 0; cut <= len(whole); cut += step {
		seen[open(whole[:cut])] = true
	}
	if d := cmp.Diff(states[len(states)-1], open(whole)); d != "" {
		t.Error(d)
	}
	if len(seen) < len(once)/3 {
		t.Errorf("%d of %d states seen", len(seen), len(once))
	}
	for i := 0; i < len(whole); i += 7 * step {
		b := append([]byte(nil), whole...)
		b[i] ^= 1 << (i % 8)
		open(b)
	}
	t.Logf("%d records, %d bytes for %d tasks", len(x.records[id]), len(whole), len(x.b.byID[id].tasks))
}

// TestCrashImages copies the folder of a running dispatcher at odd moments, as a
// kill would leave it, and goes on from each copy: what had been acknowledged
// to a worker is there, and the job ends.
func TestCrashImages(t *testing.T) {
	const frames = 16
	images := t.TempDir()
	var outputs map[string][]byte // in the block store, which is not the journal's business
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.rate = .5
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		a, b := newFakeWorker(t, w, "a", 2*time.Second), newFakeWorker(t, w, "b", 3*time.Second)
		f.home()
		f.add(a)
		f.add(b)
		id := f.submit(fakeParams{Frames: frames, Parts: 1, Check: job.CheckExact})
		for n := 0; !f.status(id).State.Ended(); n++ {
			time.Sleep(1300 * time.Millisecond)
			synctest.Wait()
			// What a worker was told is safe before the copy must be in it.
			safe := a.settled[job.Accepted] + b.settled[job.Accepted]
			to := filepath.Join(images, fmt.Sprintf("%02d-%d", n, safe))
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		}
		f.stop()
		outputs = w.data
	})
	list, err := os.ReadDir(images)
	if err != nil || len(list) < 8 {
		t.Fatalf("%d images, %v", len(list), err)
	}
	for _, e := range list {
		synctest.Test(t, func(t *testing.T) {
			var n, safe int
			if _, err := fmt.Sscanf(e.Name(), "%d-%d", &n, &safe); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			w.data = maps.Clone(outputs)
			f := startFarm(t, w, filepath.Join(images, e.Name()))
			defer f.stop()
			id := f.d.List()[0].Job
			if s := f.status(id); s.Accepted < safe {
				t.Errorf("%s: %d results accepted, workers were told of %d", e.Name(), s.Accepted, safe)
			}
			f.home()
			c := newFakeWorker(t, w, "c", time.Second)
			f.add(c)
			s := f.wait(id, time.Hour, job.StateFinished)
			if s.Delivered != frames {
				t.Errorf("%+v", s)
			}
			ran := 0
			for label, n := range c.ran {
				if strings.Contains(label, ".") {
					ran += n
				}
			}
			// Accepted parts whose join was not made yet have to be fetched by
			// home; nothing that was accepted is rendered again.
			if ran > frames-safe {
				t.Errorf("%s: %d parts rendered again, %d of %d were safe", e.Name(), ran, safe, frames)
			}
		})
	}
}

func TestLostStagingIsMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.full = true
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		a := newFakeWorker(t, w, "a", time.Second)
		kill := f.add(a)
		id := f.submit(fakeParams{Frames: 2})
		time.Sleep(10 * time.Second)
		kill()
		f.stop()
		if err := os.RemoveAll(filepath.Join(dir, "jobs", string(id), "staging")); err != nil {
			t.Fatal(err)
		}
		w.full = false
		f = startFarm(t, w, dir)
		defer f.stop()
		f.add(a)
		f.wait(id, time.Hour, job.StateFinished)
		f.check(2)
		if a.ran["1"] != 2 {
			t.Errorf("ran %v", a.ran)
		}
	})
}

func TestJournalOfANewerVersionIsLeftAlone(t *testing.T) {
	x, id := recorded(t)
	dir := t.TempDir()
	newer := journalOptions
	newer.Version++
	l, err := recordlog.Open(filepath.Join(dir, "jobs", string(id), "journal"), newer, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	l.Append(x.records[id]...)
	l.Close()
	n, jobs, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil || len(jobs) != 0 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	n.close()
	if _, err := os.Stat(filepath.Join(dir, "jobs", string(id), "journal", "00000001.log")); err != nil {
		t.Error(err)
	}
}

func TestEpochGrowsAndIsNeverReused(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want < 4; want++ {
		n, _, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil || n.epoch != want {
			t.Fatalf("epoch %d, want %d: %v", n.epoch, want, err)
		}
		n.close()
	}
	// The file is lost, the journals remember.
	x, id := recorded(t)
	writeJournal(t, dir, id, x.records[id])
	os.Remove(filepath.Join(dir, "epoch"))
	n, _, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil || n.epoch != 2 {
		t.Fatalf("epoch %d: %v", n.epoch, err)
	}
	n.close()
}

func TestPlanRefusals(t *testing.T) {
	ok := fakeTasks(fakeParams{Frames: 2, Parts: 2}, job.Ref{})
	if err := checkPlan(ok); err != nil {
		t.Fatal(err)
	}
	twice := append(ok[:len(ok):len(ok)], ok[0])
	missing := ok[1:]
	clash := fakeTasks(fakeParams{Frames: 2}, job.Ref{})
	clash[1].Outputs[0].Final = clash[0].Outputs[0].Final
	bad := fakeTasks(fakeParams{Frames: 1}, job.Ref{})
	bad[0].Outputs[0].Final = "../../etc/passwd"
	for name, ts := range map[string][]job.Task{"none": nil, "twice": twice, "missing": missing, "clash": clash, "bad": bad} {
		if checkPlan(ts) == nil {
			t.Errorf("%s: planned", name)
		}
	}
	got := unneeded(ok, func(t job.Task) bool { return t.Label == "2" })
	if d := cmp.Diff([]int{3, 4, 5}, got); d != "" {
		t.Error(d)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []record{
		&peerRecord{ID: "12D3KooWMPVbXF8RRNTLfcUpCuGi4PtK8gKMuXwMYHrxBmRYr7P7"}, &grantRecord{Lease: make([]byte, 16), Tasks: []int{0, 1}},
		&returnRecord{}, &judgeRecord{Standard: 1}, &attemptRecord{Outcome: job.Failed}, &resetRecord{Tasks: []int{0}}, &failRecord{}, &deliverRecord{},
		&stateRecord{State: job.StatePaused}, &accountRecord{}, &cleanRecord{}, &receiptRecord{Packed: "\x00\x00\x00"}, &planRecord{},
		&textRecord{Text: "cpu"}, &leaseRecord{Lease: make([]byte, 16)}, &pieceRecord{Standard: 1}, &pieceRecord{Standard: -1, Verdict: &job.Verdict{}},
		&taskRecord{Granted: 2, Files: []string{"a"}}, &totalRecord{Results: 7}, &gapRecord{N: 3}, &givenRecord{Outputs: []job.Output{{Name: "out"}}},
		&awayRecord{Tasks: []int{1, 3}}, &disksRecord{},
	} {
		b, err := encodeRecord(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	zips, err := folded(fakeTasks(fakeParams{Frames: 2, Parts: 1}, job.Ref{}))
	if err != nil {
		f.Fatal(err)
	}
	b, _ := encodeRecord(&blockRecord{Zip: zips[0]})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		j := newJobState("01ARZ3NDEKTSV4RRFFQ69G5FAV")
		for _, r := range []record{&blockRecord{Zip: zips[0]}, &planRecord{Tasks: 4}, &peerRecord{ID: "12D3KooWMPVbXF8RRNTLfcUpCuGi4PtK8gKMuXwMYHrxBmRYr7P7"}} {
			if err := j.apply(r); err != nil {
				t.Fatal(err)
			}
		}
		j.apply(r) // must not panic, whatever it says
		again, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(again); err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
	})
}

// TestAJournalThatCannotBeWrittenIsWaitedFor: nothing is acknowledged meanwhile,
// and nothing is lost or written twice once there is room.
func TestAJournalThatCannotBeWrittenIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		jobs := filepath.Join(dir, "jobs")
		if err := os.Rename(jobs, jobs+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(jobs, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		acked := make(chan error, 1)
		f.wg.Go(func() { _, err := f.d.Submit(f.ctx, spec(fakeParams{Frames: 3})); acked <- err })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		select {
		case err := <-acked:
			t.Fatalf("acknowledged: %v", err)
		default:
		}
		id := f.d.List()[0].Job
		if s := f.status(id); !strings.Contains(s.Reason, "nothing can be recorded") {
			t.Errorf("reason %q", s.Reason)
		}
		if err := os.Remove(jobs); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(jobs+".away", jobs); err != nil {
			t.Fatal(err)
		}
		if err := <-acked; err != nil {
			t.Fatal(err)
		}
		f.add(newFakeWorker(t, w, "a", time.Second))
		f.wait(id, time.Hour, job.StateFinished)
		f.stop()
		f = startFarm(t, w, dir)
		defer f.stop()
		if s := f.status(id); s.State != job.StateFinished || s.Delivered != 3 {
			t.Errorf("read again: %+v", s)
		}
	})
}
