package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"idlewild/node/idle"
	"idlewild/render/echo"
)

func TestHowLongAnUpdateWaits(t *testing.T) {
	for _, c := range []struct {
		devices, home bool
		waited        time.Duration
		over          bool
	}{
		{false, false, 0, true},
		{true, false, 0, false},
		{true, false, updateDrain - 1, false},
		{true, true, updateEndure, false},
		{true, false, updateDrain, true},
		{false, true, 0, false},
		{false, true, updateEndure - 1, false},
		{false, true, updateEndure, true},
	} {
		if got := drained(c.devices, c.home, c.waited); got != c.over {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A newer program waits for the task that runs, which ends as it would have,
// and no further one begins.
func TestAnUpdateLetsRunningWorkEnd(t *testing.T) {
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	worker := startNode(t, "worker", nil)
	join(t, requester, worker)
	const tasks = 1000
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: tasks, Text: "x", SleepMS: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a task runs", func() error {
		if !worker.worker.Running(idle.CPU) {
			return fmt.Errorf("%v", worker.worker.Doing())
		}
		return nil
	})
	u := worker.updater
	u.every = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if !u.drain(ctx) {
		t.Fatalf("it waits although nothing runs: %v", worker.worker.Doing())
	}
	if worker.worker.Running(idle.CPU) {
		t.Error("the update did not wait for the task")
	}
	eventually(t, "the task that ran has its result, and the requester knows why no other runs", func() error {
		s, err := requester.client.Job(t.Context(), id)
		if err == nil && (s.Delivered == 0 || s.Running != 0) {
			err = fmt.Errorf("%d done, %d run", s.Delivered, s.Running)
		}
		return err
	})
	s, err := requester.client.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if s.FailedN != 0 || s.Delivered == tasks {
		t.Errorf("%d done and %d failed of %d", s.Delivered, s.FailedN, tasks)
	}
	v, err := worker.client.Why(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Devices {
		if d.Name == idle.CPU && (d.Level != idle.Leave.String() || d.Signal != "update") {
			t.Errorf("%+v", d)
		}
	}
	// A task that began meanwhile would show as running again.
	if worker.worker.Running(idle.CPU) {
		t.Error("a task began while the update waits")
	}
}
