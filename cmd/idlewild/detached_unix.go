//go:build unix

package main

import "syscall"

// detached keeps a process from ending with the terminal that started it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
