package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/render"
)

func TestALeaseIsRunInOrderAndItsReceiptKeptUntilSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		first := said(c)
		if len(first) != 1 || first[0].Machine == nil || want(first[0], "cpu") != 2 || first[0].Session == "" {
			t.Fatalf("first report: %+v", first)
		}
		l := newLease("cpu", 3, ref("scene"))
		order(c, job.Order{Leases: []job.Lease{l}})
		if d := b.w.Doing()["cpu"]; !strings.Contains(d, string(l.Job)) {
			t.Errorf("doing %q", d)
		}
		time.Sleep(10 * time.Second)
		reports := said(c)
		leaves, of := b.leaves(r, reports)
		if len(leaves) != 3 {
			t.Fatalf("%d leaves", len(leaves))
		}
		for i, leaf := range leaves {
			if leaf.Outcome != job.Succeeded || leaf.Task != l.Tasks[i].Task.Key() || leaf.Fence != 1 || leaf.DeviceClass != "x86" || len(leaf.Outputs) != 1 {
				t.Errorf("leaf %d: %+v", i, leaf)
			}
		}
		if of[0].Lease != l.ID || of[0].Job != l.Job || of[0].Epoch != 1 {
			t.Errorf("receipt %+v", of[0])
		}
		inline := 0
		for _, rep := range reports {
			if rep.Machine != nil {
				t.Error("the machine was described again")
			}
			inline += len(rep.Inline)
		}
		if inline != 3 {
			t.Errorf("%d blocks inline", inline)
		}
		last := reports[len(reports)-1]
		if len(last.Progress) != 0 || want(last, "cpu") != 2 || len(last.Bids[0].Jobs) != 1 {
			t.Errorf("last report: %+v", last)
		}

		// A cut before it was settled: all of it is said again.
		c.cut()
		c = b.joined0(time.Second)
		if leaves, _ := b.leaves(r, said(c)); len(leaves) != 3 {
			t.Fatalf("%d leaves after the cut", len(leaves))
		}
		order(c, settled(l, leaves...))
		c.cut()
		c = b.joined0(time.Second)
		if leaves, _ := b.leaves(r, said(c)); len(leaves) != 0 {
			t.Errorf("%d settled leaves were said again", len(leaves))
		}
		if left, _ := os.ReadDir(filepath.Join(b.dir, "tasks")); len(left) != 0 {
			t.Errorf("folders left: %v", left)
		}
	})
}

// joined0 is joined within d.
func (b *bed) joined0(d time.Duration) *conn {
	b.t.Helper()
	tm := time.NewTimer(d)
	defer tm.Stop()
	select {
	case j := <-b.joins:
		return j.c
	case <-tm.C:
		b.t.Fatalf("not joined within %v", d)
		panic("unreachable")
	}
}

func TestTheNextLeaseIsFetchedWhileOneRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		var mu sync.Mutex
		fetched := map[job.Ref]int{}
		b.assets.materialize = func(ctx context.Context, input job.Ref, dir string, progress func(float64)) error {
			mu.Lock()
			fetched[input]++
			mu.Unlock()
			progress(.5)
			time.Sleep(8 * time.Second)
			return os.WriteFile(filepath.Join(dir, "scene"), nil, 0o600)
		}
		var ends []time.Duration
		start := time.Now()
		run := b.exec.run
		b.exec.run = func(ctx context.Context, rt render.Task, d render.Dirs, p func(render.Progress)) render.Result {
			if _, err := os.Stat(filepath.Join(d.In, "scene")); err != nil {
				t.Error(err)
			}
			res := run(ctx, rt, d, p)
			ends = append(ends, time.Since(start))
			return res
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		a, z := newLease("cpu", 1, ref("a")), newLease("cpu", 1, ref("z"))
		more := newLease("cpu", 1, ref("a"))
		start = time.Now()
		order(c, job.Order{Leases: []job.Lease{a, z, more}})
		time.Sleep(3 * time.Second)
		reports := said(c)
		if p := reports[len(reports)-1].Progress; len(p) != 3 || p[0].Phase != "fetching" || p[0].Task != -1 || p[0].Fraction != .5 {
			t.Errorf("progress while fetching: %+v", p)
		}
		time.Sleep(57 * time.Second)
		if leaves, _ := b.leaves(r, said(c)); len(leaves) != 3 {
			t.Fatalf("%d leaves", len(leaves))
		}
		want := []time.Duration{18 * time.Second, 28 * time.Second, 38 * time.Second}
		for i, e := range ends {
			if e != want[i] {
				t.Errorf("task %d ended after %v, want %v: fetching and working do not overlap", i, e, want[i])
			}
		}
		if fetched[ref("a")] != 1 || fetched[ref("z")] != 1 {
			t.Errorf("fetched %v", fetched)
		}
	})
}

func TestHundredsOfNoOpTasksTakeFewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(0)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		said(c)
		const leases, each = 10, 50
		done, messages := 0, 0
		for range leases {
			l := newLease("cpu", each, job.Ref{})
			order(c, job.Order{Leases: []job.Lease{l}})
			time.Sleep(50 * time.Millisecond)
			reports := said(c)
			messages += len(reports) + 1
			leaves, _ := b.leaves(r, reports)
			done += len(leaves)
			order(c, settled(l, leaves...))
		}
		if done != leases*each {
			t.Errorf("%d of %d done", done, leases*each)
		}
		if messages > leases*4 {
			t.Errorf("%d messages for %d tasks in %d leases", messages, done, leases)
		}
		// One task per lease is the worst case: two messages for it.
		messages = 0
		for range 100 {
			l := newLease("cpu", 1, job.Ref{})
			order(c, job.Order{Leases: []job.Lease{l}})
			reports := said(c)
			messages += len(reports) + 1
			if leaves, _ := b.leaves(r, reports); len(leaves) != 1 {
				t.Fatalf("%d leaves at once", len(leaves))
			}
		}
		if messages > 200 {
			t.Errorf("%d messages for 100 leases of one task", messages)
		}
	})
}

func TestReceiptsSurviveAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 2, ref("scene"))
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(1500 * time.Millisecond) // one done, one runs
		old := b.w.session
		killed := copyDir(t, b.dir)
		b.end()

		b.dir = killed
		for len(b.joins) > 0 {
			<-b.joins
		}
		b.start(Options{})
		c = b.joined().c // without an offer: the receipt is reason enough
		reports := said(c)
		leaves, _ := b.leaves(r, reports)
		if len(leaves) != 1 || leaves[0].Task != l.Tasks[0].Task.Key() {
			t.Fatalf("leaves after the kill: %+v", leaves)
		}
		if reports[0].Session == old || len(reports[0].Progress) != 0 {
			t.Errorf("the restart does not show: %+v", reports[0])
		}
		// The same lease again: what has a receipt is not done twice, and the
		// tree is still there.
		b.assets.materialize = func(context.Context, job.Ref, string, func(float64)) error {
			t.Error("fetched again")
			return nil
		}
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(2 * time.Second)
		leaves, _ = b.leaves(r, said(c))
		if len(leaves) != 1 || leaves[0].Task != l.Tasks[1].Task.Key() {
			t.Fatalf("leaves of the same lease: %+v", leaves)
		}
		order(c, job.Order{Settled: []job.Settled{{Job: l.Job, Lease: l.ID}}})
		b.end()
		b.start(Options{})
		synctest.Wait()
		if len(b.joins) != 0 {
			t.Error("settled receipts came back")
		}
	})
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestAStopCancelsPromptlyAndSaysNothingOfTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(time.Hour)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l, next := newLease("cpu", 2, job.Ref{}), newLease("cpu", 1, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l, next}})
		time.Sleep(5 * time.Second)
		said(c)
		at := time.Now()
		order(c, job.Order{Stops: []job.Stop{{Lease: l.ID, Reason: "cancelled by the artist"}}})
		reports := said(c)
		if time.Since(at) != 0 || len(reports) == 0 {
			t.Fatal("not at once")
		}
		last := reports[len(reports)-1]
		if len(last.Progress) != 1 || last.Progress[0].Lease != next.ID || want(last, "cpu") != 1 {
			t.Errorf("after the stop: %+v", last)
		}
		if leaves, _ := b.leaves(r, reports); len(leaves) != 0 {
			t.Errorf("a cancelled task has a receipt: %+v", leaves)
		}
		if d := b.w.Doing()["cpu"]; !strings.Contains(d, string(next.Job)) {
			t.Errorf("doing %q", d)
		}
		// Orders of an older coordinator count for nothing.
		order(c, job.Order{Epoch: 5})
		order(c, job.Order{Epoch: 4, Stops: []job.Stop{{Lease: next.ID}}})
		if d := b.w.Doing()["cpu"]; !strings.Contains(d, string(next.Job)) {
			t.Errorf("an old order stopped it: %q", d)
		}
	})
}

func TestPauseGivesBackAndResumeBidsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		a, z := newLease("cpu", 3, job.Ref{}), newLease("cpu", 1, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{a, z}})
		time.Sleep(5 * time.Second)
		said(c)
		b.w.Pause("somebody plays", true)
		reports := said(c)
		// What waited is given back in words, so that others get it at once.
		leaves, of := b.leaves(r, reports)
		if got, cancelled := done(leaves); len(got) != 0 || cancelled != 1 || of[0].Lease != z.ID || leaves[0].Reason != "somebody plays" {
			t.Errorf("given back: %+v", leaves)
		}
		last := reports[len(reports)-1]
		if last.Leaving != "somebody plays" || len(last.Bids) != 0 || len(last.Progress) != 1 || last.Progress[0].Lease != a.ID {
			t.Errorf("paused: %+v", last)
		}
		order(c, job.Order{Leases: []job.Lease{z}}) // crossed on the way
		time.Sleep(10 * time.Second)
		reports = said(c)
		leaves, _ = b.leaves(r, reports)
		if got, cancelled := done(leaves); len(got) != 1 || got[0].Task != a.Tasks[0].Task.Key() || cancelled != 3 {
			t.Errorf("the task that ran was to finish, the other two and the lease that crossed come back: %+v", leaves)
		}
		if last := reports[len(reports)-1]; len(last.Progress) != 0 {
			t.Errorf("still holds %+v", last.Progress)
		}
		if d := b.w.Doing()["cpu"]; d != "resting: somebody plays" {
			t.Errorf("doing %q", d)
		}
		b.w.Resume()
		reports = said(c)
		if len(reports) == 0 || want(reports[len(reports)-1], "cpu") != 2 || reports[len(reports)-1].Leaving != "" {
			t.Fatalf("resumed: %+v", reports)
		}
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 3, job.Ref{})}})
		time.Sleep(time.Second)
		said(c)
		b.w.Pause("owner is back", false)
		reports = said(c)
		if last := reports[len(reports)-1]; len(last.Progress) != 0 {
			t.Errorf("not cancelled at once: %+v", last)
		}
		leaves, _ = b.leaves(r, reports)
		if got, cancelled := done(leaves); len(got) != 0 || cancelled != 3 {
			t.Errorf("%+v", leaves)
		}
		time.Sleep(time.Minute)
		if leaves, _ := b.leaves(r, said(c)); len(leaves) != 0 {
			t.Errorf("a cancelled task has a result: %+v", leaves)
		}
	})
}

func TestTwoDevicesWorkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.m.Devices = append(b.m.Devices, job.Device{Name: "GPU-1", Type: "gpu", Class: "ada", MemoryBytes: 8 << 30})
		b.exec = takes(10 * time.Second)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		if rep := said(c)[0]; want(rep, "cpu") != 2 || want(rep, "GPU-1") != 2 {
			t.Fatalf("%+v", rep)
		}
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("s")), newLease("GPU-1", 1, ref("s")), newLease("GPU-1", 1, ref("s")), newLease("no such", 1, ref("s"))}})
		time.Sleep(10*time.Second + time.Millisecond)
		leaves, _ := b.leaves(r, said(c))
		classes := map[string]int{}
		for _, l := range leaves {
			classes[l.DeviceClass+" "+string(l.Outcome)]++
		}
		if classes["x86 succeeded"] != 1 || classes["ada succeeded"] != 1 || classes[" cancelled"] != 1 {
			t.Errorf("after one task's time: %v", classes)
		}
		time.Sleep(10 * time.Second)
		if leaves, _ = b.leaves(r, said(c)); len(leaves) != 1 || leaves[0].DeviceClass != "ada" {
			t.Errorf("%+v", leaves)
		}
	})
}

// The owner wants the GPU back and leaves the CPU to us, then wants both.
func TestYieldingOneDeviceLeavesTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.m.Devices = append(b.m.Devices, job.Device{Name: "GPU-1", Type: "gpu", Class: "ada"})
		b.exec = takes(10 * time.Second)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 2, ref("s")), newLease("GPU-1", 2, ref("s")), newLease("GPU-1", 1, ref("s"))}})
		time.Sleep(time.Second)
		said(c)
		if !b.w.Running("GPU-1") || !b.w.Running("cpu") || b.w.Running("none") {
			t.Error("both run")
		}

		mine := map[string]Rest{"GPU-1": {Reason: "its owner uses it"}}
		b.w.Yield(mine)
		reports := said(c)
		leaves, _ := b.leaves(r, reports)
		if got, cancelled := done(leaves); len(got) != 0 || cancelled != 3 {
			t.Errorf("given back: %+v", leaves)
		}
		last := reports[len(reports)-1]
		if last.Leaving != "" || want(last, "GPU-1") != 0 || want(last, "cpu") != 1 || len(last.Progress) != 1 {
			t.Errorf("%+v", last)
		}
		if d := b.w.Doing()["GPU-1"]; d != "resting: its owner uses it" {
			t.Errorf("doing %q", d)
		}
		b.w.Yield(mine) // the same again says nothing new
		if more := said(c); len(more) != 0 {
			t.Errorf("said again: %+v", more)
		}

		// The CPU may end its task, then rests too.
		b.w.Yield(map[string]Rest{"GPU-1": {Reason: "its owner uses it"}, "cpu": {Reason: "outside of its hours", Finish: true}})
		reports = said(c)
		if last := reports[len(reports)-1]; last.Leaving == "" || len(last.Bids) != 0 || len(last.Progress) != 1 {
			t.Errorf("%+v", last)
		}
		time.Sleep(10 * time.Second)
		leaves, _ = b.leaves(r, said(c))
		if got, cancelled := done(leaves); len(got) != 1 || cancelled != 1 {
			t.Errorf("one task ends and one comes back: %+v", leaves)
		}

		b.w.Yield(nil)
		reports = said(c)
		if last := reports[len(reports)-1]; last.Leaving != "" || want(last, "GPU-1") != 2 || want(last, "cpu") != 2 {
			t.Errorf("free again: %+v", last)
		}

		// What may end its task may have to stop all the same.
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("s"))}})
		time.Sleep(time.Second)
		b.w.Yield(map[string]Rest{"cpu": {Reason: "hours", Finish: true}})
		said(c)
		b.w.Yield(map[string]Rest{"cpu": {Reason: "a game"}})
		leaves, _ = b.leaves(r, said(c))
		if got, cancelled := done(leaves); len(got) != 0 || cancelled != 1 {
			t.Errorf("stopped after all: %+v", leaves)
		}
	})
}

func TestADeviceThatIsTakenAwayBidsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		var gpu atomic.Bool
		gpu.Store(true)
		cpu := b.m.Devices
		b.machine = func() job.Machine {
			m := job.Machine{Facts: b.m.Facts, Devices: cpu}
			if gpu.Load() {
				m.Devices = append(slices.Clone(cpu), job.Device{Name: "GPU-1", Type: "gpu"})
			}
			return m
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		if rep := said(c)[0]; want(rep, "GPU-1") != 2 {
			t.Fatalf("%+v", rep)
		}
		for _, there := range []bool{false, true} {
			gpu.Store(there)
			time.Sleep(lookEvery)
			reports := said(c)
			if len(reports) == 0 {
				t.Fatal("nobody was told")
			}
			last := reports[len(reports)-1]
			if (want(last, "GPU-1") > 0) != there || last.Machine == nil || (len(last.Machine.Devices) == 2) != there {
				t.Errorf("there: %v: %+v", there, last)
			}
			if _, ok := b.w.Doing()["GPU-1"]; ok != there {
				t.Errorf("doing %v", b.w.Doing())
			}
		}
	})
}

func TestAWrongSecretIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		var log strings.Builder
		var mu sync.Mutex
		b.log = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 2, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(10 * time.Second)
		leaves, _ := b.leaves(r, said(c))
		order(c, settled(l, leaves...)) // safe; judgement follows
		for i, secret := range [][]byte{{0}, {7}} {
			order(c, job.Order{Settled: []job.Settled{{Job: l.Job, Lease: l.ID, Task: leaves[i].Task, Ruling: job.Accepted, Secret: secret}}})
			mu.Lock()
			if got := strings.Contains(log.String(), "not the one that was promised"); got != (i == 1) {
				t.Errorf("secret %d: noticed: %v", i, got)
			}
			mu.Unlock()
		}
	})
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestManyBigReceiptsTravelInSeveralReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec.run = func(_ context.Context, _ render.Task, d render.Dirs, _ func(render.Progress)) render.Result {
			os.WriteFile(filepath.Join(d.Out, "out.txt"), make([]byte, 100<<10), 0o600)
			return render.Result{Outcome: job.Succeeded, Build: strings.Repeat("b", 4000)}
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		said(c)
		l := newLease("cpu", 200, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(time.Second)
		reports := said(c) // each was validated when it was sent
		leaves, _ := b.leaves(r, reports)
		if len(leaves) != 200 {
			t.Errorf("%d leaves", len(leaves))
		}
		blocks := 0
		for _, rep := range reports {
			size := 0
			for _, s := range rep.Receipts {
				size += len(s.Body)
			}
			blocks += len(rep.Inline)
			if size > maxReportBytes+maxLeafBytes {
				t.Errorf("%d bytes of receipts in one report", size)
			}
		}
		if blocks == 0 {
			t.Error("no block travelled")
		}
		c.cut()
		c = b.joined0(time.Second)
		if again, _ := b.leaves(r, said(c)); len(again) != 200 {
			t.Errorf("%d leaves after the cut", len(again))
		}
	})
}

func TestBackWithinTenSecondsOfAnyCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(20 * time.Second)
		var down atomic.Bool
		tries := 0
		b.deny = func(peer.ID) error {
			tries++
			if down.Load() {
				return errors.New("no route")
			}
			return nil
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l, other := newLease("cpu", 3, job.Ref{}), newLease("cpu", 1, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l, other}})
		for _, cutFor := range []time.Duration{0, 3 * time.Minute, 37 * time.Minute} {
			down.Store(true)
			c.cut()
			time.Sleep(cutFor)
			down.Store(false)
			healed := time.Now()
			c = b.joined0(10 * time.Second)
			if d := time.Since(healed); d > 10*time.Second || cutFor == 0 && d > time.Second {
				t.Errorf("cut for %v: back after %v", cutFor, d)
			}
			order(c, job.Order{})
		}
		if tries > 37*60/3*2 {
			t.Errorf("%d tries", tries)
		}
		// What was done during the cut is offered; what the lease no longer
		// covered was given up.
		reports := said(c)
		leaves, _ := b.leaves(r, reports)
		// One runs when the minute is over and is finished: 20, 40, 60 s; the
		// other lease never began.
		if len(leaves) < 3 || len(reports[0].Progress) != 0 {
			t.Errorf("%d leaves, %+v", len(leaves), reports[0].Progress)
		}
	})
}

func TestTroubleWithContentBreaksEachTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		tries := 0
		b.assets.materialize = func(ctx context.Context, input job.Ref, dir string, progress func(float64)) error {
			tries++
			os.WriteFile(filepath.Join(dir, "half"), nil, 0o600)
			return errors.New("block bafy… is not what its name says")
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 2, ref("bad"))}})
		time.Sleep(5 * time.Second)
		leaves, _ := b.leaves(r, said(c))
		if len(leaves) != 2 || tries != 2 {
			t.Fatalf("%d leaves after %d tries", len(leaves), tries)
		}
		for _, l := range leaves {
			if l.Outcome != job.Broken || !strings.Contains(l.Reason, "not what its name says") {
				t.Errorf("%+v", l)
			}
		}
		if left, _ := os.ReadDir(filepath.Join(b.dir, "trees", r.String())); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestOutcomes(t *testing.T) {
	cases := []struct {
		name    string
		res     render.Result
		collect error
		want    job.Outcome
		reason  string
	}{
		{"failed", render.Result{Outcome: job.Failed, Reason: "no camera", Log: []byte("line\nError: no camera\xff")}, nil, job.Failed, "no camera"},
		{"broken", render.Result{Outcome: job.Broken, Reason: "crashed"}, nil, job.Broken, "crashed"},
		{"cancelled by nobody", render.Result{Outcome: job.Cancelled, Reason: "?"}, nil, job.Broken, "something else"},
		{"nonsense", render.Result{Outcome: "splendid"}, nil, job.Broken, "something else"},
		{"outputs cannot be kept", render.Result{Outcome: job.Succeeded}, errors.New("no space left on device"), job.Broken, "no space left"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				b.exec.run = func(context.Context, render.Task, render.Dirs, func(render.Progress)) render.Result { return c.res }
				b.assets.collect = func(string) error { return c.collect }
				b.start(Options{})
				_, r := newPeer(t)
				b.offer(r)
				cn := b.joined().c
				order(cn, job.Order{Leases: []job.Lease{newLease("cpu", 1, job.Ref{})}})
				leaves, _ := b.leaves(r, said(cn))
				if len(leaves) != 1 || leaves[0].Outcome != c.want || !strings.Contains(leaves[0].Reason, c.reason) || len(leaves[0].Outputs) != 0 {
					t.Fatalf("%+v", leaves)
				}
				if len(c.res.Log) > 0 && (!leaves[0].Log.Defined() || !strings.Contains(leaves[0].LogTail, "Error: no camera")) {
					t.Errorf("log: %+v", leaves[0])
				}
			})
		})
	}
}

