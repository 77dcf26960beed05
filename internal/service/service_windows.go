package service

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

const task = "idlewild"

// Name of what starts programs here.
const Name = "Task Scheduler"

// Available says why Install would not work, or nil.
func Available(context.Context) error {
	if _, err := exec.LookPath("schtasks"); err != nil {
		return fmt.Errorf("%w: %v", ErrNone, err)
	}
	return nil
}

// Install has p started at each log-in of this user, without more rights than
// they have, and starts it now. What an earlier Install wrote is replaced.
func Install(ctx context.Context, p Program) error {
	if err := Available(ctx); err != nil {
		return err
	}
	line := syscall.EscapeArg(p.Path)
	for _, a := range p.Args {
		line += " " + syscall.EscapeArg(a)
	}
	const most = 261 // characters that schtasks takes
	if len(line) > most {
		return fmt.Errorf("the command %s is over %d characters, which is what schtasks takes: install idlewild in a shorter path", line, most)
	}
	if _, err := run(ctx, "schtasks", "/Create", "/F", "/TN", task, "/SC", "ONLOGON", "/RL", "LIMITED", "/TR", line); err != nil {
		return err
	}
	_, err := run(ctx, "schtasks", "/Run", "/TN", task)
	return err
}

// Remove undoes Install; the daemon ends. It does nothing where nothing was
// installed.
func Remove(ctx context.Context) (removed bool, err error) {
	if out, err := run(ctx, "schtasks", "/Query", "/TN", task); err != nil {
		if strings.Contains(out, "ERROR") {
			return false, nil // there is no such task
		}
		return false, err
	}
	_, _ = run(ctx, "schtasks", "/End", "/TN", task) // it may not be running
	_, err = run(ctx, "schtasks", "/Delete", "/F", "/TN", task)
	return err == nil, err
}
