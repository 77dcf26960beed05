package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Reach is how far pixels of a picture influence each other on the way through
// a model that makes a picture of one: the receptive field. Where it is known,
// a tile that is given so many more pixels on each side is the whole's, to the
// rounding of sums.
type Reach struct {
	Known bool
	Why   string // it is not known
	// Radius in pixels of the input, rounded up.
	Radius int
	// Scale is the width of the output over that of the input.
	Scale float64
	// Align is the number of pixels by which a tile may be moved without
	// another result: the product of all strides.
	Align int
}

// walk follows the first input through the operations, in their order.
type walk struct {
	constants map[string]tensor
	at        map[string]place
	why       string
	align     float64
}

// place is how a tensor lies to the input.
type place struct {
	radius float64 // in pixels of the input
	scale  float64 // its width over the input's
}

func newWalk() *walk {
	return &walk{constants: map[string]tensor{}, at: map[string]place{}, align: 1}
}

func (w *walk) begin(inputs []Value) {
	n := 0
	for _, v := range inputs {
		if len(v.Dims) == 4 {
			w.at[v.Name] = place{scale: 1}
			n++
		}
	}
	if n != 1 {
		w.why = "it has no single input that is a picture"
	}
}

// elementwise operations look at one place only.
var elementwise = []string{
	"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Gelu", "HardSigmoid", "HardSwish",
	"Softplus", "Softsign", "Mish", "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "Min", "Max", "Abs", "Neg", "Exp",
	"Log", "Sqrt", "Pow", "Erf", "Floor", "Ceil", "Round", "Identity", "Cast", "Dropout", "BatchNormalization",
	"QuantizeLinear", "DequantizeLinear", "Sum", "Mean",
}

func (w *walk) step(n node) {
	if n.op == "Constant" && n.domain == "" {
		if n.value != nil && len(n.out) == 1 {
			w.constants[n.out[0]] = *n.value
		}
		return
	}
	// What it is given of the picture, at worst.
	var from []place
	for _, name := range n.in {
		if p, ok := w.at[name]; ok {
			from = append(from, p)
		}
	}
	if len(from) == 0 || w.why != "" {
		return
	}
	p := from[0]
	for _, q := range from[1:] {
		if q.scale != p.scale {
			w.why = fmt.Sprintf("%s joins pictures of several sizes", n.op)
			return
		}
		p.radius = max(p.radius, q.radius)
	}
	if why := w.apply(n, &p); why != "" {
		w.why = why
		return
	}
	if p.scale < 1/w.align {
		w.align = 1 / p.scale
	}
	for _, name := range n.out {
		w.at[name] = p
	}
}

