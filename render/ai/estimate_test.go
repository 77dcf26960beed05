package ai

import (
	"os"
	"path/filepath"
	"testing"

	"idlewild/job"
)

func TestEstimateIsTheModels(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"m.onnx": 1000, "w.bin": 2000, "items.jsonl": 4000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	n := estimate([]job.Dep{{Path: at("m.onnx"), Name: "model/m.onnx"}, {Path: at("w.bin"), Name: "model/w.bin"}, {Path: at("items.jsonl"), Name: "items.jsonl"}, {Path: at("gone"), Name: "model/gone"}})
	if n.VRAMBytes != 3000 || n.MemoryBytes != 3000+processBytes {
		t.Errorf("%+v", n)
	}
	if n := estimate(nil); n.MemoryBytes != 0 || n.VRAMBytes != 0 {
		t.Errorf("without a model: %+v", n)
	}
}
