package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai"
	"idlewild/render/ai/onnxtest"
)

// aiConfig is a configuration with onnxruntime, which is skipped for where
// there is none.
func aiConfig(t *testing.T) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Sandbox.Mode, cfg.Blender.Path = t.TempDir(), "off", filepath.Join(t.TempDir(), "none")
	cfg.ONNX.Library = os.Getenv("IDLEWILD_ONNX_LIBRARY")
	r, err := FindRuntime(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Error != "" {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "onnx") {
			t.Fatal(r.Error)
		}
		t.Skip("NOT RUN: " + r.Error)
	}
	return cfg
}

func writeModel(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Dense.onnx")
	if err := os.WriteFile(file, onnxtest.Dense(1, 2, 8, 1, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A batch takes the whole road: planned, leased, run, checked, delivered in
// the order of its items.
func TestBatchOnAFarm(t *testing.T) {
	cfg := aiConfig(t)
	if _, err := AddModel(cfg, writeModel(t), ""); err != nil {
		t.Fatal(err)
	}
	cfg.ONNX.Models = modelsListed
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, `{"custom_id":"i%d","x":[%d,2]}`+"\n", i, i)
	}
	dir := t.TempDir()
	input := filepath.Join(dir, "items.jsonl")
	if err := os.WriteFile(input, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	all := 1.0
	out := filepath.Join(dir, "out")
	spec, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Model: "dense", Output: out, Recheck: &all, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	s, err := RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 2, Config: cfg, Spec: spec}, func(job.Event, job.Status) {})
	if err != nil || s.State != job.StateFinished || s.Rejected != 0 || s.Rechecked == 0 {
		t.Fatalf("%s: %s, %d rechecked, %d rejected, %v", s.State, s.Reason, s.Rechecked, s.Rejected, err)
	}
	n := 0
	err = recordsOf(filepath.Join(out, ai.ResultsFile))(func(r media.Record) error {
		if n++; r.Item != n || r.ID != fmt.Sprintf("i%d", n-1) || len(r.Outputs["y"].Data) != 3 {
			t.Errorf("%d: %+v", n, r)
		}
		return nil
	})
	if err != nil || n != 100 {
		t.Errorf("%d records, %v", n, err)
	}
}

func TestModelsAreKeptByHash(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.ONNX.Models = t.TempDir(), modelsListed
	file := writeModel(t)
	m, err := AddModel(cfg, file, "")
	if err != nil || m.Name != "dense" || !allowedModels(cfg)(m.SHA256) {
		t.Fatalf("%+v %v", m, err)
	}
	for _, name := range []string{"dense", "sha256:" + m.SHA256[:8]} {
		if found, err := findModel(cfg, name); err != nil || found.SHA256 != m.SHA256 {
			t.Errorf("%s: %+v %v", name, found, err)
		}
	}
	// Under another name it is the same one.
	if _, err := AddModel(cfg, file, "other"); err != nil {
		t.Fatal(err)
	}
	if list, err := Models(cfg); err != nil || len(list) != 1 || list[0].Name != "other" {
		t.Errorf("%v %v", list, err)
	}
	if _, err := AddModel(cfg, file, "../x"); !errors.Is(err, job.ErrRefused) {
		t.Error(err)
	}
	if _, err := RemoveModel(cfg, "other"); err != nil || allowedModels(cfg)(m.SHA256) {
		t.Error("it is still allowed", err)
	}
	if _, err := os.Stat(m.Path(cfg)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("its copy is still there", err)
	}
}
