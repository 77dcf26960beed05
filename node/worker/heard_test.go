package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// TestHeard: each offer has one fate, with its reason.
func TestHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		_, away := newPeer(t)
		_, banned := newPeer(t)
		b.deny = func(id peer.ID) error {
			if id == away {
				return errors.New("no way there")
			}
			return nil
		}
		b.exec = takes(time.Hour)
		b.start(Options{Accept: func(id peer.ID) error {
			if id == banned {
				return errors.New("not trusted")
			}
			return nil
		}})
		fate := func(of peer.ID) Heard {
			t.Helper()
			synctest.Wait()
			for _, h := range b.w.Heard() {
				if h.Requester == of {
					return h
				}
			}
			t.Fatalf("nothing of %s was heard", of)
			return Heard{}
		}
		is := func(of peer.ID, want Fate, reason string) {
			t.Helper()
			if h := fate(of); h.Fate != want || !strings.Contains(h.Reason, reason) {
				t.Errorf("%s: %q, want %s: %s", h.Fate, h.Reason, want, reason)
			}
		}
		b.offer(banned)
		is(banned, FateRefused, "not trusted")
		b.offer(away)
		is(away, FateUnreachable, "no way there")

		_, picky := newPeer(t)
		b.swarm.offers <- job.Offer{Job: job.NewID(time.Now()), Requester: picky, Open: 1, Needs: job.Needs{Require: map[string]string{"blender": "9"}}}
		is(picky, FateUnfit, "blender")

		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		is(r, FateWaiting, "others")
		order(c, job.Order{Resting: "its results were wrong"})
		is(r, FateDenied, "wrong")
		l := newLease("cpu", 1, job.Ref{})
		l.Job = fate(r).Job
		order(c, job.Order{Leases: []job.Lease{l}})
		if h := fate(r); h.Fate != FateWorked || h.Leases != 1 {
			t.Errorf("%+v", h)
		}
		_, late := newPeer(t)
		b.offer(late)
		c2 := b.joined().c
		order(c2, job.Order{Leases: []job.Lease{newLease("cpu", 1, job.Ref{})}}) // of another job
		is(late, FateBusy, "devices")
		b.w.Pause("the owner plays", false)
		is(late, FateResting, "the owner plays")
		b.w.Pause("", false)

		time.Sleep(heardFor + time.Minute)
		if h := b.w.Heard(); len(h) != 0 {
			t.Errorf("an hour later: %+v", h)
		}
	})
}

func TestHeardIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.deny = func(peer.ID) error { return context.DeadlineExceeded }
		b.start(Options{})
		_, r := newPeer(t)
		var last job.ID
		for range 2 * maxHeard {
			last = job.NewID(time.Now())
			b.swarm.offers <- job.Offer{Job: last, Requester: r, Open: 1, Needs: job.Needs{Require: map[string]string{"echo": "1"}}}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if h := b.w.Heard(); len(h) != maxHeard || h[0].Job != last {
			t.Errorf("%d offers are remembered, the newest %s, want %s", len(h), h[0].Job, last)
		}
		b.end()
	})
}

// TestStrangersLeaveRoomForMembers: whoever says that it has work is joined, so
// strangers that have none must not take every place.
func TestStrangersLeaveRoomForMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		member := map[peer.ID]bool{}
		b.start(Options{Stranger: func(id peer.ID) bool { return !member[id] }})
		for n := range maxRequesters + 1 {
			_, s := newPeer(t)
			b.offer(s)
			synctest.Wait()
			if i := len(b.w.Heard()); i != n+1 {
				t.Fatalf("%d offers heard, %d said", i, n+1)
			}
		}
		full := 0
		for _, h := range b.w.Heard() {
			if h.Fate == FateFull {
				full++
			}
		}
		if want := maxRequesters + 1 - maxStrangers; full != want {
			t.Errorf("%d strangers found no place, want %d", full, want)
		}
		_, m := newPeer(t)
		member[m] = true
		b.offer(m)
		synctest.Wait()
		for _, h := range b.w.Heard() {
			if h.Requester == m && h.Fate == FateFull {
				t.Error(h.Reason)
			}
		}
	})
}

// TestALinkIsNoWelcome: a machine may be joined to a requester whose work it does
// not take any more, for the sake of receipts say. It gets none by that.
func TestALinkIsNoWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.exec = takes(time.Second)
		welcome := true
		b.start(Options{Accept: func(peer.ID) error {
			if !welcome {
				return errors.New("there is no sandbox any more")
			}
			return nil
		}})
		_, r := newPeer(t)
		b.offer(r)
		c := b.joined().c
		if all := said(c); len(all) == 0 || want(all[len(all)-1], "cpu") == 0 {
			t.Fatalf("no bid: %+v", all)
		}
		welcome = false // the machine's owner changed something
		order(c, job.Order{Leases: []job.Lease{newLease("cpu", 1, job.Ref{})}})
		time.Sleep(10 * time.Second)
		reports := said(c)
		leaves, _ := b.leaves(r, reports)
		if _, cancelled := done(leaves); len(leaves) != 1 || cancelled != 1 || !strings.Contains(leaves[0].Reason, "no sandbox") {
			t.Errorf("work that is not taken: %+v", leaves)
		}
		for _, rep := range reports {
			if want(rep, "cpu") > 0 {
				t.Error("it bids for more")
			}
		}
	})
}
