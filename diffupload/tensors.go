package diffupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"idlewild/chunker"
	"idlewild/diffupload/tensorfile"
)

// A model is cut where its tensors begin, and within a tensor at a fixed
// distance from there: what was trained keeps its shape, so that a tensor's
// pieces are the same wherever it lies, and those of its next version lie as
// they did.
const (
	tensorsFrom = 128 << 10 // a smaller file is cut as any other
	tensorPiece = 256 << 10 // of a tensor; the last may have half more
	tensorSmall = 4 << 10   // smaller ones lie in one piece with their neighbours
	tensorGroup = 16 << 10  // which is then full
)

// models finds the tensors of the files of a folder, also of those that are
// weights of an ONNX model beside them. It is safe for concurrent use.
type models struct {
	open func(name string) (r io.ReaderAt, size int64, done func(), err error)

	onnx    []string // names of the folder's models in ONNX
	once    sync.Once
	outside map[string][]tensorfile.Span // by names of the files they are in
	err     error
}

// maxONNX is how many ONNX models of a folder are asked for files beside them,
// and maxOutside for how many tensors in those.
const (
	maxONNX    = 64
	maxOutside = 1 << 18
)

// add tells of a file of the folder.
func (m *models) add(name string) {
	if tensorfile.IsONNX(name) && len(m.onnx) < maxONNX {
		m.onnx = append(m.onnx, name)
	}
}

// spans returns the tensors in a file, none where none are known.
func (m *models) spans(name string, r io.ReaderAt, size int64) ([]tensorfile.Span, error) {
	if size < tensorsFrom {
		return nil, nil
	}
	spans, err := tensorfile.Spans(name, r, size)
	if err == nil || !errors.Is(err, tensorfile.ErrNotRead) {
		return spans, err
	}
	if m.once.Do(m.look); m.err != nil {
		return nil, m.err
	}
	if spans, err = tensorfile.Fit(m.outside[name], size); err != nil {
		return nil, nil // it has none, or the model says what cannot be
	}
	return spans, nil
}

// look reads where the ONNX models have their weights.
func (m *models) look() {
	m.outside = map[string][]tensorfile.Span{}
	count := 0
	for _, name := range m.onnx {
		r, size, done, err := m.open(name)
		if err != nil {
			m.err = err
			return
		}
		files, err := tensorfile.External(r, size)
		done()
		if err != nil && !errors.Is(err, tensorfile.ErrNotRead) {
			m.err = err
			return
		}
		for _, file := range slices.Sorted(maps.Keys(files)) {
			spans := files[file]
			if count += len(spans); count > maxOutside {
				return
			}
			file = path.Join(path.Dir(name), file)
			m.outside[file] = append(m.outside[file], spans...)
		}
	}
}

// modelsOf are those of files on this machine, by their paths.
func modelsOf(files []File) *models {
	m := &models{open: func(name string) (io.ReaderAt, int64, func(), error) {
		st, err := os.Stat(name)
		if err == nil && !st.Mode().IsRegular() {
			err = ErrNotRegular
		}
		if err != nil {
			return nil, 0, nil, err
		}
		f, err := os.Open(name)
		return f, st.Size(), func() { f.Close() }, err
	}}
	for _, f := range files {
		m.add(modelName(f.Path))
	}
	return m
}

// modelName is what a file of this machine is called among its models.
func modelName(file string) string { return filepath.ToSlash(filepath.Clean(file)) }

// modelsIn are those of a manifest, by their names in it.
func modelsIn(ctx context.Context, store Store, files []Entry) *models {
	m := &models{open: func(name string) (io.ReaderAt, int64, func(), error) {
		i := sort.Search(len(files), func(i int) bool { return files[i].Name >= name })
		if i == len(files) || files[i].Name != name {
			return nil, 0, nil, fmt.Errorf("a manifest is out of order at %s", name)
		}
		f, err := flatten(ctx, store, files[i])
		return newLeafReader(ctx, store, f.leaves), f.size, func() {}, err
	}}
	for _, f := range files {
		m.add(f.Name)
	}
	return m
}

