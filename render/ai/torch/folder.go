package torch

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The pipelines: what a model may be put to.
const (
	Embed      = "text-embedding"
	Write      = "text-generation"
	Draw       = "text-to-image"
	Transcribe = "transcription"
	Depth      = "depth"
)

// Pipelines are all of them.
var Pipelines = []string{Embed, Write, Draw, Transcribe, Depth}

// Model is a model in a folder as Hugging Face's libraries save it.
type Model struct {
	Files     []string // that belong to it, below the folder, slash-separated and sorted
	Bytes     int64    // of them
	Pipeline  string   // that it can be put to
	Class     string   // what the libraries call it
	Precision string   // of its weights: "fp32" or "fp16"
}

// Bounds of a folder, which may come from a stranger.
const (
	maxFiles  = 512 // that belong to the model
	maxSeen   = 1 << 14
	maxJSON   = 64 << 20
	maxText   = 64 << 20
	maxHeader = 16 << 20 // of a safetensors file
)

// Files that say what a model is.
const (
	configFile = "config.json"
	indexFile  = "model_index.json" // of a pipeline of several models
)

// pickles are files that run code when they are loaded, or may.
var pickles = []string{".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".mar", ".nemo"}

// programs are files that are code.
var programs = []string{".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".js", ".ipynb", ".cu"}

// archives may hold either.
var archives = []string{".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl", ".egg"}

// taken are the files that belong to a model, and the largest that one may be.
var taken = map[string]int64{".json": maxJSON, ".txt": maxText, ".model": maxText, ".jinja": 1 << 20, ".safetensors": 1 << 40}

// libraries are where the parts of a pipeline may come from: the names that
// model_index.json has for classes that the libraries bring themselves.
var libraries = []string{"diffusers", "transformers", "stable_diffusion"}

// drawers are the pipelines that make pictures of words.
var drawers = []string{
	"StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "LatentConsistencyModelPipeline",
	"FluxPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline",
}

// codeKeys are settings that have the libraries run code which the model brings.
var codeKeys = []string{"auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines", "custom_generate"}

// RefusedError says which file of a folder is why it is not taken.
type RefusedError struct {
	File   string // below the folder; empty: the folder itself
	Reason string
	Remedy string // what would help
}

func (e *RefusedError) Error() string {
	if e.File == "" {
		return e.Reason
	}
	return e.File + " " + e.Reason
}

func refuse(file, remedy, reason string, a ...any) error {
	return &RefusedError{File: file, Reason: fmt.Sprintf(reason, a...), Remedy: remedy}
}

// ReadFolder looks at a folder and says what model is in it. Nothing of it is
// run, and weights are not read. An error of what is not taken is a RefusedError.
func ReadFolder(dir string) (*Model, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found, err := list(root)
	if err != nil {
		return nil, err
	}
	m := &Model{Precision: "fp32"}
	keep, err := m.is(root, found)
	if err != nil {
		return nil, err
	}
	halves, weights := 0, 0
	for _, name := range slices.Sorted(keys(found)) {
		ext := strings.ToLower(path.Ext(name))
		most, ok := taken[ext]
		if !ok || !keep(name) {
			continue
		}
		size := found[name]
		if size > most {
			return nil, refuse(name, "name a folder with a model", "has %d bytes, at most %d are taken of such a file", size, most)
		}
		switch ext {
		case ".json":
			err = checkJSON(root, name)
		case ".safetensors":
			var half bool
			half, err = checkWeights(root, name, size)
			if weights++; half {
				halves++
			}
		}
		if err != nil {
			return nil, err
		}
		if m.Files, m.Bytes = append(m.Files, name), m.Bytes+size; len(m.Files) > maxFiles {
			return nil, refuse("", "name a folder with one model", "it has more than %d files", maxFiles)
		}
	}
	if weights == 0 {
		return nil, refuse("", "save the model with save_pretrained(FOLDER, safe_serialization=True)", "it has no weights in the format safetensors")
	}
	if halves > 0 {
		m.Precision = "fp16"
	}
	return m, nil
}

func keys(m map[string]int64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// list is all files of a folder, but hidden ones, with their sizes. What may run
// code is refused wherever it lies: nobody has to know which of them would be
// loaded.
func list(root *os.Root) (map[string]int64, error) {
	found := map[string]int64{}
	const again = "fetch it without that: hf download MODEL --include '*.json' '*.safetensors' '*.txt' '*.model' --local-dir FOLDER"
	seen := 0
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if seen++; seen > maxSeen {
			return refuse("", "name a folder with one model", "it has more than %d files", maxSeen)
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		ext := strings.ToLower(path.Ext(p))
		switch {
		case !d.Type().IsRegular():
			return refuse(p, "copy the folder with: cp -rL FOLDER COPY", "is no file but a link or a device, and could lead anywhere")
		case slices.Contains(pickles, ext):
			return refuse(p, again, "may be a pickle, and a pickle runs code when it is loaded; weights are taken as safetensors only")
		case slices.Contains(programs, ext):
			return refuse(p, again, "is a program, and a model is data")
		case slices.Contains(archives, ext):
			return refuse(p, again, "is an archive, which may hold programs")
		}
		fi, err := d.Info()
		if err == nil {
			found[p] = fi.Size()
		}
		return err
	})
	return found, err
}

// is finds out what the model is, and which files belong to it.
func (m *Model) is(root *os.Root, found map[string]int64) (keep func(string) bool, err error) {
	if _, ok := found[indexFile]; ok {
		return m.pipeline(root)
	}
	if _, ok := found[configFile]; !ok {
		return nil, refuse("", "name the folder that the model was saved into", "it has neither %s nor %s", configFile, indexFile)
	}
	var c struct {
		Architectures []string `json:"architectures"`
	}
	if err := readJSON(root, configFile, &c); err != nil {
		return nil, err
	}
	if len(c.Architectures) == 0 {
		return nil, refuse(configFile, "save the model again with save_pretrained", "does not say its architecture")
	}
	m.Class = c.Architectures[0]
	switch ends := func(s string) bool { return strings.HasSuffix(m.Class, s) }; {
	case !identifier(m.Class):
		return nil, refuse(configFile, "save the model again with save_pretrained", "has an architecture that is no name")
	case ends("ForCausalLM"), ends("LMHeadModel"):
		m.Pipeline = Write
	case ends("ForDepthEstimation"):
		m.Pipeline = Depth
	case m.Class == "WhisperForConditionalGeneration":
		m.Pipeline = Transcribe
	case ends("Model"), ends("ForMaskedLM"):
		m.Pipeline = Embed
	default:
		return nil, refuse(configFile, "name a model that embeds or writes text, draws, transcribes (Whisper) or estimates depth", "says that it is a %s, which none of the pipelines runs", m.Class)
	}
	words := false
	for name := range found {
		words = words || name == "tokenizer.json" || name == "vocab.txt" || name == "vocab.json" || path.Ext(name) == ".model"
	}
	if !words && m.Pipeline != Depth {
		return nil, refuse("", "save its tokenizer or processor into the same folder", "it has no tokenizer")
	}
	return func(name string) bool { return !strings.Contains(name, "/") || name == poolingFile }, nil
}

// poolingFile says how a sentence's embedding is made of its tokens'.
const poolingFile = "1_Pooling/config.json"

// pipeline is a model of several parts.
func (m *Model) pipeline(root *os.Root) (keep func(string) bool, err error) {
	var parts map[string]json.RawMessage
	if err := readJSON(root, indexFile, &parts); err != nil {
		return nil, err
	}
	const remedy = "name a pipeline that diffusers brings, as StableDiffusionPipeline"
	if json.Unmarshal(parts["_class_name"], &m.Class) != nil || !identifier(m.Class) {
		return nil, refuse(indexFile, remedy, "names a pipeline of its own (custom_pipeline), which is code")
	}
	if !slices.Contains(drawers, m.Class) {
		return nil, refuse(indexFile, "there are "+strings.Join(drawers, ", "), "says that it is a %s, which none of the pipelines runs", m.Class)
	}
	m.Pipeline = Draw
	folders := map[string]bool{}
	for name, raw := range parts {
		var pair []*string
		if strings.HasPrefix(name, "_") || len(raw) == 0 || raw[0] != '[' {
			continue
		}
		if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 || (pair[0] == nil) != (pair[1] == nil) || strings.ContainsAny(name, `/\.`) {
			return nil, refuse(indexFile, remedy, "says of %q what nobody understands", name)
		}
		if pair[0] == nil {
			continue
		}
		if !slices.Contains(libraries, *pair[0]) || !identifier(*pair[1]) {
			return nil, refuse(indexFile, remedy, "takes %q from %q, which is code that the libraries do not bring", name, *pair[0])
		}
		folders[name] = true
	}
	return func(name string) bool {
		folder, file, below := strings.Cut(name, "/")
		if !below {
			return name == indexFile
		}
		return folders[folder] && !strings.Contains(file, "/")
	}, nil
}

func identifier(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 128 && !strings.HasPrefix(s, "_")
}

func readJSON(root *os.Root, name string, v any) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err != nil {
		return err
	}
	if len(b) > maxJSON {
		return refuse(name, "name a folder with a model", "has more than %d bytes", maxJSON)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return refuse(name, "fetch it again", "is not what such a file is: %v", err)
	}
	return nil
}

// checkJSON refuses a file that is no JSON, or has the libraries run code.
func checkJSON(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// Of a tokenizer the keys are words of its language.
	words := slices.Contains([]string{"tokenizer.json", "vocab.json", "added_tokens.json", "normalizer.json"}, path.Base(name))
	d := json.NewDecoder(bufio.NewReaderSize(f, 1<<16))
	var within []bool // objects, else arrays
	key, code := true, ""
	for depth := 0; ; {
		t, err := d.Token()
		if err == io.EOF && depth == 0 {
			return nil
		}
		if err != nil {
			return refuse(name, "fetch it again", "is not JSON: %v", err)
		}
		object := depth > 0 && within[depth-1]
		if object && key {
			if s, ok := t.(string); ok {
				if code = ""; slices.Contains(codeKeys, s) && !words {
					code = s
				}
				key = false
				continue
			}
		}
		if code != "" && t != nil && t != false {
			return refuse(name, "name a model that the libraries run without code of its own", "has %s, which has code run that the model brings", code)
		}
		code = ""
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > 64 {
				return refuse(name, "fetch it again", "is nested too deeply")
			}
			within = append(within[:depth-1], t == json.Delim('{'))
			key = true
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		key = depth > 0 && within[depth-1]
	}
}

// halfTypes are numbers of 16 bits and fewer.
var halfTypes = []string{"F16", "BF16", "F8_E4M3", "F8_E5M2"}

// checkWeights reads the header of a safetensors file: what is not one is
// refused, whatever it is called.
func checkWeights(root *os.Root, name string, size int64) (half bool, err error) {
	f, err := root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	no := func(why string, a ...any) error {
		return refuse(name, "fetch it again, or save the model with safe_serialization=True", "is no safetensors file: "+why, a...)
	}
	var length [8]byte
	if _, err := io.ReadFull(f, length[:]); err != nil {
		return false, no("it ends too early")
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n == 0 || n > maxHeader || int64(n)+8 > size {
		return false, no("its header has %d bytes", n)
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(f, head); err != nil {
		return false, no("it ends too early")
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(head, &all); err != nil {
		return false, no("%v", err)
	}
	counts := map[bool]int{}
	for tensor, raw := range all {
		if tensor == "__metadata__" {
			continue
		}
		var t struct {
			Type    string   `json:"dtype"`
			Shape   []int64  `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &t); err != nil {
			return false, no("tensor %.100q: %v", tensor, err)
		}
		if t.Offsets[0] < 0 || t.Offsets[1] < t.Offsets[0] || t.Offsets[1] > size-8-int64(n) || len(t.Shape) > 16 {
			return false, no("tensor %.100q lies outside of the file", tensor)
		}
		counts[slices.Contains(halfTypes, t.Type)]++
	}
	return counts[true] > counts[false], nil
}

// Sum is the hash of a model: of the names and hashes of its files.
func (m *Model) Sum(dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	all := sha256.New()
	for _, name := range m.Files {
		f, err := root.Open(name)
		if err != nil {
			return "", err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%x %s\n", h.Sum(nil), name)
	}
	return fmt.Sprintf("%x", all.Sum(nil)), nil
}

// Is says what the model is, for people.
func (m *Model) Is() string { return fmt.Sprintf("a model for %s (%s)", m.Pipeline, m.Class) }

// Path is a file of the model below dir.
func Path(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
