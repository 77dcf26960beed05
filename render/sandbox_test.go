//go:build linux

package render_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/render"
)

func TestSandboxShowsTheTaskAndNothingElse(t *testing.T) {
	p := sandbox(t, 0)
	if p == nil {
		t.Skip("NOT RUN: no sandbox here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the owner's"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("IDLEWILD_TEST_LEAK", "1")
	k := testKind{env: []string{"TEST_SECRET=" + secret}}

	look := func(p render.Process) (s sight, in string) {
		t.Helper()
		b := newBench(t, k, p, render.Options{})
		if err := os.WriteFile(filepath.Join(b.in, "scene"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(b.read(ask{Do: "look", Text: l.Addr().String()})), &s); err != nil {
			t.Fatal(err)
		}
		return s, b.in
	}
	s, in := look(p)
	may := []string{"user", "write work", "write tmp", "write home"}
	if !slices.Equal(s.Succeeded, may) {
		t.Errorf("inside, these succeeded: %v, and should: %v\n%v", s.Succeeded, may, s.Errors)
	}
	if _, err := os.Stat(filepath.Join(in, "x")); err == nil {
		t.Error("it wrote among its inputs")
	}
	if s.UID == 0 && os.Getuid() == 0 && strings.Contains(p.(*render.Sandbox).Layers(), "another user") {
		t.Error("it is root")
	}
	if s.User != "idlewild" {
		t.Errorf("it is %q", s.User)
	}
	if s.Proc > 3 {
		t.Errorf("it sees %d processes", s.Proc)
	}
	if env := strings.Join(s.Env, " "); strings.Contains(env, "LEAK") || !strings.Contains(env, "FOLDERS=/idlewild/in /idlewild/work") {
		t.Errorf("environment: %s", env)
	}
	for _, name := range []string{"root", "home", "var", "opt", "mnt", "srv", "boot"} {
		if slices.Contains(s.Root, name) {
			t.Errorf("it sees /%s", name)
		}
	}
	// The same attempts outside, so that the test can fail.
	s, _ = look(render.NewLocalProcess(nil))
	for _, name := range []string{"dial", "read host file", "write in"} {
		if !slices.Contains(s.Succeeded, name) {
			t.Errorf("outside, %s failed: %s", name, s.Errors[name])
		}
	}
}

func TestNewSandboxSaysWhatOrWhyNot(t *testing.T) {
	detect := func() (layers string, ok bool, reason string) {
		s, err := render.NewSandbox(t.Context(), nil, render.Limits{})
		if err != nil {
			return "", false, err.Error()
		}
		return s.Layers(), true, ""
	}
	layers, ok, reason := detect()
	t.Logf("%v %q %q", ok, layers, reason)
	if ok != (layers != "") || ok == (reason != "") {
		t.Errorf("%v %q %q", ok, layers, reason)
	}
	t.Setenv("PATH", t.TempDir())
	if _, ok, reason := detect(); ok || !strings.Contains(reason, "not installed") {
		t.Errorf("without bubblewrap: %v %q", ok, reason)
	}
	// One that runs and protects from nothing.
	fake := t.TempDir()
	script := "#!/bin/sh\nPATH=/usr/bin:/bin\n[ \"$1\" = --version ] && { echo bubblewrap 9; exit; }\nexit 0\n"
	if err := os.WriteFile(filepath.Join(fake, "bwrap"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", fake)
	if _, ok, reason := detect(); ok || !strings.Contains(reason, "not ready") {
		t.Errorf("with a fake: %v %q", ok, reason)
	}
}

// Killing this very program, as the kernel would, leaves nothing running.
func TestSandboxDiesWithUs(t *testing.T) {
	if os.Getenv("TEST_PARENT") != "" {
		p, err := render.NewSandbox(t.Context(), nil, render.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, testKind{}, p, render.Options{})
		b.run(t.Context(), ask{Do: "hang-family", Text: os.Getenv("TEST_PARENT")})
		return
	}
	if sandbox(t, 0) == nil {
		t.Skip("NOT RUN: no sandbox here")
	}
	mark := fmt.Sprintf("%d.%d", 200000+os.Getpid(), time.Now().UnixNano()%1e9)
	c := exec.Command(os.Args[0], "-test.run=^TestSandboxDiesWithUs$")
	c.Env = append(os.Environ(), "TEST_PARENT="+mark)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both sleep", func() bool { return running(t, "sleep\x00"+mark) == 2 })
	c.Process.Kill()
	c.Wait()
	eventually(t, "the end of all", func() bool { return running(t, mark) == 0 })
}

func TestSandboxRefusesWhatIsNotThere(t *testing.T) {
	p := sandbox(t, 0)
	if p == nil {
		t.Skip("NOT RUN: no sandbox here")
	}
	b := newBench(t, missingKind{}, p, render.Options{})
	b.want(ask{Do: "pid"}, job.Broken, "no/such/program")
}
