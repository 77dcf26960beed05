// Package wordpiece makes the tokens of which embedding models are given texts:
// BERT's normaliser and splitter, and WordPiece's longest match first, as they
// stand in a tokenizer.json of Hugging Face's tokenizers, whose answers it gives
// token by token (Devlin et al. 2018; Wu et al. 2016; the format is
// huggingface.co/docs/tokenizers). Other sorts of tokenizers are refused: a
// tokenizer that is only nearly right gives wrong embeddings and says nothing.
package wordpiece

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// FileName is what the file is called, beside a model.
const FileName = "tokenizer.json"

// Bounds of what a file may hold.
const (
	MaxFileBytes = 64 << 20
	maxAdded     = 1 << 10
	maxWord      = 1000 // characters of a word that is looked up
)

// Tokenizer turns texts into tokens. It is constant after Read.
type Tokenizer struct {
	clean, chinese, accents, lower bool

	vocab     map[string]int
	unknown   int
	prefix    string           // of a piece inside a word
	longest   int              // characters of a word; of longer ones nothing is known
	added     map[byte][]added // by their first byte, the longest first
	begin     []int            // before a text
	end       []int            // and after it
	mostToken int              // of a text; 0: any
}

// added is a token that stands for itself wherever its text is found.
type added struct {
	text string
	id   int
}

// Encoded are the tokens of a text, those before and after it included.
type Encoded struct {
	IDs []int
	Cut bool // the text was longer than the model takes
}

