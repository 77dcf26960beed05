package diffupload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"

	"idlewild/diffupload/tensorfile"
	"idlewild/diffupload/tensorfile/tensortest"
)

// randomModel has n large tensors of about size bytes with small ones between.
func randomModel(seed uint64, n, size int) (out []tensortest.Tensor) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		for name, bytes := range map[string]int{"weight": size + 32*rng.IntN(size/32+1), "norm": 160} {
			data := make([]byte, bytes)
			for k := range data {
				data[k] = byte(rng.Uint32())
			}
			out = append(out, tensortest.Tensor{Name: fmt.Sprintf("blk.%d.%s", i, name), Dims: []uint64{uint64(bytes / 2)}, Data: data})
		}
	}
	slices.SortFunc(out, func(a, b tensortest.Tensor) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return out
}

// tuned changes a little in every value of each large tensor that which takes.
func tuned(model []tensortest.Tensor, seed uint64, which func(i int) bool) []tensortest.Tensor {
	rng := rand.New(rand.NewPCG(seed, 2))
	out := slices.Clone(model)
	large := 0
	for i, t := range out {
		if len(t.Data) < 1000 {
			continue
		}
		if large++; !which(large - 1) {
			continue
		}
		out[i].Data = bytes.Clone(t.Data)
		for k := 0; k < len(t.Data); k += 2 {
			out[i].Data[k] += byte(1 + rng.IntN(100))
		}
	}
	return out
}

