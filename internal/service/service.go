// Package service has the system start the daemon whenever its owner logs in.
//
// The daemon runs as its owner, in their session: it has to see their screen
// and their GPU, which a service of the system does not.
package service

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// ErrNone is matched where the system has nothing that starts programs at
// log-in, or it cannot be reached.
var ErrNone = errors.New("nothing here starts programs at log-in")

// Program is what is started.
type Program struct {
	Path string   // absolute
	Args []string // "up" and its flags
}

// timeout of one call of the system's own tools.
const timeout = 30 * time.Second

// run calls one of them. Its output is in the error.
func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}
