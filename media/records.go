package media

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Record is what a model made of one item of a batch: one line of a JSONL
// file.
type Record struct {
	Item    int               `json:"item"`                // its number, counted from 1
	ID      string            `json:"custom_id,omitempty"` // what the item is called, if it is called something
	Error   string            `json:"error,omitempty"`     // why there is no output
	Outputs map[string]Tensor `json:"outputs,omitempty"`
}

// Tensor is an array of numbers or of texts. In JSON it is arrays in arrays,
// and a tensor without dimensions its one element.
type Tensor struct {
	Shape []int
	Data  []float64
	Text  []string // instead of Data
}

// Bounds of records from strangers.
const (
	MaxRecordBytes = 64 << 20
	maxTensorRank  = 16
)

// ErrNotNumbers is matched by the error for a tensor with NaN or infinities,
// which JSON has no words for.
var ErrNotNumbers = errors.New("not all of it are numbers")

// MarshalJSON implements json.Marshaler.
func (t Tensor) MarshalJSON() ([]byte, error) {
	n := 1
	for _, d := range t.Shape {
		if d < 0 {
			return nil, fmt.Errorf("tensor of the shape %v", t.Shape)
		}
		n *= d
	}
	if n != max(len(t.Data), len(t.Text)) {
		return nil, fmt.Errorf("tensor of the shape %v with %d elements", t.Shape, max(len(t.Data), len(t.Text)))
	}
	return t.appendJSON(make([]byte, 0, 12*n+16), 0, 0)
}

func (t Tensor) appendJSON(b []byte, dim, at int) (_ []byte, err error) {
	if dim == len(t.Shape) {
		if t.Text != nil {
			s, err := json.Marshal(t.Text[at])
			return append(b, s...), err
		}
		v := t.Data[at]
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return b, ErrNotNumbers
		}
		bits := 64
		if float64(float32(v)) == v {
			bits = 32
		}
		return strconv.AppendFloat(b, v, 'g', -1, bits), nil
	}
	step := 1
	for _, d := range t.Shape[dim+1:] {
		step *= d
	}
	b = append(b, '[')
	for i := range t.Shape[dim] {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = t.appendJSON(b, dim+1, at+i*step); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler. Arrays of different lengths side
// by side are an error.
func (t *Tensor) UnmarshalJSON(b []byte) error {
	p := tensorReader{rest: b}
	*t = Tensor{}
	if err := p.read(0); err != nil {
		return err
	}
	if strings.TrimSpace(string(p.rest)) != "" {
		return errors.New("more than an array")
	}
	if p.texts != nil && p.data != nil {
		return errors.New("numbers and texts in one array")
	}
	t.Shape, t.Data, t.Text = p.shape, p.data, p.texts
	return nil
}

type tensorReader struct {
	rest  []byte
	shape []int
	leaf  int // the depth at which elements are, plus 1; 0: not known
	data  []float64
	texts []string
}

func (p *tensorReader) peek() byte {
	p.rest = bytes.TrimLeft(p.rest, " \t\r\n")
	if len(p.rest) == 0 {
		return 0
	}
	return p.rest[0]
}

func (p *tensorReader) read(depth int) error {
	if depth > maxTensorRank {
		return fmt.Errorf("arrays in arrays, more than %d deep", maxTensorRank)
	}
	if p.peek() != '[' {
		return p.element(depth)
	}
	if p.leaf != 0 && depth >= p.leaf-1 {
		return errors.New("arrays beside elements")
	}
	p.rest = p.rest[1:]
	n := 0
	if p.peek() != ']' {
		for {
			if n == 0 && depth >= len(p.shape) {
				p.shape = append(p.shape, -1)
			}
			if err := p.read(depth + 1); err != nil {
				return err
			}
			n++
			if p.peek() != ',' {
				break
			}
			p.rest = p.rest[1:]
		}
	}
	if p.peek() != ']' {
		return errors.New("an array that does not end")
	}
	p.rest = p.rest[1:]
	if depth >= len(p.shape) {
		p.shape = append(p.shape, -1)
	}
	switch p.shape[depth] {
	case -1:
		p.shape[depth] = n
	case n:
	default:
		return fmt.Errorf("arrays of %d and of %d elements side by side", p.shape[depth], n)
	}
	return nil
}

func (p *tensorReader) element(depth int) error {
	if p.leaf == 0 {
		p.leaf = depth + 1
	}
	if p.leaf != depth+1 {
		return errors.New("arrays beside elements")
	}
	c := p.peek()
	if c == '"' {
		end := 1
		for end < len(p.rest) && p.rest[end] != '"' {
			if p.rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(p.rest) {
			return errors.New("a text that does not end")
		}
		var s string
		if err := json.Unmarshal(p.rest[:end+1], &s); err != nil {
			return err
		}
		p.texts, p.rest = append(p.texts, s), p.rest[end+1:]
		return nil
	}
	end := bytes.IndexAny(p.rest, ",] \t\r\n")
	if end < 0 {
		end = len(p.rest)
	}
	switch word := string(p.rest[:end]); word {
	case "true", "false":
		v := 0.0
		if word == "true" {
			v = 1
		}
		p.data = append(p.data, v)
	default:
		v, err := strconv.ParseFloat(word, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%q is no number", word[:min(len(word), 40)])
		}
		p.data = append(p.data, v)
	}
	p.rest = p.rest[end:]
	return nil
}

// ReadRecords reads a file of records, one a line, and calls f with each. It
// ends with the first error.
func ReadRecords(r io.Reader, f func(Record) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), MaxRecordBytes)
	for n := 1; lines.Scan(); n++ {
		var rec Record
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&rec); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := f(rec); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}
