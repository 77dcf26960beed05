package netlab

import (
	"os"
	"os/exec"
	"testing"
)

func TestNamesOfLabs(t *testing.T) {
	for name, want := range map[string]int{prefixOf(77, 3) + "desk": 77, prefixOf(1, 1) + "a-b": 1} {
		if pid, ok := labOf(name); !ok || pid != want {
			t.Errorf("%s is of %d, %v", name, pid, ok)
		}
	}
	for _, name := range []string{"", "nl", "nl5", "nl5-1", "nlx-1-a", "nl5-x-a", "nl-5-1-a", "nl0-1-a", "vpn5-1-a"} {
		if pid, ok := labOf(name); ok {
			t.Errorf("%q is of %d", name, pid)
		}
	}
}

// What a program that was killed left behind goes, and what others have stays.
func TestSweep(t *testing.T) {
	l := lab(t)
	mine, err := l.Site(None).Host("mine", LinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	left, foreign := prefixOf(c.Process.Pid, 1)+"left", "sweep-test-of-another"
	for _, n := range []string{left, foreign} {
		if err := run("ip", "netns", "add", n); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { run("ip", "netns", "del", foreign) })
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]bool{left: false, foreign: true, mine.namespace(): true} {
		if _, err := os.Stat(namespacePath(n)); (err == nil) != want {
			t.Errorf("%s is there: %v", n, err == nil)
		}
	}
}