func TestAMachineThatIsNotReadyDoesNotBidAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec.setReady(errors.New("blender crashed three times"))
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		rep := said(c)[0]
		if len(rep.Bids) != 0 || rep.Leaving != "blender crashed three times" {
			t.Errorf("%+v", rep)
		}
		if d := b.w.Doing()["cpu"]; d != "resting: blender crashed three times" {
			t.Errorf("doing %q", d)
		}
		b.exec.setReady(nil)
		time.Sleep(lookEvery)
		reports := said(c)
		if len(reports) != 1 || want(reports[0], "cpu") != 2 || reports[0].Leaving != "" {
			t.Errorf("%+v", reports)
		}
	})
}

func TestOffersForOthersArePassedOverWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		_, stranger := newPeer(t)
		b.start(Options{Price: 2, Accept: func(p peer.ID) error {
			if p == stranger {
				return errors.New("there is no sandbox here, and this peer is not trusted by name")
			}
			return nil
		}})
		if d := b.w.Doing()["cpu"]; d != "idle: no offers" {
			t.Errorf("doing %q", d)
		}
		_, r := newPeer(t)
		good := job.Offer{Job: job.NewID(time.Now()), Requester: r, Open: 1, MaxPrice: 2}
		for _, c := range []struct {
			change func(*job.Offer)
			why    string
		}{
			{func(o *job.Offer) { o.Requester = stranger }, "no sandbox"},
			{func(o *job.Offer) { o.MaxPrice = 1 }, "pays 1"},
			{func(o *job.Offer) { o.Needs.Device = "gpu" }, "needs a gpu"},
			{func(o *job.Offer) { o.Needs.Require = map[string]string{"blender": "5.0"} }, "blender 5.0"},
			{func(o *job.Offer) { o.Open = 0 }, "nothing is open"},
		} {
			o := good
			c.change(&o)
			b.swarm.offers <- o
			synctest.Wait()
			if d := b.w.Doing()["cpu"]; !strings.Contains(d, c.why) {
				t.Errorf("doing %q, want %q", d, c.why)
			}
		}
		own := good
		own.Requester = b.self
		b.swarm.offers <- own
		synctest.Wait()
		if len(b.joins) != 0 {
			t.Error("joined")
		}
		b.swarm.offers <- good
		if b.joined().id != r {
			t.Error("not joined")
		}
	})
}

func TestAnIdleRequesterIsLeftAndHomeIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{Home: b.self})
		home := b.joined()
		if home.id != b.self {
			t.Fatal("home was not joined")
		}
		rep := said(home.c)[0]
		if want(rep, job.HomeDevice) != 2 || len(rep.Machine.Devices) != 2 || rep.Machine.Devices[1].Class != "x86" {
			t.Errorf("home: %+v", rep)
		}
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		rep = said(c)[0]
		if want(rep, job.HomeDevice) != 0 || len(rep.Machine.Devices) != 1 {
			t.Errorf("a stranger: %+v", rep)
		}
		// A stranger's lease for the home device is not run.
		stranger := newLease(job.HomeDevice, 1, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{stranger}})
		leaves, _ := b.leaves(r, said(c))
		if got, cancelled := done(leaves); len(got) != 0 || cancelled != 1 {
			t.Errorf("a stranger's task at home: %+v", leaves)
		}
		order(c, settled(job.Lease{ID: stranger.ID, Job: stranger.Job}, leaves...))
		time.Sleep(2*time.Minute + 10*time.Second)
		if !c.isCut() {
			t.Error("not left")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(b.joins); n > 0 {
			t.Fatalf("joined again %d times and more, with nothing to do there", n)
		}
		if home.c.isCut() {
			t.Error("home was left")
		}
		if n := len(said(home.c)); n > 250 {
			t.Errorf("%d reports to home with nothing to say", n)
		}
		b.offer(r)
		b.joined()
	})
}

// A machine that nobody else has work for looks at itself seldom, although its
// own requester stays joined; whoever joins is told of changes soon.
func TestTheClockRestsWhileOnlyHomeIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		var looks atomic.Int64
		b.machine = func() job.Machine { looks.Add(1); return b.m }
		b.start(Options{Home: b.self})
		defer b.end()
		during := func(d time.Duration) int64 {
			before := looks.Load()
			time.Sleep(d)
			synctest.Wait()
			return looks.Load() - before
		}
		if n := during(time.Minute); n == 0 || n > int64(time.Minute/lookResting) {
			t.Errorf("%d looks in a minute in which nobody else was joined", n)
		}
		_, r := newPeer(t)
		b.offer(r)
		if n, want := during(lookResting), int64(lookResting/lookEvery); n != want {
			t.Errorf("%d looks in %v after somebody joined, not %d", n, lookResting, want)
		}
	})
}

