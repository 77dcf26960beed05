package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"idlewild/chunker"
	"idlewild/diffupload/tensorfile/tensortest"
)

// model is a file's worth of tensors.
type model struct {
	tensors []tensortest.Tensor
	note    string // in the header
}

// transformer is a decoder as language models are: few large matrices and small
// norms between them.
func transformer(seed uint64, layers int, quantised bool) model {
	const width, inner, vocab = 512, 1376, 4096
	rng := rand.New(rand.NewPCG(seed, 21))
	var m model
	add := func(name string, dims ...uint64) {
		m.tensors = append(m.tensors, randomTensor(rng, name, quantised && len(dims) > 1, dims...))
	}
	add("token_embd.weight", width, vocab)
	for i := range layers {
		block := fmt.Sprintf("blk.%d.", i)
		add(block+"attn_norm.weight", width)
		for _, w := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			add(block+w+".weight", width, width)
		}
		add(block+"ffn_norm.weight", width)
		add(block+"ffn_gate.weight", width, inner)
		add(block+"ffn_up.weight", width, inner)
		add(block+"ffn_down.weight", inner, width)
	}
	add("output_norm.weight", width)
	return m
}

// convolutions is a model of many small tensors, as those of pictures are.
func convolutions(seed uint64, blocks int, quantised bool) model {
	rng := rand.New(rand.NewPCG(seed, 22))
	var m model
	for i := range blocks {
		in, out := uint64(32+16*(i%4)), uint64(32+16*((i+1)%4))
		block := fmt.Sprintf("down.%d.", i)
		m.tensors = append(m.tensors,
			randomTensor(rng, block+"conv.weight", quantised, 9*in+32-9*in%32, out),
			randomTensor(rng, block+"conv.bias", false, out),
			randomTensor(rng, block+"proj.weight", quantised, 4*in, out),
			randomTensor(rng, block+"norm.weight", false, out))
	}
	return m
}

func randomTensor(rng *rand.Rand, name string, quantised bool, dims ...uint64) tensortest.Tensor {
	t := tensortest.Tensor{Name: name, Dims: dims, Quantised: quantised}
	n := uint64(1)
	for _, d := range dims {
		n *= d
	}
	if !quantised {
		for range n {
			t.Data = binary.LittleEndian.AppendUint16(t.Data, fp16(float32(rng.NormFloat64()*0.02)))
		}
		return t
	}
	block := make([]float32, 32)
	for range n / 32 {
		most := float32(0)
		for i := range block {
			block[i] = float32(rng.NormFloat64() * 0.02)
			if a := float32(math.Abs(float64(block[i]))); a > float32(math.Abs(float64(most))) {
				most = block[i]
			}
		}
		scale := most / -8
		t.Data = binary.LittleEndian.AppendUint16(t.Data, fp16(scale))
		q := func(v float32) byte { return byte(min(15, max(0, v/scale+8.5))) }
		for i := range 16 {
			t.Data = append(t.Data, q(block[i])|q(block[i+16])<<4)
		}
	}
	return t
}

// fp16 is a number in 16 bits; what is too small for them is 0.
func fp16(v float32) uint16 {
	b := math.Float32bits(v)
	sign, exp, frac := uint16(b>>16&0x8000), int(b>>23&255)-112, uint16(b>>13&1023)
	if exp <= 0 {
		return sign
	}
	return sign | uint16(min(exp, 30))<<10 | frac
}

// tune trains some of the tensors a little: all their values change, or a share.
func (m model) tune(seed uint64, which func(tensortest.Tensor) bool, share float64) (model, int64) {
	rng := rand.New(rand.NewPCG(seed, 23))
	out := model{tensors: slices.Clone(m.tensors), note: m.note}
	changed := int64(0)
	for i, t := range out.tensors {
		if !which(t) {
			continue
		}
		t.Data = bytes.Clone(t.Data)
		for k := 0; k+1 < len(t.Data); k += 2 {
			if share < 1 && rng.Float64() >= share {
				continue
			}
			if t.Quantised {
				t.Data[k] ^= byte(rng.Uint32N(256))
				continue
			}
			v := binary.LittleEndian.Uint16(t.Data[k:])
			binary.LittleEndian.PutUint16(t.Data[k:], v+uint16(rng.IntN(129)-64))
		}
		changed += int64(len(t.Data))
		out.tensors[i] = t
	}
	return out, changed
}

// reordered has the tensors in another order and says more of itself.
func (m model) reordered(seed uint64) model {
	out := model{tensors: slices.Clone(m.tensors), note: "tuned: " + string(bytes.Repeat([]byte("a word "), 200))}
	rand.New(rand.NewPCG(seed, 24)).Shuffle(len(out.tensors), func(i, j int) {
		out.tensors[i], out.tensors[j] = out.tensors[j], out.tensors[i]
	})
	return out
}

