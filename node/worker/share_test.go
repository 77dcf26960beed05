package worker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
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
// test goes on, and counts what comes back.
func (b *bed) grants(c *conn, id peer.ID, from time.Time) *atomic.Int64 {
	done := new(atomic.Int64)
	go func() {
		wants := 0
		t := time.NewTimer(time.Until(from))
		for {
			select {
			case r := <-c.reports:
				wants = want(r, "cpu")
				leaves, _ := b.leaves(id, []job.Report{r})
				done.Add(int64(len(leaves)))
			case <-t.C:
			case <-c.down:
				return
			}
			if wants > 0 && !time.Now().Before(from) {
				o := job.Order{Epoch: 1, BeatEvery: 20 * time.Second}
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

// This machine's own job has its share of it while somebody else's goes on.
func TestOwnJobHasItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(10 * time.Second)
		b.start(Options{Home: b.self})
		home := b.joined()
		_, other := newPeer(t)
		b.offer(other)
		theirs := b.joined()
		now := time.Now()
		n := b.grants(theirs.c, other, now)
		own := b.grants(home.c, b.self, now.Add(10*time.Minute))
		time.Sleep(10 * time.Minute)
		before := n.Load()
		b.offer(b.self)
		time.Sleep(10 * time.Minute)
		if own, n := own.Load(), n.Load()-before; own < 25 || n < 25 {
			t.Errorf("in ten minutes of both: %d of this machine's own, %d of the other", own, n)
		}
		home.c.cut()
		theirs.c.cut()
	})
}
