// Package tensortest writes model files, for tests and benchmarks that need some
// and may not fetch any.
package tensortest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Tensor is one of a model: 16-bit floats, or GGUF's blocks of 32 values in 4
// bits with a scale (Q4_0).
type Tensor struct {
	Name      string
	Dims      []uint64 // the fastest first, as GGUF has them
	Quantised bool
	Data      []byte
}

// Safetensors is the file of tensors in that format; note is in its header.
func Safetensors(note string, tensors []Tensor) []byte {
	type info struct {
		DType   string   `json:"dtype"`
		Shape   []uint64 `json:"shape"`
		Offsets [2]int   `json:"data_offsets"`
	}
	head := map[string]any{"__metadata__": map[string]string{"format": "pt", "note": note}}
	var data []byte
	for _, t := range tensors {
		i := info{DType: "F16", Shape: shape(t), Offsets: [2]int{len(data), len(data) + len(t.Data)}}
		if t.Quantised {
			i.DType, i.Shape = "U8", []uint64{uint64(len(t.Data))}
		}
		head[t.Name] = i
		data = append(data, t.Data...)
	}
	h, err := json.Marshal(head)
	if err != nil {
		panic(err) // there is nothing in it that JSON has not
	}
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}

// shape is the tensor's, the slowest dimension first.
func shape(t Tensor) []uint64 {
	out := slices.Clone(t.Dims)
	slices.Reverse(out)
	return out
}

// GGUF is the file of tensors in that format; note is in its header.
func GGUF(note string, tensors []Tensor) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = le.AppendUint64(le.AppendUint64(b, uint64(len(tensors))), 2)
	b = text(le.AppendUint32(text(b, "general.architecture"), 8), "llama")
	b = text(le.AppendUint32(text(b, "general.description"), 8), note)
	var data []byte
	for _, t := range tensors {
		b = le.AppendUint32(text(b, t.Name), uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = le.AppendUint64(b, d)
		}
		kind := uint32(1) // F16
		if t.Quantised {
			kind = 2 // Q4_0
		}
		b = le.AppendUint64(le.AppendUint32(b, kind), uint64(len(data)))
		data = pad(append(data, t.Data...), 32)
	}
	return append(pad(b, 32), data...)
}

func pad(b []byte, to int) []byte {
	return append(b, make([]byte, (to-len(b)%to)%to)...)
}

// ONNX is a model with the tensors in it.
func ONNX(note string, tensors []Tensor) []byte {
	return onnx(note, tensors, func(m *message, t Tensor) { m.bytes(9, t.Data) })
}

// ONNXBeside is a model whose tensors lie in a file of the given name, and that
// file. Each begins at a page.
func ONNXBeside(note, file string, tensors []Tensor) (model, data []byte) {
	model = onnx(note, tensors, func(m *message, t Tensor) {
		data = pad(data, 4096)
		for _, e := range [][2]string{{"location", file}, {"offset", fmt.Sprint(len(data))}, {"length", fmt.Sprint(len(t.Data))}} {
			var entry message
			entry.bytes(1, []byte(e[0]))
			entry.bytes(2, []byte(e[1]))
			m.bytes(13, entry)
		}
		m.number(14, 1)
		data = append(data, t.Data...)
	})
	return model, data
}

type message []byte

func (m *message) number(field protowire.Number, v uint64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), v)
}

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
}

func onnx(note string, tensors []Tensor, weights func(*message, Tensor)) []byte {
	var model, graph, set message
	graph.bytes(2, []byte("graph"))
	for _, t := range tensors {
		var m message
		for _, d := range shape(t) {
			m.number(1, d)
		}
		m.number(2, 10)
		m.bytes(8, []byte(t.Name))
		weights(&m, t)
		graph.bytes(5, m)
	}
	model.number(1, 7)
	model.bytes(6, []byte(note))
	model.bytes(7, graph)
	set.number(2, 13)
	model.bytes(8, set)
	return bytes.Clone(model)
}
