package render

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A session gets a control group of its own where the kernel has version 2 of
// them with cgroup.kill, and this user may make some: a systemd service with
// Delegate=yes, or root. Nothing that a process does takes it out of its
// group, so that the group's end is the end of all. Where the group's parent
// has the controllers, the kernel itself holds it to its memory and threads.

// groups is a folder of the kernel's in which groups can be made.
type groups struct {
	dir           string
	memory, tasks bool // the kernel can limit them
	made          atomic.Int64
}

const cgroupPrefix = "idlewild-"

// ownGroups finds the folder once: finding it can move this process.
var ownGroups = sync.OnceValues(func() (*groups, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	dir, err := cgroupDir(string(mounts), string(own))
	if err != nil {
		return nil, err
	}
	c, err := newCgroups(dir)
	if err != nil {
		return nil, err
	}
	return c, c.try()
})

// cgroupDir is the folder of this process's group of version 2, given the
// texts of mountinfo and cgroup in /proc/self.
func cgroupDir(mounts, own string) (string, error) {
	var group string
	for line := range strings.Lines(own) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = path
		}
	}
	if !strings.HasPrefix(group, "/") {
		return "", errors.New("no control groups of version 2")
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		rel, err := filepath.Rel(f[3], group)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue // the mount shows another part of the tree
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("control groups of version 2 are not mounted")
}

// newCgroups takes dir, the group of this process, to make groups in.
func newCgroups(dir string) (*groups, error) {
	c := &groups{dir: dir}
	c.sweep()
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	words := strings.Fields(string(have))
	var enable []string
	for _, w := range []string{"memory", "pids"} {
		if slices.Contains(words, w) {
			enable = append(enable, "+"+w)
		}
	}
	if len(enable) == 0 {
		return c, nil
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	want := []byte(strings.Join(enable, " "))
	if os.WriteFile(control, want, 0) != nil {
		// A group that has controllers for its groups may have no process of
		// its own. If we are the only one, we step down.
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(os.Getpid()) {
			return c, nil
		}
		leaf := filepath.Join(dir, "daemon")
		if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return c, nil
		}
		if os.WriteFile(filepath.Join(leaf, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0) != nil || os.WriteFile(control, want, 0) != nil {
			return c, nil
		}
	}
	c.memory, c.tasks = slices.Contains(enable, "+memory"), slices.Contains(enable, "+pids")
	return c, nil
}

// sweep removes what an earlier process of ours left that was killed.
func (c *groups) sweep() {
	old, _ := filepath.Glob(filepath.Join(c.dir, cgroupPrefix+"*")) // fails only on a bad pattern
	for _, dir := range old {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")
		if pid, err := strconv.Atoi(number); err == nil && !pidAlive(pid) {
			(&group{dir: dir}).end()
		}
	}
}

// try runs a program in a group and believes what came of it.
func (c *groups) try() error {
	g, err := c.make(Limits{})
	if err != nil {
		return err
	}
	defer g.end()
	if _, err := os.Stat(filepath.Join(g.dir, "cgroup.kill")); err != nil {
		return errors.New("the kernel's control groups cannot be ended at once")
	}
	cmd := exec.Command("/bin/sh", "-c", "read x")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	close, err := g.join(cmd.SysProcAttr)
	if err != nil {
		return err
	}
	defer close()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a program in a control group: %w", err)
	}
	err = g.kill()
	if err != nil {
		cmd.Process.Kill()
	}
	cmd.Wait()
	return err
}

// String says what the groups are good for.
func (c *groups) String() string {
	words := "control groups"
	switch {
	case c.memory && c.tasks:
		return words + " (memory, threads)"
	case c.memory:
		return words + " (memory)"
	case c.tasks:
		return words + " (threads)"
	}
	return words + " (no limits: the kernel does not give their controllers to this user)"
}

// make makes a group with these limits.
func (c *groups) make(l Limits) (*group, error) {
	g := &group{dir: filepath.Join(c.dir, fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), c.made.Add(1)))}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	set := func(there bool, file string, value int64) {
		if there && value > 0 && err == nil {
			err = os.WriteFile(filepath.Join(g.dir, file), fmt.Append(nil, value), 0)
		}
	}
	set(c.memory, "memory.max", l.MemoryBytes)
	set(c.memory, "memory.oom.group", 1)
	set(c.tasks, "pids.max", int64(l.Threads))
	if err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// group is a session's.
type group struct{ dir string }

// join makes a process start in the group; close when it has.
func (g *group) join(attr *syscall.SysProcAttr) (close func(), err error) {
	f, err := os.Open(g.dir)
	if err != nil {
		return nil, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	return func() { f.Close() }, nil
}

// started says that the process is there, in the group.
func (*group) started(int) error { return nil }

// kill ends every process in it.
func (g *group) kill() error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
}

// overMemory reports whether the kernel ended processes for its limit.
func (g *group) overMemory() bool {
	b, _ := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	for line := range bytes.Lines(b) {
		if n, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok && string(n) != "0" {
			return true
		}
	}
	return false
}

// end ends every process and removes the group.
func (g *group) end() error {
	g.kill()
	var err error
	for range 200 {
		if err = syscall.Rmdir(g.dir); err != syscall.EBUSY {
			break
		}
		time.Sleep(5 * time.Millisecond) // they are ending
	}
	if err == syscall.ENOENT {
		return nil
	}
	return err
}
