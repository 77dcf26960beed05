package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// program runs an executable.
type program struct {
	path    string
	timeout time.Duration
}

// maxSaid is how much of what a program says is read.
const maxSaid = 512

func (p program) tell(ctx context.Context, m message) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	said := &tail{}
	cmd := exec.CommandContext(ctx, p.path, m.Event)
	cmd.Stdin = bytes.NewReader(m.Body)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = append(environment(), "IDLEWILD_EVENT="+m.Event, "IDLEWILD_EVENT_ID="+m.ID, "IDLEWILD_JOB="+m.Job, "IDLEWILD_FRAME="+m.Frame)
	cmd.WaitDelay = time.Second // a child that keeps the pipes does not hold us up
	alone(cmd)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("%s did not end within %s", p.path, p.timeout)
	case errors.As(err, &exit):
		return fmt.Errorf("%s: %w: %s", p.path, err, said)
	default: // not there, or not to be run
		return fmt.Errorf("%w: %w", errFinal, err)
	}
}

// environment is ours without our own settings, of which some are secret.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "IDLEWILD_") })
}

// tail keeps the end of what was written.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b[max(0, len(b)-maxSaid):]...)
	t.b = t.b[max(0, len(t.b)-maxSaid):]
	return len(b), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(strings.TrimSpace(string(t.b)), "?") }