func TestHomeWorksWhilePausedAndBesideALongTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(time.Minute)
		b.start(Options{Home: b.self})
		c := b.joined().c
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, job.Ref{}), newLease("cpu", 1, job.Ref{})}})
		time.Sleep(time.Second)
		order(c, job.Order{Leases: []job.Lease{newLease(job.HomeDevice, 1, job.Ref{})}})
		b.w.Pause("paused", false)
		reports := said(c)
		if last := reports[len(reports)-1]; last.Leaving != "" || want(last, "cpu") != 0 || want(last, job.HomeDevice) != 1 || len(last.Progress) != 1 {
			t.Errorf("paused: %+v", last)
		}
		time.Sleep(time.Minute)
		leaves, _ := b.leaves(b.self, said(c))
		if len(leaves) != 1 || leaves[0].Outcome != job.Succeeded || leaves[0].DeviceClass != "x86" {
			t.Errorf("%+v", leaves)
		}
	})
}

func TestNoWorkOnlyServesHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{Home: b.self, NoWork: true})
		rep := said(b.joined().c)[0]
		if len(rep.Bids) != 1 || rep.Bids[0].Device != job.HomeDevice || len(rep.Machine.Devices) != 1 {
			t.Errorf("%+v", rep)
		}
		_, r := newPeer(t)
		b.offer(r)
		if len(b.joins) != 0 {
			t.Error("joined somebody")
		}
		if d := b.w.Doing()["cpu"]; !strings.Contains(d, "no work for others") {
			t.Errorf("doing %q", d)
		}
		if h := b.w.Heard(); len(h) != 1 || h[0].Requester != r || h[0].Fate != FateOff {
			t.Errorf("heard %+v", h)
		}
	})
}

func TestShutdownSaysGoodbyeAndKeepsWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(time.Second)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 5, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(2*time.Second + time.Millisecond) // the second ended this moment
		b.end()
		reports := said(c)
		leaves, _ := b.leaves(r, reports)
		if got, cancelled := done(leaves); len(got) != 2 || cancelled != 3 {
			t.Errorf("%+v", leaves)
		}
		if last := reports[len(reports)-1]; !strings.Contains(last.Leaving, "shutting down") || len(last.Progress) != 0 || len(last.Bids) != 0 {
			t.Errorf("goodbye: %+v", last)
		}
		if !c.isCut() {
			t.Error("link left open")
		}
	})
}

func TestAFullDiskStopsWorkUntilReceiptsCanBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		said(c)
		// A read-only database is as good as a full disk.
		db := b.w.store.db
		tx, err := db.Begin(true) // whoever writes now waits; nothing is acknowledged
		if err != nil {
			t.Fatal(err)
		}
		tx.Rollback()
		b.w.deps.Key = badKey{}
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, job.Ref{}), newLease("cpu", 1, job.Ref{})}})
		time.Sleep(1100 * time.Millisecond)
		reports := said(c)
		if leaves, _ := b.leaves(r, reports); len(leaves) != 0 {
			t.Error("said before it was kept")
		}
		if last := reports[len(reports)-1]; !strings.Contains(last.Leaving, "no space left") || len(last.Bids) != 0 {
			t.Errorf("%+v", last)
		}
		b.w.mu.Lock()
		b.w.deps.Key = b.key
		b.w.mu.Unlock()
		time.Sleep(3 * time.Second)
		reports = said(c)
		if leaves, _ := b.leaves(r, reports); len(leaves) != 2 {
			t.Errorf("%d leaves once it could be kept", len(leaves))
		}
		if last := reports[len(reports)-1]; last.Leaving != "" || want(last, "cpu") != 2 {
			t.Errorf("%+v", last)
		}
	})
}

type badKey struct{}

func (badKey) Sign([]byte) ([]byte, error) { return nil, errors.New("no space left on device") }

func TestPriorOutputsAndFoldersOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		var seen []string
		b.exec.run = func(ctx context.Context, rt render.Task, d render.Dirs, _ func(render.Progress)) render.Result {
			for _, p := range d.Prior {
				x, err := os.ReadFile(filepath.Join(p, "part.exr"))
				if err != nil {
					t.Error(err)
				}
				seen = append(seen, string(x))
			}
			if e, err := os.ReadDir(d.Out); err != nil || len(e) != 0 {
				t.Errorf("out: %v %v", e, err)
			}
			if e, err := os.ReadDir(d.In); err != nil || len(e) != 0 {
				t.Errorf("in: %v %v", e, err)
			}
			os.WriteFile(filepath.Join(d.Out, "out.txt"), []byte("x"), 0o600)
			return render.Result{Outcome: job.Succeeded}
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 1, job.Ref{})
		for i := range 2 {
			k := ref(fmt.Sprint("task", i))
			l.Tasks[0].Task.After = append(l.Tasks[0].Task.After, k)
			l.Tasks[0].Prior = append(l.Tasks[0].Prior, job.Prior{Task: k, Outputs: []job.Output{{Name: "part.exr", File: ref(fmt.Sprint("part", i))}}})
		}
		order(c, job.Order{Leases: []job.Lease{l}})
		leaves, _ := b.leaves(r, said(c))
		if len(leaves) != 1 || leaves[0].Outcome != job.Succeeded {
			t.Fatalf("%+v", leaves)
		}
		if len(seen) != 2 || seen[0] != ref("part0").String() || seen[1] != ref("part1").String() {
			t.Errorf("saw %q", seen)
		}
	})
}

