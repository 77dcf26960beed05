//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// startAgain becomes the program at exe, with the arguments of this one. The
// process stays the same, so whoever watches it sees no end.
func startAgain(exe string) error {
	return fmt.Errorf("start again: %w", syscall.Exec(exe, os.Args, os.Environ()))
}
