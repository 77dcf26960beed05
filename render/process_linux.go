package render

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sysProcAttr gives the child a process group of its own and the kernel's
// promise to end it with us.
func sysProcAttr(Priority) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit returns when the child has ended, without waiting for it: its
// number stays taken.
func awaitExit(pid int) {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// signalText says which signal ended the process, or "".
func signalText(st *os.ProcessState, wrapped bool) string {
	ws, ok := st.Sys().(syscall.WaitStatus)
	if !ok {
		return ""
	}
	var sig syscall.Signal
	switch {
	case ws.Signaled():
		sig = ws.Signal()
	case wrapped && ws.ExitStatus() > 128 && ws.ExitStatus() < 128+65:
		sig = syscall.Signal(ws.ExitStatus() - 128)
	default:
		return ""
	}
	return fmt.Sprintf("signal %d (%v)", int(sig), sig)
}

// killTree ends every process of the tree and waits until they are gone. The
// processes are stopped first, because one that forks while the list is read
// would leave a child that is on no list.
func (s *session) killTree() {
	root := s.cmd.Process.Pid
	if s.group != nil {
		if err := s.group.kill(); err != nil {
			s.log.Warn("group of processes was not ended", "err", err)
		}
	}
	if s.launch.wrapped {
		// The end of a process namespace's first process is the end of all
		// that is in it, whatever they do.
		kids, _ := children(root)
		for _, pid := range kids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	stopped := map[int]bool{}
	for range 64 {
		before := len(stopped)
		for _, p := range s.processes() {
			if !stopped[p.pid] {
				stopped[p.pid] = true
				syscall.Kill(p.pid, syscall.SIGSTOP)
			}
		}
		if len(stopped) == before {
			break
		}
	}
	s.mu.Lock()
	all := make(map[int]uint64, len(s.seen))
	for pid, start := range s.seen {
		all[pid] = start
	}
	s.mu.Unlock()
	var dying []int
	for pid, start := range all {
		fd, err := unix.PidfdOpen(pid, 0)
		if p, ok := readProc(pid); ok && p.start == start {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if err == nil {
			dying = append(dying, fd)
		}
	}
	syscall.Kill(-root, syscall.SIGKILL)
	for _, fd := range dying {
		reap(fd)
		unix.Close(fd)
	}
	wait := time.Millisecond
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		left := false
		for pid, start := range all {
			p, ok := readProc(pid)
			left = left || (ok && p.start == start && !p.dead)
		}
		if !left {
			return
		}
		time.Sleep(wait)
		wait = min(2*wait, 50*time.Millisecond)
	}
	s.log.Error("processes would not end", "root", root)
}

// ticks per second of /proc's clock: fixed by the kernel's interface.
const userHz = 100

var pageSize = int64(os.Getpagesize())

// readProc reads one process's line; ok is false when there is none.
func readProc(pid int) (p proc, ok bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return proc{}, false
	}
	return parseStat(pid, b)
}

// parseStat reads the text of /proc/<pid>/stat. The program's name, in
// parentheses, may hold anything, so fields are counted from the last one.
func parseStat(pid int, b []byte) (p proc, ok bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return proc{}, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 22 {
		return proc{}, false
	}
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return max(n, 0) }
	ticks := num(11) + num(12) + num(13) + num(14) // utime, stime, cutime, cstime
	return proc{
		pid: pid, parent: int(num(1)), start: uint64(num(19)),
		cpu: time.Duration(ticks) * (time.Second / userHz),
		rss: num(21) * pageSize, threads: int(num(17)),
		dead: f[0] == "Z" || f[0] == "X",
	}, true
}

// processTree returns the process and all its descendants.
func processTree(root int) []proc {
	p, ok := readProc(root)
	if !ok {
		return nil
	}
	tree := []proc{p}
	for i := 0; i < len(tree) && len(tree) < maxTree; i++ {
		kids, ok := children(tree[i].pid)
		if !ok {
			return scanTree(root)
		}
		for _, pid := range kids {
			if k, ok := readProc(pid); ok {
				tree = append(tree, k)
			}
		}
	}
	return tree
}

// children lists the processes that any thread of pid started. ok is false on
// kernels that do not tell.
func children(pid int) (kids []int, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil, true // it is gone
	}
	for _, t := range threads {
		b, err := os.ReadFile(filepath.Join(dir, t.Name(), "children"))
		if err != nil {
			if os.IsNotExist(err) {
				if _, err := os.Stat("/proc/thread-self/children"); err != nil {
					return nil, false
				}
			}
			continue // the thread is gone
		}
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				kids = append(kids, n)
			}
		}
	}
	return kids, true
}

// scanTree finds a tree by looking at every process of the machine.
func scanTree(root int) []proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	byParent := map[int][]proc{}
	var tree []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			byParent[p.parent] = append(byParent[p.parent], p)
			if pid == root {
				tree = append(tree, p)
			}
		}
	}
	for i := 0; i < len(tree) && len(tree) < maxTree; i++ {
		tree = append(tree, byParent[tree[i].pid]...)
	}
	return tree
}

// highWater is the largest resident size that any process of the tree ever
// had, by the kernel's count: it sees peaks between two samples.
func highWater(tree []proc) int64 {
	var most int64
	for _, p := range tree {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
		if err != nil {
			continue
		}
		_, rest, ok := bytes.Cut(b, []byte("\nVmHWM:"))
		if !ok {
			continue
		}
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		if f := strings.Fields(string(line)); len(f) > 0 {
			kb, _ := strconv.ParseInt(f[0], 10, 64)
			most = max(most, kb<<10)
		}
	}
	return most
}
