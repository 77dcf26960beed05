// Package onnx reads models in the Open Neural Network Exchange format and
// runs them with onnxruntime, which is nowhere else.
//
// Read looks at a model without running it: it is hostile input, of which only
// what is asked for is read into memory. Weights are passed over. Open starts
// the runtime, whose library is found at run time; a program without cgo has
// none.
package onnx

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Bounds of what a model may make us allocate. Weights are never read here.
const (
	maxNodes   = 1 << 18
	maxValues  = 1 << 12 // inputs, outputs
	maxTensors = 1 << 18
	maxName    = 1 << 12
	maxRank    = 16
	maxDepth   = 16 // of graphs in graphs
	maxSmall   = 64 // values of a constant that are read
)

// Model is what a file says of itself.
type Model struct {
	IR       int64
	Opsets   map[string]int64 // by domain; "" is ONNX's own
	Inputs   []Value          // that a caller has to give
	Outputs  []Value
	External []string // files beside the model that hold weights, each once
	// Precision of the weights: "fp32", "fp16" or "int8", the coarsest there is.
	Precision string
	// Reach is how far a picture's pixels influence each other.
	Reach Reach
}

// Value is an input or output.
type Value struct {
	Name string
	Type Type
	Dims []Dim
}

// Dim is one dimension: N elements, or as many as the caller likes where N is
// 0 and Name may say what for.
type Dim struct {
	N    int64
	Name string
}

func (d Dim) String() string {
	switch {
	case d.N > 0:
		return fmt.Sprint(d.N)
	case d.Name != "":
		return d.Name
	}
	return "?"
}

// Shape is dims in words.
func Shape(dims []Dim) string {
	words := make([]string, len(dims))
	for i, d := range dims {
		words[i] = d.String()
	}
	return "[" + strings.Join(words, " ") + "]"
}

// Type of a tensor's elements, by ONNX's numbers.
type Type int32

const (
	Float32 Type = 1
	Uint8   Type = 2
	Int8    Type = 3
	Int32   Type = 6
	Int64   Type = 7
	String  Type = 8
	Bool    Type = 9
	Float16 Type = 10
	Float64 Type = 11
)

var typeNames = map[Type]string{
	Float32: "float32", Uint8: "uint8", Int8: "int8", Int32: "int32", Int64: "int64", String: "text",
	Bool: "bool", Float16: "float16", Float64: "float64",
}

func (t Type) String() string {
	if n := typeNames[t]; n != "" {
		return n
	}
	return fmt.Sprintf("type %d", int32(t))
}

// ErrRefused is matched by the errors for files that are not run whatever is
// in them: they could hold code.
var ErrRefused = errors.New("not run here")

// ErrFormat is matched by the errors for files that are no ONNX model.
var ErrFormat = errors.New("no ONNX model")

func format(why string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(why, a...))
}

// Read looks at the model in a file.
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
