// Package gguf reads the headers of language models in the GGUF format, of
// version 2 and 3. They come from strangers: weights are not read, and what is
// read has bounds.
package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Bounds of what a file's header may make us read.
const (
	maxKeys    = 1 << 14
	maxTensors = 1 << 17
	maxHeader  = 1 << 30 // bytes of keys and tensors' descriptions
	maxText    = 1 << 24
	maxElems   = 1 << 24 // of an array
	maxRank    = 8
	maxNested  = 4
	maxNames   = 1 << 24 // bytes of the tensors' names together
)

// ErrFormat is matched by the errors for files that are no GGUF model.
var ErrFormat = errors.New("no GGUF model")

func format(why string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(why, a...))
}

// Model is what a GGUF file says of itself.
type Model struct {
	Architecture string
	Name         string
	Context      int    // tokens that it was made for; 0: not said
	Template     string // of its chats, in Jinja; "": it brings none
	Vocabulary   int    // tokens of its tokenizer; 0: it has none
	Pools        bool   // it says how tokens' embeddings become a text's
	Parts        int    // files that it was split into; 0 and 1: it is whole
	Tensors      []Tensor
	Data         int64 // where the first tensor may begin
}

// Tensor is one array of weights.
type Tensor struct {
	Name   string
	Type   uint32
	Dims   []uint64
	Offset uint64 // from Model.Data
}

// Read looks at the model in a file. It is hostile input: its weights are not
// read, and what is read has bounds.
func Read(file string) (*Model, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, format("not a regular file")
	}
	return Parse(f, fi.Size())
}

// Parse looks at the model in r.
func Parse(r io.ReaderAt, size int64) (*Model, error) {
	h := &header{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, min(size, maxHeader)), 1<<16)}
	m := h.model(size)
	if h.err != nil {
		if errors.Is(h.err, io.EOF) || errors.Is(h.err, io.ErrUnexpectedEOF) {
			return nil, format("it ends in the middle of its header")
		}
		return nil, h.err
	}
	return m, nil
}

// header reads values one after the other; after the first error all are zero.
type header struct {
	r   *bufio.Reader
	at  int64
	err error
	buf [8]byte
}

func (h *header) fail(why string, a ...any) {
	if h.err == nil {
		h.err = format(why, a...)
	}
}

func (h *header) bytes(n int) []byte {
	if h.err != nil {
		return h.buf[:0]
	}
	_, h.err = io.ReadFull(h.r, h.buf[:n])
	h.at += int64(n)
	return h.buf[:n]
}

func (h *header) u32() uint32 {
	if b := h.bytes(4); len(b) == 4 {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (h *header) u64() uint64 {
	if b := h.bytes(8); len(b) == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (h *header) skip(n int64) {
	if h.err != nil {
		return
	}
	var k int64
	k, h.err = io.CopyN(io.Discard, h.r, n)
	h.at += k
}

// text reads a text; what is longer than keep is passed over.
func (h *header) text(keep int) string {
	n := h.u64()
	if n > maxText {
		h.fail("a text of %d bytes", n)
		return ""
	}
	if n > uint64(keep) {
		h.skip(int64(n))
		return ""
	}
	if h.err != nil {
		return ""
	}
	b := make([]byte, n)
	_, h.err = io.ReadFull(h.r, b)
	h.at += int64(n)
	return string(b)
}

// Types of values, by GGUF's numbers.
const (
	typeText  = 8
	typeArray = 9
)

var sizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// value reads one: a number or a text. Arrays are passed over, and come back
// as how long they are.
func (h *header) value(sort uint32, depth int) (number uint64, text string) {
	switch sort {
	case typeText:
		return 0, h.text(1 << 20)
	case typeArray:
		of, n := h.u32(), h.u64()
		if depth >= maxNested || n > maxElems {
			h.fail("an array of %d elements, %d deep", n, depth)
			return 0, ""
		}
		if size := sizes[of]; size > 0 {
			h.skip(size * int64(n))
			return n, ""
		}
		if of != typeText && of != typeArray {
			h.fail("values of the type %d", of)
		}
		for i := uint64(0); i < n && h.err == nil; i++ {
			if of == typeText {
				h.text(0)
			} else {
				h.value(of, depth+1)
			}
		}
		return n, ""
	}
	switch sizes[sort] {
	case 1:
		if b := h.bytes(1); len(b) == 1 {
			number = uint64(b[0])
		}
	case 2:
		if b := h.bytes(2); len(b) == 2 {
			number = uint64(binary.LittleEndian.Uint16(b))
		}
	case 4:
		number = uint64(h.u32())
	case 8:
		number = h.u64()
	default:
		h.fail("a value of the type %d", sort)
	}
	return number, ""
}

func (h *header) model(size int64) *Model {
	var m Model
	if magic := h.bytes(4); h.err == nil && string(magic) != "GGUF" {
		h.fail("it does not begin with GGUF")
	}
	if v := h.u32(); h.err == nil && v != 2 && v != 3 {
		h.fail("version %d of the format, 2 and 3 are known", v)
	}
	tensors, keys := h.u64(), h.u64()
	if tensors > maxTensors || keys > maxKeys {
		h.fail("%d tensors and %d keys", tensors, keys)
	}
	align := uint64(32)
	for i := uint64(0); i < keys && h.err == nil; i++ {
		key := h.text(1 << 10)
		number, text := h.value(h.u32(), 0)
		switch key {
		case "general.architecture":
			m.Architecture = text
		case "general.name":
			m.Name = text
		case "general.alignment":
			if align = number; align < 8 || align > 1<<20 || align&(align-1) != 0 {
				h.fail("an alignment of %d", align)
			}
		case "split.count":
			m.Parts = int(number)
		case "tokenizer.chat_template":
			m.Template = text
		case "tokenizer.ggml.tokens":
			m.Vocabulary = int(number)
		case m.Architecture + ".context_length":
			m.Context = int(min(number, 1<<24))
		case m.Architecture + ".pooling_type":
			m.Pools = number > 0
		}
	}
	names := 0
	for i := uint64(0); i < tensors && h.err == nil; i++ {
		t := Tensor{Name: h.text(1 << 10)}
		if names += len(t.Name); names > maxNames {
			h.fail("names of more than %d bytes", maxNames)
			break
		}
		rank := h.u32()
		if rank > maxRank {
			h.fail("tensor %q with %d dimensions", t.Name, rank)
			break
		}
		for range rank {
			t.Dims = append(t.Dims, h.u64())
		}
		t.Type, t.Offset = h.u32(), h.u64()
		m.Tensors = append(m.Tensors, t)
	}
	if h.err != nil {
		return nil
	}
	m.Data = (h.at + int64(align) - 1) / int64(align) * int64(align)
	for _, t := range m.Tensors {
		if m.Data > size || t.Offset >= uint64(size-m.Data)+1 {
			h.fail("tensor %q begins behind the end of the file", t.Name)
			return nil
		}
	}
	if m.Architecture == "" {
		h.fail("it does not say which architecture it is")
		return nil
	}
	return &m
}
