package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
	"idlewild/render"
)

// outputs is a bed whose tasks take 10 s and whose outputs take as long as that to
// keep; began are the moments at which tasks began, since the start.
func outputs(t *testing.T, keep func(n int) (time.Duration, error)) (b *bed, began func() []time.Duration) {
	b = newBed(t)
	b.exec = takes(10 * time.Second)
	var mu sync.Mutex
	var at []time.Duration
	kept := 0
	start := time.Now()
	run := b.exec.run
	b.exec.run = func(ctx context.Context, x render.Task, d render.Dirs, p func(render.Progress)) render.Result {
		mu.Lock()
		at = append(at, time.Since(start))
		mu.Unlock()
		return run(ctx, x, d, p)
	}
	b.assets.collect = func(string) error {
		mu.Lock()
		n := kept
		kept++
		mu.Unlock()
		d, err := keep(n)
		time.Sleep(d)
		return err
	}
	b.start(Options{})
	return b, func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(at)
	}
}

func seconds(s ...int) (out []time.Duration) {
	for _, x := range s {
		out = append(out, time.Duration(x)*time.Second)
	}
	return out
}

// A device works on the next task while the outputs of the last one are kept, in
// the next lease as well, and on no further one.
func TestOutputsAreKeptWhileTheNextTaskRuns(t *testing.T) {
	for _, c := range []struct {
		keep  int // seconds
		began []time.Duration
		known []int // when each task's receipt is there
	}{
		{4, seconds(0, 10, 20, 30), []int{14, 24, 34, 44}},
		{25, seconds(0, 10, 35, 60), []int{35, 60, 85, 110}},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			b, began := outputs(t, func(int) (time.Duration, error) { return time.Duration(c.keep) * time.Second, nil })
			_, r := newPeer(t)
			b.offer(r)
			conn := b.joined().c
			a, z := newLease("cpu", 3, job.Ref{}), newLease("cpu", 1, job.Ref{})
			order(conn, job.Order{Leases: []job.Lease{a, z}})
			want := append(slices.Clone(a.Tasks), z.Tasks...)
			for i, known := range c.known {
				time.Sleep(time.Duration(known)*time.Second - time.Since(start) - time.Millisecond)
				if leaves, _ := b.leaves(r, said(conn)); len(leaves) != 0 {
					t.Errorf("kept for %d s, task %d: known before its outputs were kept: %+v", c.keep, i, leaves)
				}
				time.Sleep(time.Second)
				leaves, _ := b.leaves(r, said(conn))
				if len(leaves) != 1 || leaves[0].Task != want[i].Task.Key() || leaves[0].Outcome != job.Succeeded || len(leaves[0].Outputs) != 1 {
					t.Fatalf("kept for %d s, task %d: %+v", c.keep, i, leaves)
				}
			}
			if got := began(); !slices.Equal(got, c.began) {
				t.Errorf("kept for %d s, tasks began at %v, want %v", c.keep, got, c.began)
			}
		})
	}
}

// Whoever stops a machine while outputs are kept loses nothing that may be
// finished, and is told of nothing that was cancelled.
func TestStoppedWhileOutputsAreKept(t *testing.T) {
	for _, c := range []struct {
		keep, at time.Duration // how long outputs take, and when it is stopped
		finish   bool
	}{
		{4 * time.Second, 12 * time.Second, true}, // of the first the outputs are kept, the second runs
		{4 * time.Second, 12 * time.Second, false},
		{25 * time.Second, 22 * time.Second, true}, // the second ran and waits for the first
		{25 * time.Second, 22 * time.Second, false},
	} {
		finish := c.finish
		synctest.Test(t, func(t *testing.T) {
			b, _ := outputs(t, func(int) (time.Duration, error) { return c.keep, nil })
			_, r := newPeer(t)
			b.offer(r)
			conn := b.joined().c
			a := newLease("cpu", 3, job.Ref{})
			order(conn, job.Order{Leases: []job.Lease{a}})
			time.Sleep(c.at)
			said(conn)
			b.w.Pause("somebody plays", finish)
			time.Sleep(2 * time.Minute)
			leaves, _ := b.leaves(r, said(conn))
			got, cancelled := done(leaves)
			want := 0
			if finish {
				want = 2
			}
			if len(got) != want || cancelled != 3-want {
				t.Errorf("finish %v: %d done and %d cancelled, want %d: %+v", finish, len(got), cancelled, want, leaves)
			}
			for i, l := range got {
				if l.Outcome != job.Succeeded || l.Task != a.Tasks[i].Task.Key() {
					t.Errorf("finish %v: %+v", finish, l)
				}
			}
			if d := b.w.Doing()["cpu"]; d != "resting: somebody plays" {
				t.Errorf("doing %q", d)
			}
		})
	}
}

