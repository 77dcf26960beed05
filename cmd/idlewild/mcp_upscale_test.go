package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/node"
)

// An assistant may say a number or text, and names files from the root on.
func TestAssistantsSayHowMuchLarger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.blend")
	if err := os.WriteFile(file, []byte("BLENDER-v304"), 0o600); err != nil {
		t.Fatal(err)
	}
	for said, want := range map[string]string{
		`2`: "upscale2", `"2"`: "upscale2", `"other"`: "model other", `"a.onnx"`: "no absolute path", `[2]`: "neither a number nor text",
	} {
		m := mcpSpec{File: file}
		if err := json.Unmarshal([]byte(`{"upscale":`+said+`}`), &m); err != nil {
			t.Fatal(err)
		}
		if _, err := m.spec(node.Config{DataDir: t.TempDir()}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", said, err, want)
		}
	}
}
