package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
)

// needsFake are needs that bid's machines meet, and those that pass by do not.
var needsFake = map[string]string{"fake": "1"}

func (x *table) leave(name string) {
	x.step(Closed{Peer: x.id(name), Stream: x.streams[name]})
}

// passBy has so many strangers come who can do nothing, each a sort of machine of
// its own, and go again.
func (x *table) passBy(n int) {
	for i := range n {
		name := fmt.Sprint("s", i)
		x.now = x.now.Add(100 * time.Millisecond)
		x.open(name)
		x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Report: job.Report{
			Session: "s", Machine: machine(map[string][]string{"serial": {name}}, "cpu"), Bids: []job.Bid{{Device: "cpu", Want: 1}},
		}})
		x.leave(name)
	}
}

// held returns the lease that name has.
func (x *table) held(name string) string {
	for l, who := range x.holder {
		if who == name {
			return l
		}
	}
	x.t.Fatalf("%s has no lease", name)
	return ""
}

// TestStrangersAreForgotten: of those who came and went as many are kept as there
// is a bound for, and everybody of whom the board or a journal has something.
func TestStrangersAreForgotten(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 4, Check: job.CheckExact, Needs: needsFake}, job.Policy{Strangers: true})
	j := x.b.byID[x.jobs["J"]]
	for _, name := range []string{"sgiver", "sholder", "member"} {
		x.open(name)
		x.bid(name)
	}
	for _, name := range []string{"member", "sgiver"} { // the first result says what a task costs, and nothing of a pace
		x.bid(name, x.receipt(name, x.held(name), time.Second, map[int]job.Outcome{0: job.Succeeded}))
		x.answer(true)
	}
	for _, name := range []string{"sgiver", "sholder", "member"} {
		x.leave(name)
	}
	x.passBy(3000)
	if n := len(x.b.workers); n > mostGone+3 || n != len(x.b.byPeer) {
		t.Errorf("%d workers are known, %d by their ids", n, len(x.b.byPeer))
	}
	if n := len(x.b.shapes); n > 2*mostShapes+mostGone {
		t.Errorf("%d sorts of machine are known", n)
	}
	for _, c := range j.classes {
		if len(c.fits) > len(x.b.shapes) {
			t.Errorf("of %d sorts of machine it is remembered what they can do, %d are known", len(c.fits), len(x.b.shapes))
		}
	}
	if len(x.b.waiting)+len(x.b.restful) > mostGone {
		t.Errorf("%d wait, %d are to be told why they rest", len(x.b.waiting), len(x.b.restful))
	}
	if w := x.b.byPeer[x.id("sgiver")]; w == nil || w.seats[0].speed.n == 0 {
		t.Error("a stranger is forgotten whose results a job that goes on has")
	}
	if x.b.byPeer[x.id("member")] == nil {
		t.Error("a member is forgotten")
	}
	if x.b.byPeer[x.id("s2999")] == nil || x.b.byPeer[x.id("s0")] != nil {
		t.Error("others than those who went long ago are forgotten")
	}

	again := x.replayed(9)
	if d := cmp.Diff(durable(x.b), durable(again)); d != "" {
		t.Errorf("a board made from the journal differs: %s", d)
	}
	for _, w := range again.workers {
		if known := x.b.byPeer[w.peer] != nil; !known && again.givers()[w.peer] {
			t.Errorf("from the journal come results of %s, who was forgotten", x.names[w.peer])
		}
	}
}

