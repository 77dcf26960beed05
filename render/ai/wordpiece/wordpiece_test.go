package wordpiece

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

func small(t testing.TB, change func(map[string]any)) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	if change == nil {
		return b
	}
	var f map[string]any
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	change(f)
	if b, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	return b
}

// Hugging Face's own answers, by testdata/make.py.
func TestTokensAreThoseOfTheReference(t *testing.T) {
	tok, err := Read(small(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, cut := 0, 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		var g struct {
			Text string `json:"text"`
			IDs  []int  `json:"ids"`
		}
		if err := json.Unmarshal(s.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		e := tok.Encode(g.Text)
		if !slices.Equal(e.IDs, g.IDs) {
			t.Errorf("%q: %v, want %v", g.Text, e.IDs, g.IDs)
		}
		if e.Cut {
			cut++
		}
	}
	if n < 300 || cut == 0 {
		t.Errorf("%d texts, %d of them longer than the model takes", n, cut)
	}
}

func TestTokenizersThatAreNotUnderstoodAreRefused(t *testing.T) {
	in := func(f map[string]any, key string) map[string]any { return f[key].(map[string]any) }
	for what, c := range map[string]struct {
		change func(map[string]any)
		says   string
	}{
		"another model":      {func(f map[string]any) { in(f, "model")["type"] = "BPE" }, "BPE"},
		"no model":           {func(f map[string]any) { delete(f, "model") }, "not named"},
		"no vocabulary":      {func(f map[string]any) { in(f, "model")["vocab"] = map[string]int{} }, "vocabulary"},
		"no unknown token":   {func(f map[string]any) { in(f, "model")["unk_token"] = "[NONE]" }, "[NONE]"},
		"absurdly long":      {func(f map[string]any) { in(f, "model")["max_input_chars_per_word"] = 1 << 40 }, "1099511627776"},
		"another normalizer": {func(f map[string]any) { in(f, "normalizer")["type"] = "Sequence" }, "normalizer"},
		"no pre_tokenizer":   {func(f map[string]any) { f["pre_tokenizer"] = nil }, "pre_tokenizer"},
		"another processor":  {func(f map[string]any) { in(f, "post_processor")["type"] = "RobertaProcessing" }, "Roberta"},
		"a processor without the text": {func(f map[string]any) {
			in(f, "post_processor")["single"] = []any{map[string]any{"SpecialToken": map[string]any{"id": "[CLS]", "type_id": 0}}}
		}, "leaves the text out"},
		"an added token of another sort": {func(f map[string]any) {
			f["added_tokens"] = []any{map[string]any{"id": 5, "content": "<mask>", "lstrip": true}}
		}, "<mask>"},
		"added tokens without end": {func(f map[string]any) {
			f["added_tokens"] = slices.Repeat([]any{map[string]any{"id": 5, "content": "<mask>"}}, maxAdded+1)
		}, "1025 added tokens"},
		"truncation of nothing": {func(f map[string]any) { in(f, "truncation")["max_length"] = 2 }, "truncation"},
	} {
		_, err := Read(small(t, c.change))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Read([]byte("{")); err == nil {
		t.Error("half a file was read")
	}
	if _, err := Read(make([]byte, MaxFileBytes+1)); err == nil {
		t.Error("a file without end was read")
	}
}

func TestBertProcessing(t *testing.T) {
	tok, err := Read(small(t, func(f map[string]any) {
		f["post_processor"] = map[string]any{"type": "BertProcessing", "sep": []any{"[SEP]", 3}, "cls": []any{"[CLS]", 2}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if e := tok.Encode(""); !slices.Equal(e.IDs, []int{2, 3}) {
		t.Errorf("%v", e.IDs)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small(f, nil), "Hello, [CLS] wörld")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		if tok, err := Read(b); err == nil && len(text) < 1000 {
			tok.Encode(text)
		}
	})
}
