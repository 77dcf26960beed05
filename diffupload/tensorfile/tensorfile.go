// Package tensorfile says where in a model file its tensors lie: safetensors,
// GGUF, and ONNX with its weights in the file or in files beside it.
//
// Spans looks at a file, External at an ONNX model's other files, and Fit lays
// those into a file of some size. Headers come from strangers: every number has
// a bound before anything is allocated for it, weights are not read, and a file
// whose header says what cannot be is an error that matches ErrNotRead.
package tensorfile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"idlewild/internal/gguf"
)

// Bounds of what a header may make us allocate.
const (
	maxTensors = 1 << 17
	maxHeader  = 16 << 20 // of a safetensors file
	maxName    = 1 << 10
)

// padding is what may lie between two tensors and belongs to the first: files
// are aligned to pages.
const padding = 64 << 10

// ErrNotRead is matched by the errors for files in which no tensors were found.
var ErrNotRead = errors.New("no tensors known")

func notRead(why string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNotRead, fmt.Sprintf(why, a...))
}

// Key stands for a tensor's name.
type Key [16]byte

// keyOf is that of a name.
func keyOf(name string) Key {
	sum := sha256.Sum256([]byte(name))
	return Key(sum[:16])
}

// Span is where a tensor lies in its file.
type Span struct {
	Key         Key
	Offset, End int64
}

// Spans returns the tensors of a model, ascending and apart from each other. A
// GGUF or safetensors file is known by how it begins, ONNX by its name.
func Spans(name string, r io.ReaderAt, size int64) ([]Span, error) {
	var head [9]byte
	if n, err := r.ReadAt(head[:], 0); n < len(head) {
		if err == nil || err == io.EOF {
			return nil, notRead("%d bytes", n)
		}
		return nil, err
	}
	switch length := binary.LittleEndian.Uint64(head[:]); {
	case string(head[:4]) == "GGUF":
		return ggufSpans(r, size)
	case head[8] == '{' && length <= uint64(size-8):
		return safetensorsSpans(r, int64(length), size)
	case IsONNX(name):
		m, err := readONNX(r, size)
		if err != nil {
			return nil, err
		}
		return Fit(m.inside, size)
	}
	return nil, notRead("no format of models")
}

// IsONNX tells models in ONNX by their names, for they begin like nothing else.
func IsONNX(name string) bool { return strings.ToLower(path.Ext(name)) == ".onnx" }

// External returns the tensors that an ONNX model keeps in other files, by the
// path from the model's folder to the file. They are to be fitted into it.
func External(r io.ReaderAt, size int64) (map[string][]Span, error) {
	m, err := readONNX(r, size)
	return m.outside, err
}

// Fit sorts spans of a file of size bytes. A span that ends before it begins
// ends where the next one begins. Empty ones are left out; if others overlap or
// lead out of the file, there is no telling what is true.
func Fit(spans []Span, size int64) ([]Span, error) {
	out := slices.DeleteFunc(slices.Clone(spans), func(s Span) bool { return s.Offset == s.End })
	slices.SortFunc(out, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.End, b.End), bytes.Compare(a.Key[:], b.Key[:]))
	})
	out = slices.CompactFunc(out, func(a, b Span) bool { return a.Offset == b.Offset && a.End == b.End }) // one with two names
	for i := range out {
		s, next := &out[i], size
		if s.Offset < 0 || s.Offset >= size {
			return nil, notRead("a tensor at byte %d of %d", s.Offset, size)
		}
		if i+1 < len(out) {
			next = out[i+1].Offset
		}
		if s.End < s.Offset {
			s.End = next
		}
		if s.End > next || s.End == s.Offset {
			return nil, notRead("a tensor that ends at byte %d where another begins at %d", s.End, next)
		}
		if next-s.End < padding {
			s.End = next
		}
	}
	if len(out) == 0 {
		return nil, notRead("there are none in it")
	}
	return out, nil
}

// toNext is the end of a span that reaches to the next one.
const toNext = -1

func ggufSpans(r io.ReaderAt, size int64) ([]Span, error) {
	m, err := gguf.Parse(r, size)
	if err != nil {
		if errors.Is(err, gguf.ErrFormat) {
			err = notRead("%v", err)
		}
		return nil, err
	}
	spans := make([]Span, 0, len(m.Tensors))
	for _, t := range m.Tensors {
		spans = append(spans, Span{keyOf(t.Name), m.Data + int64(t.Offset), toNext})
	}
	return Fit(spans, size)
}
