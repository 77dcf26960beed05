package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/p2p"
	"idlewild/render/ai/torch/torchtest"
	"idlewild/render/echo"
)

// TestMain lets this test program be the process of an echo session, and a daemon
// that can be killed.
func TestMain(m *testing.M) {
	RunnerMain()
	daemonMain()
	code := m.Run()
	torchtest.Clean()
	os.Exit(code)
}

// testNode is a daemon of its own folder, with real sockets on loopback.
type testNode struct {
	*Node
	client *localapi.Client
	cfg    Config
	stop   context.CancelFunc
	done   chan error
}

func startNode(t *testing.T, name string, change func(*Config)) *testNode {
	t.Helper()
	return runNode(t, testConfig(t, name, change))
}

func testConfig(t *testing.T, name string, change func(*Config)) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), name)
	cfg.Name = name
	cfg.Network.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	cfg.Network.MDNS = false
	cfg.Idle.Mode = "off"    // whoever runs the tests may well be at the machine
	cfg.Sandbox.Mode = "off" // the sandbox has tests of its own, and not every machine has one
	// These tests are about the farm: no Blender is started for them.
	cfg.Blender.Path = filepath.Join(t.TempDir(), "no-such-program")
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func runNode(t *testing.T, cfg Config) *testNode {
	t.Helper()
	return runNodeAs(t, cfg, nil)
}