// Outputs that cannot be kept break their own task, and the others go on.
func TestOutputsThatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		b, _ := outputs(t, func(n int) (time.Duration, error) {
			if n == 1 {
				return time.Second, full
			}
			return time.Second, nil
		})
		_, r := newPeer(t)
		b.offer(r)
		conn := b.joined().c
		order(conn, job.Order{Leases: []job.Lease{newLease("cpu", 3, job.Ref{})}})
		time.Sleep(time.Minute)
		leaves, _ := b.leaves(r, said(conn))
		var of []job.Outcome
		for _, l := range leaves {
			of = append(of, l.Outcome)
		}
		if !slices.Equal(of, []job.Outcome{job.Succeeded, job.Broken, job.Succeeded}) {
			t.Fatalf("%v", of)
		}
		if l := leaves[1]; l.Reason != "keep the outputs: "+full.Error() || len(l.Outputs) != 0 || l.Meter.Wall < 11*time.Second {
			t.Errorf("%+v", l)
		}
	})
}

// A task that waits for its files is none that may end soon: its lease is given
// back at once when the machine is wanted.
func TestStoppedWhileFilesAreFetched(t *testing.T) {
	for _, c := range []struct {
		name  string
		lease func() job.Lease
		done  int
	}{
		{"of the first task", func() job.Lease { return newLease("cpu", 2, ref("slow")) }, 0},
		{"of the second", func() job.Lease {
			l := newLease("cpu", 2, ref("here"))
			l.Tasks[1].Task.Input = ref("slow")
			return l
		}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.assets.materialize = func(ctx context.Context, in job.Ref, _ string, _ func(float64)) error {
				if in == ref("slow") {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			b.start(Options{})
			_, r := newPeer(t)
			b.offer(r)
			conn := b.joined().c
			order(conn, job.Order{Leases: []job.Lease{c.lease()}})
			time.Sleep(30 * time.Second)
			leaves, _ := b.leaves(r, said(conn))
			if got, _ := done(leaves); len(got) != c.done {
				t.Fatalf("%s: %d done", c.name, len(got))
			}
			b.w.Pause("somebody plays", true)
			time.Sleep(time.Second)
			leaves, _ = b.leaves(r, said(conn))
			if got, cancelled := done(leaves); len(got) != 0 || cancelled != 2-c.done || b.w.Holds("cpu") {
				t.Errorf("%s: a second later %d are done, %d cancelled, held %v", c.name, len(got), cancelled, b.w.Holds("cpu"))
			}
		})
	}
}

// slowly makes files named slow come only when they are let go.
func (b *bed) slowly() (let func()) {
	gate := make(chan struct{})
	b.assets.materialize = func(ctx context.Context, in job.Ref, _ string, _ func(float64)) error {
		if in != ref("slow") {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return func() { close(gate) }
}

// While the files of one come the device works for others, who hear at once when
// there is more room because that one left.
func TestWorkGoesOnWhileFilesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.slowly()
		var away atomic.Bool
		b.deny = func(peerID) error {
			if away.Load() {
				return errors.New("gone")
			}
			return nil
		}
		b.start(Options{})
		_, one := newPeer(t)
		_, two := newPeer(t)
		b.offer(two)
		second := b.joined().c
		m := b.grants(second, two, time.Now(), false)
		time.Sleep(10 * time.Minute)
		b.offer(one)
		first := b.joined().c
		for range 8 { // more than it was asked for: whoever does so keeps nobody from the device
			order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("slow"))}})
		}
		before := m.Load()
		time.Sleep(10 * time.Minute)
		if n := m.Load() - before; n < 55 {
			t.Errorf("%d done in ten minutes beside one that waits for its files", n)
		}
		if d := b.w.Doing()["cpu"]; !strings.HasPrefix(d, "rendering: job ") {
			t.Errorf("meanwhile: %q", d)
		}
		second.cut()
		third := b.joined().c // the same one, that has nothing just now
		time.Sleep(time.Minute)
		said(third)
		if d := b.w.Doing()["cpu"]; !strings.HasPrefix(d, "waiting: job ") {
			t.Errorf("while files come: %q", d)
		}
		away.Store(true)
		first.cut()
		for at := 5 * time.Second; ; at += 5 * time.Second {
			time.Sleep(5 * time.Second)
			if !b.w.Holds("cpu") {
				if r := said(third); len(r) == 0 || want(r[len(r)-1], "cpu") != 2 {
					t.Errorf("given back %v after it left, which who is there does not know: %+v", at, r)
				}
				break
			}
			if at > 70*time.Second {
				t.Fatal("the lease of who left is still held")
			}
		}
	})
}

