package diffupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload/imagefile"
)

// materializer writes files out of blocks: one goroutine walks nodes and fills
// windows, some fetch and write them.
type materializer struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	store    Store
	create   func(name string, mode os.FileMode) (*os.File, error) // also called from several goroutines
	scratch  func() string                                         // a path for an opened image, on the same disk
	sync     bool
	progress func(done, total int64)
	bases    *bases // of the walking goroutine; nil: none
	here     Here

	total  int64
	window []piece
	size   int64
	slots  chan struct{}
	wg     sync.WaitGroup

	mu   sync.Mutex
	done int64
}

// piece is where one chunk goes.
type piece struct {
	id   cid.Cid
	size int64
	off  int64
	file *output
	like []cid.Cid // chunks of an earlier version that it may resemble
}

// output is a file that is being written.
type output struct {
	name     string
	mode     os.FileMode
	size     int64
	encoding Encoding // of what is written to f
	here     *os.File // which may hold the same bytes; nil: none does

	mu   sync.Mutex
	f    *os.File
	left int64 // bytes not yet written
}

// close lets go of what o's bytes came from.
func (o *output) close() {
	if o.here != nil {
		o.here.Close()
	}
}

func newMaterializer(ctx context.Context, store Store, progress func(done, total int64)) *materializer {
	m := &materializer{store: store, progress: progress, slots: make(chan struct{}, windows)}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	return m
}

func (m *materializer) run(files []Entry) error {
	defer m.cancel(nil)
	for _, f := range files {
		m.total += f.Size
	}
	open := map[*output]bool{} // outputs not known to be complete
	err := m.walk(files, open)
	if err == nil {
		m.flush()
	} else {
		m.cancel(err)
	}
	m.wg.Wait()
	// What failed first is the cause; cancelling made the rest fail.
	err = context.Cause(m.ctx)
	for o := range open {
		o.mu.Lock()
		if o.f != nil {
			o.f.Close()
			o.close()
			if _, ok := imageFormat(o.encoding); ok {
				os.Remove(o.f.Name())
			}
			if err == nil {
				err = fmt.Errorf("write %s: %d bytes short", o.name, o.left)
			}
		}
		o.mu.Unlock()
	}
	return err
}

func (m *materializer) walk(files []Entry, open map[*output]bool) error {
	for len(files) > 0 {
		batch := files[:min(walkBatch, len(files))]
		files = files[len(batch):]
		nodes, err := m.fileNodes(batch)
		if err != nil {
			return err
		}
		for i, f := range batch {
			n := nodes[i]
			mode := os.FileMode(0o666)
			if n.Mode == 1 {
				mode = 0o777
			}
			out := &output{name: f.Name, mode: mode, size: n.Size, left: n.Size, encoding: n.Encoding}
			w, err := m.open(out)
			if err != nil {
				return fmt.Errorf("write %s: %w", f.Name, err)
			}
			if len(n.Links) == 0 {
				_, err := w.Write(f.Data)
				if err = errors.Join(err, m.complete(out, w)); err != nil {
					return fmt.Errorf("write %s: %w", f.Name, err)
				}
				m.wrote(f.Size)
				continue
			}
			out.f, out.here = w, m.here.open(f.Name, n.Encoding)
			open[out] = true
			if m.bases.coming(out.name, out.size) {
				m.settle()
			}
			if err := m.links(out, 0, n.Depth, n.Links); err != nil {
				return err
			}
			for o := range open {
				o.mu.Lock()
				if o.f == nil {
					delete(open, o)
				}
				o.mu.Unlock()
			}
		}
	}
	return nil
}

// fileNodes returns each file's node, or one that says of a file without a node
// what it would say. That of a file whose bytes are in its entry, or that has
// none, has no links.
func (m *materializer) fileNodes(files []Entry) ([]*FileNode, error) {
	var ids []cid.Cid
	for _, f := range files {
		if f.Kind == KindFile {
			ids = append(ids, f.CID.Cid)
		}
	}
	nodes, err := fetchNodes(m.ctx, m.store, ids)
	if err != nil {
		return nil, err
	}
	out := make([]*FileNode, len(files))
	for i, f := range files {
		switch f.Kind {
		case KindInline:
			out[i] = &FileNode{Size: f.Size, Mode: f.Mode}
		case KindChunk:
			out[i] = &FileNode{Size: f.Size, Mode: f.Mode, Links: []Link{{CID: f.CID, Size: f.Size}}}
		default:
			n, ok := nodes[0].(*FileNode)
			if !ok || n.Size != f.Size {
				return nil, fmt.Errorf("file %q of the manifest is not what its entry says", f.Name)
			}
			out[i], nodes = n, nodes[1:]
		}
	}
	return out, nil
}

