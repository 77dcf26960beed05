package render

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	schedOther, schedIdle    = 0, 5
	ioClassBest, ioClassIdle = 2, 3
	ioWhoProcess             = 1
	lowNice, idleNice        = 10, 19
)

// lower gives one thread, and what it starts from then on, a priority. A
// kernel that refuses one of the ways leaves the others.
func lower(tid int, p Priority) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedOther, Nice: lowNice}
	io := ioClassBest<<13 | 7
	switch p {
	case Normal:
		return
	case Idle:
		attr.Policy, attr.Nice = schedIdle, idleNice
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
// before their parent was lowered.
func lowerTree(tree []proc, p Priority) {
	if p == Normal {
		return
	}
	for _, x := range tree {
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