// Who waited for files is owed nothing for it, and neither is who comes meanwhile.
func TestAWaitForFilesIsNoClaim(t *testing.T) {
	for _, how := range []string{"its files come", "another lease of it comes first", "another comes"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.exec = takes(10 * time.Second)
			let := b.slowly()
			b.start(Options{})
			_, one := newPeer(t)
			_, two := newPeer(t)
			b.offer(one)
			first := b.joined().c
			order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("slow"))}})
			b.offer(two)
			second := b.joined().c
			m := b.grants(second, two, time.Now(), false)
			time.Sleep(15 * time.Minute)
			id, c := one, first
			switch how {
			case "another comes":
				_, id = newPeer(t)
				b.offer(id)
				c = b.joined().c
			case "its files come":
				said(first)
				let()
			default:
				said(first)
				order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("here"))}})
				time.Sleep(time.Second)
				let()
			}
			n := b.grants(c, id, time.Now(), false)
			before := m.Load()
			if before < 80 {
				t.Errorf("%d done in 15 minutes", before)
			}
			for range 10 {
				time.Sleep(time.Minute)
				b.offer(id)
				b.offer(two)
			}
			if n, m := n.Load(), m.Load()-before; n < 25 || m < 25 {
				t.Errorf("%s: in ten minutes of both %d of it, %d of who was there", how, n, m)
			}
			first.cut()
			second.cut()
			c.cut()
			time.Sleep(5 * time.Minute)
		})
	}
}

