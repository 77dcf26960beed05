package ai

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"idlewild/media"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/wordpiece"
)

// beside are the files that belong to an ONNX model: those of its weights, and
// its tokenizer if it takes tokens and one lies there.
func beside(file string, m *onnx.Model) []string {
	more := slices.Clone(m.External)
	if !slices.ContainsFunc(m.Inputs, func(v onnx.Value) bool { return v.Name == tokenInput && v.Type != onnx.String }) {
		return more
	}
	if fi, err := os.Stat(filepath.Join(filepath.Dir(file), wordpiece.FileName)); err == nil && fi.Mode().IsRegular() && fi.Size() <= wordpiece.MaxFileBytes {
		more = append(more, wordpiece.FileName)
	}
	return more
}

// tokens makes those of texts, for a model that takes them.
type tokens struct {
	tokenizer *wordpiece.Tokenizer
	why       string // there is none
}

// tokensOf reads the tokenizer beside a model.
func tokensOf(file string) *tokens {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(file), wordpiece.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return &tokens{why: "no " + wordpiece.FileName + " lies beside it"}
	}
	t := &tokens{}
	if err == nil {
		t.tokenizer, err = wordpiece.Read(b)
	}
	if err != nil {
		t.why = fmt.Sprintf("%s cannot be used: %v", wordpiece.FileName, err)
	}
	return t
}

// of returns the tokens of a text.
func (t *tokens) of(text string) (media.Tensor, error) {
	if t.tokenizer == nil {
		return media.Tensor{}, fmt.Errorf("the model takes tokens, and %s: send arrays of tokens, or use a model with a WordPiece tokenizer or in the GGUF format", t.why)
	}
	ids := t.tokenizer.Encode(text).IDs
	out := media.Tensor{Shape: []int{len(ids)}, Data: make([]float64, len(ids))}
	for i, id := range ids {
		out.Data[i] = float64(id)
	}
	return out, nil
}

// derived are the values of inputs that follow from an item's tokens: that all
// of them count, and that they are of one text.
var derived = map[string]float64{maskInput: 1, kindInput: 0}
