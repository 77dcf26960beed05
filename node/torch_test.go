package node

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai"
	"idlewild/render/ai/torch/torchtest"
)

func TestFoldersAreKeptByHash(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.ONNX.Models = t.TempDir(), modelsListed
	folder := torchtest.Fake(t, filepath.Join(t.TempDir(), "My Model"), "BertModel")
	if _, err := AddModel(cfg, folder, ""); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "--as") {
		t.Error(err)
	}
	m, err := AddModel(cfg, folder, "mine")
	if err != nil || m.File != "My Model" || m.Bytes == 0 || !allowedModels(cfg)(m.SHA256) {
		t.Fatalf("%+v %v", m, err)
	}
	if found, err := findModel(cfg, "mine"); err != nil || found.SHA256 != m.SHA256 {
		t.Errorf("%+v %v", found, err)
	}
	_, sum, err := ai.CheckFolder(m.Path(cfg))
	if err != nil || sum != m.SHA256 {
		t.Errorf("its copy has the hash %s, %v", sum, err)
	}
	if _, err := os.Stat(filepath.Join(m.Path(cfg), "README.md")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what is no part of the model was copied", err)
	}
	// A name finds it, as it does a file.
	in := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(in, []byte("\"a\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := SpecFor(in, SpecOptions{Kind: string(ai.Name), Model: "mine", Output: t.TempDir(), Config: cfg}); err != nil || !strings.Contains(string(s.Params), "My Model") {
		t.Errorf("%s %v", s.Params, err)
	}
	if err := os.WriteFile(filepath.Join(folder, "pytorch_model.bin"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := AddModel(cfg, folder, "more"); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "My Model/pytorch_model.bin") {
		t.Error(err)
	}
	if _, err := RemoveModel(cfg, "mine"); err != nil || allowedModels(cfg)(m.SHA256) {
		t.Error(err)
	}
}

// Every package of the environment is of one version for a machine, and held to
// hashes.
func TestTheLockIsWhole(t *testing.T) {
	lock := lockedPackages(torchLock)
	form := regexp.MustCompile(`^[a-z0-9-]+==[^ ]+ (; [^\\]+ )?\\\n(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n$`)
	have := map[string]bool{}
	for _, p := range lock {
		if !form.MatchString(p.text) {
			t.Errorf("%s is not held: %.200q", p.name, p.text)
		}
		have[p.name] = true
	}
	if len(lock) < 40 || !have["torch "+torchPinned] {
		t.Errorf("%d packages, torch %s is %v", len(lock), torchPinned, have["torch "+torchPinned])
	}
}

// wheel writes a Python package of one module and returns what a lock says of it.
func wheel(t *testing.T, dir, name, code string) lockedPackage {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	info := name + "-1.0.dist-info/"
	for _, f := range [][2]string{
		{name + "/__init__.py", code}, {info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", name + "/__init__.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		w, err := z.Create(f[0])
		if err == nil {
			_, err = w.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, name+"-1.0-py3-none-any.whl")
	if err := errors.Join(z.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, _, err := copyHashed(file, file+".copy")
	sum, _, err2 := copyHashed(file+".copy", file)
	if err := errors.Join(err, err2, os.Remove(file+".copy")); err != nil {
		t.Fatal(err)
	}
	return lockedPackage{name: name + " 1.0", text: fmt.Sprintf("%s==1.0 --hash=sha256:%s\n", name, sum)}
}

// An environment is made of what the lock holds; what was fetched before an
// interruption is not fetched again.
func TestAnEnvironmentIsMade(t *testing.T) {
	if err := exec.Command("python3", "-c", "import venv, ensurepip").Run(); err != nil {
		t.Skip("NOT RUN: python3 makes no environments")
	}
	index := t.TempDir()
	t.Setenv("PIP_NO_INDEX", "1")
	t.Setenv("PIP_FIND_LINKS", index)
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	lock := []lockedPackage{
		wheel(t, index, "torch", "class cuda:\n    is_available = staticmethod(lambda: False)\n"),
		{name: "other 1.0", text: "other==1.0 ; sys_platform == 'nowhere' --hash=sha256:" + strings.Repeat("0", 64) + "\n"},
		wheel(t, index, "transformers", ""), wheel(t, index, "diffusers", ""), wheel(t, index, "safetensors", ""),
	}
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	good := lock[4].text
	lock[4].text = "safetensors==1.0 --hash=sha256:" + strings.Repeat("0", 64) + "\n"
	var say strings.Builder
	if _, err := addTorch(t.Context(), cfg, lock, &say); err == nil || !strings.Contains(err.Error(), "fetch safetensors 1.0") || !strings.Contains(err.Error(), "run it again") {
		t.Fatalf("%v\n%s", err, &say)
	}
	if r, err := FindTorch(t.Context(), cfg, nil); err != nil || !strings.Contains(r.Error, "runtime add torch") {
		t.Errorf("%+v %v", r, err)
	}
	lock[4].text = good
	say.Reset()
	r, err := addTorch(t.Context(), cfg, lock, &say)
	if err != nil || r.Version != "torch 1.0, transformers 1.0, diffusers 1.0, safetensors 1.0, on cpu" {
		t.Fatalf("%+v %v\n%s", r, err, &say)
	}
	if strings.Contains(say.String(), "1 of 5") || !strings.Contains(say.String(), "package 5 of 5: safetensors 1.0") {
		t.Errorf("it fetched again what was there:\n%s", &say)
	}
	left, err := os.ReadDir(runtimesDir(cfg.DataDir))
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// torchConfig is a configuration with PyTorch and the tiny models; without it the
// test is skipped.
func torchConfig(t *testing.T) Config {
	t.Helper()
	models := torchtest.Make(t)
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Sandbox.Mode, cfg.Blender.Path = t.TempDir(), "auto", filepath.Join(t.TempDir(), "none")
	cfg.ONNX.Library, cfg.Torch.Python = t.TempDir(), torchtest.Python(t)
	addTiny(t, cfg, models)
	return cfg
}

func addTiny(t *testing.T, cfg Config, models string) {
	t.Helper()
	for _, name := range []string{"tiny-bert", "tiny-gpt", "tiny-sd", "tiny-depth", "tiny-whisper"} {
		if _, err := AddModel(cfg, filepath.Join(models, name), ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheDoorAnswersByPipelines(t *testing.T) {
	python, models := torchtest.Python(t), torchtest.Make(t)
	n := startNode(t, "one", func(c *Config) { c.Torch.Python, c.Sandbox.Mode = python, "auto" })
	addTiny(t, n.cfg, models)
	d := doorOf(t, n)
	type drawn struct {
		Data []struct {
			B64 string `json:"b64_json"`
		}
		Size     string
		Seed     int
		Idlewild struct{ Verdict string }
	}
	draw := func(more string) (a drawn) {
		status, text := d.post("/v1/images/generations", `{"model":"tiny-sd","prompt":"a cat","size":"64x48","steps":2`+more+`}`)
		if err := json.Unmarshal([]byte(text), &a); err != nil || status != 200 {
			t.Fatalf("%d %.500s %v", status, text, err)
		}
		return a
	}
	two := draw(`,"n":2,"seed":5`)
	if len(two.Data) != 2 || two.Data[0].B64 == two.Data[1].B64 || two.Size != "64x48" || two.Seed != 5 || two.Idlewild.Verdict != "own" {
		t.Errorf("%d pictures of %s, %+v", len(two.Data), two.Size, two.Idlewild)
	}
	b, err := base64.StdEncoding.DecodeString(two.Data[1].B64)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := png.Decode(bytes.NewReader(b)); err != nil || m.Bounds().Dx() != 64 || m.Bounds().Dy() != 48 {
		t.Errorf("%v", err)
	}
	if six := draw(`,"seed":6`); six.Data[0].B64 != two.Data[1].B64 {
		t.Error("the same seed draws another picture")
	}
	for body, want := range map[string]string{
		`{"model":"tiny-sd"}`:                                               "no prompt",
		`{"model":"tiny-sd","prompt":"a","size":"64x65"}`:                   "multiples of 8",
		`{"model":"tiny-sd","prompt":"a","n":11}`:                           "within 1 and 10",
		`{"model":"tiny-sd","prompt":"a","n":2,"size":"1024x1024"}`:         "more pixels than one answer",
		`{"model":"tiny-sd","prompt":"a","response_format":"url"}`:          "b64_json",
		`{"model":"tiny-sd","prompt":"a","steps":1000}`:                     "at most",
		`{"model":"tiny-bert","prompt":"a"}`:                                "model add FOLDER",
		`{"prompt":"a"}`:                                                    "names no model",
		`{"model":"tiny-sd","prompt":"` + strings.Repeat("a", 1<<15) + `"}`: "at most",
	} {
		if status, text := d.post("/v1/images/generations", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%.100s: %d %.500s", body, status, text)
		}
	}
	status, text := d.post("/v1/embeddings", `{"model":"tiny-bert","input":["hello","world"]}`)
	var e struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil || status != 200 || len(e.Data) != 2 || len(e.Data[1].Embedding) != 32 {
		t.Errorf("%d %.500s %v", status, text, err)
	}
	const chat = `{"model":"tiny-gpt","messages":[{"role":"user","content":"hi"}],"max_tokens":6,"seed":1%s}`
	status, text = d.post("/v1/chat/completions", fmt.Sprintf(chat, ""))
	var c chatAnswer
	if err := json.Unmarshal([]byte(text), &c); err != nil || status != 200 || c.Choices[0].Message.Role != "assistant" || c.Usage.Prompt == 0 {
		t.Errorf("%d %s %v", status, text, err)
	}
	said, err := json.Marshal(c.Choices[0].Message.Content)
	if err != nil {
		t.Fatal(err)
	}
	if status, text = d.post("/v1/chat/completions", fmt.Sprintf(chat, `,"stream":true`)); status != 200 || !strings.Contains(text, string(said)) || !strings.Contains(text, "[DONE]") {
		t.Errorf("%d %s, and whole %s", status, text, said)
	}
}

// Jobs of pipelines take the whole road, and all of what comes back is made again.
func TestPipelinesOnAFarm(t *testing.T) {
	cfg := torchConfig(t)
	run := func(input, toml string) (out string) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{"in.jsonl": input, "job.toml": "inputs = 'in.jsonl'\n" + toml} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		all := 1.0
		out = filepath.Join(dir, "out")
		spec, err := SpecFor(filepath.Join(dir, "job.toml"), SpecOptions{Kind: string(ai.Name), Output: out, Recheck: &all, Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		s, err := RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 2, Config: cfg, Spec: spec}, func(job.Event, job.Status) {})
		worked := map[string]bool{} // it takes seconds until a process works: the first one may have done everything, and is not checked
		for _, w := range s.Workers {
			if w.Tasks > 0 {
				worked[w.Peer] = true
			}
		}
		if err != nil || s.State != job.StateFinished || s.Rejected != 0 || len(worked) > 1 && s.Rechecked == 0 {
			t.Fatalf("%s: %s, %d rechecked, %d rejected, %v; %+v", s.State, s.Reason, s.Rechecked, s.Rejected, err, s.Workers)
		}
		return out
	}
	out := run(strings.Repeat("\"a cat\"\n\"a dog\"\n", 4), "model = 'tiny-sd'\npipeline = 'text-to-image'\nseed = 1\n[generate]\nsize = '64x64'\nsteps = 2\n")
	for _, name := range []string{"0001.png", "0008.png"} {
		if m, err := media.DecodeFile(filepath.Join(out, name), media.Limits{}); err != nil || m.Width != 64 {
			t.Errorf("%s: %v", name, err)
		}
	}
	out = run("\"hello\"\n\"\"\n", "model = 'tiny-bert'\npipeline = 'text-embedding'\n")
	n, bad := 0, 0
	if err := recordsOf(filepath.Join(out, ai.ResultsFile))(func(r media.Record) error {
		if n++; r.Error != "" {
			bad++
		}
		return nil
	}); err != nil || n != 2 || bad != 1 {
		t.Errorf("%d records, %d errors, %v", n, bad, err)
	}
}