func shuffled(model []tensortest.Tensor, seed uint64) []tensortest.Tensor {
	out := slices.Clone(model)
	rand.New(rand.NewPCG(seed, 3)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// modelFiles are a model in each format.
func modelFiles(note string, model []tensortest.Tensor) map[string]content {
	graph, beside := tensortest.ONNXBeside(note, "./weights.bin", model)
	return map[string]content{
		"safetensors": {"m.safetensors": tensortest.Safetensors(note, model)},
		"gguf":        {"models/m.gguf": tensortest.GGUF(note, model)},
		"onnx":        {"m.onnx": tensortest.ONNX(note, model)},
		"onnx beside": {"a/m.onnx": graph, "a/weights.bin": beside},
	}
}

func (c content) size() (n int) {
	for _, b := range c {
		n += len(b)
	}
	return n
}

// TestAFineTuneMovesWhatItChanged: what changed is a twentieth of the tensors,
// and no more travels, whatever their order.
func TestAFineTuneMovesWhatItChanged(t *testing.T) {
	model := randomModel(1, 60, 4200)
	some := tuned(model, 2, func(i int) bool { return i%20 == 3 })
	old := modelFiles("", model)
	fresh := modelFiles("tuned, and reordered", shuffled(some, 4))
	for _, format := range []string{"safetensors", "gguf", "onnx beside"} {
		t.Run(format, func(t *testing.T) {
			here := &Memory{}
			have, want := keepIn(t, here, old[format], small), keepIn(t, here, fresh[format], small)
			doc, err := Edits(t.Context(), here, have, want)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Rebuild(t.Context(), here, have, want, doc, Limits{})
			if size := fresh[format].size(); err != nil || len(r.Named) > 0 || len(doc)*100 > size*6 {
				t.Errorf("%d bytes and %d blocks for %d bytes of model, %v", len(doc), len(r.Named), size, err)
			}
		})
	}
}

// TestATensorsBaseIsTheSameTensor: the base of each new piece is what stood at its
// place in the tensor of its name, of which half of each value did not change.
func TestATensorsBaseIsTheSameTensor(t *testing.T) {
	model := randomModel(5, 6, 300<<10)
	fresh := shuffled(tuned(model, 6, func(int) bool { return true }), 7)
	old := modelFiles("", model)
	for format, files := range modelFiles("all of it was tuned", fresh) {
		t.Run(format, func(t *testing.T) {
			here := &Memory{}
			e := &editor{ctx: t.Context(), store: here}
			if err := e.compare(keepIn(t, here, old[format], small), keepIn(t, here, files, small)); err != nil {
				t.Fatal(err)
			}
			pieces := 0
			for _, n := range e.news {
				for _, op := range n.ops {
					for k := range op.n {
						l := n.flat.leaves[op.at+k]
						if !op.fresh() || l.size < 10_000 {
							continue
						}
						pieces++
						was, err := n.from.leaves[op.old+k].bytes(e.ctx, here)
						is, ierr := l.bytes(e.ctx, here)
						if err != nil || ierr != nil {
							t.Fatal(err, ierr)
						}
						same := 0
						for i := range min(len(is), len(was)) {
							if is[i] == was[i] {
								same++
							}
						}
						if same*10 < len(is)*4 {
							t.Errorf("%d of the %d bytes of a piece are as they were", same, len(is))
						}
					}
				}
			}
			if pieces < 9 {
				t.Errorf("%d pieces", pieces)
			}
		})
	}
}

// TestTensorsComeAndGo: whatever becomes of a model, the same file comes out.
func TestTensorsComeAndGo(t *testing.T) {
	model := randomModel(8, 6, 20<<10)
	grown := slices.Clone(model)
	grown[3].Data = slices.Concat(grown[3].Data, make([]byte, 64<<10)) // a longer vocabulary
	renamed := slices.Clone(model)
	renamed[5].Name = "lm_head"
	other := randomModel(9, 6, 20<<10)
	old := modelFiles("", model)
	for what, to := range map[string][]tensortest.Tensor{
		"grown": grown, "renamed": renamed, "fewer": model[:9], "more": slices.Concat(model[:6], other),
	} {
		for format, files := range modelFiles("", to) {
			t.Run(format+" "+what, func(t *testing.T) { leadThere(t, old[format], files) })
		}
	}
	t.Run("becomes noise", func(t *testing.T) {
		leadThere(t, old["safetensors"], content{"m.safetensors": noise(1, 200_000)})
		leadThere(t, content{"m.safetensors": noise(1, 200_000)}, old["safetensors"])
	})
}

// TestAHeaderThatLies: such a file is cut as any other, and comes back as it is.
func TestAHeaderThatLies(t *testing.T) {
	model := randomModel(10, 4, 40<<10)
	plain := func(b []byte) cid.Cid {
		r, err := SnapshotReader(t.Context(), &Memory{}, bytes.NewReader(b), small)
		if err != nil {
			t.Fatal(err)
		}
		return r.Root
	}
	one := func(name string, b []byte) cid.Cid {
		_, list := tree(t, content{name: b})
		r, err := SnapshotFile(t.Context(), &Memory{}, list[0].Path, small)
		if err != nil {
			t.Fatal(err)
		}
		return r.Root
	}
	for format, files := range modelFiles("", model) {
		for name, b := range files {
			if len(b) < tensorsFrom {
				continue
			}
			if format != "onnx beside" && one(name, b) == plain(b) {
				t.Errorf("%s is not cut by its tensors", name)
			}
			bad := bytes.Clone(b)
			for i := range 64 {
				bad[9+i] ^= 0x55
			}
			if one(name, bad) != plain(bad) {
				t.Errorf("%s with a damaged header is not cut as any other", format)
			}
			fresh := maps.Clone(files)
			fresh[name] = bad
			leadThere(t, fresh, files)
			for _, damaged := range [][]byte{bad, b[:len(b)-50_000]} {
				fresh[name] = damaged
				leadThere(t, files, fresh)
			}
		}
	}
}

// TestAModelThatIsNotAllThere: what a download has not brought yet is not read.
func TestAModelThatIsNotAllThere(t *testing.T) {
	whole := tensortest.Safetensors("", []tensortest.Tensor{{Name: "a", Data: noise(1, 300<<10)}, {Name: "b", Data: make([]byte, 20<<20)}})
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := os.WriteFile(path, whole[:400<<10], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(whole))); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || !hasHoles(st) {
		t.Skip("NOT RUN: this disk has no holes")
	}
	var store Memory
	got, err := SnapshotFile(t.Context(), &store, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := SnapshotReader(t.Context(), &Memory{}, bytes.NewReader(whole), Options{})
	if err != nil || got.Root != want.Root || got.Bytes != int64(len(whole)) {
		t.Error(got, want, err)
	}
	// A disk that packs files has fewer blocks than bytes, and no holes.
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &snapshot{models: &models{}}
	spans, err := s.tensorsOf(path, &progressReader{holes: true}, f, int64(len(whole)))
	if at, serr := f.Seek(0, io.SeekCurrent); len(spans) != 2 || at != 0 || errors.Join(err, serr) != nil {
		t.Error(spans, at, err, serr)
	}
}

// TestTensorCuts: wherever tensors lie, the pieces are the file, none is larger
// than a block, and each tensor that is not small begins one.
func TestTensorCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spans []tensorfile.Span
		at := int64(0)
		for range rapid.IntRange(1, 8).Draw(t, "tensors") {
			at += int64(rapid.OneOf(rapid.Just(0), rapid.IntRange(1, 3000)).Draw(t, "gap"))
			n := int64(rapid.OneOf(rapid.IntRange(1, 200), rapid.IntRange(1, 9000), rapid.IntRange(1, 500_000)).Draw(t, "size"))
			spans = append(spans, tensorfile.Span{Offset: at, End: at + n})
			at += n
		}
		file := noise(rapid.Uint64().Draw(t, "seed"), int(at)+rapid.IntRange(0, 3000).Draw(t, "rest"))
		starts := map[int64]bool{}
		var got []byte
		for c, err := range cutTensors(bytes.NewReader(file), spans, int64(len(file)), small.Chunk) {
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Data) == 0 || len(c.Data) > MaxBlockBytes || c.Offset != int64(len(got)) {
				t.Fatalf("a piece of %d bytes at %d, behind %d", len(c.Data), c.Offset, len(got))
			}
			starts[c.Offset] = true
			got = append(got, c.Data...)
		}
		if !bytes.Equal(got, file) {
			t.Fatal("another file")
		}
		for _, s := range spans {
			if s.End-s.Offset >= tensorSmall && !starts[s.Offset] {
				t.Fatalf("no piece begins at %v", s)
			}
		}
		for _, err := range cutTensors(bytes.NewReader(file[:len(file)-1]), spans, int64(len(file)), small.Chunk) {
			if err != nil {
				return
			}
		}
		t.Fatal("a file that became shorter was not noticed")
	})
}
