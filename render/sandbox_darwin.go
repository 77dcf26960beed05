package render

import (
	"context"
	"errors"
	"log/slog"
)

// Sandbox is not there on this system.
type Sandbox struct{ *LocalProcess }

// NewSandbox says why there is none. sandbox-exec could keep a process from
// the network and from files; it is deprecated, its language is not
// documented, and here is no such machine to show what it stops.
func NewSandbox(context.Context, *slog.Logger, Limits) (*Sandbox, error) {
	return nil, errors.New("no sandbox for macOS yet")
}

// Proven reports that nobody has seen it hold.
func (*Sandbox) Proven() bool { return false }

// Shows is false: there are no mounts.
func (*Sandbox) Shows() bool { return false }

// Layers is empty.
func (*Sandbox) Layers() string { return "" }
