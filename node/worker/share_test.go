package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/render"
)

// Who comes while a device has two leases of another has its turn after the one
// that runs, and not after both.
func TestWhoComesLaterIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.start(Options{})
		_, one := newPeer(t)
		_, two := newPeer(t)
		b.offer(one)
		first := b.joined().c
		order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("a")), newLease("cpu", 1, ref("a"))}})
		time.Sleep(time.Second)
		said(first)

		b.offer(two)
		second := b.joined().c
		time.Sleep(time.Second)
		reports := said(second)
		if n := want(reports[len(reports)-1], "cpu"); n != 1 {
			t.Fatalf("it asks for %d leases of who came later", n)
		}
		order(second, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("b"))}})
		time.Sleep(time.Second)
		reports = said(second)
		if n := want(reports[len(reports)-1], "cpu"); n != 0 {
			t.Errorf("it asks for %d more, beyond one for whoever waits", n)
		}
		time.Sleep(18 * time.Second) // two tasks are done
		if leaves, _ := b.leaves(one, said(first)); len(leaves) != 1 {
			t.Errorf("%d done for who was first", len(leaves))
		}
		if leaves, _ := b.leaves(two, said(second)); len(leaves) != 1 {
			t.Errorf("%d done for who came later", len(leaves))
		}
		time.Sleep(10 * time.Second)
		if leaves, _ := b.leaves(one, said(first)); len(leaves) != 1 {
			t.Errorf("%d more done for who was first", len(leaves))
		}
	})
}

// Whoever had the machine alone took nothing from anybody: when both have work,
// both have the same of it, whoever comes first.
func TestWhatNobodyElseWantedIsNotHeldAgainstAnybody(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, time.Minute, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.exec = takes(10 * time.Second)
			b.start(Options{IdleLeave: time.Hour, Home: b.self})
			b.joined() // its own requester, that wants nothing
			_, one := newPeer(t)
			_, two := newPeer(t)
			b.offer(one)
			first := b.joined().c
			for range 9 {
				order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("a"))}})
				time.Sleep(10*time.Second + time.Millisecond)
			}
			if leaves, _ := b.leaves(one, said(first)); len(leaves) != 9 {
				t.Fatalf("%d done", len(leaves))
			}
			time.Sleep(pause)

			b.offer(two)
			second := b.joined().c
			order(second, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("b")), newLease("cpu", 1, ref("b"))}})
			time.Sleep(500 * time.Millisecond)
			reports := said(first)
			b.offer(one)
			time.Sleep(time.Second)
			reports = append(reports, said(first)...)
			if len(reports) == 0 || want(reports[len(reports)-1], "cpu") != 1 {
				t.Errorf("%v later it asks for nothing of who had the machine before: %+v", pause, reports)
				return
			}
			order(first, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("a"))}})
			time.Sleep(19 * time.Second)
			if leaves, _ := b.leaves(two, said(second)); len(leaves) != 1 {
				t.Errorf("%v later %d done for the other", pause, len(leaves))
			}
			if leaves, _ := b.leaves(one, said(first)); len(leaves) != 1 {
				t.Errorf("%v later %d done for who had the machine before", pause, len(leaves))
			}
		})
	}
}

// grants answers each wish for work on the CPU at once, from on, as long as the
// test goes on, and counts what comes back. A requester whose tasks are long gives
// a device one lease, once it has no other.
func (b *bed) grants(c *conn, id peer.ID, from time.Time, long bool) *atomic.Int64 {
	done := new(atomic.Int64)
	go func() {
		wants := 0
		t := time.NewTimer(time.Until(from))
		for {
			select {
			case r := <-c.reports:
				wants = want(r, "cpu")
				if long && len(r.Progress) > 0 {
					wants = 0
				}
				leaves, _ := b.leaves(id, []job.Report{r})
				done.Add(int64(len(leaves)))
			case <-t.C:
			case <-c.down:
				return
			}
			if wants > 0 && !time.Now().Before(from) {
				o := job.Order{Epoch: 1, BeatEvery: 20 * time.Second}
				if long {
					wants = 1
				}
				for range wants {
					o.Leases = append(o.Leases, newLease("cpu", 1, ref(string(id))))
				}
				time.Sleep(5 * time.Millisecond)
				c.orders <- o
				wants = 0
			}
		}
	}()
	return done
}

