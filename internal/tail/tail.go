// Package tail keeps the end of what a program prints.
package tail

import (
	"bytes"
	"io"
	"sync"
)

// Writer keeps the end of what is written to it. It may be used by several
// goroutines.
type Writer struct {
	To   io.Writer // gets all of it; nil: nobody does
	Keep int       // bytes that are kept; 0: 4096

	mu  sync.Mutex
	buf []byte
}

// Write never fails: a log that is lost is no reason to end a program.
func (w *Writer) Write(b []byte) (int, error) {
	keep := w.keep()
	w.mu.Lock()
	if w.buf = append(w.buf, b...); len(w.buf) > 2*keep {
		w.buf = append(w.buf[:0], w.buf[len(w.buf)-keep:]...)
	}
	w.mu.Unlock()
	if w.To != nil {
		_, _ = w.To.Write(b)
	}
	return len(b), nil
}

// Bytes returns a copy of the end.
func (w *Writer) Bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.buf[max(0, len(w.buf)-w.keep()):])
}

func (w *Writer) keep() int {
	if w.Keep > 0 {
		return w.Keep
	}
	return 4096
}
