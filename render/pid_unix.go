//go:build unix

package render

import "syscall"

// pidAlive reports whether a process of that number exists.
func pidAlive(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
