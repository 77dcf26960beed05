package diffupload

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/chunker"
)

// A terabyte of nothing is read from nowhere: where a file has a hole, the
// chunks in it are all the same one, and it is hashed once.

// holeBytes is the shortest hole that is not read.
const holeBytes = 8 << 20

// zero is what a chunk of a hole points to.
var zero [chunker.MaxChunkBytes]byte

// zeros are the addresses of chunks of holes, by their length.
type zeros struct {
	mu  sync.Mutex
	ids map[int]cid.Cid
	s   *snapshot
}

// known returns the address of a chunk of a hole that was stored before.
func (z *zeros) known(data []byte) cid.Cid {
	if len(data) == 0 || &data[0] != &zero[0] {
		return cid.Undef
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	id, ok := z.ids[len(data)]
	if !ok {
		if z.ids == nil {
			z.ids = map[int]cid.Cid{}
		}
		id = z.s.Hash.ChunkID(data)
		z.ids[len(data)] = id
		z.s.sink.add(Block{ID: id, Data: data})
	}
	return id
}

// sparse yields the chunks that chunker.Chunks would, without reading holes:
// where a chunk begins, a hole as long as the longest chunk is cut as any other.
func (s *snapshot) sparse(r *progressReader) iter.Seq2[chunker.Chunk, error] {
	return func(yield func(chunker.Chunk, error) bool) {
		first, most, err := holeCut(s.Chunk)
		if err != nil {
			yield(chunker.Chunk{}, err)
			return
		}
		var at int64
		for at < r.size {
			if s.ctx.Err() != nil {
				return
			}
			from, to, err := nextHole(r.f, at, r.size)
			if err != nil {
				yield(chunker.Chunk{}, err)
				return
			}
			begin := at
			for c, err := range chunker.Chunks(io.NewSectionReader(r.f, at, r.size-at), s.Chunk) {
				if err != nil {
					yield(chunker.Chunk{}, err)
					return
				}
				if at >= from && to-at >= most {
					break
				}
				c.Offset += begin
				if !yield(c, nil) {
					return
				}
				at += int64(len(c.Data))
				r.count(len(c.Data))
			}
			if at < from || to-at < most {
				if at < r.size {
					// Shorter than it was said to be.
					yield(chunker.Chunk{}, ErrChanged)
				}
				return
			}
			for n := 0; to-at >= most; n++ {
				if n%1024 == 0 && s.ctx.Err() != nil {
					return
				}
				if !yield(chunker.Chunk{Offset: at, Data: zero[:first]}, nil) {
					return
				}
				at += int64(first)
				r.count(first)
			}
		}
	}
}

// holeCut returns how long the first chunk of endless zeros is, and how many
// zeros decide it.
func holeCut(p chunker.Params) (first int, most int64, err error) {
	// Any chunk ends within MaxChunkBytes, and by what lies before its end.
	for c, err := range chunker.Chunks(bytes.NewReader(zero[:]), p) {
		return len(c.Data), int64(len(zero)), err
	}
	return 0, 0, errors.New("no chunks")
}

// nextHole returns the next hole of at least holeBytes that ends behind at, or
// size, size where there is none.
func nextHole(f *os.File, at, size int64) (from, to int64, err error) {
	for pos := at; pos < size; {
		from, err := seekHole(f, pos)
		if err != nil || from >= size {
			return size, size, nil // none, or a file system that does not say
		}
		to, err := seekData(f, from)
		if err != nil || to > size {
			to = size
		}
		if to-max(from, at) >= holeBytes {
			return from, to, nil
		}
		pos = to
	}
	return size, size, nil
}
