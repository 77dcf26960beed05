package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build is a real build of this program, of one commit.
type build struct{ name, exe string }

// machine is a daemon with a data folder.
type machine struct {
	t    *testing.T
	name string
	dir  string
	as   build
	proc *exec.Cmd
	log  string
}

// environment is that of daemons and commands.
func (m *machine) environment(home string) []string {
	return append(os.Environ(), "HOME="+home, "IDLEWILD_NETWORK_LISTEN=/ip4/127.0.0.1/tcp/0", "IDLEWILD_NETWORK_MDNS=false",
		"IDLEWILD_IDLE_MODE=off", "IDLEWILD_SANDBOX_MODE=off", "IDLEWILD_BLENDER_PATH=/no/such/blender")
}

// start runs it as a build. What it said before stays in its log.
func (m *machine) start(as build) {
	m.t.Helper()
	m.as = as
	log, err := os.OpenFile(m.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	m.proc = exec.Command(as.exe, "up", "--data-dir", m.dir, "--name", m.name)
	m.proc.Env, m.proc.Stdout, m.proc.Stderr = m.environment(filepath.Dir(m.dir)), log, log
	if err := m.proc.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.await("it answers", func() error { _, err := m.run("peers", "--json"); return err })
}

func (m *machine) stop() {
	if m.proc == nil {
		return
	}
	_ = m.proc.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(4*time.Minute, func() { _ = m.proc.Process.Kill() })
	if err := m.proc.Wait(); err != nil {
		m.t.Errorf("%s, %s: %v", m.name, m.as.name, err)
	}
	kill.Stop()
	m.proc = nil
}

// run runs a command of the machine's own build.
func (m *machine) run(args ...string) (string, error) {
	var out, complaint bytes.Buffer
	c := exec.Command(m.as.exe, append(args, "--data-dir", m.dir)...)
	c.Env, c.Stdout, c.Stderr = m.environment(filepath.Dir(m.dir)), &out, &complaint
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s, %s: %v: %w: %s%s", m.name, m.as.name, args, err, &out, &complaint)
	}
	return out.String(), nil
}

