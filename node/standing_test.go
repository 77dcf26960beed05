package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/echo"
)

func connected(t *testing.T, n *testNode, want int) {
	t.Helper()
	eventually(t, "all are connected", func() error {
		if have := len(n.near()); have != want {
			return fmt.Errorf("%d of %d are", have, want)
		}
		return nil
	})
}

func (x *testNode) standing(t *testing.T, p peer.ID) localapi.Standing {
	t.Helper()
	v, err := x.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Members {
		if m.Peer == p.String() {
			return m.Standing
		}
	}
	t.Fatalf("no member %s", p)
	return localapi.Standing{}
}

// A cheat that a third peer confirms loses its stake and gets no more work, the
// members hear of it, and the owner can end that.
func TestACheatIsConfirmedBannedToldAndPardoned(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	a := startNode(t, "a", nil)
	b := startNode(t, "b", func(c *Config) { c.Check.Trust = []string{requester.self.String()} })
	cheat := startNode(t, "cheat", func(c *Config) { c.Worker.Saboteur = "half-samples" })
	join(t, requester, a, b, cheat)
	connected(t, requester, 3)

	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 24, Text: "hello", SleepMS: 50, Check: true}))
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 24 || s.Rejected == 0 {
		t.Fatalf("%s, %d delivered, %d rejected: %s", s.State, s.Delivered, s.Rejected, s.Reason)
	}
	got := requester.standing(t, cheat.self)
	if got.Confirmed == 0 || got.Banned == "" || time.Until(got.Until) < 6*24*time.Hour || got.Stake != 0 || got.Against == "" {
		t.Errorf("the cheat: %+v", got)
	}
	for _, honest := range []*testNode{a, b} {
		if got := requester.standing(t, honest.self); got.Rejected != 0 || got.Strikes != 0 || got.Banned != "" || got.Stake <= 0 {
			t.Errorf("%s: %+v", honest.cfg.Name, got)
		}
	}
	// b trusts the requester by name: its word is enough. To a it is one word.
	eventually(t, "the members hear of it", func() error {
		if got := b.standing(t, cheat.self); got.Banned == "" || got.Warned != 1 {
			return fmt.Errorf("b: %+v", got)
		}
		if got := a.standing(t, cheat.self); got.Banned != "" || got.Warned != 1 || got.Rate != 1 {
			return fmt.Errorf("a: %+v", got)
		}
		return nil
	})

	if _, err := requester.client.Pardon(t.Context(), "cheat", "my mistake"); err != nil {
		t.Fatal(err)
	}
	if got := requester.standing(t, cheat.self); got.Banned != "" || got.Confirmed == 0 || got.Rate != 1 {
		t.Errorf("pardoned: %+v", got)
	}
	eventually(t, "the members hear of the pardon", func() error {
		if got := b.standing(t, cheat.self); got.Banned != "" || got.Warned != 0 {
			return fmt.Errorf("b: %+v", got)
		}
		return nil
	})
	for id, want := range map[string]string{"nobody": "no member is called", "requester": "this machine"} {
		if _, err := requester.client.Pardon(t.Context(), id, ""); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("pardon of %s: %v", id, err)
		}
	}
	// All of it is on disk.
	if err := requester.book.Ban(cheat.self, "by hand", time.Time{}); err != nil {
		t.Fatal(err)
	}
	requester.end(t)
	again := runNode(t, requester.cfg)
	if got := again.standing(t, cheat.self); got.Banned != "by hand" || got.Confirmed == 0 {
		t.Errorf("after a restart: %+v", got)
	}
}

// Who is banned while it works loses its leases at once, and gets work again
// when it is pardoned.
func TestABanTakesTheWorkAwayAndAPardonGivesItBack(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)
	connected(t, requester, 1)
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 30, Text: "x", SleepMS: 100}))
	if err != nil {
		t.Fatal(err)
	}
	delivered := func(n int) {
		t.Helper()
		eventually(t, "some are delivered", func() error {
			s, err := requester.client.Job(t.Context(), id)
			if err == nil && s.Delivered < n {
				err = fmt.Errorf("%d are: %s", s.Delivered, s.Reason)
			}
			return err
		})
	}
	delivered(2)
	if _, err := requester.client.Ban(t.Context(), "worker", "enough", time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job says why it waits", func() error {
		s, err := requester.client.Job(t.Context(), id)
		if err == nil && !strings.Contains(s.Reason, "enough") {
			err = fmt.Errorf("%d delivered, %q", s.Delivered, s.Reason)
		}
		return err
	})
	if _, err := requester.client.Pardon(t.Context(), "worker", ""); err != nil {
		t.Fatal(err)
	}
	if s := requester.finish(t, id); s.State != job.StateFinished || s.Delivered != 30 {
		t.Errorf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
}