// runNodeAs runs a node as one of another release.
func runNodeAs(t *testing.T, cfg Config, release *p2p.Release) *testNode {
	t.Helper()
	log := slog.New(slog.NewTextHandler(&testLog{t: t, prefix: cfg.Name}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	n, err := open(t.Context(), cfg, log, release, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x := &testNode{Node: n, cfg: cfg, stop: stop, done: make(chan error, 1)}
	go func() { x.done <- n.Run(ctx) }()
	t.Cleanup(func() { x.end(t) })
	eventually(t, "the daemon answers", func() error {
		c, err := localapi.Dial(cfg.DataDir)
		if err == nil {
			_, err = c.Status(t.Context())
		}
		x.client = c
		return err
	})
	return x
}

// end stops the daemon and waits for it; twice is once.
func (x *testNode) end(t *testing.T) {
	t.Helper()
	if x.done == nil {
		return
	}
	x.stop()
	select {
	case err := <-x.done:
		if err != nil {
			t.Errorf("%s: %v", x.cfg.Name, err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not shut down", x.cfg.Name)
	}
	x.done = nil
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(3 * time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within three minutes: %v", what, err)
		}
	}
}

type testLog struct {
	t      *testing.T
	prefix string
}

func (l *testLog) Write(b []byte) (int, error) {
	// After the end of a test its log may not be written to.
	if l.t.Context().Err() == nil {
		l.t.Logf("%s: %s", l.prefix, strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func join(t *testing.T, owner *testNode, others ...*testNode) {
	t.Helper()
	if _, err := owner.client.CreateFarm(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	for _, o := range others {
		ticket, err := owner.client.Invite(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.client.Join(t.Context(), ticket); err != nil {
			t.Fatal(err)
		}
	}
}

func echoSpec(t *testing.T, out string, p echo.Params) job.Spec {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return job.Spec{Kind: echo.Name, Title: "test", Output: out, Params: b}
}

func (x *testNode) finish(t *testing.T, id job.ID) job.Status {
	t.Helper()
	var s job.Status
	eventually(t, "the job ends", func() (err error) {
		if s, err = x.client.Job(t.Context(), id); err == nil && !s.State.Ended() {
			err = fmt.Errorf("%s: %d of %d delivered: %s", s.State, s.Delivered, s.Tasks, s.Reason)
		}
		return err
	})
	return s
}

func TestJobOverTheNetworkIsRenderedCheckedAndDelivered(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)

	in := filepath.Join(t.TempDir(), "input.bin")
	if err := os.WriteFile(in, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	spec := echoSpec(t, out, echo.Params{Count: 12, Text: "hello", Bytes: 100_000, Check: true})
	spec.Input = in
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 12 || s.Rejected != 0 {
		t.Fatalf("%+v", s)
	}
	if s.Rechecked < 10 {
		t.Errorf("%d results of a new peer were checked, want the first 10 at least", s.Rechecked)
	}
	if s.UploadedBytes == 0 || s.ResultBytes < 12*100_000 {
		t.Errorf("uploaded %d, results %d bytes", s.UploadedBytes, s.ResultBytes)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 12 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	b, err := os.ReadFile(filepath.Join(out, "echo-000003.txt"))
	if err != nil || !strings.HasPrefix(string(b), "hello") || len(b) != 100_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestCheatIsRejectedAndItsWorkIsDoneByAnother(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	honest := startNode(t, "honest", nil)
	cheat := startNode(t, "cheat", func(c *Config) { c.Worker.Saboteur = "half-samples" })
	join(t, requester, honest, cheat)
	eventually(t, "both are connected", func() error {
		if n := len(requester.near()); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 16, Text: "hello", SleepMS: 50, Check: true}))
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 16 {
		t.Fatalf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
	if s.Rejected == 0 {
		t.Error("no result of the cheat was rejected")
	}
	for _, w := range s.Workers {
		if w.Peer == honest.self.String() && w.Rejected > 0 {
			t.Errorf("%d honest results were rejected", w.Rejected)
		}
		if w.Peer == cheat.self.String() && (w.Tasks > 0 || w.Resting == "") {
			t.Errorf("the cheat has %d accepted results, and rests because %q", w.Tasks, w.Resting)
		}
	}
}

func TestRequesterThatRestartsGoesOnWithItsJob(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)
	out := t.TempDir()
	id, err := requester.client.Submit(t.Context(), echoSpec(t, out, echo.Params{Count: 40, Text: "x", SleepMS: 50}))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "some are delivered", func() error {
		s, err := requester.client.Job(t.Context(), id)
		if err == nil && s.Delivered < 5 {
			err = fmt.Errorf("%d are: %s", s.Delivered, s.Reason)
		}
		return err
	})
	requester.end(t)
	before, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	again := runNode(t, requester.cfg)
	s, err := again.client.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	// It works again already: what it says now must be there now.
	now, err := os.ReadDir(out)
	if err != nil || s.Delivered > len(now) || len(now) < len(before) {
		t.Errorf("says that %d were delivered; %d files were there before, %d are now; %v", s.Delivered, len(before), len(now), err)
	}
	if s = again.finish(t, id); s.State != job.StateFinished || s.Delivered != 40 {
		t.Errorf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
}

// Without a sandbox a machine runs its own jobs and those of the peers that its
// owner named, and says so.
func TestWithoutASandboxOnlyTrustedPeersJobsRun(t *testing.T) {
	friendly, other := startNode(t, "friend", nil), startNode(t, "other", nil)
	friend := friendly.self
	t.Setenv("PATH", t.TempDir()) // no bubblewrap on it
	for _, c := range []struct {
		mode          string
		trusted       []string
		friend, other bool
		says          string
	}{
		{"auto", nil, false, false, "only this machine's own jobs run here: "},
		{"auto", []string{friend.String()}, true, false, "own jobs and those of 1 trusted peers"},
		{"off", nil, true, true, "switched off"},
	} {
		n := startNode(t, "worker", func(cfg *Config) { cfg.Sandbox.Mode, cfg.Sandbox.Trusted = c.mode, c.trusted })
		join(t, n, friendly, other)
		if got := n.accept(friend) == nil; got != c.friend {
			t.Errorf("%s, %d trusted: a friend's job: %v", c.mode, len(c.trusted), got)
		}
		if err := n.accept(other.self); (err == nil) != c.other || err != nil && !strings.Contains(err.Error(), "no sandbox that is known to hold") {
			t.Errorf("%s, %d trusted: another member's job: %v", c.mode, len(c.trusted), err)
		}
		if !strings.Contains(n.kit.sandbox, c.says) {
			t.Errorf("%s, %d trusted: it says %q", c.mode, len(c.trusted), n.kit.sandbox)
		}
		for _, x := range []*testNode{friendly, other} {
			if _, err := x.client.LeaveFarm(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Sandbox.Mode = t.TempDir(), "required"
	if _, err := New(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "bubblewrap is not installed") {
		t.Errorf("required: %v", err)
	}
}

func TestTwoDaemonsOnOneFolder(t *testing.T) {
	first := startNode(t, "first", nil)
	if _, err := New(t.Context(), first.cfg, nil); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("a second daemon on the folder: %v", err)
	}
}

func TestEmbeddedFarmCancels(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	cfg.Sandbox.Mode = "off"
	cfg.Blender.Path = filepath.Join(t.TempDir(), "no-such-program")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := RunEmbedded(ctx, EmbeddedOptions{Nodes: 2, Config: cfg, Spec: echoSpec(t, t.TempDir(), echo.Params{Count: 1000, SleepMS: 20})},
		func(e job.Event, s job.Status) {
			if s.Delivered >= 3 {
				cancel()
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	if s.State != job.StateCancelled || s.Delivered < 3 || s.Delivered == 1000 {
		t.Errorf("%s with %d delivered", s.State, s.Delivered)
	}
}

func TestTicketsThatCannotBeUsedAreRefusedInOneLine(t *testing.T) {
	owner := startNode(t, "owner", nil)
	stranger := startNode(t, "stranger", nil)
	if _, err := stranger.client.Invite(t.Context(), time.Hour); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "in no farm") {
		t.Errorf("invite without a farm: %v", err)
	}
	join(t, owner)
	if _, err := owner.client.Invite(t.Context(), 60*24*time.Hour); !errors.Is(err, job.ErrRefused) {
		t.Errorf("a ticket for two months: %v", err)
	}
	expired, err := owner.host.Membership().Invite(time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	for ticket, want := range map[string]string{expired: "expired", "nonsense": "not a valid ticket"} {
		if _, err := stranger.client.Join(t.Context(), ticket); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("join by %q: %v", want, err)
		}
	}
	if _, err := owner.client.CreateFarm(t.Context(), "second"); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "already belongs") {
		t.Errorf("a second farm: %v", err)
	}
	if _, err := owner.client.Revoke(t.Context(), "owner"); !errors.Is(err, job.ErrRefused) {
		t.Errorf("revoke of oneself: %v", err)
	}
	if _, err := owner.client.Revoke(t.Context(), "nobody"); !errors.Is(err, job.ErrRefused) {
		t.Errorf("revoke of nobody: %v", err)
	}
}