// This machine's own job has its share of it while somebody else's goes on, also
// where its first lease is granted to a device that has a place, before anything
// of it was offered.
func TestOwnJobHasItsShare(t *testing.T) {
	for _, offered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.exec = takes(10 * time.Second)
			b.start(Options{Home: b.self})
			home := b.joined()
			other, theirs := b.comes()
			now := time.Now()
			n := b.grants(theirs, other, now, !offered)
			own := b.grants(home.c, b.self, now.Add(10*time.Minute), false)
			time.Sleep(10 * time.Minute)
			if own.Load() != 0 || n.Load() < 50 {
				t.Errorf("offered %v: in ten minutes of one: %d of this machine's own, %d of the other", offered, own.Load(), n.Load())
			}
			before, least := n.Load(), int64(15) // it gives one lease at a time
			if offered {
				b.offer(b.self)
				least = 25
			}
			time.Sleep(10 * time.Minute)
			if own, n := own.Load(), n.Load()-before; own < 25 || n < least {
				t.Errorf("offered %v: in ten minutes of both: %d of this machine's own, %d of the other", offered, own, n)
			}
			home.c.cut()
			theirs.cut()
		})
	}
}

// Whoever has no work that a device here could do, or takes no place that it is
// offered, sets nobody's share.
func TestWhoTakesNothingSetsNoShare(t *testing.T) {
	for name, idle := range map[string]func(b *bed, home *conn){
		"this machine's own checks": func(_ *bed, home *conn) {
			order(home, job.Order{Leases: []job.Lease{newLease(job.HomeDevice, 256, job.Ref{})}})
		},
		"offers and no leases": func(b *bed, _ *conn) {
			_, other := newPeer(b.t)
			b.offer(other)
			c := b.joined().c
			go func() {
				for range 40 {
					time.Sleep(30 * time.Second)
					if c.isCut() {
						return
					}
					b.swarm.offers <- job.Offer{Job: job.NewID(time.Now()), Requester: other, Open: 1, Needs: job.Needs{Require: map[string]string{"echo": "1"}}}
				}
			}()
			b.t.Cleanup(c.cut)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t)
			b.exec = takes(10 * time.Second)
			b.start(Options{Home: b.self})
			home := b.joined().c
			idle(b, home)
			_, one := newPeer(t)
			_, two := newPeer(t)
			b.offer(one)
			first := b.joined().c
			n := b.grants(first, one, time.Now(), false)
			time.Sleep(9*time.Minute + 5*time.Second)
			for range 6 {
				time.Sleep(10 * time.Second)
				b.w.mu.Lock()
				if load := b.w.devices["cpu"].load(); load < 2 {
					t.Errorf("%s: %d leases held", name, load)
				}
				b.w.mu.Unlock()
			}
			before := n.Load()
			if before < 50 {
				t.Errorf("%s: %d done in ten minutes of one", name, before)
			}
			b.offer(two)
			second := b.joined().c
			m := b.grants(second, two, time.Now(), false)
			time.Sleep(10 * time.Minute)
			if n, m := n.Load()-before, m.Load(); n < 25 || m < 25 {
				t.Errorf("%s: in ten minutes of both: %d of who was there, %d of who came", name, n, m)
			}
			first.cut()
			second.cut()
			time.Sleep(20 * time.Minute) // until nobody offers any more
		})
	}
}

// What this machine does on its home device counts in nobody's share, and costs
// that device no place.
func TestTheHomeDeviceIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.start(Options{Home: b.self})
		home := b.joined().c
		order(home, job.Order{Leases: []job.Lease{newLease(job.HomeDevice, 20, job.Ref{})}})
		time.Sleep(time.Minute)
		if b.w.Wanted() {
			t.Error("its own checks count as work that others' devices are wanted for")
		}
		b.w.mu.Lock()
		given := b.w.requesters[b.self].share.given
		b.w.mu.Unlock()
		if given != 0 {
			t.Errorf("its own requester was given %.0f s", given)
		}
		_, other := newPeer(t)
		b.offer(other)
		b.joined()
		order(home, job.Order{Leases: []job.Lease{newLease("cpu", 6, job.Ref{})}})
		time.Sleep(65 * time.Second) // it was given a minute more than the other, who waits
		reports := said(home)
		if n := want(reports[len(reports)-1], job.HomeDevice); n != 1 {
			t.Errorf("the home device, which has one lease, asks for %d", n)
		}
	})
}