// links walks a file's links in order.
func (m *materializer) links(out *output, off int64, depth int, links []Link) error {
	if depth == 0 {
		for _, l := range links {
			like := m.bases.of(out.name, off, out.size)
			if err := m.piece(piece{l.CID.Cid, l.Size, off, out, like}); err != nil {
				return err
			}
			off += l.Size
		}
		return nil
	}
	const ahead = 4 // part nodes at once: some 250 kB
	for len(links) > 0 {
		batch := links[:min(ahead, len(links))]
		links = links[len(batch):]
		ids := make([]cid.Cid, len(batch))
		for i, l := range batch {
			ids[i] = l.CID.Cid
		}
		nodes, err := fetchNodes(m.ctx, m.store, ids)
		if err != nil {
			return err
		}
		for i, l := range batch {
			n, ok := nodes[i].(*PartNode)
			if !ok || n.Size != l.Size || n.Depth != depth-1 {
				return fmt.Errorf("part %s of %q is not what its link says", l.CID, out.name)
			}
			if err := m.links(out, off, n.Depth, n.Links); err != nil {
				return err
			}
			off += l.Size
		}
	}
	return nil
}

func (m *materializer) piece(p piece) error {
	m.window = append(m.window, p)
	m.size += p.size
	if len(m.window) >= windowBlocks || m.size >= windowBytes {
		m.flush()
	}
	return context.Cause(m.ctx)
}

// flush hands the window over, waiting while too many are in flight.
func (m *materializer) flush() {
	if len(m.window) == 0 {
		return
	}
	window := m.window
	m.window, m.size = nil, 0
	select {
	case m.slots <- struct{}{}:
	case <-m.ctx.Done():
		return
	}
	m.wg.Go(func() {
		defer func() { <-m.slots }()
		if err := m.write(window); err != nil {
			m.cancel(err)
		}
	})
}

// settle waits until all that was asked for is here.
func (m *materializer) settle() {
	m.flush()
	taken := 0
	for taken < cap(m.slots) {
		select {
		case m.slots <- struct{}{}:
			taken++
			continue
		case <-m.ctx.Done():
		}
		break
	}
	for range taken {
		<-m.slots
	}
}

func (m *materializer) write(window []piece) error {
	window, err := m.fromHere(window)
	if err != nil {
		return err
	}
	places := make(map[cid.Cid][]piece, len(window))
	var wants []Want
	for _, p := range window {
		if places[p.id] == nil {
			wants = append(wants, Want{ID: p.id, Bases: p.like})
		}
		places[p.id] = append(places[p.id], p)
	}
	return fetchAll(m.ctx, m.store, wants, func(b Block) error {
		for _, p := range places[b.ID] {
			if int64(len(b.Data)) != p.size {
				return fmt.Errorf("chunk %s of %q has %d bytes, its link says %d", b.ID, p.file.name, len(b.Data), p.size)
			}
			if err := m.put(p, b.Data); err != nil {
				return fmt.Errorf("write %s: %w", p.file.name, err)
			}
		}
		return nil
	})
}

func (m *materializer) put(p piece, data []byte) error {
	o := p.file
	o.mu.Lock()
	f := o.f
	o.mu.Unlock()
	if f == nil {
		return os.ErrClosed
	}
	if _, err := f.WriteAt(data, p.off); err != nil {
		return err
	}
	o.mu.Lock()
	o.left -= p.size
	whole := o.left == 0
	if whole {
		o.f = nil
	}
	o.mu.Unlock()
	var err error
	if whole {
		o.close()
		err = m.complete(o, f)
	}
	m.wrote(p.size)
	return err
}

func (m *materializer) wrote(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
}

// open makes the file that the chunks of o are written to.
func (m *materializer) open(o *output) (*os.File, error) {
	if _, ok := imageFormat(o.encoding); ok {
		return os.OpenFile(m.scratch(), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	}
	return m.create(o.name, o.mode)
}

// complete makes the file of what was written to f.
func (m *materializer) complete(o *output, f *os.File) error {
	format, ok := imageFormat(o.encoding)
	if !ok {
		return m.finish(f)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w, err := m.create(o.name, o.mode)
	if err != nil {
		return err
	}
	// As Rebuild says.
	if err := imagefile.Rebuild(w, f, format, o.size*9/4+1<<16); err != nil {
		w.Close()
		return err
	}
	return m.finish(w)
}

// imageFormat tells the encodings of which Materialize makes an image.
func imageFormat(e Encoding) (imagefile.Format, bool) {
	return imagefile.Format(e), e == PNGOpen || e == EXROpen
}

func (m *materializer) finish(f *os.File) error {
	var err error
	if m.sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
