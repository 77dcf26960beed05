// Package llmtest writes a small language model of random weights in the GGUF
// format, for tests and benchmarks that need one and may not fetch any.
package llmtest

import (
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
	f.nInfos++
	f.infos = le.AppendUint32(text(f.infos, name), uint32(len(dims)))
	n := uint64(1)
	for _, d := range dims {
		f.infos = le.AppendUint64(f.infos, d)
		n *= d
	}
	f.infos = le.AppendUint64(le.AppendUint32(f.infos, tensorFloat), uint64(len(f.weights)))
	for range n {
		f.weights = le.AppendUint32(f.weights, math.Float32bits(value()))
	}
	for len(f.weights)%alignment != 0 {
		f.weights = append(f.weights, 0)
	}
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
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = le.AppendUint64(le.AppendUint64(b, f.nInfos), f.nKeys)
	b = append(append(b, f.keys...), f.infos...)
	for len(b)%alignment != 0 {
		b = append(b, 0)
	}
	return append(b, f.weights...)
}
