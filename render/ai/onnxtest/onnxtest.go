// Package onnxtest writes small ONNX models, for tests and benchmarks that
// need one and may not fetch any.
package onnxtest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"
)

// Graph is a model in the making. The zero value is an empty one.
type Graph struct {
	Opset   int64  // 0: 13
	Domain  string // of a further set of operators that it says it needs
	nodes   []byte
	weights []byte
	in, out []byte
}

// Types of elements.
const (
	Float = 1
	Int64 = 7
	Text  = 8
)

type message []byte

func (m *message) number(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
}

func (m *message) text(field protowire.Number, s string) { m.bytes(field, []byte(s)) }

// Input declares one. A dim is a number or a name.
func (g *Graph) Input(name string, elem int64, dims ...any) { g.value(&g.in, 11, name, elem, dims) }

// Output declares one.
func (g *Graph) Output(name string, elem int64, dims ...any) { g.value(&g.out, 12, name, elem, dims) }

func (g *Graph) value(to *[]byte, field protowire.Number, name string, elem int64, dims []any) {
	var shape, tensor, kind, v message
	for _, d := range dims {
		var dim message
		switch d := d.(type) {
		case int:
			dim.number(1, int64(d))
		case string:
			dim.text(2, d)
		}
		shape.bytes(1, dim)
	}
	tensor.number(1, elem)
	tensor.bytes(2, shape)
	kind.bytes(1, tensor)
	v.text(1, name)
	v.bytes(2, kind)
	(*message)(to).bytes(field, v)
}

// Weight adds a constant of 32-bit floats.
func (g *Graph) Weight(name string, data []float32, dims ...int64) {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	g.constant(name, Float, raw, dims)
}

// Ints adds a constant of integers.
func (g *Graph) Ints(name string, data ...int64) {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	g.constant(name, Int64, raw, []int64{int64(len(data))})
}

func (g *Graph) constant(name string, elem int64, raw []byte, dims []int64) {
	var t message
	for _, d := range dims {
		t.number(1, d)
	}
	t.number(2, elem)
	t.text(8, name)
	t.bytes(9, raw)
	(*message)(&g.weights).bytes(5, t)
}

// External adds a constant whose values lie in another file.
func (g *Graph) External(name, location string, dims ...int64) {
	var t, entry message
	for _, d := range dims {
		t.number(1, d)
	}
	t.number(2, Float)
	t.text(8, name)
	entry.text(1, "location")
	entry.text(2, location)
	t.bytes(13, entry)
	t.number(14, 1)
	(*message)(&g.weights).bytes(5, t)
}

// Attr is a setting of an operation: a whole number, several, or a text.
type Attr struct {
	Name string
	Int  int64
	Ints []int64
	Text string
}

// Node adds an operation.
func (g *Graph) Node(op string, in, out []string, attrs ...Attr) {
	g.Foreign("", op, in, out, attrs...)
}

// Foreign adds an operation of another set.
func (g *Graph) Foreign(domain, op string, in, out []string, attrs ...Attr) {
	var n message
	for _, s := range in {
		n.text(1, s)
	}
	for _, s := range out {
		n.text(2, s)
	}
	n.text(4, op)
	for _, a := range attrs {
		var m message
		m.text(1, a.Name)
		switch {
		case a.Text != "":
			m.text(4, a.Text)
			m.number(20, 3)
		case a.Ints != nil:
			for _, v := range a.Ints {
				m.number(8, v)
			}
			m.number(20, 7)
		default:
			m.number(3, a.Int)
			m.number(20, 2)
		}
		n.bytes(5, m)
	}
	if domain != "" {
		n.text(7, domain)
	}
	(*message)(&g.nodes).bytes(1, n)
}

// Bytes is the model's file.
func (g *Graph) Bytes() []byte {
	graph := message(append([]byte(nil), g.nodes...))
	graph.text(2, "graph")
	graph = append(append(append(graph, g.weights...), g.in...), g.out...)
	opset := g.Opset
	if opset == 0 {
		opset = 13
	}
	var m, set message
	m.number(1, 7)
	m.text(2, "idlewild")
	m.bytes(7, graph)
	set.text(1, "")
	set.number(2, opset)
	m.bytes(8, set)
	if g.Domain != "" {
		var more message
		more.text(1, g.Domain)
		more.number(2, 1)
		m.bytes(8, more)
	}
	return m
}

// noise are n numbers of the size that keeps sums over fan of them near one.
func noise(rng *rand.Rand, n, fan int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64() / math.Sqrt(float64(fan)))
	}
	return out
}

