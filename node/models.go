package node

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"idlewild/job"
	"idlewild/render/ai"
)

// What onnx.models may be.
const (
	modelsAny    = "any"
	modelsListed = "listed"
)

// Model is one that was added on this machine: jobs may name it, and where
// onnx.models is "listed" it may run here for others.
type Model struct {
	Name   string    `json:"name"`
	SHA256 string    `json:"sha256"` // of the model's file
	File   string    `json:"file"`   // its base name
	Bytes  int64     `json:"bytes"`  // with its weights
	Added  time.Time `json:"added"`
}

// modelsDir holds a folder for each, called by its hash, and the list.
func modelsDir(cfg Config) string { return filepath.Join(cfg.DataDir, "models") }

// Path of the model's file.
func (m Model) Path(cfg Config) string { return filepath.Join(modelsDir(cfg), m.SHA256, m.File) }

// Models are those that were added.
func Models(cfg Config) ([]Model, error) {
	b, err := os.ReadFile(filepath.Join(modelsDir(cfg), "models.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list of models: %w", err)
	}
	var list []Model
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("list of models: %w", err)
	}
	for _, m := range list {
		// Both are parts of paths that are moved and removed.
		if !modelHash.MatchString(m.SHA256) || m.File != filepath.Base(m.File) || m.File == "." || m.File == ".." {
			return nil, fmt.Errorf("list of models: %q is no model", m.Name)
		}
	}
	return list, nil
}

func writeModels(cfg Config, list []Model) error {
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(modelsDir(cfg), ".models-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(modelsDir(cfg), "models.json"))
}

var modelHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// modelName is what a model may be called: no path, no hash.
var modelName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// AddModel copies a model, a file and those with its weights or a folder, into the
// data folder under a name. Nothing of it is run.
func AddModel(cfg Config, file, name string) (Model, error) {
	if fi, err := os.Stat(file); err == nil && fi.IsDir() {
		return addFolder(cfg, file, name)
	}
	external, err := ai.CheckModel(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Model{}, job.Refuse(file, "no such file", "check the path")
	}
	if err != nil {
		return Model{}, job.Refuse(file, err.Error(), "models are ONNX or GGUF files, or folders of safetensors; docs/ai.md says how to export one")
	}
	m, tmp, err := newModel(cfg, file, name, strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	if err != nil {
		return Model{}, err
	}
	defer os.RemoveAll(tmp)
	if m.SHA256, m.Bytes, err = copyHashed(file, filepath.Join(tmp, m.File)); err != nil {
		return Model{}, err
	}
	for _, more := range external {
		_, n, err := copyHashed(filepath.Join(filepath.Dir(file), more), filepath.Join(tmp, more))
		if errors.Is(err, fs.ErrNotExist) {
			return Model{}, job.Refuse(file, "its weights are in "+more+", which is not beside it", "put the file there, or save the model with its weights inside")
		}
		if err != nil {
			return Model{}, err
		}
		m.Bytes += n
	}
	return m, listModel(cfg, m, tmp)
}

// addFolder is AddModel of a model in a folder.
func addFolder(cfg Config, folder, name string) (Model, error) {
	files, sum, err := ai.CheckFolder(folder)
	if err != nil {
		return Model{}, err
	}
	m, tmp, err := newModel(cfg, folder, name, filepath.Base(folder))
	if err != nil {
		return Model{}, err
	}
	defer os.RemoveAll(tmp)
	m.SHA256 = sum
	for _, f := range files {
		to := filepath.Join(tmp, m.File, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return Model{}, err
		}
		_, n, err := copyHashed(filepath.Join(folder, filepath.FromSlash(f)), to)
		if err != nil {
			return Model{}, err
		}
		m.Bytes += n
	}
	// It may have been changed meanwhile.
	if _, sum, err = ai.CheckFolder(filepath.Join(tmp, m.File)); err == nil && sum != m.SHA256 {
		err = job.Refuse(folder, "was changed while it was copied", "try again")
	}
	if err != nil {
		return Model{}, err
	}
	return m, listModel(cfg, m, tmp)
}

// newModel begins a model that is added: usual is what it is called where nobody
// says so. Its files go to tmp.
func newModel(cfg Config, file, name, usual string) (m Model, tmp string, err error) {
	if name == "" {
		name = strings.ToLower(usual)
	}
	if !modelName.MatchString(name) {
		return m, "", job.Refuse(name, "is no name for a model", "say --as NAME, of small letters, digits, - and _")
	}
	if err := os.MkdirAll(modelsDir(cfg), 0o700); err != nil {
		return m, "", err
	}
	tmp, err = os.MkdirTemp(modelsDir(cfg), ".add-*")
	return Model{Name: name, File: filepath.Base(file), Added: time.Now().UTC().Truncate(time.Second)}, tmp, err
}

// listModel puts a model whose files are in tmp where models lie.
func listModel(cfg Config, m Model, tmp string) error {
	list, err := Models(cfg)
	if err != nil {
		return err
	}
	at := filepath.Join(modelsDir(cfg), m.SHA256)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := os.Rename(tmp, at); err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(o Model) bool { return o.Name == m.Name || o.SHA256 == m.SHA256 })
	return writeModels(cfg, append(list, m))
}

// copyHashed copies a file and returns the sha2-256 of what was copied.
func copyHashed(from, to string) (sum string, n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", 0, err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), n, nil
}

// findModel finds a model by its name, or by "sha256:" and the beginning of
// its hash.
func findModel(cfg Config, name string) (Model, error) {
	list, err := Models(cfg)
	if err != nil {
		return Model{}, err
	}
	var names []string
	hash, byHash := strings.CutPrefix(name, "sha256:")
	for _, m := range list {
		if m.Name == name || (byHash && len(hash) >= 8 && strings.HasPrefix(m.SHA256, hash)) {
			return m, nil
		}
		names = append(names, m.Name)
	}
	have := "none was added"
	if len(names) > 0 {
		have = "there are: " + strings.Join(names, ", ")
	}
	return Model{}, job.Refuse("model "+name, "there is none of this name; "+have, "add one with: idlewild model add FILE --as "+name)
}

// RemoveModel forgets a model and deletes the copy of it.
func RemoveModel(cfg Config, name string) (Model, error) {
	m, err := findModel(cfg, name)
	if err != nil {
		return Model{}, err
	}
	list, err := Models(cfg)
	if err != nil {
		return Model{}, err
	}
	list = slices.DeleteFunc(list, func(o Model) bool { return o.SHA256 == m.SHA256 })
	if err := writeModels(cfg, list); err != nil {
		return Model{}, err
	}
	return m, os.RemoveAll(filepath.Join(modelsDir(cfg), m.SHA256))
}

// allowedModels says which models run here for others; nil: any. The list is
// read each time, so that it holds without a restart.
func allowedModels(cfg Config) func(sha256 string) bool {
	if cfg.ONNX.Models != modelsListed {
		return nil
	}
	return func(sha256 string) bool {
		list, err := Models(cfg)
		return err == nil && slices.ContainsFunc(list, func(m Model) bool { return m.SHA256 == sha256 })
	}
}
