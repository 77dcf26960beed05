package sense

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"time"

	"idlewild/node/idle"
)

// hook asks an executable of the owner's: exit code 0 is yes, anything else no,
// and the first line it prints says why. It runs beside us, because it may wait
// for a network; a new answer wakes us.
type hook struct {
	path string
	wake func()

	mu      sync.Mutex
	asked   time.Time
	running bool
	answer  *idle.Hook
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

const (
	hookEvery   = time.Minute
	hookFor     = 20 * time.Second
	maxHookText = 200
)

// Sense implements Source.
func (h *hook) Sense(context.Context) (func(*idle.Signals), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running && (h.asked.IsZero() || time.Since(h.asked) >= hookEvery) {
		h.running, h.asked = true, time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), hookFor)
		h.cancel = cancel
		h.done.Go(func() { h.ask(ctx, cancel) })
	}
	answer := h.answer
	if answer == nil { // not asked to the end yet: no is the answer that harms nobody
		answer = &idle.Hook{Text: "it has not answered yet"}
	}
	return func(s *idle.Signals) { s.Hook = answer }, nil
}

func (h *hook) ask(ctx context.Context, cancel context.CancelFunc) {
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, h.path)
	cmd.Stdout = &limited{w: &out, left: 4096}
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	text, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	a := &idle.Hook{Yes: err == nil, Text: strings.ToValidUTF8(text[:min(len(text), maxHookText)], "")}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		a.Text = "it did not answer within " + hookFor.String()
	case err != nil && !errors.As(err, &exit):
		a.Text = "it could not be run: " + err.Error()
	}
	h.mu.Lock()
	h.running, h.answer = false, a
	h.mu.Unlock()
	h.wake()
}

func (h *hook) close() {
	h.mu.Lock()
	if h.cancel != nil {
		h.cancel()
	}
	h.mu.Unlock()
	h.done.Wait()
}

// limited keeps the beginning.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.w.Write(b[:n])
	l.left -= n
	return len(b), nil
}
