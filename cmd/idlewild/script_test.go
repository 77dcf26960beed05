package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"idlewild/node/localapi"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"idlewild": main})
}

// TestScripts runs testdata/*.txt, each a shell session with the real program:
// daemons are processes of their own, on loopback.
//
// Beyond testscript's own commands there are
//
//	code N PROGRAM ARGS...       run it and expect exit code N
//	interrupt N PATTERN PROGRAM ARGS...
//	                             run it, send SIGINT once stdout matches, expect exit code N
//	await NAME                   wait until the daemon with data folder $WORK/NAME answers
//	connected NAME N             wait until it is connected to N members
//	appears FILE [PATTERN]       wait until there is such a file, and its text matches
//	[!] json FILE KEY PATTERN    the value at KEY (a.b.0.c) matches as a whole; FILE may be stdout
//	keep VAR [KEY]               put the last stdout, or a value of it, into the environment
//	scan VAR                     put the text of the QR code in the last stdout into the environment
//	planted FILE NAME TICKET     the bundle FILE of `idlewild support` has nothing in it that names anything
//	refused N PATTERN PROGRAM ARGS...
//	                             as code, and stderr is one line that matches
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("IDLEWILD_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
			e.Setenv("IDLEWILD_NETWORK_MDNS", "false")
			e.Setenv("IDLEWILD_LOG_LEVEL", "warn")
			e.Setenv("IDLEWILD_IDLE_MODE", "off") // whoever runs the tests may well be at the machine
			// Scripts about Blender bring one; the others save the time that
			// asking a real one takes.
			none := filepath.Join(e.WorkDir, "bin", "blender")
			if err := os.MkdirAll(filepath.Dir(none), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(none, []byte("#!/bin/sh\necho no Blender in this test\nexit 1\n"), 0o755); err != nil {
				return err
			}
			e.Setenv("IDLEWILD_BLENDER_PATH", none)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "blender":
				_, err := exec.LookPath("blender")
				if err != nil && strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
					return false, errors.New("blender is required and not there")
				}
				return err == nil, nil
			}
			return false, fmt.Errorf("no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":      scriptCode,
			"refused":   scriptRefused,
			"interrupt": scriptInterrupt,
			"await":     scriptAwait,
			"connected": scriptConnected,
			"level":     scriptLevel,
			"appears":   scriptAppears,
			"json":      scriptJSON,
			"keep":      scriptKeep,
			"scan":      scriptScan,
			"planted":   scriptPlanted,
		},
	})
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if got := 0; err != nil {
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		if got = exit.ExitCode(); got != want {
			ts.Fatalf("exit code %d, want %d", got, want)
		}
	} else if want != 0 {
		ts.Fatalf("exit code 0, want %d", want)
	}
}

func scriptRefused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refused N PATTERN PROGRAM ARGS...")
	}
	scriptCode(ts, false, append([]string{args[0]}, args[2:]...))
	stderr := ts.ReadFile("stderr")
	if !strings.HasPrefix(stderr, "idlewild: ") || strings.Count(stderr, "\n") != 1 {
		ts.Fatalf("stderr is not one line of ours: %q", stderr)
	}
	if !regexp.MustCompile(args[1]).MatchString(stderr) {
		ts.Fatalf("stderr %q does not match %q", stderr, args[1])
	}
}

