package onnx

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// domains of operators that onnxruntime itself brings.
var domains = []string{"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}

// Parse looks at the model in r.
func Parse(r io.ReaderAt, size int64) (*Model, error) {
	if err := sniff(r, size); err != nil {
		return nil, err
	}
	p := &parser{r: r, model: &Model{Opsets: map[string]int64{}, Precision: "fp32"}, local: map[string]bool{}}
	if err := p.modelProto(size); err != nil {
		return nil, err
	}
	return p.finish()
}

// sniff names what people mistake for ONNX, by the first bytes.
func sniff(r io.ReaderAt, size int64) error {
	var head [16]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	h := string(head[:n])
	switch {
	case size == 0:
		return format("the file is empty")
	case strings.HasPrefix(h, "PK\x03\x04"), strings.HasPrefix(h, "\x1f\x8b"), strings.HasPrefix(h, "7z\xbc\xaf"), strings.HasPrefix(h, "Rar!"):
		return fmt.Errorf("%w: an archive, as PyTorch saves models, can hold code; export it to ONNX", ErrRefused)
	case len(h) > 1 && h[0] == 0x80 && h[1] >= 2 && h[1] <= 5:
		return fmt.Errorf("%w: a pickle runs code when it is opened; export the model to ONNX", ErrRefused)
	case strings.HasPrefix(h, "\x89HDF"):
		return format("it is an HDF5 file, as Keras writes it; export the model to ONNX")
	case strings.HasPrefix(h, "GGUF"):
		return format("it is a GGUF model, which onnxruntime does not run")
	case len(h) > 9 && h[8] == '{' && h[7] == 0 && h[6] == 0:
		return format("it is a safetensors file, which holds weights and no graph; export the model to ONNX")
	case strings.HasPrefix(h, "ORTM") || (len(h) > 8 && h[4:8] == "ORTM"):
		return format("it is in onnxruntime's own format; keep the .onnx file it was made from")
	case h == "version https://":
		return format("it is a pointer of Git LFS; fetch the file itself")
	}
	return nil
}

// parser reads by sections of the file, so that weights stay on disk.
type parser struct {
	r       io.ReaderAt
	model   *Model
	local   map[string]bool // domains of functions that the model defines itself
	foreign []string        // operators of other domains
	nodes   int
	tensors int
	reach   *walk
}

// field is one field of a message: a number, or a section of the file.
type field struct {
	num      protowire.Number
	value    uint64
	from, to int64
	bytes    bool
}

// fields calls f for each field of a message.
func (p *parser) fields(from, to int64, f func(field) error) error {
	var buf [2 * 10]byte
	for from < to {
		n, err := p.r.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if err != nil && err != io.EOF {
			return err
		}
		num, kind, k := protowire.ConsumeTag(buf[:n])
		if k < 0 {
			return format("it breaks off or is garbled at byte %d", from)
		}
		x := field{num: num}
		rest, at := buf[k:n], from+int64(k)
		switch kind {
		case protowire.VarintType:
			v, k := protowire.ConsumeVarint(rest)
			if k < 0 {
				return format("garbled at byte %d", at)
			}
			x.value, at = v, at+int64(k)
		case protowire.Fixed32Type:
			v, k := protowire.ConsumeFixed32(rest)
			if k < 0 {
				return format("garbled at byte %d", at)
			}
			x.value, at = uint64(v), at+4
		case protowire.Fixed64Type:
			v, k := protowire.ConsumeFixed64(rest)
			if k < 0 {
				return format("garbled at byte %d", at)
			}
			x.value, at = v, at+8
		case protowire.BytesType:
			v, k := protowire.ConsumeVarint(rest)
			if k < 0 || v > uint64(to-at) || int64(k)+int64(v) > to-at {
				return format("it breaks off: a part at byte %d is longer than the file", at)
			}
			x.bytes, x.from, x.to = true, at+int64(k), at+int64(k)+int64(v)
			at = x.to
		default:
			return format("garbled at byte %d", at)
		}
		if err := f(x); err != nil {
			return err
		}
		from = at
	}
	return nil
}

// text reads a short string.
func (p *parser) text(x field) (string, error) {
	if !x.bytes || x.to-x.from > maxName {
		return "", format("a name of %d bytes", x.to-x.from)
	}
	b := make([]byte, x.to-x.from)
	if _, err := p.r.ReadAt(b, x.from); err != nil && (err != io.EOF || len(b) > 0) {
		return "", err
	}
	return string(b), nil
}

// into reads a text where an error can be returned in one word.
func (p *parser) into(s *string, x field) (err error) {
	*s, err = p.text(x)
	return err
}

func (p *parser) modelProto(size int64) error {
	var graphs, functions []field
	err := p.fields(0, size, func(x field) error {
		switch x.num {
		case 1:
			p.model.IR = int64(x.value)
		case 7:
			graphs = append(graphs, x)
		case 8:
			return p.opset(x)
		case 25:
			if len(functions) >= maxNodes {
				return format("too many functions")
			}
			functions = append(functions, x)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(graphs) != 1 || len(p.model.Opsets) == 0 {
		return format("it has no graph, or no version of operators")
	}
	for _, x := range functions {
		var domain string
		if err := p.fields(x.from, x.to, func(y field) error {
			if y.num == 10 {
				return p.into(&domain, y)
			}
			return nil
		}); err != nil {
			return err
		}
		p.local[domain] = true
	}
	for _, x := range functions {
		if err := p.fields(x.from, x.to, func(y field) error {
			if y.num == 7 {
				_, err := p.node(y, 1)
				return err
			}
			return nil
		}); err != nil {
			return err
		}
	}
	p.reach = newWalk()
	return p.graph(graphs[0], 0)
}

func (p *parser) opset(x field) error {
	var domain string
	var version int64
	err := p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			return p.into(&domain, y)
		case 2:
			version = int64(y.value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if domain == "ai.onnx" {
		domain = ""
	}
	if len(p.model.Opsets) >= 64 {
		return format("too many sets of operators")
	}
	p.model.Opsets[domain] = version
	return nil
}

// graph reads a graph; that of depth 0 is the model's own.
func (p *parser) graph(x field, depth int) error {
	if depth > maxDepth {
		return format("graphs in graphs, more than %d deep", maxDepth)
	}
	var inputs, outputs []Value
	constants := map[string]bool{}
	var nodes []field
	err := p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			if p.nodes++; p.nodes > maxNodes {
				return format("more than %d operations", maxNodes)
			}
			nodes = append(nodes, y)
		case 5:
			t, err := p.tensor(y, depth == 0)
			if err != nil {
				return err
			}
			constants[t.name] = true
			if depth == 0 {
				p.reach.constants[t.name] = t
			}
		case 11, 12:
			v, err := p.value(y)
			if err != nil {
				return err
			}
			if len(inputs)+len(outputs) >= maxValues {
				return format("more than %d inputs and outputs", maxValues)
			}
			if y.num == 11 {
				inputs = append(inputs, v)
			} else {
				outputs = append(outputs, v)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if depth == 0 {
		for _, v := range inputs {
			if !constants[v.Name] {
				p.model.Inputs = append(p.model.Inputs, v)
			}
		}
		p.model.Outputs = outputs
		p.reach.begin(p.model.Inputs)
	}
	for _, y := range nodes {
		n, err := p.node(y, depth+1)
		if err != nil {
			return err
		}
		if depth == 0 {
			p.reach.step(n)
		}
	}
	return nil
}

// node is one operation.
type node struct {
	op      string
	domain  string
	in, out []string
	ints    map[string][]int64
	texts   map[string]string
	value   *tensor
}

func (p *parser) node(x field, depth int) (node, error) {
	n := node{ints: map[string][]int64{}, texts: map[string]string{}}
	err := p.fields(x.from, x.to, func(y field) error {
		var s string
		switch y.num {
		case 1, 2:
			if err := p.into(&s, y); err != nil {
				return err
			}
			if len(n.in)+len(n.out) >= maxValues {
				return format("an operation with more than %d inputs and outputs", maxValues)
			}
			if y.num == 1 {
				n.in = append(n.in, s)
			} else {
				n.out = append(n.out, s)
			}
		case 4:
			return p.into(&n.op, y)
		case 5:
			return p.attribute(y, &n, depth)
		case 7:
			return p.into(&n.domain, y)
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	if !slices.Contains(domains, n.domain) && !p.local[n.domain] && len(p.foreign) < 8 {
		name := n.domain + "." + n.op
		if !slices.Contains(p.foreign, name) {
			p.foreign = append(p.foreign, name)
		}
	}
	if strings.Contains(n.op, "QLinear") || strings.HasSuffix(n.op, "Integer") || n.op == "QuantizeLinear" {
		p.model.Precision = "int8"
	}
	return n, nil
}

func (p *parser) attribute(x field, n *node, depth int) error {
	var name, text string
	var ints []int64
	err := p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			return p.into(&name, y)
		case 3:
			ints = append(ints, int64(y.value))
		case 8:
			return p.numbers(y, &ints)
		case 4:
			if y.to-y.from > maxName {
				return nil // a long text, which nobody here asks for
			}
			return p.into(&text, y)
		case 5:
			t, err := p.tensor(y, true)
			n.value = &t
			return err
		case 6, 11:
			return p.graph(y, depth)
		case 10:
			_, err := p.tensor(y, false)
			return err
		}
		return nil
	})
	if ints != nil {
		n.ints[name] = ints
	}
	if text != "" {
		n.texts[name] = text
	}
	return err
}

// numbers reads integers, packed or one at a time, as far as anybody needs.
func (p *parser) numbers(x field, out *[]int64) error {
	if !x.bytes {
		if len(*out) < maxSmall {
			*out = append(*out, int64(x.value))
		}
		return nil
	}
	b := make([]byte, min(x.to-x.from, 10*maxSmall))
	if _, err := p.r.ReadAt(b, x.from); err != nil && err != io.EOF {
		return err
	}
	for len(b) > 0 && len(*out) < maxSmall {
		v, k := protowire.ConsumeVarint(b)
		if k < 0 {
			break
		}
		*out, b = append(*out, int64(v)), b[k:]
	}
	return nil
}

// tensor is a constant; values only where there are few.
type tensor struct {
	name  string
	typ   Type
	dims  []int64
	small []float64
}

func (p *parser) tensor(x field, values bool) (tensor, error) {
	var t tensor
	var external bool
	var location string
	var raw, floats field
	var longs []int64
	if p.tensors++; p.tensors > maxTensors {
		return t, format("more than %d constants", maxTensors)
	}
	err := p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			return p.numbers(y, &t.dims)
		case 2:
			t.typ = Type(y.value)
		case 4:
			floats = y
		case 7:
			return p.numbers(y, &longs)
		case 8:
			return p.into(&t.name, y)
		case 9:
			raw = y
		case 13:
			var key, value string
			if err := p.fields(y.from, y.to, func(z field) error {
				switch z.num {
				case 1:
					return p.into(&key, z)
				case 2:
					return p.into(&value, z)
				}
				return nil
			}); err != nil {
				return err
			}
			if key == "location" {
				location = value
			}
		case 14:
			external = y.value == 1
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	if len(t.dims) > maxRank {
		return t, format("a constant with %d dimensions", len(t.dims))
	}
	switch t.typ {
	case Float16, 16:
		if p.model.Precision == "fp32" && len(t.dims) > 1 {
			p.model.Precision = "fp16"
		}
	}
	if external {
		if err := p.outside(location); err != nil {
			return t, err
		}
		return t, nil
	}
	if values {
		t.small, err = p.smallValues(t.typ, raw, floats, longs)
	}
	return t, err
}

// outside notes a file with weights, which has to lie beside the model.
func (p *parser) outside(location string) error {
	if location == "" || location != path.Base(location) || strings.ContainsAny(location, `\:`) || location == "." || location == ".." {
		return fmt.Errorf("%w: its weights are at %q, which is not beside the model; save it again with the weights inside or beside it", ErrRefused, location)
	}
	if !slices.Contains(p.model.External, location) {
		if len(p.model.External) >= 64 {
			return format("weights in more than 64 files")
		}
		p.model.External = append(p.model.External, location)
	}
	return nil
}

func (p *parser) value(x field) (Value, error) {
	var v Value
	kinds := 0
	err := p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			return p.into(&v.Name, y)
		case 2:
			return p.fields(y.from, y.to, func(z field) error {
				if z.num == 1 {
					kinds++
					return p.tensorType(z, &v)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && kinds != 1 {
		v.Type = 0 // a sequence or a map
	}
	return v, err
}

func (p *parser) tensorType(x field, v *Value) error {
	return p.fields(x.from, x.to, func(y field) error {
		switch y.num {
		case 1:
			v.Type = Type(y.value)
		case 2:
			return p.fields(y.from, y.to, func(z field) error {
				if z.num != 1 {
					return nil
				}
				if len(v.Dims) >= maxRank {
					return format("more than %d dimensions", maxRank)
				}
				var d Dim
				err := p.fields(z.from, z.to, func(q field) error {
					switch q.num {
					case 1:
						d.N = int64(q.value)
					case 2:
						return p.into(&d.Name, q)
					}
					return nil
				})
				if d.N < 0 {
					d.N = 0
				}
				v.Dims = append(v.Dims, d)
				return err
			})
		}
		return nil
	})
}

// finish checks the whole.
func (p *parser) finish() (*Model, error) {
	m := p.model
	switch {
	case len(p.foreign) > 0:
		return nil, fmt.Errorf("%w: it needs operators that are code of somebody's own (%s); export it with ONNX's own operators", ErrRefused, strings.Join(p.foreign, ", "))
	case p.nodes == 0:
		return nil, format("there is no operation in it")
	case len(m.Inputs) == 0 || len(m.Outputs) == 0:
		return nil, format("it has no input, or no output")
	}
	m.Reach = p.reach.end(m.Outputs)
	return m, nil
}
