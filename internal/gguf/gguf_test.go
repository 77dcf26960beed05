package gguf

import (
	"bytes"
	"errors"
	"testing"

	"idlewild/render/ai/llm/llmtest"
)

func parse(b []byte) (*Model, error) { return Parse(bytes.NewReader(b), int64(len(b))) }

func TestReadsGGUF(t *testing.T) {
	whole := llmtest.Transformer(1)
	m, err := parse(whole)
	if err != nil || m.Architecture != "llama" || m.Context != 512 || m.Vocabulary != 259 || m.Template == "" || len(m.Tensors) != 21 {
		t.Fatalf("%+v %v", m, err)
	}
	for n := range 4000 {
		if _, err := parse(whole[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("its first %d bytes: %v", n, err)
		}
	}
	for name, b := range map[string][]byte{
		"a pickle":          []byte("\x80\x04\x95"),
		"version 9":         append([]byte("GGUF\x09\x00\x00\x00"), make([]byte, 16)...),
		"2^60 tensors":      append([]byte("GGUF\x03\x00\x00\x00"), 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0),
		"a text of 2^62":    append([]byte("GGUF\x03\x00\x00\x00"), 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40),
		"nothing but zeros": make([]byte, 100),
	} {
		if _, err := parse(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(llmtest.Transformer(1)[:5000])
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parse(b); err == nil && (m.Architecture == "" || m.Data > int64(len(b))) {
			t.Errorf("%+v", m)
		}
	})
}
