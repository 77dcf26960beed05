package render

import (
	"io"
	"os"
	"sync"
	"time"
)

// eventSource is where a runner's events come from.
type eventSource interface {
	io.ReadCloser
	// Exited tells that the process is gone: what is there is all there is.
	Exited()
}

// pipeEvents is the reading end of the pipe at the process's descriptor 3.
type pipeEvents struct{ *os.File }

// Exited bounds the wait for the pipe's end, which somebody who escaped the
// process tree could hold open.
func (p pipeEvents) Exited() { p.SetReadDeadline(time.Now().Add(time.Second)) }

// fileTail follows a file that the process appends to, on systems where it
// cannot be given another descriptor.
type fileTail struct {
	f    *os.File
	once sync.Once
	gone chan struct{}
}

func newFileTail(path string) (*fileTail, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &fileTail{f: f, gone: make(chan struct{})}, nil
}

// Read waits at the file's end until there is more or the process is gone.
func (t *fileTail) Read(p []byte) (int, error) {
	const pollEvery = 5 * time.Millisecond
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		gone := false
		select {
		case <-t.gone:
			gone = true
		default:
		}
		n, err := t.f.Read(p)
		if n > 0 || (err != nil && err != io.EOF) || gone {
			return n, err
		}
		select {
		case <-tick.C:
		case <-t.gone:
		}
	}
}

// Exited implements eventSource.
func (t *fileTail) Exited() { t.once.Do(func() { close(t.gone) }) }

// Close implements io.Closer.
func (t *fileTail) Close() error { return t.f.Close() }
