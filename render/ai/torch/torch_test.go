package torch_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/render/ai/torch"
	"idlewild/render/ai/torch/torchtest"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFoldersThatAreTaken(t *testing.T) {
	for class, pipeline := range map[string]string{
		"BertModel": torch.Embed, "BertForMaskedLM": torch.Embed, "GPT2LMHeadModel": torch.Write, "LlamaForCausalLM": torch.Write,
		"WhisperForConditionalGeneration": torch.Transcribe, "DepthAnythingForDepthEstimation": torch.Depth, "StableDiffusionXLPipeline": torch.Draw,
	} {
		m, err := torch.ReadFolder(torchtest.Fake(t, t.TempDir(), class))
		if err != nil || m.Pipeline != pipeline || m.Class != class || m.Precision != "fp32" {
			t.Errorf("%s: %+v %v", class, m, err)
		}
	}
	dir := torchtest.Fake(t, t.TempDir(), "BertModel")
	write(t, dir, "1_Pooling/config.json", "{}")
	write(t, dir, "other/config.json", "{}")
	write(t, dir, "model.safetensors", string(torchtest.Weights("BF16", 16)))
	m, err := torch.ReadFolder(dir)
	want := []string{"1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"}
	if err != nil || !slices.Equal(m.Files, want) || m.Precision != "fp16" {
		t.Fatalf("%+v %v", m, err)
	}
	before, err := m.Sum(dir)
	if err != nil || len(before) != 64 {
		t.Fatal(before, err)
	}
	write(t, dir, "config.json", `{"architectures":["BertModel"], "x": 1}`)
	if after, err := m.Sum(dir); err != nil || after == before {
		t.Errorf("another model has the hash %s too, %v", after, err)
	}
}

func TestFoldersThatAreRefused(t *testing.T) {
	const bert, sd = "BertModel", "StableDiffusionPipeline"
	for name, c := range map[string]struct{ class, file, text, says string }{
		"a pickle":                 {bert, "pytorch_model.bin", "x", "pytorch_model.bin may be a pickle"},
		"a pickle below":           {sd, "unet/weights.pt", "x", "unet/weights.pt may be a pickle"},
		"a checkpoint":             {bert, "sd.ckpt", "x", "sd.ckpt may be a pickle"},
		"a pickle in disguise":     {bert, "model.safetensors", "\x80\x04\x95aaaaaaaaaaaaa", "model.safetensors is no safetensors file"},
		"weights outside":          {bert, "more.safetensors", string(torchtest.Weights("F32", 16)[:70]), "lies outside of the file"},
		"a script":                 {bert, "x/modeling_bert.py", "x", "x/modeling_bert.py is a program"},
		"an archive":               {bert, "code.zip", "x", "code.zip is an archive"},
		"auto_map":                 {bert, "config.json", `{"architectures":["BertModel"],"auto_map":{"AutoModel":"m.M"}}`, "config.json has auto_map"},
		"auto_map below":           {bert, "tokenizer_config.json", `{"a":[{"auto_map":["x"]}]}`, "tokenizer_config.json has auto_map"},
		"trust_remote_code":        {bert, "generation_config.json", `{"trust_remote_code":true}`, "generation_config.json has trust_remote_code"},
		"custom_pipeline":          {sd, "model_index.json", `{"_class_name":["pipeline","Mine"],"custom_pipeline":"x"}`, "model_index.json names a pipeline of its own"},
		"a part of its own":        {sd, "model_index.json", `{"_class_name":"StableDiffusionPipeline","unet":["my_unet","UNet"]}`, `takes "unet" from "my_unet"`},
		"a part elsewhere":         {sd, "model_index.json", `{"_class_name":"StableDiffusionPipeline","../x":["diffusers","UNet"]}`, `model_index.json says of "../x"`},
		"another pipeline":         {sd, "model_index.json", `{"_class_name":"AudioLDMPipeline"}`, "which none of the pipelines runs"},
		"another architecture":     {bert, "config.json", `{"architectures":["SamForThings"]}`, "config.json says that it is a SamForThings"},
		"no architecture":          {bert, "config.json", `{}`, "does not say its architecture"},
		"a template without end":   {bert, "chat_template.jinja", strings.Repeat("x", 1<<20+1), "has 1048577 bytes, at most 1048576"},
		"broken JSON":              {bert, "special_tokens_map.json", `{"a":`, "special_tokens_map.json is not JSON"},
		"JSON without an end":      {bert, "x.json", strings.Repeat("[", 100), "is nested too deeply"},
		"a module of transformers": {sd, "model_index.json", `{"_class_name":"__class__"}`, "names a pipeline of its own"},
	} {
		dir := torchtest.Fake(t, t.TempDir(), c.class)
		write(t, dir, c.file, c.text)
		_, err := torch.ReadFolder(dir)
		var r *torch.RefusedError
		if !errors.As(err, &r) || !strings.Contains(err.Error(), c.says) || r.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// null and false ask for nothing, and a tokenizer's words are words.
	dir := torchtest.Fake(t, t.TempDir(), bert)
	write(t, dir, "config.json", `{"architectures":["BertModel"],"auto_map":null,"trust_remote_code":false,"x":"auto_map"}`)
	if _, err := torch.ReadFolder(dir); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := torch.ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "no tokenizer") {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "vocab.txt")); err != nil {
		t.Skip("NOT RUN: " + err.Error())
	}
	if _, err := torch.ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "vocab.txt is no file but a link") {
		t.Error(err)
	}
}