// Dense is a network of random weights from "x" of in numbers to "y" of out
// numbers, with layers of hidden numbers between; the same seed is the same
// network. change, if there is one, may alter the weights of each layer.
func Dense(seed uint64, in, hidden, layers, out int, change ...func(weights []float32)) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	var g Graph
	g.Input("x", Float, "n", in)
	g.Output("y", Float, "n", out)
	at, size := "x", in
	for i := range layers + 1 {
		to, name := hidden, string(rune('a'+i))
		if i == layers {
			to = out
		}
		weights := noise(rng, size*to, size)
		for _, f := range change {
			f(weights)
		}
		g.Weight(name+"w", weights, int64(size), int64(to))
		g.Weight(name+"b", noise(rng, to, 10), int64(to))
		g.Node("MatMul", []string{at, name + "w"}, []string{name + "m"})
		next := name + "s"
		if i == layers {
			g.Node("Add", []string{name + "m", name + "b"}, []string{"y"})
			break
		}
		g.Node("Add", []string{name + "m", name + "b"}, []string{next})
		g.Node("Tanh", []string{next}, []string{name + "t"})
		at, size = name+"t", to
	}
	return g.Bytes()
}

// Embedder is a network of random weights from "input_ids", tokens below vocab,
// to an embedding of size numbers for each of them.
func Embedder(seed uint64, vocab, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	var g Graph
	g.Input("input_ids", Int64, "n", "tokens")
	g.Output("token_embeddings", Float, "n", "tokens", size)
	g.Weight("table", noise(rng, vocab*size, 1), int64(vocab), int64(size))
	g.Weight("w", noise(rng, size*size, size), int64(size), int64(size))
	g.Node("Gather", []string{"table", "input_ids"}, []string{"e"})
	g.Node("MatMul", []string{"e", "w"}, []string{"m"})
	g.Node("Tanh", []string{"m"}, []string{"token_embeddings"})
	return g.Bytes()
}

// LargeUpscaler has as many numbers as the network that bench/ai/train.py trains,
// 48 772 in five convolutions, and so takes its time; they are random.
func LargeUpscaler(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	var g Graph
	g.Input("image", Float, "n", 3, "h", "w")
	g.Output("upscaled", Float, "n", 3, "h2", "w2")
	g.Weight("twice", []float32{1, 1, 2, 2}, 4)
	sizes, from := []int64{3, 40, 40, 40, 40, 12}, "image"
	for i, to := range sizes[1:] {
		in, name := sizes[i], string(rune('a'+i))
		damping := int(9 * in)
		if to == 12 {
			damping *= 1000 // little beside the picture itself
		}
		g.Weight(name+"w", noise(rng, int(to*in*9), damping), to, in, 3, 3)
		g.Weight(name+"b", noise(rng, int(to), 1e6), to)
		g.Node("Conv", []string{from, name + "w", name + "b"}, []string{name}, Attr{Name: "kernel_shape", Ints: []int64{3, 3}}, Attr{Name: "pads", Ints: []int64{1, 1, 1, 1}})
		from = name
		if to != 12 {
			from += "r"
			g.Node("Relu", []string{name}, []string{from})
		}
	}
	g.Node("DepthToSpace", []string{from}, []string{"s"}, Attr{Name: "blocksize", Int: 2}, Attr{Name: "mode", Text: "CRD"})
	g.Node("Resize", []string{"image", "", "twice"}, []string{"big"}, Attr{Name: "mode", Text: "nearest"},
		Attr{Name: "coordinate_transformation_mode", Text: "asymmetric"}, Attr{Name: "nearest_mode", Text: "floor"})
	g.Node("Add", []string{"s", "big"}, []string{"upscaled"})
	return g.Bytes()
}

// Upscaler is a network that makes pictures twice as large: two convolutions
// of random weights, pixel shuffle, and the nearest pixel added.
func Upscaler(seed uint64) []byte {
	const width = 8
	rng := rand.New(rand.NewPCG(seed, 2))
	var g Graph
	g.Input("image", Float, "n", 3, "h", "w")
	g.Output("upscaled", Float, "n", 3, "h2", "w2")
	g.Weight("aw", noise(rng, width*3*9, 27), width, 3, 3, 3)
	g.Weight("bw", noise(rng, 12*width*25, 4000), 12, width, 5, 5)
	g.Weight("twice", []float32{1, 1, 2, 2}, 4)
	g.Node("Conv", []string{"image", "aw"}, []string{"a"}, Attr{Name: "kernel_shape", Ints: []int64{3, 3}}, Attr{Name: "pads", Ints: []int64{1, 1, 1, 1}})
	g.Node("Relu", []string{"a"}, []string{"r"})
	g.Node("Conv", []string{"r", "bw"}, []string{"b"}, Attr{Name: "kernel_shape", Ints: []int64{5, 5}}, Attr{Name: "pads", Ints: []int64{2, 2, 2, 2}})
	g.Node("DepthToSpace", []string{"b"}, []string{"s"}, Attr{Name: "blocksize", Int: 2}, Attr{Name: "mode", Text: "CRD"})
	g.Node("Resize", []string{"image", "", "twice"}, []string{"big"}, Attr{Name: "mode", Text: "nearest"},
		Attr{Name: "coordinate_transformation_mode", Text: "asymmetric"}, Attr{Name: "nearest_mode", Text: "floor"})
	g.Node("Add", []string{"s", "big"}, []string{"upscaled"})
	return g.Bytes()
}