// scriptInterrupt stands beside testscript's kill, which cannot wait for
// output and does not tell exit codes.
func scriptInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt N PATTERN PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	out := &watched{pattern: regexp.MustCompile(args[1]), seen: make(chan struct{})}
	var stderr bytes.Buffer
	cmd := exec.Command(lookPath(ts, args[2]), args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = out, &stderr
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "IDLEWILD_NETWORK_LISTEN", "IDLEWILD_NETWORK_MDNS", "IDLEWILD_LOG_LEVEL", "IDLEWILD_IDLE_MODE", "IDLEWILD_BLENDER_PATH"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(cmd.Start())
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		cmd.Wait() // the state below says how
	}()
	kill := time.AfterFunc(10*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	select {
	case <-out.seen:
		ts.Check(cmd.Process.Signal(syscall.SIGINT))
		<-exited
	case <-exited:
	}
	ts.Logf("[stdout]\n%s[stderr]\n%s", out.String(), stderr.String())
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("%v, want exit code %d", cmd.ProcessState, want)
	}
	ts.Check(os.WriteFile(ts.MkAbs("interrupted.out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("interrupted.err"), stderr.Bytes(), 0o600))
}

func lookPath(ts *testscript.TestScript, prog string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if fi, err := os.Stat(filepath.Join(dir, prog)); err == nil && !fi.IsDir() {
			return filepath.Join(dir, prog)
		}
	}
	ts.Fatalf("no %s on PATH", prog)
	return ""
}

// watched closes seen once what was written matches.
type watched struct {
	pattern *regexp.Regexp
	seen    chan struct{}

	mu   sync.Mutex
	buf  bytes.Buffer
	done bool
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if !w.done && w.pattern.Match(w.buf.Bytes()) {
		w.done = true
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// waitFor polls a condition that a daemon brings about.
func waitFor(ts *testscript.TestScript, what string, ok func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await NAME")
	}
	waitFor(ts, "daemon "+args[0], func(ctx context.Context) error {
		c, err := localapi.Dial(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Status(ctx)
		return err
	})
}

// scriptLevel waits until the CPU of a daemon may do so much for others.
func scriptLevel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: level NAME LEVEL")
	}
	waitFor(ts, "level of "+args[0], func(ctx context.Context) error {
		c, err := localapi.Dial(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		defer c.Close()
		v, err := c.Why(ctx)
		if err != nil {
			return err
		}
		for _, d := range v.Devices {
			if d.Name == "cpu" && d.Level != args[1] {
				return fmt.Errorf("it is %s: %s", d.Level, d.Reason)
			}
		}
		return nil
	})
}

func scriptConnected(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: connected NAME N")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	waitFor(ts, "members of "+args[0], func(ctx context.Context) error {
		c, err := localapi.Dial(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		defer c.Close()
		v, err := c.Peers(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, m := range v.Members {
			if m.Connected && !m.Self {
				n++
			}
		}
		if n != want {
			return fmt.Errorf("%d are connected, want %d", n, want)
		}
		return nil
	})
}

func scriptAppears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: appears FILE [PATTERN]")
	}
	pattern := regexp.MustCompile(strings.Join(args[1:], ""))
	waitFor(ts, args[0], func(context.Context) error {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && !pattern.Match(b) {
			err = fmt.Errorf("it does not match yet")
		}
		return err
	})
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: json FILE KEY PATTERN")
	}
	got := jsonValue(ts, ts.ReadFile(args[0]), args[1])
	if regexp.MustCompile("^(?:"+args[2]+")$").MatchString(got) == neg {
		ts.Fatalf("%s is %s", args[1], got)
	}
}

// jsonValue is the value at a dotted key, strings without quotes. The text
// must hold exactly one document.
func jsonValue(ts *testscript.TestScript, text, key string) string {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	ts.Check(d.Decode(&v))
	if d.More() {
		ts.Fatalf("more than one document in %q", text)
	}
	for _, k := range strings.Split(key, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			if k == "len" {
				v = len(x)
				continue
			}
			i, err := strconv.Atoi(k)
			if err != nil || i < 0 || i >= len(x) {
				ts.Fatalf("no element %q of %d", k, len(x))
			}
			v = x[i]
		default:
			ts.Fatalf("nothing below %q", k)
		}
	}
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	return string(b)
}

func scriptKeep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: keep VAR [KEY]")
	}
	v := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		v = jsonValue(ts, v, args[1])
	}
	ts.Setenv(args[0], v)
}
