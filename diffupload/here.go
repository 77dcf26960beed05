package diffupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/ipfs/go-cid"
)

// Here is what of a manifest lies on this machine already, outside of the
// store, by the names in the manifest. The zero value is nothing.
type Here struct {
	// Open opens the file that may be the one of that name; nil: there is none.
	// Each chunk that is taken from it is checked, and what is not right comes
	// from the store. It may be nil, and is called from one goroutine.
	Open func(name string) *os.File
	// InPlace are files that are not written: an empty one stands where they
	// belong, and whoever shows the folder puts them there.
	InPlace map[string]bool
}

// open is Open of a file whose chunks are its own bytes.
func (h Here) open(name string, e Encoding) *os.File {
	if h.Open == nil || e != Plain {
		return nil
	}
	return h.Open(name)
}

// leave makes an empty file of each that is used in place, and returns the
// others.
func (h Here) leave(files []Entry, create func(name string, mode os.FileMode) (*os.File, error)) ([]Entry, error) {
	if len(h.InPlace) == 0 {
		return files, nil
	}
	var rest []Entry
	for _, f := range files {
		if !h.InPlace[f.Name] {
			rest = append(rest, f)
			continue
		}
		w, err := create(f.Name, 0o444)
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return rest, nil
}

// Compare's errors about a file that is not what its entry says, and about one of
// which that cannot be told.
var (
	ErrDiffers   = errors.New("it is not the same file")
	ErrOtherForm = errors.New("the manifest does not have the file's own bytes")
)

// Compare looks whether f holds the bytes of a file that List found: at that many
// chunks drawn at random, the first and the last among them, and then, where all
// is set, at every one. store has, or fetches, the file's nodes; its chunks are
// not asked for. It returns how many bytes were read. ErrDiffers says that f is
// another file, ErrOtherForm that the manifest has it in a form of its own.
func Compare(ctx context.Context, store Store, e Entry, f io.ReaderAt, draws int, all bool) (read int64, err error) {
	c := comparing{ctx: ctx, store: store, f: f}
	if err := c.top(e); err != nil {
		return 0, err
	}
	for i := range draws {
		off := int64(0)
		switch {
		case c.size == 0:
			return 0, nil
		case i == 1:
			off = c.size - 1
		case i > 1:
			off = rand.Int64N(c.size)
		}
		if err := c.at(off); err != nil {
			return c.read, err
		}
	}
	if all {
		err = c.below(0, c.depth, c.links)
	}
	return c.read, err
}

// comparing is one run of Compare.
type comparing struct {
	ctx   context.Context
	store Store
	f     io.ReaderAt
	size  int64
	depth int
	links []Link
	buf   []byte
	read  int64
}

// top reads what the entry leads to.
func (c *comparing) top(e Entry) error {
	c.size = e.Size
	switch e.Kind {
	case KindChunk:
		c.links = []Link{{CID: e.CID, Size: e.Size}}
		return nil
	case KindFile:
	default:
		return ErrOtherForm
	}
	nodes, err := fetchNodes(c.ctx, c.store, []cid.Cid{e.CID.Cid})
	if err != nil {
		return err
	}
	n, ok := nodes[0].(*FileNode)
	switch {
	case !ok || n.Size != e.Size:
		return fmt.Errorf("file %q of the manifest is not what its entry says", e.Name)
	case n.Encoding != Plain:
		return ErrOtherForm
	}
	c.depth, c.links = n.Depth, n.Links
	return nil
}

// part reads the node of a link to links of that depth.
func (c *comparing) part(l Link, depth int) (*PartNode, error) {
	nodes, err := fetchNodes(c.ctx, c.store, []cid.Cid{l.CID.Cid})
	if err != nil {
		return nil, err
	}
	n, ok := nodes[0].(*PartNode)
	if !ok || n.Size != l.Size || n.Depth != depth {
		return nil, fmt.Errorf("part %s is not what its link says", l.CID)
	}
	return n, nil
}

// at compares the chunk in which off lies.
func (c *comparing) at(off int64) error {
	links, at := c.links, int64(0)
	for depth := c.depth; ; depth-- {
		i := 0
		for ; i < len(links) && off >= at+links[i].Size; i++ {
			at += links[i].Size
		}
		if i == len(links) {
			return fmt.Errorf("a file of the manifest has no chunk at %d", off)
		}
		if depth == 0 {
			return c.chunk(links[i], at)
		}
		n, err := c.part(links[i], depth-1)
		if err != nil {
			return err
		}
		links = n.Links
	}
}

// below compares every chunk from off on.
func (c *comparing) below(off int64, depth int, links []Link) error {
	for _, l := range links {
		if depth == 0 {
			if err := c.chunk(l, off); err != nil {
				return err
			}
		} else if n, err := c.part(l, depth-1); err != nil {
			return err
		} else if err := c.below(off, depth-1, n.Links); err != nil {
			return err
		}
		off += l.Size
	}
	return nil
}

// chunk compares one chunk.
func (c *comparing) chunk(l Link, off int64) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	b, err := readChunk(c.f, l.CID.Cid, l.Size, off, &c.buf)
	c.read += int64(len(b))
	return err
}

// readChunk reads a chunk where it should lie in a file; the bytes are in buf.
func readChunk(f io.ReaderAt, id cid.Cid, size, off int64, buf *[]byte) ([]byte, error) {
	if size < 0 || size > MaxBlockBytes {
		return nil, fmt.Errorf("chunk %s of %d bytes, at most %d are allowed", id, size, MaxBlockBytes)
	}
	if int64(cap(*buf)) < size {
		*buf = make([]byte, size)
	}
	b := (*buf)[:size]
	n, err := f.ReadAt(b, off)
	if n < len(b) {
		if err == nil || err == io.EOF {
			return b[:n], fmt.Errorf("%w: it is shorter", ErrDiffers)
		}
		return b[:n], err
	}
	if err := VerifyBlock(id, b); err != nil {
		return b, fmt.Errorf("%w: other bytes at %d", ErrDiffers, off)
	}
	return b, nil
}

// fromHere writes those of the chunks that lie in files of this machine, and
// returns the others.
func (m *materializer) fromHere(window []piece) ([]piece, error) {
	var rest []piece
	var buf []byte
	for _, p := range window {
		if p.file.here == nil {
			rest = append(rest, p)
			continue
		}
		if err := m.ctx.Err(); err != nil {
			return nil, context.Cause(m.ctx)
		}
		b, err := readChunk(p.file.here, p.id, p.size, p.off, &buf)
		if err != nil {
			rest = append(rest, p)
			continue
		}
		if err := m.put(p, b); err != nil {
			return nil, fmt.Errorf("write %s: %w", p.file.name, err)
		}
	}
	return rest, nil
}

// known names, in a StatCache, files that were compared with a content.
const known = "the same as "

// Compared reports whether all of a file was found to be the content of an entry
// when it looked as it does now.
func (c *StatCache) Compared(path string, now Stamp, e Entry) bool {
	if c == nil {
		return false
	}
	was, ok := c.get(known+e.CID.String()+" ", path, now)
	return ok && was.Same(Entry{CID: e.CID, Size: e.Size, Kind: e.Kind})
}

// SetCompared remembers that all of a file, which looked like that, was found to
// be the content of an entry by a reading that began at scan.
func (c *StatCache) SetCompared(path string, s Stamp, scan time.Time, e Entry) {
	if c != nil {
		c.put(known+e.CID.String()+" ", path, s, scan, Entry{CID: e.CID, Size: e.Size, Kind: e.Kind})
	}
}
