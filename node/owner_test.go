package node

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/node/idle"
	"idlewild/node/localapi"
	"idlewild/render/echo"
)

// game runs a program of that name that is no child of ours, until end is
// called.
func game(t *testing.T, name string) (end func()) {
	t.Helper()
	dir := t.TempDir()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("NOT RUN: cat is not installed")
	}
	b, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o700); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// The shell ends, so that its child is somebody else's.
	cmd := exec.Command("sh", "-c", "exec 3<&0; ./"+name+" <&3 >/dev/null 2>&1 &")
	cmd.Dir, cmd.Stdin, cmd.Stdout = dir, r, io.Discard
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	end = func() { w.Close() }
	t.Cleanup(end)
	return end
}

// The owner starts a game on a worker: its work stops, the farm goes on with
// it elsewhere, and once the game is over the worker comes back by itself.
func TestWorkMakesWayForTheOwnersProgram(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: the test finds its game through /proc")
	}
	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	name := fmt.Sprintf("thegame%d", os.Getpid())
	gamer := startNode(t, "gamer", func(c *Config) {
		c.Idle = defaultIdle()
		c.Idle.Mode, c.Idle.Programs, c.Idle.Games, c.Idle.SettleSeconds = "server", []string{name}, false, 0.1
		c.Idle.OnBattery, c.Idle.OnMetered = true, true
		c.Limits.CPUTemp, c.Limits.FreeDiskBytes = 0, 0
	})
	join(t, requester, gamer)
	device := func() localapi.WhyDevice {
		v, err := gamer.client.Why(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range v.Devices {
			if d.Name == idle.CPU {
				return d
			}
		}
		t.Fatal("no CPU")
		return localapi.WhyDevice{}
	}
	level := func(want string) func() error {
		return func() error {
			if d := device(); d.Level != want {
				return fmt.Errorf("%s: %s", d.Level, d.Reason)
			}
			return nil
		}
	}
	eventually(t, "it works", level("free"))
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 2, Text: "x", SleepMS: 600_000}))
	if err != nil {
		t.Fatal(err)
	}
	running := func(want int) func() error {
		return func() error {
			s, err := requester.client.Job(t.Context(), id)
			if err == nil && s.Running != want {
				err = fmt.Errorf("%d run: %s", s.Running, s.Reason)
			}
			return err
		}
	}
	eventually(t, "a task runs", running(1))
	end := game(t, name)
	eventually(t, "it yields", level("stop"))
	if d := device(); d.Signal != idle.SignalProgram || !strings.Contains(d.Reason, name) {
		t.Errorf("%+v", d)
	}
	eventually(t, "it rests, and says why", func() error {
		if d := device(); !strings.Contains(d.Doing, name) {
			return fmt.Errorf("%s", d.Doing)
		}
		return nil
	})
	eventually(t, "the requester has the tasks back", running(0))
	s, err := requester.client.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", s); strings.Contains(text, name) {
		t.Errorf("the farm hears what the owner runs: %s", text)
	}
	eventually(t, "no process of ours is left", func() error {
		if found, _ := filepath.Glob(filepath.Join(gamer.cfg.DataDir, "scratch", "work", "session-*")); len(found) > 0 {
			return fmt.Errorf("%v", found)
		}
		return nil
	})
	end()
	eventually(t, "it works again", level("free"))
	eventually(t, "a task runs again", running(1))
}