// file is tokenizer.json, as far as it counts here.
type file struct {
	Truncation *struct {
		MaxLength int    `json:"max_length"`
		Direction string `json:"direction"`
	} `json:"truncation"`
	AddedTokens []struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
	} `json:"added_tokens"`
	Normalizer *struct {
		Type    string `json:"type"`
		Clean   *bool  `json:"clean_text"`
		Chinese *bool  `json:"handle_chinese_chars"`
		Accents *bool  `json:"strip_accents"`
		Lower   *bool  `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer *struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	PostProcessor *struct {
		Type          string                     `json:"type"`
		Single        []map[string]templatePiece `json:"single"`
		SpecialTokens map[string]struct {
			IDs []int `json:"ids"`
		} `json:"special_tokens"`
		Sep []any `json:"sep"`
		Cls []any `json:"cls"`
	} `json:"post_processor"`
	Model struct {
		Type    string         `json:"type"`
		Unknown string         `json:"unk_token"`
		Prefix  *string        `json:"continuing_subword_prefix"`
		Longest *int           `json:"max_input_chars_per_word"`
		Vocab   map[string]int `json:"vocab"`
	} `json:"model"`
}

type templatePiece struct {
	ID   string `json:"id"`
	Type int    `json:"type_id"`
}

// Read reads the text of a tokenizer.json. The error says what of it is not
// understood.
func Read(b []byte) (*Tokenizer, error) {
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(b), MaxFileBytes)
	}
	var sort struct {
		Model struct {
			Type  string          `json:"type"`
			Merge json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(b, &sort); err != nil {
		return nil, fmt.Errorf("it is no tokenizer.json: %w", err)
	}
	if t := sort.Model.Type; t != "WordPiece" {
		if t == "" {
			t = "not named"
		}
		return nil, fmt.Errorf("its kind is %s; only WordPiece is read", t)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("it is no tokenizer.json: %w", err)
	}
	switch {
	case f.Normalizer == nil || f.Normalizer.Type != "BertNormalizer":
		return nil, errors.New("its normalizer is not BERT's, which alone is read")
	case f.PreTokenizer == nil || f.PreTokenizer.Type != "BertPreTokenizer":
		return nil, errors.New("its pre_tokenizer is not BERT's, which alone is read")
	case len(f.Model.Vocab) == 0:
		return nil, errors.New("it has no vocabulary")
	case len(f.AddedTokens) > maxAdded:
		return nil, fmt.Errorf("it has %d added tokens, at most %d are read", len(f.AddedTokens), maxAdded)
	}
	said := func(v *bool, otherwise bool) bool {
		if v == nil {
			return otherwise
		}
		return *v
	}
	t := &Tokenizer{
		clean: said(f.Normalizer.Clean, true), chinese: said(f.Normalizer.Chinese, true), lower: said(f.Normalizer.Lower, true),
		vocab: f.Model.Vocab, prefix: "##", longest: 100,
	}
	t.accents = said(f.Normalizer.Accents, t.lower)
	if f.Model.Prefix != nil {
		t.prefix = *f.Model.Prefix
	}
	if f.Model.Longest != nil {
		t.longest = *f.Model.Longest
	}
	if t.longest < 1 || t.longest > maxWord {
		return nil, fmt.Errorf("words of %d characters are to be looked up, at most %d are", t.longest, maxWord)
	}
	unknown, ok := t.vocab[f.Model.Unknown]
	if !ok {
		return nil, fmt.Errorf("the token for what is unknown, %q, is not in its vocabulary", f.Model.Unknown)
	}
	t.unknown = unknown
	for _, a := range f.AddedTokens {
		if a.Content == "" || a.Normalized || a.SingleWord || a.LStrip || a.RStrip {
			return nil, fmt.Errorf("its added token %q is found in another way than as it stands", a.Content)
		}
		if t.added == nil {
			t.added = map[byte][]added{}
		}
		t.added[a.Content[0]] = append(t.added[a.Content[0]], added{a.Content, a.ID})
	}
	for _, list := range t.added {
		slices.SortStableFunc(list, func(a, b added) int { return len(b.text) - len(a.text) })
	}
	if err := t.around(f); err != nil {
		return nil, err
	}
	if f.Truncation != nil {
		t.mostToken = f.Truncation.MaxLength
		if t.mostToken <= len(t.begin)+len(t.end) || f.Truncation.Direction != "" && f.Truncation.Direction != "Right" {
			return nil, errors.New("its truncation is not understood")
		}
	}
	return t, nil
}

// around reads what is put before and after a text.
func (t *Tokenizer) around(f file) error {
	p := f.PostProcessor
	if p == nil {
		return nil
	}
	switch p.Type {
	case "BertProcessing":
		one := func(v []any) (int, error) {
			if len(v) == 2 {
				if id, ok := v[1].(float64); ok && id >= 0 && id < 1<<31 {
					return int(id), nil
				}
			}
			return 0, errors.New("its post_processor is not understood")
		}
		cls, err1 := one(p.Cls)
		sep, err2 := one(p.Sep)
		t.begin, t.end = []int{cls}, []int{sep}
		return errors.Join(err1, err2)
	case "TemplateProcessing":
		at := &t.begin
		for _, piece := range p.Single {
			if x, ok := piece["Sequence"]; ok && len(piece) == 1 && at == &t.begin && x.Type == 0 {
				at = &t.end
				continue
			}
			x, ok := piece["SpecialToken"]
			ids := p.SpecialTokens[x.ID].IDs
			if !ok || len(piece) != 1 || x.Type != 0 || len(ids) == 0 || len(*at)+len(ids) > 16 {
				return errors.New("its post_processor is not understood")
			}
			*at = append(*at, ids...)
		}
		if at == &t.begin {
			return errors.New("its post_processor leaves the text out")
		}
		return nil
	}
	return fmt.Errorf("its post_processor is %q; BertProcessing and TemplateProcessing are read", p.Type)
}

// Encode returns the tokens of a text.
func (t *Tokenizer) Encode(text string) Encoded {
	var ids []int
	for len(text) > 0 {
		before, a, after := t.nextAdded(text)
		ids = t.words(ids, before)
		if a != nil {
			ids = append(ids, a.id)
		}
		text = after
	}
	out := Encoded{}
	if room := t.mostToken - len(t.begin) - len(t.end); t.mostToken > 0 && len(ids) > room {
		ids, out.Cut = ids[:room], true
	}
	out.IDs = slices.Concat(t.begin, ids, t.end)
	return out
}

// nextAdded cuts a text at its first added token; of several that begin there
// the longest counts.
func (t *Tokenizer) nextAdded(text string) (before string, found *added, after string) {
	for i := range len(text) {
		for _, a := range t.added[text[i]] {
			if strings.HasPrefix(text[i:], a.text) {
				return text[:i], &a, text[i+len(a.text):]
			}
		}
	}
	return text, nil, ""
}

// words adds the tokens of a text that has no added ones.
func (t *Tokenizer) words(ids []int, text string) []int {
	word := make([]rune, 0, 32)
	flush := func() {
		if len(word) > 0 {
			ids = t.pieces(ids, word)
			word = word[:0]
		}
	}
	for _, r := range t.normalized(text) {
		switch {
		case unicode.IsSpace(r):
			flush()
		case punctuation(r):
			flush()
			ids = t.pieces(ids, []rune{r})
		default:
			word = append(word, r)
		}
	}
	flush()
	return ids
}

// pieces adds those of one word: the longest that is known, then the longest of
// what is left.
func (t *Tokenizer) pieces(ids []int, word []rune) []int {
	if len(word) > t.longest {
		return append(ids, t.unknown)
	}
	first := len(ids)
	for from := 0; from < len(word); {
		to := len(word)
		for ; to > from; to-- {
			s := string(word[from:to])
			if from > 0 {
				s = t.prefix + s
			}
			if id, ok := t.vocab[s]; ok {
				ids = append(ids, id)
				break
			}
		}
		if to == from {
			return append(ids[:first], t.unknown)
		}
		from = to
	}
	return ids
}

// normalized is BERT's normaliser, in its order.
func (t *Tokenizer) normalized(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		if t.clean {
			switch {
			case r == 0 || r == utf8.RuneError || control(r):
				continue
			case unicode.IsSpace(r):
				r = ' '
			}
		}
		if t.chinese && chinese(r) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(r)
	}
	s := b.String()
	if t.accents {
		s = strings.Map(func(r rune) rune {
			if mark(r) {
				return -1
			}
			return r
		}, norm.NFD.String(s))
	}
	if t.lower {
		s = lowered(s)
	}
	return s
}

// lowered is each character in small letters by itself: no letter's place in a
// word counts, and the one letter that becomes two does so.
func lowered(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if r == 'İ' {
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// chinese characters are words of their own.
func chinese(r rune) bool {
	switch {
	case r >= 0x4E00 && r <= 0x9FFF, r >= 0x3400 && r <= 0x4DBF, r >= 0x20000 && r <= 0x2A6DF, r >= 0x2A700 && r <= 0x2B73F,
		r >= 0x2B740 && r <= 0x2B81F, r >= 0x2B920 && r <= 0x2CEAF, r >= 0xF900 && r <= 0xFAFF, r >= 0x2F800 && r <= 0x2FA1F:
		return true
	}
	return false
}
