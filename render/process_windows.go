package render

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// Not run: no Windows machine here; this file is only compiled and vetted.
// Job Objects and a restricted token belong here.

func sysProcAttr(p Priority) *syscall.SysProcAttr {
	const below, idle = 0x4000, 0x40 // BELOW_NORMAL_ and IDLE_PRIORITY_CLASS; children have the same
	class := map[Priority]uint32{Low: below, Idle: idle}[p]
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
	exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(s.cmd.Process.Pid)).Run()
	s.cmd.Process.Kill()
}

// processTree and highWater know nothing without /proc: a session is metered
// by the clock alone.
func processTree(int) []proc { return nil }

func highWater([]proc) int64 { return 0 }

func readProc(int) (proc, bool) { return proc{}, false }
