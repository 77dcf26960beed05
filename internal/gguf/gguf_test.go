package gguf

import (
	"bytes"
	"encoding/binary"
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

// Arrays in arrays are read as deep as anybody has them, and no deeper.
func TestNestedArrays(t *testing.T) {
	for deep, refused := range map[int]bool{maxNested: false, maxNested + 1: true, 100_000: true} {
		b := append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, 8)...) // no tensors
		text := func(s string) {
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
		}
		number := func(n uint32) { b = binary.LittleEndian.AppendUint32(b, n) }
		b = binary.LittleEndian.AppendUint64(b, 2)
		text("general.architecture")
		number(typeText)
		text("llama")
		text("nested")
		number(typeArray)
		for range deep - 1 {
			number(typeArray)
			b = binary.LittleEndian.AppendUint64(b, 1)
		}
		number(0) // of bytes
		b = binary.LittleEndian.AppendUint64(b, 0)
		b = append(b, make([]byte, 64)...)
		if _, err := parse(b); errors.Is(err, ErrFormat) != refused || err != nil != refused {
			t.Errorf("%d deep: %v", deep, err)
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