// apply moves p through n; it says why that cannot be followed.
func (w *walk) apply(n node, p *place) string {
	first := func(name string, i int, def int64) float64 {
		if v := n.ints[name]; i < len(v) {
			return float64(v[i])
		}
		return float64(def)
	}
	switch {
	case n.domain == "" && slices.Contains(elementwise, n.op):
	case n.op == "Concat" || n.op == "Split":
		if first("axis", 0, 0) != 1 {
			return n.op + " is not along the channels"
		}
	case n.op == "Conv" || n.op == "MaxPool" || n.op == "AveragePool" || n.op == "ConvTranspose":
		kernel := n.ints["kernel_shape"]
		if len(kernel) == 0 && len(n.in) > 1 {
			if t, ok := w.constants[n.in[1]]; ok && len(t.dims) == 4 {
				kernel = t.dims[2:]
			}
		}
		if len(kernel) != 2 {
			return n.op + " has a kernel that is not known"
		}
		if n.ints["strides"] != nil && first("strides", 0, 1) != first("strides", 1, 1) {
			return n.op + " has another stride along than down"
		}
		stride := max(first("strides", 0, 1), 1)
		span := 0.0
		for i, k := range kernel {
			span = max(span, float64(k-1)*max(first("dilations", i, 1), 1))
		}
		if n.op == "ConvTranspose" {
			p.radius += math.Ceil((span+1)/stride) / p.scale
			p.scale *= stride
			break
		}
		// Of the kernel, what lies before the place and what lies behind.
		side := span / 2
		for i := range 4 {
			pad := first("pads", i, 0)
			side = max(side, pad, span-pad)
		}
		if n.texts["auto_pad"] != "" && n.texts["auto_pad"] != "NOTSET" {
			side = span
		}
		p.radius += (side + stride - 1) / p.scale
		p.scale /= stride
	case n.op == "DepthToSpace" && n.domain == "":
		p.radius += 1 / p.scale
		p.scale *= max(first("blocksize", 0, 1), 1)
	case n.op == "SpaceToDepth":
		b := max(first("blocksize", 0, 1), 1)
		p.radius += b / p.scale
		p.scale /= b
	case n.op == "Pad":
		sizes, ok := w.small(n, 1, "pads")
		if !ok {
			return "Pad is by a number that is not known"
		}
		most := 0.0
		for _, s := range sizes {
			most = max(most, math.Abs(s))
		}
		p.radius += most / p.scale
	case n.op == "Resize" || n.op == "Upsample":
		i := 2
		if n.op == "Upsample" {
			i = 1
		}
		scales, ok := w.small(n, i, "scales")
		if !ok || len(scales) != 4 || scales[2] != scales[3] || scales[2] <= 0 {
			return n.op + " is to a size that is not known"
		}
		taps := map[string]float64{"": 1, "nearest": 1, "linear": 2, "cubic": 3}[n.texts["mode"]]
		if taps == 0 {
			return n.op + " is of a mode that is not known"
		}
		p.radius += max(taps, taps/scales[2]) / p.scale
		p.scale *= scales[2]
	default:
		return n.op + " may look at the whole picture"
	}
	if math.IsNaN(p.radius) || p.radius > 1<<14 || p.scale > 64 || p.scale < 1.0/1024 {
		return "it reaches further than tiles are useful"
	}
	return ""
}

// small are the values of an input, or of an attribute of older versions.
func (w *walk) small(n node, input int, attribute string) ([]float64, bool) {
	if input < len(n.in) && n.in[input] != "" {
		t, ok := w.constants[n.in[input]]
		return t.small, ok && t.small != nil
	}
	v := n.ints[attribute]
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out, len(v) > 0
}

func (w *walk) end(outputs []Value) Reach {
	if w.why != "" {
		return Reach{Why: w.why}
	}
	if len(outputs) != 1 {
		return Reach{Why: "it has several outputs"}
	}
	p, ok := w.at[outputs[0].Name]
	if !ok {
		return Reach{Why: "its output does not come from a picture"}
	}
	return Reach{Known: true, Radius: int(math.Ceil(p.radius)), Scale: p.scale, Align: int(math.Round(w.align))}
}

// smallValues are the values of a constant with few of them.
func (p *parser) smallValues(t Type, raw, floats field, longs []int64) ([]float64, error) {
	if longs != nil {
		out := make([]float64, len(longs))
		for i, v := range longs {
			out[i] = float64(v)
		}
		return out, nil
	}
	x := raw
	if !x.bytes {
		x = floats
	}
	n := x.to - x.from
	if !x.bytes || n == 0 || n > 8*maxSmall {
		return nil, nil
	}
	b := make([]byte, n)
	if _, err := p.r.ReadAt(b, x.from); err != nil && int64(len(b)) != n {
		return nil, err
	}
	var out []float64
	switch {
	case t == Float32:
		for ; len(b) >= 4; b = b[4:] {
			v, _ := protowire.ConsumeFixed32(b)
			out = append(out, float64(math.Float32frombits(v)))
		}
	case t == Int64:
		for ; len(b) >= 8; b = b[8:] {
			out = append(out, float64(int64(binary.LittleEndian.Uint64(b))))
		}
	}
	return out, nil
}
