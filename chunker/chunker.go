// Package chunker cuts bytes into content-defined chunks: where a chunk ends
// depends on the bytes just before its end and on nothing else, so an edit
// changes the chunks around it and leaves the others as they were.
//
// Params hold the sizes and the key, a Chunk is one piece, Chunks cuts a
// stream and Split what is in memory. A cut is found in two stages: a filter,
// a sum and a multiplication that run at the speed of memory, nominates about
// one position in 4096, and a keyed hash of the 64 bytes before it decides. The
// cuts are a format: they decide what two machines have in common. Reference
// states them slowly and plainly, testdata/golden.txt holds cuts that every
// kernel has to meet bit for bit.
package chunker

import (
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"sync"
)

// Default sizes of chunks in bytes.
const (
	DefaultMin = 16 << 10
	DefaultAvg = 64 << 10
	DefaultMax = 256 << 10
)

// MaxChunkBytes is the largest Params.Max, MinChunkBytes the least Params.Min.
const (
	MaxChunkBytes = 1 << 20
	MinChunkBytes = 64
)

// PublicKey is the key of content that is meant to be shared between farms.
// It is a constant of the format: sha2-256 of "idlewild public chunker key 1".
var PublicKey = [32]byte(sha256.Sum256([]byte("idlewild public chunker key 1")))

// Params say how to cut. The zero value means the default sizes and PublicKey;
// each zero size means its default.
type Params struct {
	// Min, Avg and Max are sizes in bytes, MinChunkBytes <= Min <= Avg <= Max
	// <= MaxChunkBytes. Only the last chunk of a stream is shorter than Min. The
	// filter needs 324 bytes: up to there nothing but Max ends a chunk.
	Min, Avg, Max int
	// Key makes the cuts a farm's own. Which of the nominated positions are
	// cuts cannot be told without it; which are nominated is not much of a
	// secret (docs/formats.md). Zero means PublicKey.
	Key [32]byte
}

func (p Params) filled() Params {
	if p.Min == 0 {
		p.Min = DefaultMin
	}
	if p.Avg == 0 {
		p.Avg = DefaultAvg
	}
	if p.Max == 0 {
		p.Max = DefaultMax
	}
	if p.Key == ([32]byte{}) {
		p.Key = PublicKey
	}
	return p
}

// Validate checks the sizes, after defaults.
func (p Params) Validate() error {
	p = p.filled()
	if p.Min < MinChunkBytes || p.Avg < p.Min || p.Max < p.Avg || p.Max > MaxChunkBytes {
		return fmt.Errorf("chunk sizes %d/%d/%d: need %d <= min <= avg <= max <= %d",
			p.Min, p.Avg, p.Max, MinChunkBytes, MaxChunkBytes)
	}
	return nil
}

// Chunk is a piece of a stream.
type Chunk struct {
	Offset int64
	// Data is valid until the next chunk is asked for.
	Data []byte
}

// readBytes is what a full read asks for. More is not faster, and less costs
// more calls.
const readBytes = 1 << 20

// buffers keeps those of Chunks with the default sizes.
var buffers = sync.Pool{New: func() any { return new([DefaultMax + readBytes]byte) }}

// Chunks cuts what r holds. Put together, the chunks are the stream; how r
// deals it out does not matter. An error of r, of p or of the environment
// variable KernelVariable is yielded last; the bytes after the last cut before
// it are not. Memory is 1 MiB beyond Params.Max, however long the stream is.
func Chunks(r io.Reader, p Params) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		c, err := newCutter(p)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		s := stream{r: r, c: c}
		if c.Max <= DefaultMax {
			b := buffers.Get().(*[DefaultMax + readBytes]byte)
			s.buf = b[:]
			if s.run(yield) {
				buffers.Put(b) // else the last chunk may still be looked at
			}
			return
		}
		s.buf = make([]byte, c.Max+readBytes)
		s.run(yield)
	}
}

// Split cuts d as Chunks cuts a stream of the same bytes, and copies nothing:
// the chunks are parts of d and stay valid as long as it.
func Split(d []byte, p Params) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		c, err := newCutter(p)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		for offset := 0; offset < len(d); {
			rest := d[offset:]
			n, found := c.cut(rest, 0)
			if !found {
				n = len(rest)
			}
			if !yield(Chunk{Offset: int64(offset), Data: rest[:n:n]}, nil) {
				return
			}
			offset += n
		}
	}
}

// stream is one reader being cut.
type stream struct {
	r          io.Reader
	c          *cutter
	buf        []byte // room for a longest chunk and a read
	start, end int    // what is in buf and not yielded yet
	eof        bool
}

// run reports whether every chunk was asked for, or there was an error.
func (s *stream) run(yield func(Chunk, error) bool) bool {
	var offset int64
	done := 0 // of the chunk that begins at start, how much holds no cut
	for {
		rest := s.buf[s.start:s.end]
		n, found := s.c.cut(rest, done)
		switch {
		case found:
		case !s.eof:
			done = n
			if err := s.fill(); err != nil {
				yield(Chunk{}, err)
				return true
			}
			continue
		case len(rest) == 0:
			return true
		default:
			n = len(rest)
		}
		if !yield(Chunk{Offset: offset, Data: rest[:n:n]}, nil) {
			return false
		}
		done = 0
		s.start += n
		offset += int64(n)
	}
}

// fill moves what is left to the front and fills the buffer behind it.
func (s *stream) fill() error {
	s.end = copy(s.buf, s.buf[s.start:s.end])
	s.start = 0
	for idle := 0; s.end < len(s.buf) && !s.eof; {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if n > 0 {
			idle = 0
		} else if idle++; err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		if err == io.EOF {
			s.eof = true
		} else if err != nil {
			return err
		}
	}
	return nil
}
