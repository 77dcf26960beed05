// Package torchtest makes models in folders for tests: Fake ones of which nothing
// but their files is looked at, and with Make tiny ones that run.
package torchtest

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

//go:embed tiny.py
var tiny string

var made struct {
	once sync.Once
	dir  string
	err  error
}

// Python is the one with PyTorch that IDLEWILD_TORCH_PYTHON names, an interpreter
// or an environment's folder; without it the test is skipped.
func Python(t testing.TB) string {
	t.Helper()
	python := os.Getenv("IDLEWILD_TORCH_PYTHON")
	if python == "" {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "torch") {
			t.Fatal("IDLEWILD_TORCH_PYTHON names no Python")
		}
		t.Skip("NOT RUN: IDLEWILD_TORCH_PYTHON names no Python with PyTorch (make torch)")
	}
	return python
}

// Make returns a folder with tiny-bert, tiny-gpt, tiny-sd, tiny-whisper, tiny-depth
// and sounds, made once for each process with random weights.
func Make(t testing.TB) string {
	t.Helper()
	python := Python(t)
	if fi, err := os.Stat(python); err == nil && fi.IsDir() {
		python = filepath.Join(python, "bin", "python")
	}
	made.once.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "idlewild-tiny-"); made.err != nil {
			return
		}
		cmd := exec.Command(python, "-I", "-c", tiny, made.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			made.err = fmt.Errorf("make tiny models: %w\n%s", err, out)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made.dir
}

// Clean removes what Make made: for TestMain, at the end.
func Clean() {
	if made.dir != "" {
		_ = os.RemoveAll(made.dir) // it is the system's temporary folder
	}
}

// Weights are a safetensors file of one tensor of zeros.
func Weights(dtype string, bytes int) []byte {
	head := fmt.Sprintf(`{"w":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, dtype, bytes/4, bytes)
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), make([]byte, bytes)...)
}

// Fake writes a folder of the architecture, or for "StableDiffusionPipeline" one of
// that pipeline.
func Fake(t testing.TB, dir, class string) string {
	t.Helper()
	files := map[string][]byte{
		"config.json": fmt.Appendf(nil, `{"architectures":[%q]}`, class), "model.safetensors": Weights("F32", 16),
		"tokenizer.json": []byte(`{"auto_map":1}`), "README.md": []byte("# read me"), ".cache/x.bin": []byte("x"),
	}
	if strings.HasSuffix(class, "Pipeline") {
		files = map[string][]byte{
			"model_index.json":                         fmt.Appendf(nil, `{"_class_name":%q,"unet":["diffusers","UNet2DConditionModel"],"safety_checker":[null,null]}`, class),
			"unet/config.json":                         []byte(`{}`),
			"unet/diffusion_pytorch_model.safetensors": Weights("F32", 16),
			"single-file.safetensors":                  Weights("F32", 16),
		}
	}
	for name, b := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
