package tensorfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"idlewild/diffupload/tensorfile/tensortest"
	"idlewild/render/ai/llm/llmtest"
	"idlewild/render/ai/onnxtest"
)

func weights(sizes ...int) (out []tensortest.Tensor) {
	for i, n := range sizes {
		data := bytes.Repeat([]byte{byte('a' + i)}, n)
		out = append(out, tensortest.Tensor{Name: fmt.Sprint("t", i), Dims: []uint64{uint64(n) / 2}, Data: data})
	}
	return out
}

func spansOf(name string, b []byte) ([]Span, error) {
	return Spans(name, bytes.NewReader(b), int64(len(b)))
}

func TestFindsTensors(t *testing.T) {
	tensors := weights(1000, 64, 5000, 32)
	model, beside := tensortest.ONNXBeside("", "w.bin", tensors)
	outside, err := External(bytes.NewReader(model), int64(len(model)))
	if err != nil || len(outside) != 1 {
		t.Fatal(outside, err)
	}
	apart, err := Fit(outside["w.bin"], int64(len(beside)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		file []byte
	}{
		{"a.safetensors", tensortest.Safetensors("a {note}", tensors)},
		{"a.gguf", tensortest.GGUF("a note", tensors)},
		{"A.ONNX", tensortest.ONNX("a note", tensors)},
		{"w.bin", beside},
	} {
		spans, err := spansOf(c.name, c.file)
		if c.name == "w.bin" {
			spans, err = apart, nil
		}
		if err != nil || len(spans) != 4 {
			t.Errorf("%s: %v %v", c.name, spans, err)
			continue
		}
		for _, want := range tensors {
			found := false
			for _, s := range spans {
				if s.Key == keyOf(want.Name) {
					found = bytes.Contains(c.file[s.Offset:s.End], want.Data) && s.End-s.Offset < int64(len(want.Data))+4096
				}
			}
			if !found {
				t.Errorf("%s: tensor %s is elsewhere", c.name, want.Name)
			}
		}
	}
	for name, b := range map[string][]byte{"x.gguf": llmtest.Transformer(1), "x.onnx": onnxtest.Dense(1, 8, 16, 2, 4)} {
		if spans, err := spansOf(name, b); err != nil || len(spans) < 6 {
			t.Errorf("%s: %d tensors, %v", name, len(spans), err)
		}
	}
}

func TestOneTensorWithTwoNames(t *testing.T) {
	spans, err := Fit([]Span{{keyOf("b"), 10, 50}, {keyOf("a"), 10, 50}, {keyOf("c"), 50, 90}}, 100)
	if err != nil || len(spans) != 2 || spans[1].End != 100 {
		t.Error(spans, err)
	}
}

// lies are headers that say what cannot be.
func lies() map[string][]byte {
	safe := func(length uint64, head string) []byte {
		return append(append(binary.LittleEndian.AppendUint64(nil, length), head...), make([]byte, 1000)...)
	}
	whole := func(head string) []byte { return safe(uint64(len(head)), head) }
	many := strings.Repeat(`"a":{"data_offsets":[0,0]},`, 3)
	onnx := func(b ...byte) []byte { return append(b, make([]byte, 200)...) }
	long := protowire.AppendVarint([]byte{7<<3 | 2}, math.MaxUint64)
	gguf := tensortest.GGUF("", weights(100, 100))
	at := bytes.LastIndex(gguf, []byte("t1")) + 2 + 4 + 8 + 4 // the second tensor's place
	overlap, beyond := bytes.Clone(gguf), bytes.Clone(gguf)
	binary.LittleEndian.PutUint64(beyond[at:], math.MaxInt64)
	binary.LittleEndian.PutUint64(overlap[at:], 1<<20)
	return map[string][]byte{
		"1.safetensors":     safe(math.MaxUint64, "{}"),
		"2.safetensors":     safe(1<<62, "{}"),
		"3.safetensors":     safe(900, "{}"),
		"4.safetensors":     whole(`{"a":{"data_offsets":[0,1001]}}`),
		"5.safetensors":     whole(`{"a":{"data_offsets":[-1,10]}}`),
		"6.safetensors":     whole(`{"a":{"data_offsets":[10,1]}}`),
		"7.safetensors":     whole(`{"a":{"data_offsets":[0,99999999999999999999]}}`),
		"8.safetensors":     whole(`{"a":{"data_offsets":[0,20]},"b":{"data_offsets":[10,30]}}`),
		"9.safetensors":     whole(`{"a":{"data_offsets":[0,20]}`),
		"10.safetensors":    whole(`{"a":[` + strings.Repeat("[", 20_000)),
		"11.safetensors":    whole(`{` + many + `"a":7}`),
		"empty.safetensors": whole(`{"__metadata__":{"a":"b"}}`),
		"1.gguf":            beyond,
		"2.gguf":            overlap,
		"3.gguf":            gguf[:60],
		"1.onnx":            onnx(long...),
		"2.onnx":            onnx(7<<3|2, 100, 5<<3|2, 101),
		"3.onnx":            onnx(7<<3|2, 10, 5<<3|2, 8, 8<<3|2, 0x80, 0x80, 0x80),
		"4.onnx":            onnx(7<<3 | 3),
		"5.onnx":            onnx(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	}
}

func TestHeadersThatLie(t *testing.T) {
	for name, b := range lies() {
		if spans, err := spansOf(name, b); !errors.Is(err, ErrNotRead) {
			t.Errorf("%s: %v %v", name, spans, err)
		}
	}
	for _, s := range []Span{{Offset: -5, End: 3}, {Offset: 101, End: 102}, {Offset: 4, End: 101}, {Offset: math.MaxInt64, End: toNext}} {
		if out, err := Fit([]Span{s}, 100); !errors.Is(err, ErrNotRead) {
			t.Errorf("%v: %v %v", s, out, err)
		}
	}
	model, _ := tensortest.ONNXBeside("", "w", weights(10, 10))
	for _, lie := range []string{"-1", "9x"} {
		b := bytes.Replace(model, []byte("10"), []byte(lie), 1)
		if _, err := External(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNotRead) {
			t.Errorf("a length of %s: %v", lie, err)
		}
	}
}

// broken is a disk that fails behind some byte.
type broken struct {
	b  []byte
	at int64
}

var errDisk = errors.New("the disk is broken")

func (r broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		return 0, errDisk
	}
	return bytes.NewReader(r.b).ReadAt(p, off)
}

// TestReadErrorsAreNotLies: a disk that fails is not taken for a bad header.
func TestReadErrorsAreNotLies(t *testing.T) {
	for name, b := range map[string][]byte{
		"a.safetensors": tensortest.Safetensors("", weights(5000)),
		"a.gguf":        tensortest.GGUF("", weights(5000)),
		"a.onnx":        tensortest.ONNX("", weights(5000)),
	} {
		if _, err := Spans(name, broken{b, 30}, int64(len(b))); !errors.Is(err, errDisk) || errors.Is(err, ErrNotRead) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Spans(name, io.NewSectionReader(bytes.NewReader(b), 0, 30), int64(len(b))); !errors.Is(err, ErrNotRead) {
			t.Errorf("%s, cut short meanwhile: %v", name, err)
		}
	}
}

func fuzz(f *testing.F, name string, read func(r io.ReaderAt, size int64) ([]Span, error)) {
	for lie, b := range lies() {
		if strings.HasSuffix(lie, name) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size := int64(len(b))
		spans, err := read(bytes.NewReader(b), size)
		if err != nil && !errors.Is(err, ErrNotRead) {
			t.Fatal(err)
		}
		at := int64(0)
		for _, s := range spans {
			if s.Offset < at || s.End <= s.Offset || s.End > size {
				t.Fatalf("%v of %d bytes", spans, size)
			}
			at = s.End
		}
		if (err == nil) != (len(spans) > 0) {
			t.Fatal(spans, err)
		}
	})
}

func FuzzSafetensors(f *testing.F) {
	f.Add(tensortest.Safetensors("note", weights(100, 0, 30)))
	fuzz(f, ".safetensors", func(r io.ReaderAt, size int64) ([]Span, error) { return Spans("a", r, size) })
}

func FuzzGGUF(f *testing.F) {
	f.Add(tensortest.GGUF("note", weights(100, 0, 30)))
	fuzz(f, ".gguf", func(r io.ReaderAt, size int64) ([]Span, error) { return Spans("a", r, size) })
}

func FuzzONNX(f *testing.F) {
	f.Add(tensortest.ONNX("note", weights(100, 0, 30)))
	beside, _ := tensortest.ONNXBeside("", "w", weights(100, 0, 30))
	f.Add(beside)
	fuzz(f, ".onnx", func(r io.ReaderAt, size int64) ([]Span, error) {
		m, err := readONNX(r, size)
		if err != nil {
			return nil, err
		}
		for _, spans := range m.outside {
			if _, err := Fit(spans, 1<<20); err != nil && !errors.Is(err, ErrNotRead) {
				return nil, err
			}
		}
		return Fit(m.inside, size)
	})
}
