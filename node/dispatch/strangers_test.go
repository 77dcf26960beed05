package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// withStrangers is a table at which those whose name begins with an s are
// strangers, but for this machine.
func withStrangers(t *testing.T) *table {
	x := newTable(t)
	x.silent = true
	x.b.o.Member = func(p peer.ID) bool { return !strings.HasPrefix(x.names[p], "s") }
	return x
}

func (x *table) bid(name string, o ...OpenedReceipt) {
	x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Report: job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, "cpu"),
		Bids: []job.Bid{{Device: "cpu", Want: 1}}}, Receipts: o})
}

func (x *table) leasesOf(name string) int {
	n := 0
	for _, w := range x.b.workers {
		if w.peer == x.id(name) {
			n = len(w.leases)
		}
	}
	return n
}

// TestStrangersWorkWhereTheJobSaysSo: and where this machine alone could check it.
func TestStrangersWorkWhereTheJobSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		check job.CheckMethod
		says  bool
		works bool
		why   string
	}{
		"not asked for":          {job.CheckExact, false, false, "the job is for members"},
		"asked for":              {job.CheckExact, true, true, ""},
		"cannot be checked":      {job.CheckNone, true, false, "could not check"},
		"checked by others only": {job.CheckReplica, true, false, "could not check"},
	} {
		t.Run(name, func(t *testing.T) {
			x := withStrangers(t)
			x.submit("J", fakeParams{Frames: 4, Check: c.check}, job.Policy{Strangers: c.says})
			j := x.b.byID[x.jobs["J"]]
			x.open("stranger")
			x.bid("stranger")
			if got := x.leasesOf("stranger") > 0; got != c.works {
				t.Errorf("a stranger works on it: %v", got)
			}
			if why := x.b.whyNot(x.now, x.b.byPeer[x.id("stranger")], j); !strings.Contains(why, c.why) || c.works && strings.Contains(why, "member") {
				t.Errorf("it is said why: %q", why)
			}
			if got := j.forStrangers(); got != c.works {
				t.Errorf("it is offered to strangers: %v", got)
			}
			x.open("member")
			x.bid("member")
			if x.leasesOf("member") == 0 {
				t.Error("a member does not work on it")
			}
		})
	}
}

// TestListsCountForStrangersToo: a job that is for some only is for no other
// stranger.
func TestListsCountForStrangersToo(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 4, Check: job.CheckExact}, job.Policy{Strangers: true, Not: []string{x.id("stranger").String()}})
	x.open("stranger")
	x.bid("stranger")
	x.open("second")
	if x.bid("second"); x.leasesOf("stranger") > 0 || x.leasesOf("second") > 0 == false {
		t.Errorf("%d and %d leases", x.leasesOf("stranger"), x.leasesOf("second"))
	}
}

// TestStrangersDecideNothing: they check nobody, make no device class large
// enough, and what of theirs could not be checked is not taken.
func TestStrangersDecideNothing(t *testing.T) {
	x := withStrangers(t)
	x.checks = true
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact}, job.Policy{Strangers: true})
	for _, name := range []string{"stranger", "second", "sixth"} {
		x.open(name)
		x.bid(name)
	}
	j := x.b.byID[x.jobs["J"]]
	lease, holder := "", ""
	for _, name := range []string{"stranger", "second", "sixth"} {
		if x.leasesOf(name) > 0 {
			holder = name
		}
	}
	for l := range x.leases {
		lease = l
	}
	if holder == "" || lease == "" {
		t.Fatal("nobody works")
	}
	for _, w := range x.b.workers {
		for _, s := range w.seats {
			s.Class = "one"
		}
	}
	if n := x.b.classMembers("one"); n != 0 {
		t.Errorf("%d strangers count as members of a device class", n)
	}
	x.b.o.Checkers = []peer.ID{x.id("second"), x.id("sixth"), x.id("stranger")}
	x.bid(holder, x.receipt(holder, lease, time.Second, map[int]job.Outcome{0: job.Succeeded}))
	if len(x.todo) == 0 {
		t.Fatal("nothing came back")
	}
	// The result is fetched, and challenged as a stranger's.
	for range 20 {
		for _, e := range x.todo {
			if c, ok := e.(Challenge); ok && !c.Stranger {
				t.Error("challenged like a member's")
			}
		}
		if len(j.checks) > 0 {
			break
		}
		x.answer(false)
	}
	if len(j.checks) == 0 {
		t.Fatal("nothing is to be checked")
	}
	for _, name := range []string{"stranger", "second", "sixth"} {
		for _, s := range x.b.byPeer[x.id(name)].seats {
			for _, task := range j.checks {
				if x.b.mayCheck(s, task) {
					t.Errorf("%s may check", name)
				}
			}
		}
	}
}

