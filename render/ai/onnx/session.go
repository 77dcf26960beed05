package onnx

import "fmt"

// Tensor is what goes in and comes out.
type Tensor struct {
	Shape []int64
	Data  []float64 // whole numbers are exact up to 2^53
	F32   []float32 // instead of Data where the elements are 32-bit floats
	Text  []string  // instead of Data where the elements are texts
}

// Len is the number of elements that the shape asks for; -1 where it is none.
func (t Tensor) Len() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		if d < 0 || (d > 0 && n > MaxElements/d) {
			return -1
		}
		n *= d
	}
	return n
}

// MaxElements of one tensor.
const MaxElements = 1 << 30

// Floats are the elements as 64-bit floats.
func (t Tensor) Floats() []float64 {
	if t.F32 == nil {
		return t.Data
	}
	out := make([]float64, len(t.F32))
	for i, v := range t.F32 {
		out[i] = float64(v)
	}
	return out
}

// Options of Open.
type Options struct {
	Threads int // of one operation; 0: as onnxruntime likes
	GPU     bool
	Device  string // a GPU's place among those that are visible; empty: the first
}

// check holds a tensor to its value's declaration.
func (v Value) check(t Tensor) error {
	n := t.Len()
	switch have := max(len(t.Data), len(t.F32), len(t.Text)); {
	case n < 0:
		return fmt.Errorf("input %s has the shape %v", v.Name, t.Shape)
	case int64(have) != n:
		return fmt.Errorf("input %s has %d elements where its shape %v has %d", v.Name, have, t.Shape, n)
	case n == 0:
		return fmt.Errorf("input %s is empty", v.Name)
	case (v.Type == String) != (t.Text != nil):
		return fmt.Errorf("input %s is %s", v.Name, v.Type)
	case len(v.Dims) != len(t.Shape) && len(v.Dims) > 0:
		return fmt.Errorf("input %s has the shape %v where the model takes %s", v.Name, t.Shape, Shape(v.Dims))
	}
	for i, d := range v.Dims {
		if d.N > 0 && d.N != t.Shape[i] {
			return fmt.Errorf("input %s has the shape %v where the model takes %s", v.Name, t.Shape, Shape(v.Dims))
		}
	}
	return nil
}