// An own job counts as work that devices are wanted for.
func TestOwnJobsWantDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{Home: b.self})
		b.joined()
		if b.w.Wanted() {
			t.Error("wanted without any work")
		}
		b.offer(b.self)
		if !b.w.Wanted() {
			t.Error("an own job does not count")
		}
	})
}

// Who stops tasks shortly before they are done was given the device all the same.
func TestStoppedTasksCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.start(Options{})
		_, first := b.comes()
		two, second := b.comes()
		go func() {
			at := map[job.LeaseID]bool{}
			for {
				select {
				case r := <-first.reports:
					for _, p := range r.Progress {
						if p.Phase == "rendering" && !at[p.Lease] {
							at[p.Lease] = true
							go func() {
								time.Sleep(8 * time.Second)
								first.orders <- job.Order{Epoch: 1, BeatEvery: 20 * time.Second, Stops: []job.Stop{{Lease: p.Lease, Reason: "not needed"}}}
							}()
						}
					}
					if want(r, "cpu") > 0 {
						time.Sleep(5 * time.Millisecond)
						first.orders <- job.Order{Epoch: 1, BeatEvery: 20 * time.Second, Leases: []job.Lease{newLease("cpu", 1, ref("a"))}}
					}
				case <-first.down:
					return
				}
			}
		}()
		n := b.grants(second, two, time.Now(), false)
		time.Sleep(10 * time.Minute)
		if n := n.Load(); n < 24 {
			t.Errorf("%d tasks done in ten minutes beside one whose tasks are stopped", n)
		}
		first.cut()
		second.cut()
		time.Sleep(time.Minute)
	})
}

// A requester whose tasks are longer than offers are remembered is not forgiven
// what it was given each time that one is done.
func TestLongTasksCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		_, one := newPeer(t)
		_, two := newPeer(t)
		long, short := takes(200*time.Second), takes(10*time.Second)
		b.exec = &exec{run: func(ctx context.Context, x render.Task, d render.Dirs, p func(render.Progress)) render.Result {
			if x.Requester == one.String() {
				return long.run(ctx, x, d, p)
			}
			return short.run(ctx, x, d, p)
		}}
		b.start(Options{})
		b.offer(one)
		first := b.joined().c
		b.offer(two)
		second := b.joined().c
		n := b.grants(first, one, time.Now(), true)
		m := b.grants(second, two, time.Now(), false)
		for range 60 {
			time.Sleep(time.Minute)
			b.offer(one)
			b.offer(two)
		}
		if n, m := 200*n.Load(), 10*m.Load(); n < 3*m/4 || m < 3*n/4 {
			t.Errorf("in an hour %d s of long tasks and %d s of short ones", n, m)
		}
		first.cut()
		second.cut()
		time.Sleep(5 * time.Minute)
	})
}

// A place is kept for who was given less, for as long as offers are remembered:
// from when it comes, and from when its last lease is done.
func TestAPlaceIsKeptForWhoHasLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(100 * time.Second)
		b.start(Options{IdleLeave: time.Hour})
		_, one := newPeer(t)
		_, two := newPeer(t)
		b.offer(two)
		second := b.joined().c
		b.offer(one)
		first := b.joined().c
		order(first, job.Order{Leases: []job.Lease{newLease("cpu", 12, ref("a"))}})
		asks := func(after time.Duration, n int) {
			t.Helper()
			for range int(after / (50 * time.Second)) {
				time.Sleep(50 * time.Second)
				b.offer(two)
			}
			time.Sleep(time.Second)
			if r := said(first); want(r[len(r)-1], "cpu") != n {
				t.Errorf("it asks for %d more of who had more, not for %d", want(r[len(r)-1], "cpu"), n)
			}
		}
		asks(100*time.Second, 0)
		asks(100*time.Second, 1)
		order(second, job.Order{Leases: []job.Lease{newLease("cpu", 1, ref("b"))}})
		asks(300*time.Second, 0) // it is done, and less than 150 s have passed
		if leaves, _ := b.leaves(two, said(second)); len(leaves) != 1 {
			t.Errorf("%d done", len(leaves))
		}
		asks(200*time.Second, 1)
	})
}