func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) await(what string, ok func() error) {
	m.t.Helper()
	err := ok()
	for end := time.Now().Add(5 * time.Minute); err != nil; err = ok() {
		if time.Now().After(end) {
			b, _ := os.ReadFile(m.log)
			m.t.Fatalf("%s, %s: %s: not within five minutes: %v\n%s", m.name, m.as.name, what, err, b)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// invite lets another in by a ticket.
func (m *machine) invite(other *machine) {
	m.t.Helper()
	var v struct {
		Ticket string `json:"ticket"`
	}
	if err := json.Unmarshal([]byte(m.must("farm", "invite", "--json")), &v); err != nil {
		m.t.Fatal(err)
	}
	other.must("farm", "join", v.Ticket)
}

// statusOf is what this test looks at in a job.
type statusOf struct {
	Job       string `json:"job"`
	State     string `json:"state"`
	Delivered int    `json:"delivered"`
	Rejected  int    `json:"rejected"`
	Checked   int    `json:"rechecked"`
	Workers   []struct {
		Peer  string `json:"peer"`
		Tasks int    `json:"tasks"`
	} `json:"workers"`
}

func (m *machine) status(job string) (s statusOf, err error) {
	out, err := m.run("status", job, "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// submit gives the farm an echo job of so many tasks with content.
func (m *machine) submit(tasks int, out string) string {
	m.t.Helper()
	input := filepath.Join(m.dir, "input.txt")
	if err := os.WriteFile(input, bytes.Repeat([]byte(m.name+" "), 40_000), 0o600); err != nil {
		m.t.Fatal(err)
	}
	params := fmt.Sprintf(`{"count":%d,"text":"x","bytes":30000,"sleep_ms":100,"check":true}`, tasks)
	var s statusOf
	if err := json.Unmarshal([]byte(m.must("submit", input, "--kind", "echo", "--params", params, "-o", out, "--json")), &s); err != nil {
		m.t.Fatal(err)
	}
	return s.Job
}

// delivers waits until a job has so many of its files.
func (m *machine) delivers(job string, n int) (s statusOf) {
	m.t.Helper()
	m.await(fmt.Sprintf("%d are delivered", n), func() (err error) {
		if s, err = m.status(job); err == nil && s.Delivered < n {
			err = fmt.Errorf("%s, %d are", s.State, s.Delivered)
		}
		return err
	})
	return s
}

// This program beside a real build of an earlier commit: each is let in by the
// other's ticket, works for the other, and a farm of three is updated one by one
// while it works. `make skew` runs it, because of the build.
func TestRealBuildOfAnEarlierRelease(t *testing.T) {
	commit := os.Getenv("IDLEWILD_TEST_EARLIER")
	if commit == "" {
		t.Skip("NOT RUN: this program beside a build of an earlier commit: make skew")
	}
	bin := t.TempDir()
	src := filepath.Join(bin, "src")
	if err := os.Mkdir(src, 0o700); err != nil {
		t.Fatal(err)
	}
	command := func(dir, name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir = dir
		if b, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, b)
		}
	}
	tar := filepath.Join(bin, "src.tar")
	command("../..", "git", "archive", "--output", tar, commit)
	command(src, "tar", "-xf", tar)
	old, now := build{"the earlier build", filepath.Join(bin, "earlier")}, build{"this build", filepath.Join(bin, "now")}
	command(src, "go", "build", "-o", old.exe, "./cmd/idlewild")
	command(".", "go", "build", "-o", now.exe, ".")

	add := func(t *testing.T, name string, as build) *machine {
		dir := t.TempDir()
		m := &machine{t: t, name: name, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log")}
		m.start(as)
		t.Cleanup(m.stop)
		return m
	}
	for _, c := range []struct {
		name          string
		owner, member build
	}{{"let in by the earlier", old, now}, {"let in by this", now, old}} {
		t.Run(c.name, func(t *testing.T) {
			owner, member := add(t, "owner", c.owner), add(t, "member", c.member)
			owner.must("farm", "create")
			owner.invite(member)
			for _, m := range []*machine{owner, member} {
				out := filepath.Join(t.TempDir(), "out")
				job := m.submit(40, out)
				s := m.delivers(job, 40)
				if s.Rejected > 0 || s.Checked == 0 || len(s.Workers) < 2 {
					t.Errorf("%s, %s: %+v", m.name, m.as.name, s)
				}
				for _, w := range s.Workers {
					t.Logf("job of %s (%s): %s did %d", m.name, m.as.name, w.Peer[len(w.Peer)-6:], w.Tasks)
				}
				if files, err := os.ReadDir(out); err != nil || len(files) != 40 {
					t.Errorf("%d files: %v", len(files), err)
				}
			}
			for _, m := range []*machine{owner, member} {
				if m.as == now {
					t.Logf("doctor: %s", strings.TrimSpace(m.must("doctor")))
				}
			}
		})
	}
	t.Run("updated one by one", func(t *testing.T) {
		const tasks = 150
		owner := add(t, "owner", old)
		owner.must("farm", "create")
		all := []*machine{owner, add(t, "second", old), add(t, "third", old)}
		for _, m := range all[1:] {
			owner.invite(m)
		}
		out := filepath.Join(t.TempDir(), "out")
		job := owner.submit(tasks, out)
		for _, i := range []int{1, 0, 2} {
			s, err := owner.status(job)
			if err != nil {
				t.Fatal(err)
			}
			owner.delivers(job, min(s.Delivered+10, tasks))
			all[i].stop()
			all[i].start(now)
		}
		s := owner.delivers(job, tasks)
		if s.Rejected > 0 {
			t.Errorf("%+v", s)
		}
		if files, err := os.ReadDir(out); err != nil || len(files) != tasks {
			t.Errorf("%d files: %v", len(files), err)
		}
	})
}