func FuzzReadFolder(f *testing.F) {
	f.Add([]byte(`{"architectures":["BertModel"]}`), torchtest.Weights("F32", 16))
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		dir := torchtest.Fake(t, t.TempDir(), "BertModel")
		write(t, dir, "config.json", string(config))
		write(t, dir, "model.safetensors", string(weights))
		_, _ = torch.ReadFolder(dir) // it neither panics nor takes much memory
	})
}

// plain is a Python without the libraries.
func plain(t *testing.T) torch.Python {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("NOT RUN: there is no python3")
	}
	p, err := torch.Find(t.Context(), path)
	if err != nil {
		t.Skip("NOT RUN: " + err.Error())
	}
	return p
}

// The program's frames need no library.
func TestFrames(t *testing.T) {
	p, err := torch.Start(torch.Options{Python: plain(t).Path, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	none := func(float64) {}
	for _, text := range []string{"", "naïve 世界\n", strings.Repeat("x", 1<<20)} {
		s, err := p.Do(map[string]any{"op": "echo", "echo": text}, [][]byte{{0, 0, 128, 63}, nil}, none)
		if err != nil || s.Echo != text {
			t.Fatalf("%.20q %v", s.Echo, err)
		}
		v, err := s.Numbers(torch.Value{Shape: []int{1, 1}})
		if err != nil || v[0] != 1 {
			t.Errorf("%v %v", v, err)
		}
		for _, bad := range []torch.Value{{Shape: []int{2}}, {Blob: 2}, {Blob: -1}, {Shape: []int{-1}}, {Shape: []int{1 << 40, 1 << 40}}} {
			if _, err := s.Numbers(bad); err == nil {
				t.Errorf("%+v is an output", bad)
			}
		}
	}
	// What is wrong is said, and the process stays.
	for _, head := range []map[string]any{{"op": "run", "items": []int{}}, {"op": "nothing"}, {"op": "load"}} {
		var asked *torch.AskedError
		if _, err := p.Do(head, nil, none); !errors.As(err, &asked) {
			t.Errorf("%v: %v", head, err)
		}
	}
	if s, err := p.Do(map[string]any{"op": "echo", "echo": "still here"}, nil, none); err != nil || s.Echo != "still here" {
		t.Error(err)
	}
}

// What is wrong with an item is said in the words that are for people; the
// pipelines are a stand-in, which needs no library.
func TestWhatIsWrongWithAnItem(t *testing.T) {
	dir := t.TempDir()
	p, err := torch.Start(torch.Options{Python: plain(t).Path, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	write(t, dir, "pipelines.py", `
import importlib.metadata
from protocol import Refused
importlib.metadata.version = lambda name: "0"
class Model:
    def where(self): return "cpu"
    def run(self, item, blobs, progress):
        if item == "refused": raise Refused("the text is empty")
        raise KeyError("shape")
def load(*settings): return Model()
`)
	none := func(float64) {}
	if _, err := p.Do(map[string]any{"op": "load", "pipeline": "x", "folder": "x", "device": "cpu"}, nil, none); err != nil {
		t.Fatal(err)
	}
	s, err := p.Do(map[string]any{"op": "run", "items": []string{"refused", "broken"}}, nil, none)
	if err != nil || len(s.Results) != 2 || s.Results[0].Error != "the text is empty" || s.Results[1].Error != "KeyError: 'shape'" {
		t.Errorf("%+v %v", s.Results, err)
	}
}

func TestAPythonWithoutTheLibraries(t *testing.T) {
	_, _, err := torch.Look(torch.Options{Python: plain(t).Path, Dir: t.TempDir()})
	if err == nil {
		t.Skip("NOT RUN: this Python has the libraries")
	}
	if !strings.Contains(err.Error(), "torch") {
		t.Error(err)
	}
	if _, err := torch.Find(t.Context(), ""); !errors.Is(err, torch.ErrNone) {
		t.Error(err)
	}
	if _, err := torch.Find(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "torch.python") {
		t.Error(err)
	}
}
