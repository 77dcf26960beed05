package render

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	schedOther, schedIdle    = 0, 5
	ioClassBest, ioClassIdle = 2, 3
	ioWhoProcess             = 1
	lowNice, leastNice       = 10, 19

	// A turn on a processor, in nanoseconds. From Linux 6.12 on a thread that
	// wakes waits for the end of the turn of the one that runs, whose nice value
	// only says how long it waits for its next: 3 ms each time unless it asks for
	// less ("EEVDF and latency requests", Documentation/scheduler/sched-eevdf.rst).
	shortTurn = 100_000
)

// lower gives one thread, and what it starts from then on, a priority. A
// kernel that refuses one of the ways leaves the others.
func lower(tid int, p Priority) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedOther, Nice: lowNice, Runtime: shortTurn}
	io := ioClassBest<<13 | 7
	switch p {
	case Normal:
		return
	case Least:
		attr.Nice = leastNice
	case Idle:
		attr.Policy, attr.Nice = schedIdle, leastNice
		io = ioClassIdle << 13
	}
	_ = unix.SchedSetAttr(tid, &attr, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, int(attr.Nice)) // which the idle policy does not set
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioWhoProcess, uintptr(tid), uintptr(io))
}

// reap frees the memory of a process that was killed, on our own time: its end
// runs at its own priority, and may have to wait long for a core.
func reap(pidfd int) {
	_, _, _ = unix.Syscall(unix.SYS_PROCESS_MRELEASE, uintptr(pidfd), 0, 0) // from Linux 5.15 on
}

// lowerTree does so for every thread of a process tree: those that started
// before their parent was lowered; and for the group of each session in it.
func lowerTree(tree []proc, p Priority) {
	if p == Normal {
		return
	}
	lowered := map[string]bool{"": true, autogroup("self"): true}
	for _, x := range tree {
		if g := autogroup(strconv.Itoa(x.pid)); !lowered[g] {
			lowered[g] = true
			lowerAutogroup(x.pid, p)
		}
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(x.pid), "task"))
		if err != nil {
			continue
		}
		for _, t := range threads {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				lower(tid, p)
			}
		}
	}
}

// autogroup names the scheduler's group of a process: where the kernel groups
// by session (sched(7), "The autogroup feature"), a nice value counts within
// such a group only, and a sandbox is a session of its own. "" where it does not.
func autogroup(pid string) string {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "autogroup"))
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(b), " ")
	return name
}

// LowerSession gives what this process and its session do the weight of Low
// beside other sessions, where it leads that session and the kernel groups by
// session. It is for a program that runs beside somebody's own.
func LowerSession() {
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		lowerAutogroup(os.Getpid(), Low)
	}
}

// lowerAutogroup gives the group of a process the weight of p.
func lowerAutogroup(pid int, p Priority) {
	nice := lowNice
	if p != Low {
		nice = leastNice
	}
	for range 5 {
		err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "autogroup"), fmt.Append(nil, nice), 0)
		if !errors.Is(err, unix.EAGAIN) {
			return
		}
		time.Sleep(50 * time.Millisecond) // a user may do so ten times a second
	}
}
