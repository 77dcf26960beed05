package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/node/idle"
	"idlewild/render/echo"
)

func TestPauseOutlivesTheDaemon(t *testing.T) {
	first := startNode(t, "worker", nil)
	if _, err := first.client.SetPaused(t.Context(), true, "I am playing"); err != nil {
		t.Fatal(err)
	}
	first.end(t)
	again := runNode(t, first.cfg)
	v, err := again.client.Status(t.Context())
	if err != nil || v.Machine.Paused != "I am playing" {
		t.Fatalf("after a restart: %q, %v", v.Machine.Paused, err)
	}
	eventually(t, "its devices rest", func() error {
		v, err := again.client.Status(t.Context())
		if err != nil {
			return err
		}
		for _, d := range v.Machine.Devices {
			if d.Name == "cpu" && d.Doing != "resting: I am playing" {
				return fmt.Errorf("%s: %q", d.Name, d.Doing)
			}
		}
		return nil
	})
	if _, err := again.client.SetPaused(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}
	again.end(t)
	if p, _, err := loadPause(first.cfg.DataDir, "", time.Now()); p != nil || err != nil {
		t.Errorf("after resume: %+v, %v", p, err)
	}
	// A damaged note is still a pause.
	if err := os.WriteFile(filepath.Join(first.cfg.DataDir, pauseFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, _, err := loadPause(first.cfg.DataDir, "", time.Now()); p == nil || p.Reason == "" || err != nil {
		t.Errorf("damaged note: %+v, %v", p, err)
	}
}

func TestHowPausesEnd(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for _, c := range []struct {
		name  string
		p     idle.Pause
		boot  string
		at    time.Duration
		lasts bool
	}{
		{"until resumed", idle.Pause{Reason: "x"}, "b", 1e6 * time.Hour, true},
		{"for an hour", idle.Pause{Reason: "x", Until: now.Add(time.Hour)}, "b", 59 * time.Minute, true},
		{"for an hour, later", idle.Pause{Reason: "x", Until: now.Add(time.Hour)}, "b", time.Hour, false},
		{"until restart", idle.Pause{Reason: "x", UntilRestart: true, Boot: "a"}, "a", 1e6 * time.Hour, true},
		{"until restart, later", idle.Pause{Reason: "x", UntilRestart: true, Boot: "a"}, "b", 0, false},
		{"until restart, where nothing tells", idle.Pause{Reason: "x", UntilRestart: true, Boot: "a"}, "", 0, true},
	} {
		if err := savePause(dir, &c.p); err != nil {
			t.Fatal(err)
		}
		p, ended, err := loadPause(dir, c.boot, now.Add(c.at))
		if err != nil || (p != nil) != c.lasts || (ended != nil) == c.lasts {
			t.Errorf("%s: %+v, ended %+v, %v", c.name, p, ended, err)
		}
	}
}

// Whoever pauses a machine wants it back: warm processes, and the memory that
// they hold, are gone soon after, whether they were at work or not.
func TestPauseEndsWarmProcesses(t *testing.T) {
	n := startNode(t, "worker", nil)
	warm := func() int {
		found, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "scratch", "work", "session-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	none := func() error {
		if k := warm(); k > 0 {
			return fmt.Errorf("%d are warm", k)
		}
		return nil
	}
	pause := func(paused bool) {
		t.Helper()
		if _, err := n.client.SetPaused(t.Context(), paused, ""); err != nil {
			t.Fatal(err)
		}
	}
	first, err := n.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 2, Text: "x"}))
	if err != nil {
		t.Fatal(err)
	}
	n.finish(t, first)
	if warm() == 0 {
		t.Fatal("no process is warm after a job")
	}
	pause(true)
	eventually(t, "idle processes are ended", none)
	pause(false)

	second, err := n.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 1000, Text: "x", SleepMS: 20}))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "some are delivered", func() error {
		s, err := n.client.Job(t.Context(), second)
		if err == nil && s.Delivered < 3 {
			err = fmt.Errorf("%d are: %s", s.Delivered, s.Reason)
		}
		return err
	})
	if warm() == 0 {
		t.Fatal("no process is warm in the middle of a job")
	}
	pause(true)
	eventually(t, "processes at work are ended", none)
	pause(false)
	eventually(t, "it works again", func() error {
		if warm() == 0 {
			return fmt.Errorf("no process is warm")
		}
		return nil
	})
}

func TestPauseThatCannotBeKeptIsAPauseAllTheSame(t *testing.T) {
	n := startNode(t, "worker", nil)
	// Nothing can be renamed over a folder that is not empty.
	if err := os.MkdirAll(filepath.Join(n.cfg.DataDir, pauseFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := n.client.SetPaused(t.Context(), true, "mine"); err == nil || !strings.Contains(err.Error(), "until the daemon ends") {
		t.Errorf("%v, want it to say how long this lasts", err)
	}
	v, err := n.client.Status(t.Context())
	if err != nil || v.Machine.Paused != "mine" {
		t.Errorf("paused: %q, %v", v.Machine.Paused, err)
	}
}