// A folder that a predecessor left is unpacked once for all tasks that read it, as
// the job's files are, with what each lease reads; the task is shown where it lies.
func TestAFolderOfAPredecessorIsSharedByItsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		made, more := map[job.Ref]int{}, 0
		b.assets.materialize = func(_ context.Context, input job.Ref, dir string, _ func(float64)) error {
			made[input]++
			return os.WriteFile(filepath.Join(dir, "of"), []byte(input.String()), 0o600)
		}
		b.assets.extend = func(wants job.Wanted, dir string, _ int64) error {
			if !wants.All() && wants.Has("frames/4/x") != wants.Has("frames/1/x") { // whichever lease came second
				more++
			}
			return nil
		}
		var seen []render.Tree
		b.exec.run = func(_ context.Context, rt render.Task, d render.Dirs, _ func(render.Progress)) render.Result {
			if e, err := os.ReadDir(d.Prior[0]); err != nil || len(e) != 0 {
				t.Errorf("the folder is copied too: %v, %v", e, err)
			}
			seen = append(seen, d.Trees...)
			os.WriteFile(filepath.Join(d.Out, "out.txt"), []byte("x"), 0o600)
			return render.Result{Outcome: job.Succeeded}
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		var leases []job.Lease
		for i, frames := range [][2]int{{1, 2}, {4, 4}} {
			l := newLease("cpu", 2, ref("scene"))
			for n := range l.Tasks {
				g := &l.Tasks[n]
				g.Task.Label = fmt.Sprint(i, n)
				g.Task.Params = []byte(g.Task.Label)
				g.Task.After = []job.TaskKey{ref("bake")}
				g.Task.Reads = []job.Reads{{Head: job.Within("bake") + "frames/", Tail: "/", Of: [][2]int{{0, 9}}, Own: [][2]int{{frames[n], frames[n]}}}}
				g.Prior = []job.Prior{{Task: ref("bake"), Outputs: []job.Output{{Name: "bake", Media: job.MediaTree, File: ref("left"), Bytes: 1}}}}
			}
			leases = append(leases, l)
		}
		order(c, job.Order{Leases: leases})
		synctest.Wait()
		leaves, _ := b.leaves(r, said(c))
		if len(leaves) != 4 {
			t.Fatalf("%+v", leaves)
		}
		for _, l := range leaves {
			if l.Outcome != job.Succeeded {
				t.Errorf("%s: %s", l.Outcome, l.Reason)
			}
		}
		if made[ref("left")] != 1 || made[ref("scene")] != 1 || more != 1 {
			t.Errorf("unpacked %v, then more %d times", made, more)
		}
		if len(seen) != 4 {
			t.Fatalf("%d tasks saw it", len(seen))
		}
		for _, s := range seen {
			if s != seen[0] || s.Prior != 0 || s.Name != "bake" {
				t.Errorf("a task saw %+v, another %+v", s, seen[0])
			}
			if text, err := os.ReadFile(filepath.Join(s.Dir, "of")); err != nil || string(text) != ref("left").String() {
				t.Errorf("it holds %q, %v", text, err)
			}
		}
	})
}

func TestPinsAreReleasedOnceNothingSpeaksOfTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.assets.released = make(chan job.ID, 16)
		b.start(Options{Keep: time.Minute})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 1, job.Ref{})
		order(c, job.Order{Leases: []job.Lease{l}})
		time.Sleep(10 * time.Minute)
		if len(b.assets.released) != 0 {
			t.Fatal("released before it was settled")
		}
		leaves, _ := b.leaves(r, said(c))
		order(c, settled(l, leaves...))
		time.Sleep(50 * time.Second)
		if len(b.assets.released) != 0 {
			t.Fatal("released at once")
		}
		time.Sleep(20 * time.Second)
		if len(b.assets.released) != 1 || <-b.assets.released != l.Job {
			t.Error("not released")
		}
	})
}

func TestASecondWorkerInTheSameFolderIsRefused(t *testing.T) {
	b := newBed(t)
	s, _, _, err := openReceipts(filepath.Join(b.dir, "receipts.db"), New(Deps{}, Options{}).log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	w := New(Deps{Self: b.self, Key: b.key, Swarm: b.swarm, Assets: b.assets, Exec: b.exec, Machine: func() job.Machine { return b.m }, Dir: b.dir}, Options{})
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}

func TestDamagedReceiptsArePutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "receipts.db")
	os.WriteFile(path, []byte(strings.Repeat("garbage ", 4096)), 0o600)
	s, list, _, err := openReceipts(path, New(Deps{}, Options{}).log)
	if err != nil || len(list) != 0 {
		t.Fatal(err, list)
	}
	s.close()
	if f, err := os.Open(path + ".damaged"); err != nil {
		t.Error(err)
	} else if b, _ := io.ReadAll(f); len(b) != 8*4096 {
		t.Error("what was damaged is gone")
	}
}

