// Package llmtest writes a small language model of random weights in the GGUF
// format, for tests and benchmarks that need one and may not fetch any.
package llmtest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

// Sizes of the model.
const (
	width   = 64
	layers  = 2
	heads   = 4
	inner   = 128
	context = 512
	vocab   = 3 + 256 // unknown, begin, end, and each byte
)

// Quant is how a model's weights are kept.
type Quant uint32

// The ways, by GGUF's numbers: as they are, in 8.5 bits, and in 4.5.
const (
	Whole Quant = tensorFloat
	Q8    Quant = 8
	Q4    Quant = 2
)

// Options of Make.
type Options struct {
	Seed    uint64
	Width   int // a multiple of 64
	Layers  int
	Context int
	Words   int // beside the bytes: of two letters, then three
	Quant   Quant
	// Template is that of its chats, in Jinja; "": one that says who said what.
	Template string
}

// Types of values and tensors, by GGUF's numbers.
const (
	typeU32     = 4
	typeI32     = 5
	typeF32     = 6
	typeText    = 8
	typeArray   = 9
	tensorFloat = 0
	alignment   = 32
)

type file struct {
	keys    []byte
	nKeys   uint64
	infos   []byte
	nInfos  uint64
	weights []byte
}

var le = binary.LittleEndian

func text(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }

func (f *file) key(name string, sort uint32, value []byte) {
	f.nKeys++
	f.keys = append(le.AppendUint32(text(f.keys, name), sort), value...)
}

func (f *file) number(name string, v uint32) { f.key(name, typeU32, le.AppendUint32(nil, v)) }

func (f *file) float(name string, v float32) {
	f.key(name, typeF32, le.AppendUint32(nil, math.Float32bits(v)))
}

func (f *file) word(name, v string) { f.key(name, typeText, text(nil, v)) }

func (f *file) array(name string, sort uint32, n int, values []byte) {
	f.key(name, typeArray, append(le.AppendUint64(le.AppendUint32(nil, sort), uint64(n)), values...))
}

func (f *file) tensor(name string, value func() float32, dims ...uint64) {
	f.quantised(name, Whole, value, dims...)
}

func (f *file) quantised(name string, q Quant, value func() float32, dims ...uint64) {
	f.nInfos++
	f.infos = le.AppendUint32(text(f.infos, name), uint32(len(dims)))
	n := uint64(1)
	for _, d := range dims {
		f.infos = le.AppendUint64(f.infos, d)
		n *= d
	}
	f.infos = le.AppendUint64(le.AppendUint32(f.infos, uint32(q)), uint64(len(f.weights)))
	if q == Whole {
		for range n {
			f.weights = le.AppendUint32(f.weights, math.Float32bits(value()))
		}
	} else {
		var block [32]float32
		for range n / 32 {
			for i := range block {
				block[i] = value()
			}
			f.weights = q.block(f.weights, block)
		}
	}
	for len(f.weights)%alignment != 0 {
		f.weights = append(f.weights, 0)
	}
}

// block appends 32 weights: a scale of two bytes, and whole numbers.
func (q Quant) block(b []byte, v [32]float32) []byte {
	var most float32 // by its size, with its sign
	for _, x := range v {
		if math.Abs(float64(x)) > math.Abs(float64(most)) {
			most = x
		}
	}
	steps := float32(127)
	if q == Q4 {
		steps = -8
	} else if most < 0 {
		most = -most
	}
	scale := most / steps
	b = le.AppendUint16(b, half(scale))
	whole := func(x float32) int {
		if scale == 0 {
			return 0
		}
		return int(math.RoundToEven(float64(x / scale)))
	}
	if q == Q8 {
		for _, x := range v {
			b = append(b, byte(int8(whole(x))))
		}
		return b
	}
	for i := range 16 {
		low, high := min(whole(v[i])+8, 15), min(whole(v[i+16])+8, 15)
		b = append(b, byte(low|high<<4))
	}
	return b
}

// half is x as a float of 16 bits; what is too small for one is 0.
func half(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits>>16) & 0x8000
	exponent := int(bits>>23&0xff) - 127 + 15
	if exponent <= 0 {
		return sign
	}
	mantissa := bits&0x7fffff + 0x1000 // rounded
	if mantissa > 0x7fffff {
		mantissa, exponent = 0, exponent+1
	}
	return sign | uint16(min(exponent, 30))<<10 | uint16(mantissa>>13)
}

// vocabulary adds a tokenizer of bytes and words, which have a blank before them.
func (f *file) vocabulary(words int, template string) int {
	var tokens, scores, types []byte
	add := func(name string, score float32, sort uint32) {
		tokens = text(tokens, name)
		scores = le.AppendUint32(scores, math.Float32bits(score))
		types = le.AppendUint32(types, sort)
	}
	add("<unk>", 0, 2)
	add("<s>", 0, 3)
	add("</s>", 0, 3)
	for i := range 256 {
		add(fmt.Sprintf("<0x%02X>", i), 0, 6)
	}
	for i := range words {
		name := string([]byte{byte('a' + i%26), byte('a' + i/26%26)})
		if i >= 26*26 {
			name += string([]byte{byte('a' + i/26/26%26)})
		}
		add("\u2581"+name, -float32(i), 1)
	}
	n := 3 + 256 + words
	f.word("tokenizer.ggml.model", "llama")
	f.array("tokenizer.ggml.tokens", typeText, n, tokens)
	f.array("tokenizer.ggml.scores", typeF32, n, scores)
	f.array("tokenizer.ggml.token_type", typeI32, n, types)
	f.number("tokenizer.ggml.bos_token_id", 1)
	f.number("tokenizer.ggml.eos_token_id", 2)
	f.number("tokenizer.ggml.unknown_token_id", 0)
	f.word("tokenizer.chat_template", template)
	return n
}

