package main

import (
	"fmt"
	"os"
	"os/exec"
)

// startAgain starts the program at exe with the arguments of this one, which
// ends.
func startAgain(exe string) error {
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	return cmd.Process.Release()
}
