package render

import (
	"errors"
	"syscall"
)

// groups and group hold the processes of a session together where the system
// has something for it, which macOS has not.
type groups struct{}

var errNoGroups = errors.New("this system has no groups of processes")

func ownGroups() (*groups, error) { return nil, errNoGroups }

func (*groups) make(Limits) (*group, error) { return nil, errNoGroups }

type group struct{}

func (*group) join(*syscall.SysProcAttr) (func(), error) { return nil, errNoGroups }

func (*group) started(int) error { return nil }

func (*group) overMemory() bool { return false }

func (*group) kill() error { return nil }

func (*group) end() error { return nil }
