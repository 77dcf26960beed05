package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/steward"
	"idlewild/render/echo"
)

// A laptop is closed in the middle of a job. Its steward goes on, with real
// daemons, stores and sockets, and gives back what was done.
func TestAStewardGoesOnWhileTheRequesterIsAway(t *testing.T) {
	const tasks, size = 60, 60_000
	times := steward.Options{Silence: 3 * time.Second, Step: time.Second, Beat: 300 * time.Millisecond, Claim: time.Second}
	set := func(work bool) func(*Config) {
		return func(c *Config) { c.stewardTimes, c.Worker.Enabled = times, work }
	}
	laptop := startNode(t, "laptop", set(false))
	nas := startNode(t, "nas", set(false))
	pcs := []*testNode{startNode(t, "pc1", set(true)), startNode(t, "pc2", set(true))}
	join(t, nas, laptop, pcs[0], pcs[1])

	in := filepath.Join(t.TempDir(), "input.bin")
	if err := os.WriteFile(in, bytes.Repeat([]byte("scene"), 60_000), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	spec := echoSpec(t, out, echo.Params{Count: tasks, Text: "hello", Bytes: size, SleepMS: 200, Check: true})
	spec.Input, spec.Policy.Stewards = in, []string{"nobody"}
	if _, err := laptop.client.Submit(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Fatalf("a steward that is no member: %v", err)
	}
	spec.Policy.Stewards, spec.Policy.Not = []string{"nas"}, []string{"nas"}
	if _, err := laptop.client.Submit(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "may not have") {
		t.Fatalf("a steward that may not have the content: %v", err)
	}
	spec.Policy.Not = nil
	id, err := laptop.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the steward has all that it needs, and some are delivered", func() error {
		s, err := laptop.client.Job(t.Context(), id)
		if err == nil && (len(s.Stewards) != 1 || s.Stewards[0].State != "ready" || s.Delivered < 5) {
			err = fmt.Errorf("%d are delivered, stewards %+v", s.Delivered, s.Stewards)
		}
		return err
	})
	laptop.end(t)
	before, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	var held job.Status
	eventually(t, "the steward goes on", func() error {
		held, err = nas.client.Job(t.Context(), id)
		if err == nil && (held.Origin != laptop.self.String() || held.Holder != nas.self.String() && !held.State.Ended() || held.Delivered < 5) {
			err = fmt.Errorf("%s, held by %q for %q, %d delivered: %s", held.State, held.Holder, held.Origin, held.Delivered, held.Reason)
		}
		return err
	})
	if held.Skipped < 1 || held.Skipped+held.Delivered > tasks {
		t.Errorf("the steward passed over %d and did %d", held.Skipped, held.Delivered)
	}
	again := runNode(t, laptop.cfg)
	s := again.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != tasks || s.Rejected != 0 {
		t.Fatalf("%s, %d delivered, %d rejected: %s", s.State, s.Delivered, s.Rejected, s.Reason)
	}
	now, err := os.ReadDir(out)
	if err != nil || len(now) != tasks || len(before) >= tasks {
		t.Errorf("%d files, %d before; %v", len(now), len(before), err)
	}
	for _, e := range now {
		b, err := os.ReadFile(filepath.Join(out, e.Name()))
		if err != nil || len(b) != size || !bytes.HasPrefix(b, []byte("hello")) {
			t.Errorf("%s: %d bytes, %v", e.Name(), len(b), err)
		}
	}
	eventually(t, "the steward lets go", func() error {
		if _, err := nas.client.Job(t.Context(), id); err == nil {
			return fmt.Errorf("it still has the job")
		}
		if left, _ := filepath.Glob(filepath.Join(nas.cfg.DataDir, "steward", "wards", "*", "*")); len(left) > 0 {
			return fmt.Errorf("it still follows %v", left)
		}
		return nil
	})
}
