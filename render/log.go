package render

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// logBuffer keeps the beginning and the end of what a process printed.
type logBuffer struct {
	mu   sync.Mutex
	max  int
	head []byte // the first max/4 bytes
	tail []byte // a ring of the last max - max/4 bytes
	next int    // where the ring is written next, once it is full
	lost int64  // bytes that fell out of the middle
}

// marker is room for the sentence between head and tail.
const logMarkerBytes = 80

func newLogBuffer(limit int) *logBuffer { return &logBuffer{max: limit - logMarkerBytes} }

// Write implements io.Writer and never fails.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if room := l.max/4 - len(l.head); room > 0 {
		k := min(room, len(p))
		l.head = append(l.head, p[:k]...)
		p = p[k:]
	}
	size := l.max - l.max/4
	for len(p) > 0 {
		if len(l.tail) < size {
			k := min(size-len(l.tail), len(p))
			l.tail = append(l.tail, p[:k]...)
			p = p[k:]
			continue
		}
		k := copy(l.tail[l.next:], p)
		l.next = (l.next + k) % size
		l.lost += int64(k)
		p = p[k:]
	}
	return n, nil
}

// Take returns what was kept since the last Take.
func (l *logBuffer) Take() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	out = append(out, l.head...)
	if l.lost > 0 {
		out = fmt.Appendf(out, "\n[... %d bytes left out ...]\n", l.lost)
	}
	out = append(out, l.tail[l.next:]...)
	out = append(out, l.tail[:l.next]...)
	l.head, l.tail, l.next, l.lost = nil, nil, 0, 0
	return out
}

// lastLine is the last line of a log that says something, for people.
func lastLine(log []byte) string {
	if len(log) > 4096 {
		log = log[len(log)-4096:]
	}
	lines := bytes.Split(log, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		if s := sentence(string(lines[i]), 300); s != "" {
			return s
		}
	}
	return ""
}

// lastWords adds the last line of a process's log to the error of its end.
func lastWords(err error, log []byte) error {
	if line := lastLine(log); line != "" {
		return fmt.Errorf("%w; its last words: %s", err, line)
	}
	return err
}

// logLines hands on the lines of a log while somebody listens.
type logLines struct {
	mu   sync.Mutex
	hear func(line []byte)
	line []byte // what came of the line under way
}

// to makes hear the listener; nil: nobody is. It returns when no call to the
// one before is under way.
func (l *logLines) to(hear func(line []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hear, l.line = hear, l.line[:0]
}

// Write implements io.Writer and never fails.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hear != nil {
		l.line = SplitLines(l.line, p, l.hear)
	}
	return len(p), nil
}

// MaxLine is how many bytes of a line SplitLines hands on; what is longer is cut.
const MaxLine = 4 << 10

// SplitLines hands on every line that ends in p, without its end, and returns
// what was begun of the next. begun is what it returned before; lines are valid
// only during the call.
func SplitLines(begun, p []byte, hear func(line []byte)) []byte {
	for {
		part, rest, whole := bytes.Cut(p, []byte{'\n'})
		begun = append(begun, part[:min(len(part), MaxLine-len(begun))]...)
		if !whole {
			return begun
		}
		hear(begun)
		begun, p = begun[:0], rest
	}
}

// logReader copies a process's output into a buffer. Sync makes sure that
// everything printed before it was called is in the buffer: the log and the
// events travel on different pipes, and a request's log must not end up with
// the next one's.
type logReader struct {
	f       *os.File
	buf     io.Writer
	canSync bool // whether this system's pipes have deadlines
	syncs   chan chan struct{}
	stopped chan struct{}
}

func newLogReader(f *os.File, buf io.Writer) *logReader {
	r := &logReader{f: f, buf: buf, syncs: make(chan chan struct{}, 1), stopped: make(chan struct{})}
	r.canSync = f.SetReadDeadline(time.Time{}) == nil
	go r.run()
	return r
}

func (r *logReader) run() {
	defer close(r.stopped)
	defer r.f.Close()
	p := make([]byte, 32<<10)
	for {
		n, err := r.f.Read(p)
		r.buf.Write(p[:n])
		if err == nil {
			continue
		}
		if !os.IsTimeout(err) {
			if err != io.EOF {
				fmt.Fprintf(r.buf, "\n[log: %v]\n", err)
			}
			return
		}
		// A deadline is how Sync wakes a reader that waits for more.
		r.f.SetReadDeadline(time.Time{})
		drain(r.f, p, r.buf)
		select {
		case done := <-r.syncs:
			close(done)
		default: // the deadline of close
			return
		}
	}
}

// Sync waits until what the process printed so far is in the buffer. Where
// pipes have no deadlines the log may lag behind the events.
func (r *logReader) Sync() {
	if !r.canSync {
		return
	}
	done := make(chan struct{})
	select {
	case r.syncs <- done:
	case <-r.stopped:
		return
	}
	r.f.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-done:
	case <-r.stopped:
	}
}

// Close waits for the pipe's end, but not longer than d: a process that
// escaped may hold it open.
func (r *logReader) Close(d time.Duration) {
	r.f.SetReadDeadline(time.Now().Add(d))
	t := time.NewTimer(d + time.Second)
	defer t.Stop()
	select {
	case <-r.stopped:
	case <-t.C:
		r.f.Close()
	}
}