// TestStrangersReadWhatTheyMayWorkOn: a read grant is worth nothing to a stranger
// where the job is not for strangers.
func TestStrangersReadWhatTheyMayWorkOn(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact}, job.Policy{})
	x.submit("K", fakeParams{Frames: 1, Check: job.CheckExact}, job.Policy{Strangers: true})
	d := &Dispatcher{board: x.b}
	for _, c := range []struct {
		job, who string
		want     bool
	}{{"J", "member", true}, {"J", "stranger", false}, {"K", "member", true}, {"K", "stranger", true}} {
		if got := d.Allows(x.jobs[c.job], x.id(c.who)); got != c.want {
			t.Errorf("%s may read %s: %v", c.who, c.job, got)
		}
	}
	if d.Allows("another", x.id("stranger")) || !d.Allows("another", x.id("member")) {
		t.Error("what is asked directly is for members")
	}
}

// TestMembersPlaceIsNotForStrangers: what sees others' results.
func TestMembersPlaceIsNotForStrangers(t *testing.T) {
	x := withStrangers(t)
	for _, name := range []string{"stranger", "member"} {
		x.open(name)
		x.bid(name)
		for _, p := range []job.Place{job.Anywhere, job.AtMember, job.AtRequester} {
			w := x.b.byPeer[x.id(name)]
			if got, want := x.b.fits(w, w.machine.Devices[0], job.Needs{}, p), p == job.Anywhere || p == job.AtMember && name == "member"; got != want {
				t.Errorf("%s at %q: %v", name, p, got)
			}
		}
	}
	a, b := x.b.byPeer[x.id("stranger")].seats[0], x.b.byPeer[x.id("member")].seats[0]
	if a.shape == b.shape {
		t.Error("what fits one counts for the other")
	}
}

// TestStrangersDoNotEndATask: two that say it cannot be done, or break it, may be
// one liar; while a member could try, it is for the member to say.
func TestStrangersDoNotEndATask(t *testing.T) {
	for _, outcome := range []job.Outcome{job.Failed, job.Broken} {
		t.Run(string(outcome), func(t *testing.T) {
			x := withStrangers(t)
			x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact}, job.Policy{Strangers: true})
			j := x.b.byID[x.jobs["J"]]
			x.open("member") // which works, on something else just now
			x.step(Reported{Peer: x.id("member"), Stream: x.streams["member"], Report: job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, "cpu")}})
			strangers := []string{"s1", "s2", "s3"}
			for _, name := range strangers {
				x.open(name)
			}
			for range 4 {
				for _, name := range strangers {
					x.bid(name)
					w := x.b.byPeer[x.id(name)]
					if len(w.leases) == 0 {
						continue
					}
					for script, l := range x.leases {
						if l.ID == w.leases[0].id {
							x.bid(name, x.receipt(name, script, time.Second, map[int]job.Outcome{0: outcome}))
							break
						}
					}
					if len(w.leases) > 0 {
						t.Fatalf("%s has a lease at once after it failed one", name)
					}
					x.step(Closed{Peer: x.id(name), Stream: x.streams[name]})
					x.open(name)
				}
				x.now = x.now.Add(10 * time.Minute)
			}
			if n := len(j.tasks[0].also().ended); n < len(strangers) {
				t.Fatalf("only %d attempts", n)
			}
			if j.state.Ended() || j.tasks[0].phase.final() {
				t.Fatalf("strangers ended it: %s", j.state)
			}
			if x.bid("member"); x.leasesOf("member") == 0 {
				t.Error("the member gets no try")
			}
		})
	}
}

// TestOnlyStrangersMayEndATaskAlone: where nobody else is there, a job that cannot
// be done ends all the same.
func TestOnlyStrangersMayEndATaskAlone(t *testing.T) {
	x := withStrangers(t)
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckExact}, job.Policy{Strangers: true})
	j := x.b.byID[x.jobs["J"]]
	for _, name := range []string{"s1", "s2"} {
		x.open(name)
		x.bid(name)
		w := x.b.byPeer[x.id(name)]
		if len(w.leases) == 0 {
			t.Fatalf("%s gets no work", name)
		}
		for script, l := range x.leases {
			if l.ID == w.leases[0].id {
				x.bid(name, x.receipt(name, script, time.Second, map[int]job.Outcome{0: job.Failed}))
				break
			}
		}
	}
	if !j.state.Ended() && !j.tasks[0].phase.final() {
		t.Error("it goes on for ever")
	}
}
