package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"idlewild/job"
)

// Exit codes. They are part of the command line's promise.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitInterrupted = 130
)

// errInterrupted is a person's Ctrl-C.
var errInterrupted = errors.New("interrupted")

// errUsage is matched by every error of the command line itself.
var errUsage = errors.New("wrong usage")

type usage struct{ error }

func (usage) Is(target error) bool { return target == errUsage }
func (u usage) Unwrap() error      { return u.error }

// usagef is an error that the person who typed can mend by typing otherwise.
func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func usageError(c *cli.Context, err error, _ bool) error {
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		return usagef("%w; see: idlewild %s --help", err, commandPath(c))
	}
	return usagef("%w; see: idlewild help", err)
}

// exitCode says what an error means to the shell.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, job.ErrRefused):
		return exitRefused
	}
	return exitFailed
}

// failure is the document that --json prints where there is no other.
type failure struct {
	Error    string        `json:"error"`
	Code     string        `json:"code"` // "failed", "usage", "refused", "interrupted"
	Problems []job.Problem `json:"problems,omitempty"`
}

func failureOf(err error) failure {
	f := failure{Error: err.Error(), Code: "failed"}
	switch exitCode(err) {
	case exitUsage:
		f.Code = "usage"
	case exitRefused:
		f.Code = "refused"
	case exitInterrupted:
		f.Code = "interrupted"
	}
	var r *job.RefusedError
	if errors.As(err, &r) {
		f.Problems = r.Problems
	}
	return f
}
