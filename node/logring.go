package node

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
)

// logLines is how many lines of the log the dashboard shows, and maxLogLine
// how long one may be.
const (
	logLines   = 500
	maxLogLine = 4 << 10
)

// logRing holds the newest lines of the daemon's log.
type logRing struct {
	mu    sync.Mutex
	lines []string
	next  int // where the next line goes once there are logLines
}

// tee returns a logger that writes into the ring as well.
func (r *logRing) tee(log *slog.Logger, level slog.Leveler) *slog.Logger {
	mine := slog.NewTextHandler(r, &slog.HandlerOptions{Level: level})
	return slog.New(slog.NewMultiHandler(log.Handler(), mine))
}

// Write takes one line, as slog's handlers write them.
func (r *logRing) Write(b []byte) (int, error) {
	line := bytes.TrimSuffix(b, []byte("\n"))
	line = line[:min(len(line), maxLogLine)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < logLines {
		r.lines = append(r.lines, string(line))
		return len(b), nil
	}
	r.lines[r.next] = string(line)
	r.next = (r.next + 1) % logLines
	return len(b), nil
}

// all returns the lines, oldest first.
func (r *logRing) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat([]string{}, r.lines[r.next:], r.lines[:r.next])
}