// TestForgottenStrangersResult: whoever was forgotten with a lease that lapsed may
// still bring what it did.
func TestForgottenStrangersResult(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact, Needs: needsFake}, job.Policy{Strangers: true, Limits: job.Limits{Budget: 3600}})
	j := x.b.byID[x.jobs["J"]]
	x.open("sworker")
	x.bid("sworker")
	l := x.held("sworker")
	x.leave("sworker")
	x.pass(time.Second)
	x.passBy(2 * mostGone)
	if x.b.byPeer[x.id("sworker")] == nil {
		t.Fatal("forgotten while it holds a lease")
	}
	x.pass(5 * time.Minute)
	x.passBy(2 * mostGone)
	if x.b.byPeer[x.id("sworker")] != nil {
		t.Fatal("not forgotten after its lease lapsed")
	}
	if left := x.b.unspent(j); left != 3600 || x.b.byPeer[x.id("sworker")] != nil {
		t.Errorf("%g s of 3600 are left, and a look at that brought it back: %v", left, x.b.byPeer[x.id("sworker")] != nil)
	}
	x.open("sworker")
	x.bid("sworker", x.receipt("sworker", l, time.Second, map[int]job.Outcome{0: job.Succeeded}))
	x.answer(true)
	if s, _ := x.b.Status(x.now, j.id, 0, true); s.State != job.StateFinished {
		t.Errorf("the job is %s: %s", s.State, s.Reason)
	}
}

// TestMachinesThatChangeAllTheTime: one peer that says something else of itself
// with each report fills nothing.
func TestMachinesThatChangeAllTheTime(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact, Needs: needsFake}, job.Policy{Strangers: true})
	x.open("s")
	for i := range 4000 {
		name := fmt.Sprint(i)
		x.step(Reported{Peer: x.id("s"), Stream: x.streams["s"], Report: job.Report{
			Session: "s", Machine: machine(map[string][]string{"serial": {name}}, "cpu", name), Bids: []job.Bid{{Device: name, Want: 1}},
		}})
	}
	w := x.b.byPeer[x.id("s")]
	if len(w.seats) > mostSeats+1 || len(x.b.shapes) > 2*mostShapes || len(x.b.waiting) > 2*mostSeats {
		t.Errorf("%d devices, %d sorts of them, %d wait", len(w.seats), len(x.b.shapes), len(x.b.waiting))
	}
	x.bid("s")
	if x.leasesOf("s") != 1 {
		t.Error("it gets no work once it is a machine that can")
	}
}

// TestWhoWaitedInVainIsInNoAccount: a journal does not grow by strangers who only
// came.
func TestWhoWaitedInVainIsInNoAccount(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 4, Check: job.CheckExact, Needs: needsFake}, job.Policy{Strangers: true, Limits: job.Limits{MaxWorkers: 1}})
	j := x.b.byID[x.jobs["J"]]
	for _, name := range []string{"sworker", "swaits", "member"} {
		x.open(name)
		x.bid(name)
	}
	x.now = x.now.Add(20 * time.Second)
	for _, name := range []string{"sworker", "swaits", "member"} { // they want nothing any more
		x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Report: job.Report{Session: "s"}})
	}
	for name, want := range map[string]bool{"sworker": true, "swaits": false, "member": true} {
		if got := j.account(account{x.id(name), "cpu"}) != nil; got != want {
			t.Errorf("%s has an account: %v", name, got)
		}
	}
}

// TestRightsToReadAreForgotten: those that nobody needs any more.
func TestRightsToReadAreForgotten(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 1}, job.Policy{Strangers: true})
	now := x.now
	d := &Dispatcher{board: x.b, grants: map[grantKey]readGrant{}}
	lives := grantKey{x.jobs["J"], x.id("s0")}
	for i := range 3 * mostGrants {
		d.grants[grantKey{job.ID(fmt.Sprint("over", i)), x.id("s0")}] = readGrant{expires: now.Add(time.Hour)}
		d.grants[grantKey{x.jobs["J"], x.id(fmt.Sprint("s", 1+i))}] = readGrant{expires: now}
		d.grants[lives] = readGrant{expires: now.Add(time.Hour)}
		d.forgetGrants(now)
	}
	if _, ok := d.grants[lives]; !ok || len(d.grants) > mostGrants+3 {
		t.Errorf("%d are kept, one in use %v", len(d.grants), ok)
	}
}
