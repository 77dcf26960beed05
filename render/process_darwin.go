package render

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Not run: no macOS machine here; this file is only compiled and vetted.

func sysProcAttr(Priority) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit returns when the child has ended, without waiting for it.
func awaitExit(pid int) {
	kq, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(kq)
	change := []unix.Kevent_t{{Ident: uint64(pid), Filter: unix.EVFILT_PROC, Flags: unix.EV_ADD | unix.EV_ONESHOT, Fflags: unix.NOTE_EXIT}}
	for {
		n, err := unix.Kevent(kq, change, make([]unix.Kevent_t, 1), nil)
		if n > 0 || (err != nil && err != unix.EINTR) {
			return // it ended, or is no more
		}
	}
}

func signalText(st *os.ProcessState, _ bool) string {
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("signal %d (%v)", int(ws.Signal()), ws.Signal())
	}
	return ""
}

// killTree ends the process group; a child that left it is not found.
func (s *session) killTree() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }

// processTree and highWater know nothing without /proc: a session is metered
// by the clock alone.
func processTree(int) []proc { return nil }

func highWater([]proc) int64 { return 0 }

func readProc(int) (proc, bool) { return proc{}, false }