// A timed pause ends by itself, and says so; one on a clock that jumps does not.
func TestTimedPauseOfADaemon(t *testing.T) {
	n := startNode(t, "worker", nil)
	if _, err := n.client.Pause(t.Context(), localapi.PauseWish{Paused: true, ForSeconds: 1, UntilRestart: true}); err == nil {
		t.Error("a pause has two ends")
	}
	if _, err := n.client.Pause(t.Context(), localapi.PauseWish{Paused: true, ForSeconds: 3600}); err != nil {
		t.Fatal(err)
	}
	now := n.owner.now()
	at := func(wall, mono time.Duration) string {
		n.owner.mu.Lock()
		n.owner.now = func() idle.Instant { return idle.Instant{Wall: now.Wall.Add(wall), Mono: now.Mono + mono} }
		n.owner.mu.Unlock()
		n.owner.decide()
		return n.owner.paused()
	}
	if at(2*time.Hour, time.Minute) == "" {
		t.Error("the clock was set forward, and the pause ended")
	}
	if at(59*time.Minute, 2*time.Hour) == "" {
		t.Error("the clock was set back, and the pause ended")
	}
	if _, err := os.Stat(filepath.Join(n.cfg.DataDir, pauseFile)); err != nil {
		t.Error(err)
	}
	if p := at(2*time.Hour, 2*time.Hour); p != "" {
		t.Errorf("still paused: %s", p)
	}
	if _, err := os.Stat(filepath.Join(n.cfg.DataDir, pauseFile)); err == nil {
		t.Error("the pause would come back with the next start")
	}
}

// crowdWords keeps what it was told.
type crowdWords []bool

func (c *crowdWords) Crowded(crowded bool) { *c = append(*c, crowded) }

// This machine's checks are told when its owner's programs want the processor,
// once each time, and those of a farm that was joined meanwhile too.
func TestChecksMakeWayForTheOwnersPrograms(t *testing.T) {
	n := startNode(t, "artist", nil)
	var first, second, left crowdWords
	n.owner.serve(&first)
	n.owner.serve(&left)()
	look := func(desk bool, others float64) {
		n.owner.mu.Lock()
		n.owner.policy.CPULoad = .25
		n.owner.signals = idle.Signals{Desktop: desk, CPUOthers: &others}
		n.owner.mu.Unlock()
		n.owner.decide()
	}
	look(true, .1)
	look(true, .6)
	look(true, .7)
	n.owner.serve(&second)
	look(true, .6)
	look(true, .2)
	look(false, .9) // nobody sits at a server
	if !slices.Equal(first, crowdWords{true, false}) || !slices.Equal(second, crowdWords{true, false}) || len(left) > 0 {
		t.Errorf("told %v, %v and %v", first, second, left)
	}
}

// Nothing is tried beside a game or in a pause.
func TestDevicesAreFreeOrNot(t *testing.T) {
	n := startNode(t, "worker", nil)
	if !n.owner.free() {
		t.Error("nobody wants it, and it is not free")
	}
	n.owner.mu.Lock()
	n.owner.decisions = map[string]idle.Decision{"cpu": {Level: idle.Free}, "gpu": {Level: idle.Stop, Signal: idle.SignalProgram}}
	n.owner.mu.Unlock()
	if n.owner.free() {
		t.Error("free beside a game")
	}
	if _, err := n.client.Pause(t.Context(), localapi.PauseWish{Paused: true}); err != nil {
		t.Fatal(err)
	}
	if n.owner.free() {
		t.Error("free in a pause")
	}
}

func TestEnergyOfADay(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 4, 23, 50, 0, 0, time.Local)
	e := loadEnergy(dir, func() time.Time { return now })
	for range 120 {
		e.add(300, 30*time.Second, "gpu")
	}
	if wh := *e.today(); wh < 299.9 || wh > 300.1 {
		t.Errorf("%v Wh", wh)
	}
	e.keep()
	fi, err := os.Stat(filepath.Join(dir, energyFile))
	if err != nil {
		t.Fatal(err)
	}
	e.add(300, 30*time.Second, "gpu")
	e.keep() // too soon
	if again, _ := os.Stat(filepath.Join(dir, energyFile)); !again.ModTime().Equal(fi.ModTime()) {
		t.Error("written twice within a moment")
	}
	e.close()
	if wh := *loadEnergy(dir, func() time.Time { return now }).today(); wh < 302.4 || wh > 302.6 {
		t.Errorf("%v Wh after a restart", wh)
	}
	now = now.Add(11 * time.Minute)
	if wh := *e.today(); wh != 0 {
		t.Errorf("%v Wh of the new day", wh)
	}
	now = now.Add(-24 * time.Hour)
	e.add(300, time.Hour, "gpu")
	if wh := *e.today(); wh != 300 {
		t.Errorf("%v Wh after the clock was set back", wh)
	}
}
