package render

import (
	"os"
	"syscall"
)

// Not run: no Windows machine here; this file is only compiled and vetted.

func sysProcAttr(p Priority) *syscall.SysProcAttr {
	const below, idle = 0x4000, 0x40 // BELOW_NORMAL_ and IDLE_PRIORITY_CLASS; children have the same
	class := map[Priority]uint32{Low: below, Least: idle, Idle: idle}[p]
	return &syscall.SysProcAttr{HideWindow: true, CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | class}
}

// awaitExit returns when the child has ended.
func awaitExit(pid int) {
	h, err := syscall.OpenProcess(syscall.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return
	}
	defer syscall.CloseHandle(h)
	syscall.WaitForSingleObject(h, syscall.INFINITE)
}

func signalText(*os.ProcessState, bool) string { return "" }

// killTree ends the process and everything that it started.
func (s *session) killTree() {
	if s.group != nil {
		if err := s.group.kill(); err != nil {
			s.log.Warn("job object was not ended", "err", err)
		}
	}
	s.cmd.Process.Kill()
}

// processTree and highWater know nothing without /proc: a session is metered
// by the clock alone.
func processTree(int) []proc { return nil }

func highWater([]proc) int64 { return 0 }

func readProc(int) (proc, bool) { return proc{}, false }
