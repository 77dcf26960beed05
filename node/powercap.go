package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"idlewild/internal/ondisk"
	"idlewild/render/gpu"
)

// powerFile holds the limits that GPUs had before we set ours. While it is
// there, they are to be restored.
const powerFile = "powerlimits.json"

// envGuard makes this program the guard of a power file.
const envGuard = "IDLEWILD_GUARD_POWER"

// newLimiter may be another one in tests.
var newLimiter = gpu.NewPowerLimiter

// powerCap limits what a GPU draws while it works for others, where its owner
// opted in. What it was before is on disk before it is changed, and a process
// of its own puts it back if this one is killed.
type powerCap struct {
	dir     string
	watts   map[string]float64 // by device; 0: no limit
	limiter gpu.PowerLimiter
	log     *slog.Logger
	refused map[string]bool // said once

	mu     sync.Mutex
	before map[string]float64
	guard  io.Closer // its end tells the guard that we are gone
	wait   func() error
}

// newPowerCap restores what a daemon before this one left behind. It is nil
// where no limit is wanted.
func newPowerCap(dir string, watts map[string]float64, log *slog.Logger) *powerCap {
	if err := restorePower(dir, newLimiter()); err != nil {
		log.Warn("power limits that an earlier daemon set could not be taken back", "error", err)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(watts)), func(w float64) bool { return w > 0 }) {
		return nil
	}
	p := &powerCap{dir: dir, watts: watts, limiter: newLimiter(), log: log, refused: map[string]bool{}, before: map[string]float64{}}
	if p.limiter == nil {
		log.Warn("limits.gpu_power_watts, or power_watts in devices, has no effect: this build cannot set power limits")
		return nil
	}
	return p
}

// follow limits a device that works and gives others back what they had.
func (p *powerCap) follow(device string, works bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before, capped := p.before[device]
	var err error
	switch {
	case works && !capped && p.watts[device] > 0 && !p.refused[device]:
		err = p.set(device)
	case !works && capped:
		if err = p.limiter.SetPowerLimit(device, before); err == nil {
			delete(p.before, device)
			err = p.keep()
		}
	}
	if err != nil && !p.refused[device] {
		p.refused[device] = true
		p.log.Warn("the power limit of a GPU is not set; it may need an administrator: nvidia-smi -pl", "device", device, "error", err)
	}
}

// set needs mu.
func (p *powerCap) set(device string) error {
	now, least, err := p.limiter.PowerLimit(device)
	if err != nil {
		return err
	}
	want := max(p.watts[device], least)
	if want >= now {
		return nil // its owner's own limit is lower
	}
	if err := p.watch(); err != nil {
		return err
	}
	p.before[device] = now
	err = p.keep()
	if err == nil {
		err = p.limiter.SetPowerLimit(device, want)
	}
	if err != nil {
		delete(p.before, device)
		return errors.Join(err, p.keep())
	}
	return nil
}

// keep writes down what is to be restored.
func (p *powerCap) keep() error {
	file := filepath.Join(p.dir, powerFile)
	if len(p.before) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(p.before)
	if err != nil {
		return err
	}
	return ondisk.WriteFile(file, b, 0o600)
}

// watch starts the guard, once.
func (p *powerCap) watch() error {
	if p.guard != nil {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envGuard+"="+p.dir)
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the guard of power limits: %w", err)
	}
	p.guard, p.wait = w, cmd.Wait
	return nil
}

// close restores everything and ends the guard.
func (p *powerCap) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := restorePower(p.dir, p.limiter)
	clear(p.before)
	if p.guard != nil {
		p.guard.Close()
		err = errors.Join(err, p.wait())
		p.guard = nil
	}
	return err
}

// restorePower puts back what the file of a data folder says. The file stays
// where that fails.
func restorePower(dir string, l gpu.PowerLimiter) error {
	file := filepath.Join(dir, powerFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("this build cannot set power limits")
	}
	var before map[string]float64
	if err := json.Unmarshal(b, &before); err != nil {
		return fmt.Errorf("%s: %w", powerFile, err)
	}
	for device, watts := range before {
		if e := l.SetPowerLimit(device, watts); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return err
	}
	return os.Remove(file)
}

// guardMain waits for the end of its parent and restores what that left.
func guardMain() {
	dir := os.Getenv(envGuard)
	if dir == "" {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started us
	if restorePower(dir, newLimiter()) != nil {
		os.Exit(1) // the next daemon tries again
	}
	os.Exit(0)
}
