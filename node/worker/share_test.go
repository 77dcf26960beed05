package worker

import (
	"testing"
	"testing/synctest"
	"time"

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
