package imagefile

import (
	"errors"
	"io"
	"iter"
)

// pulled is a reader of what a function writes, in step with it: the function
// runs only within Read, on the reader's goroutine as far as anyone can tell,
// and Close ends it at its next write.
type pulled struct {
	next func() ([]byte, error, bool)
	stop func()
	rest []byte
	err  error
}

// errStopped ends a producer whose reader was closed.
var errStopped = errors.New("reader closed")

// pull returns a reader of what produce writes. What produce passes to write
// must stay as it is until write returns.
func pull(produce func(write func([]byte) error) error) io.ReadCloser {
	next, stop := iter.Pull2(func(yield func([]byte, error) bool) {
		err := produce(func(b []byte) error {
			if len(b) > 0 && !yield(b, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && err != errStopped {
			yield(nil, err)
		}
	})
	return &pulled{next: next, stop: stop}
}

func (p *pulled) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, p.err
	}
	for len(p.rest) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		data, err, ok := p.next()
		if !ok {
			err = io.EOF
		}
		p.rest, p.err = data, err
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pulled) Close() error {
	p.stop()
	p.rest, p.err = nil, errStopped
	return nil
}

// source reads a file in order and remembers the file's own error, which is to
// be told from damage in what it holds.
type source struct {
	r   io.Reader
	err error
}

func newSource(f io.ReaderAt, off, size int64) *source {
	return &source{r: io.NewSectionReader(f, off, size-off)}
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame returns the file's own error where it had one, else err as damage.
func (s *source) blame(err error) error {
	switch {
	case err == nil || err == errStopped || errors.Is(err, ErrNotOpened):
		return err
	case s.err != nil:
		return s.err
	}
	return notOpened("%v", err)
}