// How far a task is is told often enough to watch it and seldom enough for a
// requester with many workers, however often the renderer says it.
func TestProgressWithinATaskIsToldEveryFewSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec.run = func(_ context.Context, _ render.Task, d render.Dirs, progress func(render.Progress)) render.Result {
			for i := range 600 {
				progress(render.Progress{Phase: "rendering", Fraction: float64(i+1) / 600})
				time.Sleep(100 * time.Millisecond)
			}
			return render.Result{Outcome: job.Cancelled, Reason: "enough"}
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("a"))}})
		time.Sleep(2 * time.Second)
		said(c)
		time.Sleep(54 * time.Second)
		reports := said(c)
		last := 0.0
		for _, rep := range reports {
			if len(rep.Progress) != 1 || rep.Progress[0].Task != 0 || rep.Progress[0].Fraction <= last {
				t.Errorf("%+v after %v", rep.Progress, last)
				continue
			}
			last = rep.Progress[0].Fraction
		}
		if n := len(reports); n < 15 || n > 20 {
			t.Errorf("%d reports in 54 seconds", n)
		}
		time.Sleep(10 * time.Second)
	})
}

// Results at home are comparable with those of a CPU that is not offered to others.
func TestHomeIsLikeACPUThatIsDisabled(t *testing.T) {
	w := New(Deps{}, Options{CPU: job.Device{Name: "cpu", Type: "cpu", Class: "x86", MemoryBytes: 7}})
	if d := w.homeDevice(); d.Name != job.HomeDevice || d.Class != "x86" || d.MemoryBytes != 7 {
		t.Errorf("%+v", d)
	}
}

// Memory that runs out is told as what it is to a requester that reads it, and as
// broken to others. A task that takes more of a GPU than its owner gives is such
// a one, and what waited behind it was only given back.
func TestMemoryThatRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.m.Devices = append(b.m.Devices, job.Device{Name: "GPU-1", Type: "gpu", Class: "ada"})
		short := true
		b.exec = &exec{run: func(ctx context.Context, x render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
			if short {
				return render.Result{Outcome: job.OutOfVRAM, Reason: "it is full", Meter: job.Meter{VRAM: 8 << 30}}
			}
			return takes(10*time.Second).run(ctx, x, dirs, progress)
		}}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		ask := func(memory bool, tasks int) {
			l := newLease("GPU-1", tasks, ref("s"))
			l.Memory = memory
			order(c, job.Order{Leases: []job.Lease{l}})
			time.Sleep(2 * time.Second)
		}
		ask(true, 1)
		ask(false, 1)
		leaves, _ := b.leaves(r, said(c))
		if len(leaves) != 2 || leaves[0].Outcome != job.OutOfVRAM || leaves[0].Meter.VRAM != 8<<30 || leaves[1].Outcome != job.Broken || leaves[1].Meter.VRAM != 0 {
			t.Errorf("%+v", leaves)
		}
		short = false
		for _, memory := range []bool{true, false} {
			ask(memory, 2)
			b.w.Yield(map[string]Rest{"GPU-1": {Reason: "more than the owner gives", Short: true}})
			time.Sleep(time.Second)
			counts := map[job.Outcome]int{}
			leaves, _ = b.leaves(r, said(c))
			for _, l := range leaves {
				counts[l.Outcome]++
			}
			if want := map[bool]int{true: 1}[memory]; counts[job.OutOfVRAM] != want || counts[job.Cancelled] != 2-want {
				t.Errorf("reads it %v: %v", memory, counts)
			}
			b.w.Yield(nil)
		}
	})
}

// What was made of files that changed meanwhile is nobody's result; the rest of
// the lease comes back without blame, and the next one has other files.
func TestContentThatChangesBreaksOneTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		var mu sync.Mutex
		bad, made := "", 0
		b.assets.materialize = func(_ context.Context, _ job.Ref, dir string, _ func(float64)) error {
			made++
			return os.WriteFile(filepath.Join(dir, "scene"), nil, 0o600)
		}
		b.assets.sound = func(dir string) error {
			mu.Lock()
			defer mu.Unlock()
			if dir == bad {
				return errors.New("wood.exr changed on the disk")
			}
			return nil
		}
		run := b.exec.run
		b.exec.run = func(ctx context.Context, rt render.Task, d render.Dirs, p func(render.Progress)) render.Result {
			mu.Lock()
			if bad == "" {
				bad = d.In
			}
			mu.Unlock()
			return run(ctx, rt, d, p)
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 3, ref("a"))}})
		time.Sleep(30 * time.Second)
		leaves, _ := b.leaves(r, said(c))
		broken, cancelled := 0, 0
		for _, l := range leaves {
			if !strings.Contains(l.Reason, "changed on the disk") {
				t.Errorf("%+v", l)
			}
			switch l.Outcome {
			case job.Broken:
				broken++
			case job.Cancelled:
				cancelled++
			}
		}
		if broken != 1 || cancelled != 2 || made != 1 {
			t.Errorf("%d broken, %d cancelled, made %d times", broken, cancelled, made)
		}
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("a"))}})
		time.Sleep(30 * time.Second)
		leaves, _ = b.leaves(r, said(c))
		if len(leaves) == 0 || leaves[len(leaves)-1].Outcome != job.Succeeded || made != 2 {
			t.Errorf("made %d times: %+v", made, leaves)
		}
	})
}