// tensorsOf returns the tensors by which a file is cut. One that is not all there
// yet has holes, which nobody wants to read.
func (s *snapshot) tensorsOf(path string, in *progressReader, f *os.File, size int64) ([]tensorfile.Span, error) {
	if in.holes {
		if from, _, err := nextHole(f, 0, size); err != nil || from < size {
			return nil, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil { // looking moves it
			return nil, err
		}
	}
	return s.models.spans(modelName(path), f, size)
}

// tensors stores a file that is cut by its tensors.
func (s *snapshot) tensors(in *progressReader, spans []tensorfile.Span, st os.FileInfo, mode int) (Entry, error) {
	e, err := s.chunks(cutTensors(in, spans, st.Size(), s.Chunk), Plain, mode)
	if err == nil && e.Size != st.Size() {
		err = ErrChanged
	}
	return e, err
}

// cutTensors cuts a file of size bytes by its tensors; what lies between them,
// as the header does, is cut by its content.
func cutTensors(r io.Reader, spans []tensorfile.Span, size int64, p chunker.Params) iter.Seq2[chunker.Chunk, error] {
	return func(yield func(chunker.Chunk, error) bool) {
		at := int64(0)
		buf := make([]byte, tensorPiece+tensorPiece/2)
		piece := func(n int64) bool {
			k, err := io.ReadFull(r, buf[:n])
			if err == io.ErrUnexpectedEOF || err == io.EOF {
				err = ErrChanged // it was longer when it was looked at
			}
			if err != nil {
				yield(chunker.Chunk{}, err)
				return false
			}
			c := chunker.Chunk{Offset: at, Data: buf[:k]}
			at += n
			return yield(c, nil)
		}
		between := func(to int64) bool {
			from := at
			for c, err := range chunker.Chunks(io.LimitReader(r, to-from), p) {
				if err == nil {
					c.Offset += from
					at += int64(len(c.Data))
				}
				if !yield(c, err) || err != nil {
					return false
				}
			}
			if at < to {
				yield(chunker.Chunk{}, ErrChanged)
			}
			return at == to
		}
		for i := 0; i < len(spans); {
			if s := spans[i]; s.Offset > at && !between(s.Offset) {
				return
			}
			end := spans[i].End
			for i++; i < len(spans) && joins(spans[i-1], spans[i]) && end-at < tensorGroup; i++ {
				end = spans[i].End
			}
			for at < end {
				n := end - at
				if n > tensorPiece+tensorPiece/2 {
					n = tensorPiece
				}
				if !piece(n) {
					return
				}
			}
		}
		if at < size {
			between(size)
		}
	}
}

// joins reports whether two tensors may lie in one piece.
func joins(a, b tensorfile.Span) bool {
	return a.End == b.Offset && a.End-a.Offset < tensorSmall && b.End-b.Offset < tensorSmall
}

// counterparts returns, for each leaf of a model, the leaf of its base in which
// the tensor of the same name has what is at the same place; -1 where there is
// none. It is nil for a file that is no model, or has none as base.
func (e *editor) counterparts(n *newFile) ([]int, error) {
	if n.base < 0 || n.flat.encoding != Plain || n.from.encoding != Plain {
		return nil, nil
	}
	is, err := e.freshModels.spans(e.fresh[n.at].Name, newLeafReader(e.ctx, e.store, n.flat.leaves), n.flat.size)
	if err != nil || len(is) == 0 {
		return nil, err
	}
	was, err := e.oldModels.spans(e.old[n.base].Name, newLeafReader(e.ctx, e.store, n.from.leaves), n.from.size)
	if err != nil || len(was) == 0 {
		return nil, err
	}
	old := make(map[tensorfile.Key]tensorfile.Span, len(was))
	for _, s := range was {
		old[s.Key] = s
	}
	offs := offsets(n.from.leaves)
	out := make([]int, len(n.flat.leaves))
	at := int64(0)
	for i, l := range n.flat.leaves {
		out[i] = -1
		for len(is) > 0 && is[0].End <= at {
			is = is[1:]
		}
		if len(is) > 0 && is[0].Offset <= at {
			o, ok := old[is[0].Key]
			if place := o.Offset + at - is[0].Offset; ok && place < o.End {
				out[i] = sort.Search(len(offs), func(k int) bool { return offs[k] > place }) - 1
			}
		}
		at += l.size
	}
	return out, nil
}
