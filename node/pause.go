package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"idlewild/render"
)

// pauseFile is where an explicit pause is kept: it never ends by itself, also
// not when the daemon or the machine starts again.
const pauseFile = "paused.json"

// pauseNote is the content of pauseFile; without the file there is no pause.
type pauseNote struct {
	Reason string `json:"reason"`
}

// loadPause returns why this machine is paused, or "". A file that cannot be
// understood still means a pause: somebody asked for one.
func loadPause(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, pauseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("pause: %w", err)
	}
	var n pauseNote
	if json.Unmarshal(b, &n) != nil || n.Reason == "" {
		n.Reason = "paused by its owner"
	}
	return n.Reason, nil
}

// savePause keeps a pause, or with an empty reason its end.
func savePause(dir, reason string) error {
	path := filepath.Join(dir, pauseFile)
	if reason == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("resume: %w", err)
		}
		return syncDir(dir)
	}
	b, err := json.Marshal(pauseNote{reason})
	if err == nil {
		err = writeFileAtomic(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	return nil
}

// yielding runs tasks, and gives the machine's memory back while it is paused:
// warm processes are ended once no task runs any more, cancelled ones included.
type yielding struct {
	render.Executor
	free func() // ends what is warm and idle
	wait sync.WaitGroup

	mu      sync.Mutex
	paused  bool
	running int
}

func (y *yielding) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	y.mu.Lock()
	y.running++
	y.mu.Unlock()
	defer func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.running--
		y.yield()
	}()
	return y.Executor.Execute(ctx, t, dirs, progress)
}

// pause begins or ends a pause. It does not wait.
func (y *yielding) pause(paused bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.paused = paused
	y.yield()
}

// yield needs mu.
func (y *yielding) yield() {
	if y.paused && y.running == 0 {
		y.wait.Go(y.free)
	}
}

// rest applies a pause, or with an empty reason its end, to what works here.
func (n *Node) rest(reason string) {
	if reason == "" {
		n.kit.yielding.pause(false)
		n.worker.Resume()
		return
	}
	n.worker.Pause(reason, false)
	n.kit.yielding.pause(true)
}
