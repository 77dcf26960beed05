package diffupload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"

	"idlewild/chunker"
)

// content stores a stream as a file, a small one without any block.
func (s *snapshot) content(r io.Reader, enc Encoding, mode int) (Entry, error) {
	if enc == Plain && !s.single {
		head := make([]byte, MaxInlineBytes+1)
		n, err := io.ReadFull(r, head)
		switch err {
		case nil:
			r = io.MultiReader(bytes.NewReader(head), r)
		case io.EOF, io.ErrUnexpectedEOF:
			return Entry{Size: int64(n), Kind: KindInline, Mode: mode, Data: head[:n:n]}, nil
		default:
			return Entry{}, err
		}
	}
	return s.chunks(chunker.Chunks(r, s.Chunk), enc, mode)
}

// chunks stores what cuts yields as a file. Its data is not used after the next
// one is asked for.
func (s *snapshot) chunks(cuts iter.Seq2[chunker.Chunk, error], enc Encoding, mode int) (Entry, error) {
	// One goroutine reads and cuts, the workers hash, this one collects the
	// links in their order. The queue bounds what is between.
	queue := make(chan *hashJob, 2*runtime.GOMAXPROCS(0))
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	var readErr error
	go func() {
		defer close(queue)
		for c, err := range cuts {
			if err != nil {
				readErr = err
				return
			}
			j := &hashJob{data: s.sink.buffer(c.Data), size: int64(len(c.Data)), done: make(chan struct{})}
			select {
			case queue <- j:
			case <-ctx.Done():
				return
			}
			s.hash.jobs <- j
		}
	}()
	links := s.links()
	var size int64
	var err error
	for j := range queue {
		<-j.done
		if size += j.size; err == nil && size > MaxFileBytes {
			err = fmt.Errorf("more than %d bytes", int64(MaxFileBytes))
		}
		if err == nil {
			err = links.add(Link{CID: Ref{j.id}, Size: j.size})
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
	b, err := EncodeNode(n)
	if err != nil {
		return Link{}, err
	}
	s.sink.add(b.ID, b.Data)
	return Link{CID: Ref{b.ID}, Size: size}, nil
}