// Make makes a llama of random weights that writes words rather than bytes. One of
// fewer layers is the beginning of one of more, so that it is a smaller model of the
// same kin; another Quant has the same weights, less exactly.
func Make(o Options) []byte {
	rng := rand.New(rand.NewPCG(o.Seed, 5))
	noise := func(size float64) func() float32 {
		return func() float32 { return float32(rng.NormFloat64() * size) }
	}
	one := func() float32 { return 1 }
	w, in := uint64(o.Width), uint64(o.Width*2)
	var f file
	f.word("general.architecture", "llama")
	f.word("general.name", "idlewild random words")
	f.number("general.alignment", alignment)
	f.number("llama.context_length", uint32(o.Context))
	f.number("llama.embedding_length", uint32(w))
	f.number("llama.block_count", uint32(o.Layers))
	f.number("llama.feed_forward_length", uint32(in))
	f.number("llama.attention.head_count", uint32(w/64))
	f.number("llama.attention.head_count_kv", uint32(w/64))
	f.float("llama.attention.layer_norm_rms_epsilon", 1e-5)
	f.number("llama.rope.dimension_count", 64)
	n := f.vocabulary(o.Words, cmp.Or(o.Template, template))
	f.number("llama.vocab_size", uint32(n))

	f.quantised("token_embd.weight", o.Quant, noise(1), w, uint64(n))
	f.tensor("output_norm.weight", one, w)
	clear, k := noise(2.5/math.Sqrt(float64(w))), uint64(0)
	f.quantised("output.weight", o.Quant, func() float32 {
		token := k / w
		k++
		if v := clear(); token >= 3+256 || token == 2 {
			return v
		} else {
			return v / 8 // bytes are rarely written
		}
	}, w, uint64(n))
	side := noise(1 / math.Sqrt(float64(w)))
	for i := range o.Layers {
		block := fmt.Sprintf("blk.%d.", i)
		f.tensor(block+"attn_norm.weight", one, w)
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			f.quantised(block+name+".weight", o.Quant, side, w, w)
		}
		f.tensor(block+"ffn_norm.weight", one, w)
		f.quantised(block+"ffn_gate.weight", o.Quant, side, w, in)
		f.quantised(block+"ffn_up.weight", o.Quant, side, w, in)
		f.quantised(block+"ffn_down.weight", o.Quant, noise(1/math.Sqrt(float64(in))), in, w)
	}
	return f.bytes()
}

// template is that of its chats.
const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "

// Transformer is a llama of random weights whose tokens are bytes; the same seed
// is the same model.
func Transformer(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 4))
	noise := func(size float64) func() float32 {
		return func() float32 { return float32(rng.NormFloat64() * size) }
	}
	one := func() float32 { return 1 }
	var f file
	f.word("general.architecture", "llama")
	f.word("general.name", "idlewild random")
	f.number("general.alignment", alignment)
	f.number("llama.context_length", context)
	f.number("llama.embedding_length", width)
	f.number("llama.block_count", layers)
	f.number("llama.feed_forward_length", inner)
	f.number("llama.attention.head_count", heads)
	f.number("llama.attention.head_count_kv", heads)
	f.float("llama.attention.layer_norm_rms_epsilon", 1e-5)
	f.number("llama.rope.dimension_count", width/heads)
	f.number("llama.vocab_size", vocab)
	var tokens, scores, types []byte
	for i := range vocab {
		name, sort := fmt.Sprintf("<0x%02X>", i-3), uint32(6)
		switch i {
		case 0:
			name, sort = "<unk>", 2
		case 1:
			name, sort = "<s>", 3
		case 2:
			name, sort = "</s>", 3
		}
		tokens = text(tokens, name)
		scores = le.AppendUint32(scores, 0)
		types = le.AppendUint32(types, sort)
	}
	f.word("tokenizer.ggml.model", "llama")
	f.array("tokenizer.ggml.tokens", typeText, vocab, tokens)
	f.array("tokenizer.ggml.scores", typeF32, vocab, scores)
	f.array("tokenizer.ggml.token_type", typeI32, vocab, types)
	f.number("tokenizer.ggml.bos_token_id", 1)
	f.number("tokenizer.ggml.eos_token_id", 2)
	f.number("tokenizer.ggml.unknown_token_id", 0)
	f.word("tokenizer.chat_template", template)

	in := noise(1 / math.Sqrt(width))
	f.tensor("token_embd.weight", noise(1), width, vocab)
	f.tensor("output_norm.weight", one, width)
	f.tensor("output.weight", noise(3/math.Sqrt(width)), width, vocab) // clear choices
	for i := range layers {
		block := fmt.Sprintf("blk.%d.", i)
		f.tensor(block+"attn_norm.weight", one, width)
		for _, w := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			f.tensor(block+w+".weight", in, width, width)
		}
		f.tensor(block+"ffn_norm.weight", one, width)
		f.tensor(block+"ffn_gate.weight", in, width, inner)
		f.tensor(block+"ffn_up.weight", in, width, inner)
		f.tensor(block+"ffn_down.weight", noise(1/math.Sqrt(inner)), inner, width)
	}
	return f.bytes()
}

func (f *file) bytes() []byte {
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = le.AppendUint64(le.AppendUint64(b, f.nInfos), f.nKeys)
	b = append(append(b, f.keys...), f.infos...)
	for len(b)%alignment != 0 {
		b = append(b, 0)
	}
	return append(b, f.weights...)
}