// A device turns to another lease where files of a task are not here yet: a
// predecessor's folder, or what only a later task of the lease reads.
func TestNothingWaitsBesideFilesThatAreHere(t *testing.T) {
	for name, change := range map[string]func(*job.Lease){
		"a predecessor's folder": func(l *job.Lease) {
			l.Tasks[0].Task.After = []job.TaskKey{ref("before")}
			l.Tasks[0].Prior = []job.Prior{{Task: ref("before"), Outputs: []job.Output{{Name: "bake", Media: job.MediaTree, File: ref("slow"), Bytes: 1}}}}
		},
		"of the second task": func(l *job.Lease) { l.Tasks[1].Task.Input = ref("slow") },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.exec = takes(10 * time.Second)
			let := b.slowly()
			b.start(Options{})
			one, first := b.comes()
			two, second := b.comes()
			l := newLease("cpu", 2, ref("here"))
			change(&l)
			order(first, job.Order{Leases: []job.Lease{l}})
			time.Sleep(12 * time.Second) // the first task is done, if it could be
			order(second, job.Order{Leases: []job.Lease{newLease("cpu", 2, ref("b"))}})
			time.Sleep(21 * time.Second)
			if leaves, _ := b.leaves(two, said(second)); len(leaves) != 2 {
				t.Errorf("%s: %d of the other done meanwhile", name, len(leaves))
			}
			let()
			time.Sleep(21 * time.Second)
			if leaves, _ := b.leaves(one, said(first)); len(leaves) != 2 {
				t.Errorf("%s: %d done at last: %+v, %s", name, len(leaves), leaves, b.w.Doing()["cpu"])
			}
		})
	}
}

// What a device waits for is fetched as such, and what it needs later is not.
func TestWhatADeviceWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		urgent := map[job.Ref]bool{}
		var mu sync.Mutex
		b.assets.materialize = func(ctx context.Context, in job.Ref, _ string, _ func(float64)) error {
			mu.Lock()
			defer mu.Unlock()
			urgent[in] = Waiting(ctx)
			return nil
		}
		b.start(Options{})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		l := newLease("cpu", 2, ref("first"))
		l.Tasks[1].Task.Input = ref("second")
		order(c, job.Order{Leases: []job.Lease{l}})
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("next"))}})
		time.Sleep(5 * time.Second)
		if leaves, _ := b.leaves(r, said(c)); len(leaves) != 3 || len(urgent) != 3 || !urgent[ref("first")] || urgent[ref("second")] || urgent[ref("next")] {
			t.Errorf("%d done; fetched for a device that has nothing else to do: %v", len(leaves), urgent)
		}
	})
}

// A short wait for files takes nothing from who waited, a long one gives nothing,
// and while it lasts no place elsewhere is kept.
func TestHowAWaitForFilesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(time.Hour)
		b.slowly()
		b.m.Devices = append(b.m.Devices, job.Device{Name: "gpu", Type: "cuda", Class: "gpu"})
		b.start(Options{})
		one, first := b.comes()
		two, second := b.comes()
		order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("here"))}})
		order(second, job.Order{Leases: []job.Lease{newLease("gpu", 1, ref("slow"))}})
		time.Sleep(stillBusy + time.Second)
		b.w.mu.Lock()
		now := time.Now()
		r, other := b.w.requesters[two], b.w.requesters[one]
		other.share = share{600, now}
		r.share = share{100, now}
		if o := b.w.owed(other, b.w.devices["cpu"], now); o != nil {
			t.Error("a place is kept for one that waits for files elsewhere")
		}
		if got := now.Sub(r.waiting); got != stillBusy+time.Second {
			t.Errorf("it waits for %v", got)
		}
		b.w.mu.Unlock()
		order(second, job.Order{Leases: []job.Lease{newLease("gpu", 1, job.Ref{})}})
		b.w.mu.Lock()
		defer b.w.mu.Unlock()
		if !r.waiting.IsZero() || r.share.given < 599 {
			t.Errorf("a lease that needs no files: it waits since %v, and has %.0f", r.waiting, r.share.given)
		}
		for _, c := range []struct {
			had    float64
			waited time.Duration
			has    float64
		}{{100, 10 * time.Second, 100}, {100, 10 * time.Minute, 600}, {900, 10 * time.Minute, 900}} {
			r.share, r.waiting = share{c.had, now}, now.Add(-c.waited)
			b.w.waits(r, now)
			if !r.waiting.IsZero() || r.share.given != c.has {
				t.Errorf("%.0f s after %v of waiting: %.0f s", c.had, c.waited, r.share.given)
			}
		}
	})
}
