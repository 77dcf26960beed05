package chunker

import (
	"bytes"
	"io"
	"iter"

	chunk "github.com/ipfs/boxo/chunker"
)

// Splitter gives the chunks of a reader to an IPFS importer. It is for one
// goroutine. Close it where it is given up before the end.
type Splitter struct {
	r    io.Reader
	next func() (Chunk, error, bool)
	stop func()
	err  error
}

var _ chunk.Splitter = (*Splitter)(nil)

// NewSplitter returns a boxo Splitter that cuts r as Chunks does.
func NewSplitter(r io.Reader, p Params) *Splitter {
	s := &Splitter{r: r}
	s.next, s.stop = iter.Pull2(Chunks(r, p))
	return s
}

// NextBytes returns the next chunk, which the caller may keep, or io.EOF.
func (s *Splitter) NextBytes() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	c, err, ok := s.next()
	switch {
	case !ok:
		s.err = io.EOF
	case err != nil:
		s.err = err
		s.stop()
	default:
		return bytes.Clone(c.Data), nil
	}
	return nil, s.err
}

// Reader returns the reader that is cut.
func (s *Splitter) Reader() io.Reader { return s.r }

// Close gives up the rest of the stream. It does not close the reader.
func (s *Splitter) Close() error {
	s.stop()
	if s.err == nil {
		s.err = io.EOF
	}
	return nil
}
