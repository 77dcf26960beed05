package render

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCgroupDir(t *testing.T) {
	const v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
	for _, c := range []struct{ name, mounts, own, want string }{
		{"systemd", v2, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/idlewild.service\n", "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/idlewild.service"},
		{"root", v2, "0::/\n", "/sys/fs/cgroup"},
		{"beside version 1", "31 23 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n40 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "8:pids:/a\n0::/b\n", "/sys/fs/cgroup/unified/b"},
		{"a container", "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/x/y\n", "/sys/fs/cgroup/y"},
		{"another part", "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/y\n", ""},
		{"version 1 alone", "31 23 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "8:pids:/a\n", ""},
		{"not mounted", "", "0::/a\n", ""},
	} {
		got, err := cgroupDir(c.mounts, c.own)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// What is written to the kernel, in a folder that stands for its own.
func TestCgroupLimitsAreWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newCgroups(dir)
	if err != nil || !c.memory || !c.tasks || !strings.Contains(c.String(), "memory, threads") {
		t.Fatalf("%+v %v", c, err)
	}
	g, err := c.make(Limits{MemoryBytes: 1 << 30, Threads: 77})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "cgroup.subtree_control"): "+memory +pids",
		filepath.Join(g.dir, "memory.max"):           "1073741824",
		filepath.Join(g.dir, "memory.oom.group"):     "1",
		filepath.Join(g.dir, "pids.max"):             "77",
	} {
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v; want %q", filepath.Base(file), b, err, want)
		}
	}
	if g.overMemory() {
		t.Error("over its memory before anything ran")
	}
	os.WriteFile(filepath.Join(g.dir, "memory.events"), []byte("low 0\noom 1\noom_kill 2\n"), 0o600)
	if !g.overMemory() {
		t.Error("the kernel's word was not read")
	}
}

// The end of a real group is the end of those who left session and parents.
func TestCgroupEndsWhoeverHides(t *testing.T) {
	c, err := ownGroups()
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	if !c.memory || !c.tasks {
		t.Logf("NOT RUN: limits of real control groups: %v", c)
	}
	g, err := c.make(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "setsid setsid sleep 1000 > /dev/null 2>&1 & echo $!")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	joined, err := g.join(cmd.SysProcAttr)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cmd.Output()
	joined()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs")); len(b) == 0 {
		t.Error("nobody is in the group")
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.dir); err == nil {
		t.Error("the group is still there")
	}
}
