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
	"time"

	"idlewild/internal/ondisk"
	"idlewild/node/idle"
	"idlewild/node/idle/sense"
	"idlewild/render"
)

// pauseFile is where an explicit pause is kept: it outlives the daemon, and
// the machine's start too unless it was to last until then.
const pauseFile = "paused.json"

// loadPause returns the pause that is kept, or nil; ended is one that ended
// while the daemon did not run. A file that cannot be understood still means a
// pause: somebody asked for one.
func loadPause(dir, boot string, now time.Time) (p, ended *idle.Pause, err error) {
	b, err := os.ReadFile(filepath.Join(dir, pauseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pause: %w", err)
	}
	p = &idle.Pause{}
	if json.Unmarshal(b, p) != nil {
		p = &idle.Pause{}
	}
	if p.Reason == "" {
		p.Reason = "paused by its owner"
	}
	switch {
	case !p.Until.IsZero() && !now.Before(p.Until):
		return nil, p, nil
	case p.UntilRestart && p.Boot != "" && boot != "" && p.Boot != boot:
		return nil, p, nil
	}
	return p, nil, nil
}

// savePause keeps a pause, or with nil its end.
func savePause(dir string, p *idle.Pause) error {
	path := filepath.Join(dir, pauseFile)
	if p == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("resume: %w", err)
		}
		return ondisk.SyncDir(dir)
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = ondisk.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	return nil
}

// newPause is a pause that begins now.
func newPause(reason string, length time.Duration, untilRestart bool) *idle.Pause {
	now := sense.Now()
	p := &idle.Pause{Reason: reason, Since: now.Wall.Round(0), UntilRestart: untilRestart}
	if length > 0 {
		p.Until, p.UntilMono = p.Since.Add(length), now.Mono+length
	}
	if untilRestart {
		p.Boot = sense.Boot()
	}
	return p
}

// yielding runs tasks, and gives a device's memory back while it rests: warm
// processes are ended once no task runs on it any more, cancelled ones
// included.
type yielding struct {
	render.Executor
	begun func()              // a task begins: look whether it may
	free  func(device string) // ends what is warm and idle
	wait  sync.WaitGroup

	mu      sync.Mutex
	rests   map[string]bool
	running map[string]int
}

func (y *yielding) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	d := t.Device.Name
	y.mu.Lock()
	if y.running == nil {
		y.running = map[string]int{}
	}
	y.running[d]++
	begun := y.begun
	y.mu.Unlock()
	if begun != nil {
		begun()
	}
	defer func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.running[d]--
		y.yield(d)
	}()
	return y.Executor.Execute(ctx, t, dirs, progress)
}

// rest says which devices rest from now on. It does not wait.
func (y *yielding) rest(devices map[string]bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for d := range devices {
		if y.rests[d] != devices[d] {
			defer y.yield(d)
		}
	}
	y.rests = devices
}

// yield needs mu.
func (y *yielding) yield(device string) {
	if y.rests[device] && y.running[device] == 0 {
		y.wait.Go(func() { y.free(device) })
	}
}

// runs reports whether a task is on a device, or with "" on any.
func (y *yielding) runs(device string) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if device != "" {
		return y.running[device] > 0
	}
	for _, n := range y.running {
		if n > 0 {
			return true
		}
	}
	return false
}