func (m model) bytes() (n int64) {
	for _, t := range m.tensors {
		n += int64(len(t.Data))
	}
	return n
}

// models compares a model with fine-tunes of it.
func (d *differ) models(ctx context.Context, quick bool) ([]Figure, error) {
	dir, err := os.MkdirTemp(d.dir, "models-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	layers, blocks := 12, 900
	if quick {
		layers, blocks = 3, 200
	}
	bases := []struct {
		name  string
		file  func(note string, tensors []tensortest.Tensor) []byte
		ext   string
		every int // every which tensor is tuned: about 5 % of the bytes
		model model
	}{
		{"language model, fp16", tensortest.Safetensors, "safetensors", 20, transformer(1, layers, false)},
		{"language model, Q4_0", tensortest.GGUF, "gguf", 20, transformer(2, 3*layers, true)},
		{"small tensors, fp16", tensortest.Safetensors, "safetensors", 21, convolutions(3, blocks, false)},
		{"small tensors, fp16, ONNX", tensortest.ONNX, "onnx", 21, convolutions(5, blocks/2, false)},
		{"small tensors, Q4_0", tensortest.GGUF, "gguf", 21, convolutions(4, 3*blocks, true)},
	}
	var pairs []filePair
	var beside [][]Peer
	for i, b := range bases {
		seed := uint64(i)
		write := func(name string, m model) (string, error) {
			file := filepath.Join(dir, fmt.Sprintf("%d-%s.%s", i, name, b.ext))
			return file, os.WriteFile(file, b.file(m.note, m.tensors), 0o600)
		}
		old, err := write("base", b.model)
		if err != nil {
			return nil, err
		}
		apart := func() func(tensortest.Tensor) bool {
			n := 0
			return func(tensortest.Tensor) bool { n++; return n%b.every == 7 }
		}
		vectors := func(t tensortest.Tensor) bool { return len(t.Dims) == 1 }
		for _, v := range []struct {
			name  string
			which func(tensortest.Tensor) bool
			share float64
		}{
			{"5 % of the tensors", apart(), 1},
			{"2 % of the values of these", apart(), 0.02},
			{"norms and biases", vectors, 1},
		} {
			tuned, changed := b.model.tune(seed, v.which, v.share)
			for _, f := range []struct {
				name  string
				model model
			}{{v.name, tuned}, {v.name + ", reordered", tuned.reordered(seed)}} {
				fresh, err := write(f.name, f.model)
				if err != nil {
					return nil, err
				}
				peers := []Peer{{"tensors that changed", 100 * float64(changed) / float64(f.model.bytes())}}
				for _, kib := range []int{16, 64, 256} {
					percent, err := newChunks(old, fresh, kib<<10)
					if err != nil {
						return nil, err
					}
					peers = append(peers, Peer{fmt.Sprintf("new chunks of %d KiB, without deltas", kib), percent})
				}
				pairs, beside = append(pairs, filePair{b.name + ": " + f.name, old, fresh}), append(beside, peers)
			}
		}
	}
	say("%d fine-tunes of models", len(pairs))
	all, err := d.compareAll(ctx, pairs)
	if err != nil {
		return nil, err
	}
	d.table("fine-tune", all)
	var figures []Figure
	for i, c := range all {
		f := atMost(c.name, 100*float64(c.ours.WireBytes)/float64(c.size), "% of file", 6, beside[i]...)
		for _, p := range d.peers {
			f.Peers = append(f.Peers, Peer{p.name, 100 * float64(c.peers[p.name]) / float64(c.size)})
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// newChunks is how much of a file lies in content-defined chunks that the old
// one has not: what travels where nothing but whole chunks does.
func newChunks(old, fresh string, avg int) (percent float64, err error) {
	have := map[[32]byte]bool{}
	if _, _, err := addChunks(have, old, avg); err != nil {
		return 0, err
	}
	moved, size, err := addChunks(have, fresh, avg)
	return 100 * float64(moved) / float64(size), err
}

func addChunks(have map[[32]byte]bool, file string, avg int) (added, size int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for c, err := range chunker.Chunks(f, chunker.Params{Min: avg / 4, Avg: avg, Max: 4 * avg}) {
		if err != nil {
			return 0, 0, err
		}
		size += int64(len(c.Data))
		if sum := sha256.Sum256(c.Data); !have[sum] {
			have[sum] = true
			added += int64(len(c.Data))
		}
	}
	return added, size, nil
}
