package render

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrioritiesAreGivenToTheWholeTree(t *testing.T) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := 20 - raw // the system call's way to have no negative answers
	for name, want := range map[string]struct {
		policy, nice int
	}{"low": {schedOther, lowNice}, "idle": {schedIdle, leastNice}, "normal": {schedOther, own}} {
		if name != "normal" && own > lowNice {
			t.Skipf("NOT RUN: this test runs at a low priority itself")
		}
		p, err := ParsePriority(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		work := filepath.Join(dir, "work")
		if err := os.Mkdir(work, 0o700); err != nil {
			t.Fatal(err)
		}
		// A child that is there before its parent says that it is ready, in a
		// session of its own.
		s, err := NewLocalProcess(nil).Start(t.Context(), Command{
			Path: "/bin/sh", Priority: p,
			Args: []string{"-c", `exec 5<&0; setsid sh -c 'echo $$ > child; read x' <&5 & while [ ! -s child ]; do :; done; echo '{"event":"ready"}' >&3; wait`},
		}, SessionRoot{In: dir, Work: work})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(work, "child"))
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range []int{s.(*session).cmd.Process.Pid, child} {
			attr, err := unix.SchedGetAttr(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			if int(attr.Policy) != want.policy || int(attr.Nice) != want.nice {
				t.Errorf("%s: policy %d, nice %d", name, attr.Policy, attr.Nice)
			}
			// Linux says how long a turn is from 6.12 on.
			if name == "low" && attr.Runtime != 0 && attr.Runtime != shortTurn {
				t.Errorf("%s: a turn takes %d ns", name, attr.Runtime)
			}
		}
		// The child's session is a group of its own for the scheduler, where it
		// has such groups.
		if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(child), "autogroup")); err == nil && name != "normal" {
			if got, want := strings.TrimSpace(string(b)), fmt.Sprint("nice ", want.nice); !strings.HasSuffix(got, want) {
				t.Errorf("%s: the group of its session is %q", name, got)
			}
		}
		s.Close()
	}
	if _, err := ParsePriority("highest"); err == nil {
		t.Error("a priority that there is not")
	}
}