// What cannot be sampled runs again on two other machines of the class, later on
// one; a cheat differs from them.
func TestReplicationInsideADeviceClass(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	a, b, c := startNode(t, "a", nil), startNode(t, "b", nil), startNode(t, "c", nil)
	cheat := startNode(t, "cheat", func(c *Config) { c.Worker.Saboteur = "half-samples" })
	join(t, requester, a, b, c, cheat)
	connected(t, requester, 4)
	spec := echoSpec(t, t.TempDir(), echo.Params{Count: 12, Text: "hello", SleepMS: 50, Replica: true})
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 12 {
		t.Fatalf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
	replicated := 0
	for _, f := range s.Frames {
		if f.Verdict == nil || f.Verdict.Ruling == job.Rejected {
			t.Errorf("%s: %v", f.Label, f.Verdict)
			continue
		}
		if f.Verdict.Basis() == "verified by replication" {
			replicated++
		}
		b, err := os.ReadFile(filepath.Join(spec.Output, fmt.Sprintf("echo-%06s.txt", f.Label)))
		if err != nil || !strings.HasPrefix(string(b), "hello") || strings.Contains(string(b), "haste") {
			t.Errorf("%s: %q, %v, %v", f.Label, b, err, f.Verdict)
		}
	}
	if replicated < 10 {
		t.Errorf("%d of 12 were verified by replication", replicated)
	}
	for _, honest := range []*testNode{a, b, c} {
		if got := requester.standing(t, honest.self); got.Rejected != 0 || got.Strikes != 0 {
			t.Errorf("%s: %+v", honest.cfg.Name, got)
		}
	}
}

// With two machines there is nobody to compare with: that is said, and the
// frames are delivered.
func TestTooSmallAClassIsTrustedAndSaysSo(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)
	connected(t, requester, 1)
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 3, Text: "hello", Replica: true}))
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 3 {
		t.Fatalf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
	for _, f := range s.Frames {
		if f.Verdict == nil || f.Verdict.Basis() != "unverified, trusted peer" || !strings.Contains(f.Verdict.Reason, "too few independent members") {
			t.Errorf("%s: %v", f.Label, f.Verdict)
		}
	}
}

// A requester that does not keep up has members check. One of them lies, both as
// a worker and as a checker: no honest result suffers, and what is delivered is
// right.
func TestMembersCheckAndOneOfThemLies(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled, c.Check.Behind = false, 1e-9 })
	a, b, d := startNode(t, "a", nil), startNode(t, "b", nil), startNode(t, "d", nil)
	liar := startNode(t, "liar", func(c *Config) { c.Worker.Saboteur = "half-samples" })
	join(t, requester, a, b, d, liar)
	connected(t, requester, 4)
	out := t.TempDir()
	id, err := requester.client.Submit(t.Context(), echoSpec(t, out, echo.Params{Count: 40, Text: "hello", SleepMS: 20, Check: true}))
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 40 {
		t.Fatalf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
	for i := 1; i <= 40; i++ {
		b, err := os.ReadFile(filepath.Join(out, fmt.Sprintf("echo-%06d.txt", i)))
		if err != nil || !strings.HasPrefix(string(b), "hello") || strings.Contains(string(b), "haste") {
			t.Errorf("%d: %q, %v", i, b, err)
		}
	}
	for _, honest := range []*testNode{a, b, d} {
		if got := requester.standing(t, honest.self); got.Rejected != 0 || got.Banned != "" || got.Lost != 0 {
			t.Errorf("%s: %+v", honest.cfg.Name, got)
		}
	}
}
