//go:build unix

package hooks

import (
	"os/exec"
	"syscall"
)

// alone puts a program into a process group of its own and has all of it
// killed, so that nothing of a shell script stays behind.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
