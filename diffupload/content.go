package diffupload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"idlewild/chunker"
)

// heads are the beginnings of files: most files are no longer.
var heads = sync.Pool{New: func() any { return new([headBytes]byte) }}

const headBytes = chunker.DefaultMin

// content stores a stream as a file, a small one without any block.
func (s *snapshot) content(r io.Reader, enc Encoding, mode int) (Entry, error) {
	if f, ok := r.(*progressReader); ok && f.holes {
		return s.chunks(s.sparse(f), enc, mode)
	}
	least := s.Chunk.Min // no chunk but the last is as short
	if least == 0 {
		least = chunker.DefaultMin
	}
	head := heads.Get().(*[headBytes]byte)
	defer heads.Put(head)
	n, err := io.ReadFull(r, head[:])
	switch {
	case err == nil:
		r = io.MultiReader(bytes.NewReader(head[:]), r)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return Entry{}, err
	case n <= MaxInlineBytes && enc == Plain && !s.single:
		return Entry{Size: int64(n), Kind: KindInline, Mode: mode, Data: bytes.Clone(head[:n])}, nil
	case n > 0 && n <= least:
		id := s.Hash.ChunkID(head[:n])
		s.sink.add(Block{ID: id, Data: head[:n]})
		links := s.links()
		if err := links.add(Link{CID: Ref{id}, Size: int64(n)}); err != nil {
			return Entry{}, err
		}
		return s.linked(links, int64(n), enc, mode)
	default:
		r = bytes.NewReader(head[:n])
	}
	return s.chunks(chunker.Chunks(r, s.Chunk), enc, mode)
}

// chunks stores what cuts yields as a file. Its data is not used after the next
// one is asked for.
func (s *snapshot) chunks(cuts iter.Seq2[chunker.Chunk, error], enc Encoding, mode int) (Entry, error) {
	// One goroutine reads and cuts, the workers hash and store, this one
	// collects the links in their order. What is between is bounded by the
	// memory for batches.
	queue := make(chan *batch, cap(s.hash.room))
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	var readErr error
	go func() {
		defer close(queue)
		readErr = s.cut(ctx, cuts, queue)
	}()
	links := s.links()
	var size int64
	var err error
	for b := range queue {
		<-b.hashed
		for i, id := range b.ids {
			if size += int64(b.sizes[i]); err == nil && size > MaxFileBytes {
				err = fmt.Errorf("more than %d bytes", int64(MaxFileBytes))
			}
			if err == nil {
				err = links.add(Link{CID: Ref{id}, Size: int64(b.sizes[i])})
			}
		}
		if err != nil {
			stop() // and drain: the reader must have ended before r is closed
		}
	}
	switch {
	case err != nil:
		return Entry{}, err
	case context.Cause(s.ctx) != nil:
		return Entry{}, context.Cause(s.ctx)
	case readErr != nil:
		return Entry{}, readErr
	}
	return s.linked(links, size, enc, mode)
}

// cut has chunks hashed, and queues them in their order.
func (s *snapshot) cut(ctx context.Context, cuts iter.Seq2[chunker.Chunk, error], queue chan<- *batch) error {
	var b *batch
	send := func() {
		if b != nil {
			queue <- b // has room for as many as there can be
			s.hash.jobs <- b
			b = nil
		}
	}
	defer send()
	for c, err := range cuts {
		if err != nil {
			return err
		}
		if b != nil && (len(b.data)+len(c.Data) > batchBytes || len(b.sizes) == batchChunks) {
			send()
		}
		if b == nil {
			var ok bool
			if b, ok = s.hash.batch(ctx); !ok {
				return nil
			}
		}
		known := s.zeros.known(c.Data)
		if !known.Defined() {
			b.data = append(b.data, c.Data...)
		}
		b.sizes, b.known = append(b.sizes, len(c.Data)), append(b.known, known)
	}
	return nil
}

// links collects the links of a file's chunks, for linked.
func (s *snapshot) links() *leveled[Link] {
	return &leveled[Link]{marks: linkMarks, weight: linkWeight, emit: func(depth int, run []Link) (Link, error) {
		var size int64
		for _, l := range run {
			size += l.Size
		}
		return s.node(&PartNode{V: 1, Type: "part", Size: size, Depth: depth, Links: run}, size)
	}}
}

// linked stores the nodes of a file that is known by its links, size being the
// sum of theirs. Whoever has the same links makes the same entry. A plain file
// of at most MaxInlineBytes does not come here (see content).
func (s *snapshot) linked(links *leveled[Link], size int64, enc Encoding, mode int) (Entry, error) {
	top, depth, err := links.finish()
	if err != nil {
		return Entry{}, err
	}
	if enc == Plain && depth == 0 && len(top) == 1 && !s.single {
		return Entry{CID: top[0].CID, Size: size, Kind: KindChunk, Mode: mode}, nil
	}
	l, err := s.node(&FileNode{V: 1, Type: "file", Size: size, Mode: mode, Encoding: enc, Depth: depth, Links: top}, size)
	return Entry{CID: l.CID, Size: size, Kind: KindFile}, err
}

func (s *snapshot) node(n Node, size int64) (Link, error) {
	b, err := s.Hash.EncodeNode(n)
	if err != nil {
		return Link{}, err
	}
	s.sink.add(b)
	return Link{CID: Ref{b.ID}, Size: size}, nil
}
