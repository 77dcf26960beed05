package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/p2p"
	"idlewild/render/echo"
)

// release is one of a row of releases. In each, all protocols but admit and
// hello have another ID, and each works with the one before it.
func release(number int) *p2p.Release {
	r := p2p.ThisRelease()
	r.Capability, r.Least = uint32(number), uint32(number-1)
	for p := range r.IDs {
		if p == p2p.ProtocolAdmit || p == p2p.ProtocolHello {
			continue
		}
		r.IDs[p] = nil
		for _, n := range []int{number, number - 1} {
			r.IDs[p] = append(r.IDs[p], fmt.Sprintf("/idlewild/%s/%d.0.0", p, n))
		}
	}
	return &r
}

// again runs a node that was ended, as one of another release.
func (x *testNode) again(t *testing.T, r *p2p.Release) *testNode {
	t.Helper()
	x.end(t)
	return runNodeAs(t, x.cfg, r)
}

// A release and the one before it work for each other: content goes out, results
// come back, and they are checked, whichever of the two asks.
func TestJobBetweenReleases(t *testing.T) {
	for _, c := range []struct {
		name              string
		requester, worker int
	}{{"old requester, new worker", 7, 8}, {"new requester, old worker", 8, 7}} {
		t.Run(c.name, func(t *testing.T) {
			requester := runNodeAs(t, testConfig(t, "requester", func(c *Config) { c.Worker.Enabled = false }), release(c.requester))
			worker := runNodeAs(t, testConfig(t, "worker", nil), release(c.worker))
			join(t, requester, worker)
			in := filepath.Join(t.TempDir(), "input.bin")
			if err := os.WriteFile(in, make([]byte, 300_000), 0o600); err != nil {
				t.Fatal(err)
			}
			spec := echoSpec(t, t.TempDir(), echo.Params{Count: 12, Text: "hello", Bytes: 100_000, Check: true})
			spec.Input = in
			id, err := requester.client.Submit(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			s := requester.finish(t, id)
			if s.State != job.StateFinished || s.Delivered != 12 || s.Rejected != 0 || s.Rechecked == 0 || s.UploadedBytes == 0 {
				t.Errorf("%+v", s)
			}
			files, err := os.ReadDir(spec.Output)
			if err != nil || len(files) != 12 {
				t.Errorf("%d files, %v", len(files), err)
			}
			view := doctor{requester.Node}.Doctor(t.Context(), false)
			if len(view.Peers) != 1 || view.Peers[0].Apart != "" || view.Peers[0].Capability != uint32(c.worker) {
				t.Errorf("%+v", view.Peers)
			}
		})
	}
}

// A farm of three is updated one by one while it works, the requester among
// them: the job goes on, and nothing of it is lost.
func TestRollingUpdateOfAFarm(t *testing.T) {
	const old, now, tasks = 7, 8, 90
	requester := runNodeAs(t, testConfig(t, "requester", func(c *Config) { c.Worker.Enabled = false }), release(old))
	first := runNodeAs(t, testConfig(t, "first", nil), release(old))
	second := runNodeAs(t, testConfig(t, "second", nil), release(old))
	join(t, requester, first, second)
	spec := echoSpec(t, t.TempDir(), echo.Params{Count: tasks, Text: "x", SleepMS: 100})
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	done := func(by *testNode) int {
		s, err := requester.client.Job(t.Context(), id)
		if err != nil {
			return 0
		}
		for _, w := range s.Workers {
			if w.Peer == by.self.String() {
				return w.Tasks
			}
		}
		return 0
	}
	more := func(by *testNode) {
		t.Helper()
		before := done(by)
		eventually(t, by.cfg.Name+" works on", func() error {
			s, err := requester.client.Job(t.Context(), id)
			if err != nil || s.State.Ended() || done(by) > before+1 {
				return err
			}
			return fmt.Errorf("%s has done %d: %s", by.cfg.Name, done(by), s.Reason)
		})
	}
	more(first)
	more(second)
	first = first.again(t, release(now))
	more(first) // for the old requester
	requester = requester.again(t, release(now))
	more(second) // the old one, for the new requester
	second = second.again(t, release(now))
	more(second)
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != tasks || s.Rejected != 0 {
		t.Errorf("%+v", s)
	}
	files, err := os.ReadDir(spec.Output)
	if err != nil || len(files) != tasks {
		t.Errorf("%d files, %v", len(files), err)
	}
	all := 0
	for _, w := range s.Workers {
		all += w.Tasks
	}
	if all != tasks {
		t.Errorf("%d results count, of %d tasks", all, tasks)
	}
}

// Both machines show their owners that they are too far apart, and what to do.
func TestTooOldIsShownOnBothMachines(t *testing.T) {
	desk := runNodeAs(t, testConfig(t, "desk", nil), release(7))
	attic := runNodeAs(t, testConfig(t, "attic", nil), release(6))
	join(t, desk, attic)
	desk = desk.again(t, release(8))
	want := "attic runs idlewild " + Version + " (capability 6), too old for idlewild " + Version + " on desk, which works with capability 7 and newer: update idlewild on attic"
	for _, x := range []*testNode{desk, attic} {
		eventually(t, x.cfg.Name+" shows it", func() error {
			farm, err := x.client.Peers(t.Context())
			if err != nil {
				return err
			}
			for _, m := range farm.Members {
				if m.Apart == want {
					return nil
				}
			}
			return fmt.Errorf("%+v", farm.Members)
		})
		v, err := x.client.Doctor(t.Context(), false)
		if err != nil || len(v.Findings) == 0 || v.Findings[0].Severity != "error" || v.Findings[0].What != want {
			t.Errorf("%s: %+v, %v", x.cfg.Name, v.Findings, err)
		}
	}
	// Work of one is none for the other, which says why.
	id, err := desk.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 4, Text: "x", SleepMS: 50}))
	if err != nil {
		t.Fatal(err)
	}
	if s := desk.finish(t, id); s.Delivered != 4 || len(s.Workers) == 0 {
		t.Errorf("%+v", s)
	} else {
		for _, w := range s.Workers {
			if w.Peer == attic.self.String() {
				t.Errorf("the machine that is too old worked: %+v", w)
			}
		}
	}
	// A third that is too old to come in.
	third := runNodeAs(t, testConfig(t, "third", nil), release(6))
	ticket, err := desk.client.Invite(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var refused *job.RefusedError
	if _, err := third.client.Join(t.Context(), ticket); !errors.As(err, &refused) || !strings.Contains(err.Error(), "update idlewild on third") {
		t.Errorf("%v", err)
	}
}
