package onnx_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/render/ai/onnx"
	"idlewild/render/ai/onnxtest"
)

func parse(b []byte) (*onnx.Model, error) { return onnx.Parse(bytes.NewReader(b), int64(len(b))) }

func TestParseSaysWhatAModelTakesAndGives(t *testing.T) {
	m, err := parse(onnxtest.Dense(1, 8, 16, 2, 4))
	if err != nil {
		t.Fatal(err)
	}
	if m.Opsets[""] != 13 || m.Precision != "fp32" || len(m.Inputs) != 1 || len(m.Outputs) != 1 {
		t.Fatalf("%+v", m)
	}
	if v := m.Inputs[0]; v.Name != "x" || v.Type != onnx.Float32 || onnx.Shape(v.Dims) != "[n 8]" {
		t.Errorf("input %+v", v)
	}
	if m.Reach.Known || m.Reach.Why == "" {
		t.Errorf("reach %+v", m.Reach)
	}
}

func TestReach(t *testing.T) {
	m, err := parse(onnxtest.Upscaler(1))
	if err != nil {
		t.Fatal(err)
	}
	// A 3x3 and a 5x5 convolution look 3 pixels far; pixel shuffle may add one.
	if r := m.Reach; !r.Known || r.Scale != 2 || r.Radius < 3 || r.Radius > 5 || r.Align != 1 {
		t.Errorf("%+v", r)
	}
	conv := func(op string, attrs ...onnxtest.Attr) onnx.Reach {
		t.Helper()
		var g onnxtest.Graph
		g.Input("x", onnxtest.Float, 1, 3, "h", "w")
		g.Output("y", onnxtest.Float, 1, 3, "h", "w")
		g.Weight("w", make([]float32, 3*3*9), 3, 3, 3, 3)
		g.Node(op, []string{"x", "w"}, []string{"a"}, attrs...)
		g.Node("Relu", []string{"a"}, []string{"y"})
		m, err := parse(g.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return m.Reach
	}
	ints := func(name string, v ...int64) onnxtest.Attr { return onnxtest.Attr{Name: name, Ints: v} }
	if r := conv("Conv", ints("dilations", 4, 4), ints("pads", 4, 4, 4, 4)); !r.Known || r.Radius != 4 {
		t.Errorf("dilated: %+v", r)
	}
	if r := conv("Conv", ints("strides", 2, 2), ints("pads", 1, 1, 1, 1)); !r.Known || r.Align != 2 || r.Scale != 0.5 {
		t.Errorf("strided: %+v", r)
	}
	for _, op := range []string{"GlobalAveragePool", "InstanceNormalization", "Softmax", "SomethingNew"} {
		if r := conv(op); r.Known || !strings.Contains(r.Why, op) {
			t.Errorf("%s: %+v", op, r)
		}
	}
}

func TestWhatIsNotRun(t *testing.T) {
	foreign := onnxtest.Graph{Domain: "evil.ops"}
	foreign.Input("x", onnxtest.Float, 1)
	foreign.Output("y", onnxtest.Float, 1)
	foreign.Foreign("evil.ops", "RunShell", []string{"x"}, []string{"y"})
	outside := func(location string) []byte {
		var g onnxtest.Graph
		g.Input("x", onnxtest.Float, 1)
		g.Output("y", onnxtest.Float, 1)
		g.External("w", location, 1)
		g.Node("Add", []string{"x", "w"}, []string{"y"})
		return g.Bytes()
	}
	for name, c := range map[string]struct {
		file []byte
		is   error
		says string
	}{
		"pickle":           {[]byte("\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix"), onnx.ErrRefused, "a pickle runs code"},
		"pytorch":          {[]byte("PK\x03\x04archive/data.pkl"), onnx.ErrRefused, "an archive"},
		"gzip":             {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), onnx.ErrRefused, "an archive"},
		"custom operator":  {foreign.Bytes(), onnx.ErrRefused, "evil.ops.RunShell"},
		"weights outside":  {outside("../../etc/passwd"), onnx.ErrRefused, "not beside the model"},
		"weights absolute": {outside("/etc/passwd"), onnx.ErrRefused, "not beside the model"},
		"weights windows":  {outside(`c:\x`), onnx.ErrRefused, "not beside the model"},
		"gguf":             {[]byte("GGUF\x03\x00\x00\x00\x00\x00\x00\x00"), onnx.ErrFormat, "GGUF"},
		"safetensors":      {[]byte("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}"), onnx.ErrFormat, "safetensors"},
		"keras":            {[]byte("\x89HDF\r\n\x1a\n"), onnx.ErrFormat, "HDF5"},
		"lfs":              {[]byte("version https://git-lfs.github.com/spec/v1\n"), onnx.ErrFormat, "Git LFS"},
		"empty":            {nil, onnx.ErrFormat, "empty"},
		"text":             {[]byte("this is not a model at all"), onnx.ErrFormat, ""},
		"half":             {onnxtest.Upscaler(1)[:5000], onnx.ErrFormat, "breaks off"},
	} {
		_, err := parse(c.file)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := parse(outside("weights.bin"))
	if err != nil || !slices.Equal(m.External, []string{"weights.bin"}) {
		t.Errorf("weights beside: %+v %v", m, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(onnxtest.Dense(1, 2, 2, 1, 2))
	f.Add(onnxtest.Upscaler(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err == nil && (len(m.Inputs) == 0 || len(m.Outputs) == 0) {
			t.Fatalf("%+v", m)
		}
	})
}

func TestLibrariesThatAreTooOldAreSaid(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"libonnxruntime.so.1.9.0", "libonnxruntime.so.1.24.1", "libonnxruntime.so.1.30.0"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := onnx.Find(dir)
	if err != nil || l.Version != "1.30.0" {
		t.Errorf("%+v %v", l, err)
	}
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "libonnxruntime.so.1.9.0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Find(old); !errors.Is(err, onnx.ErrNoLibrary) || !strings.Contains(err.Error(), "needs 1.24") {
		t.Error(err)
	}
	if _, err := onnx.Find(filepath.Join(old, "missing")); err == nil {
		t.Error("a path that is not there")
	}
}
