package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/onnxtest"
	"idlewild/verify"
)

func init() {
	benchmarks[string(aiKind)] = benchmark{"AI jobs: cheats caught and false alarms, tiles, memory of an 8k picture, efficiency", benchAI}
}

// benchAI measures with models that the project writes itself, whose weights
// are random; -model names an upscaler that was trained. Verification is
// measured in this process, the rest in real daemons.
func benchAI(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet(string(aiKind), flag.ContinueOnError)
	items := fs.Int("items", 10000, "items for false alarms")
	images := fs.Int("images", 200, "pictures that two workers upscale")
	model := fs.String("model", "", "an ONNX model that makes pictures twice as large")
	library := fs.String("library", os.Getenv("IDLEWILD_ONNX_LIBRARY"), "onnxruntime, or its folder")
	only := fs.String("only", "", "verify, tiles, memory or farm: one part only")
	embed := fs.String("embed", "", "only write what the network makes of the items into this file")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	l, err := onnx.Find(*library)
	if err != nil {
		return nil, err
	}
	version, _, err := onnx.Runtime(l.Path)
	if err != nil {
		return nil, err
	}
	if *embed != "" {
		b := &aiBench{farm: &farm{dir: filepath.Dir(*embed)}, library: l.Path}
		v, err := b.embed(aiNetwork(), aiInputs(*items), 1, 16)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		return nil, os.WriteFile(*embed, raw, 0o600)
	}
	fmt.Fprintf(os.Stderr, "onnxruntime %s, CPU\n", version)
	os.Setenv("IDLEWILD_ONNX_LIBRARY", l.Path) // of the daemons
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	b := &aiBench{farm: f, library: l.Path, items: *items, images: *images, model: *model}
	if b.model == "" {
		b.model = filepath.Join(f.dir, "upscale2.onnx")
		if err := os.WriteFile(b.model, onnxtest.LargeUpscaler(1), 0o600); err != nil {
			return nil, err
		}
	} else if b.model, err = filepath.Abs(b.model); err != nil {
		return nil, err
	}
	var figures []Figure
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]Figure, error)
	}{{"verify", b.verify}, {"tiles", b.tiles}, {"memory", b.memory}, {"farm", b.efficiency}} {
		if *only != "" && *only != part.name {
			continue
		}
		more, err := part.run(ctx)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", part.name, err)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

type aiBench struct {
	farm    *farm
	library string
	items   int
	images  int
	model   string
}

// Sizes of the network that stands for one that embeds.
const (
	benchIn, benchHidden, benchLayers, benchOut = 64, 256, 3, 128
	aiSeed                                      = 7
)

// embed runs a network on the inputs, batch of them at a time.
func (b *aiBench) embed(network []byte, inputs [][]float32, threads, batch int) ([][]float64, error) {
	file := filepath.Join(b.farm.dir, "network.onnx")
	if err := os.WriteFile(file, network, 0o600); err != nil {
		return nil, err
	}
	s, err := onnx.Open(b.library, file, onnx.Options{Threads: threads})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out [][]float64
	for from := 0; from < len(inputs); from += batch {
		some := inputs[from:min(from+batch, len(inputs))]
		t := onnx.Tensor{Shape: []int64{int64(len(some)), benchIn}, F32: slices.Concat(some...)}
		r, err := s.Run(map[string]onnx.Tensor{"x": t}, nil)
		if err != nil {
			return nil, err
		}
		v := r[0].Floats()
		for i := range some {
			out = append(out, v[i*benchOut:(i+1)*benchOut])
		}
	}
	return out, nil
}

func vector(item int, v []float64) media.Record {
	return media.Record{Item: item + 1, Outputs: map[string]media.Tensor{"y": {Shape: []int{len(v)}, Data: v}}}
}

// rulings counts how each item by itself is judged.
func rulings(claim, check [][]float64) map[job.Ruling]int {
	c := job.RerunCheck{Precision: "fp32"}
	t := verify.MarginFor(c, "cpu", "cpu")
	n := map[job.Ruling]int{}
	for i := range check {
		r := verify.Records{ByItem: map[int]media.Record{i + 1: vector(i, claim[i])}}
		n[verify.CompareRecords(r, []media.Record{vector(i, check[i])}, t).Ruling]++
	}
	return n
}

// aiInputs and aiNetwork are the same in every process.
func aiInputs(n int) [][]float32 {
	rng := rand.New(rand.NewPCG(aiSeed, 0))
	inputs := make([][]float32, n)
	for i := range inputs {
		inputs[i] = make([]float32, benchIn)
		for k := range inputs[i] {
			inputs[i][k] = float32(rng.NormFloat64())
		}
	}
	return inputs
}

func aiNetwork(change ...func([]float32)) []byte {
	return onnxtest.Dense(aiSeed, benchIn, benchHidden, benchLayers, benchOut, change...)
}

// elsewhere is what a processor with other instructions makes of the items: an
// emulated one. nil where there is no emulator.
func (b *aiBench) elsewhere(ctx context.Context, cpu string) ([][]float64, error) {
	qemu, err := exec.LookPath("qemu-x86_64")
	if err != nil || runtime.GOARCH != "amd64" {
		return nil, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.farm.dir, "cpu-"+cpu)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "made.json")
	c := exec.CommandContext(ctx, qemu, "-cpu", cpu, exe, string(aiKind), "-embed", file, "-items", fmt.Sprint(b.items), "-library", b.library)
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("qemu-x86_64 -cpu %s: %w: %s", cpu, err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v [][]float64
	return v, json.Unmarshal(raw, &v)
}

func (b *aiBench) verify(ctx context.Context) ([]Figure, error) {
	inputs, network := aiInputs(b.items), aiNetwork
	rng := rand.New(rand.NewPCG(aiSeed, 1))
	check, err := b.embed(network(), inputs, 1, 16)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	// Honest workers: other numbers of threads, other batches.
	alarms, unsure, worst := 0, 0, 0.0
	for _, h := range []struct{ threads, batch int }{{1, 1}, {2, 7}, {2, 64}, {4, 16}, {3, 1000}} {
		claim, err := b.embed(network(), inputs, h.threads, h.batch)
		if err != nil {
			return nil, err
		}
		n := rulings(claim, check)
		alarms += n[job.Rejected]
		unsure += n[job.Unsure]
		for i := range claim {
			worst = max(worst, relative(claim[i], check[i]))
		}
	}
	figures = append(figures,
		atMost(fmt.Sprintf("honest, 5 of threads and batches, %d items: rejected", b.items), float64(alarms), "items", 0),
		atMost("  unsure", float64(unsure), "items", 0),
		plain("  largest difference, of the result's size", worst, ""))
	for _, cpu := range []string{"Nehalem", "Haswell"} {
		claim, err := b.elsewhere(ctx, cpu)
		if err != nil {
			return nil, err
		}
		if claim == nil {
			fmt.Fprintln(os.Stderr, "other instructions: NOT RUN: no qemu-x86_64")
			break
		}
		n, worst := rulings(claim, check), 0.0
		for i := range claim {
			worst = max(worst, relative(claim[i], check[i]))
		}
		figures = append(figures,
			atMost(fmt.Sprintf("honest, emulated %s, %d items: rejected or unsure", cpu, b.items), float64(n[job.Rejected]+n[job.Unsure]), "items", 0),
			plain("  largest difference, of the result's size", worst, ""))
	}
	round := func(steps float64) func([]float32) {
		return func(w []float32) {
			most := 0.0
			for _, x := range w {
				most = max(most, math.Abs(float64(x)))
			}
			for i, x := range w {
				w[i] = float32(math.Round(float64(x)/most*steps) / steps * most)
			}
		}
	}
	half := func(w []float32) {
		for i := range w {
			w[i] = half16(w[i])
		}
	}
	thin := func(w []float32) {
		for i := range w {
			if i%2 == 1 {
				w[i] = 0
			}
		}
	}
	shorter := slices.Clone(inputs)
	for i := range shorter {
		shorter[i] = slices.Clone(shorter[i])
		clear(shorter[i][benchIn*3/4:])
	}
	random := make([][]float64, len(check))
	for i := range random {
		random[i] = make([]float64, benchOut)
		for k := range random[i] {
			random[i][k] = rng.NormFloat64()
		}
	}
	cut := make([][]float64, len(check))
	for i := range cut {
		cut[i] = check[i][:benchOut/2]
	}
	quarter := slices.Clone(check)
	for i := 0; i < len(quarter); i += 4 {
		quarter[i] = check[(i+1)%len(check)]
	}
	cheats := []struct {
		name    string
		network []byte
		inputs  [][]float32
		claim   [][]float64
		goal    bool
	}{
		{"smaller model: half of the weights", network(thin), inputs, nil, true},
		{"weights of 16 bits", network(half), inputs, nil, true},
		{"weights of 8 bits", network(round(127)), inputs, nil, true},
		{"weights of 4 bits", network(round(7)), inputs, nil, true},
		{"other input: its last quarter left out", network(), shorter, nil, true},
		{"truncated output", nil, nil, cut, true},
		{"random vectors", nil, nil, random, true},
		{"answer of another item", nil, nil, append(slices.Clone(check[1:]), check[0]), true},
		{"answer of another item, one in four", nil, nil, quarter, true},
	}
	for _, c := range cheats {
		claim := c.claim
		if claim == nil {
			if claim, err = b.embed(c.network, c.inputs, 2, 16); err != nil {
				return nil, err
			}
		}
		caught := 0
		rejected := make([]bool, len(check))
		for i := range check {
			rejected[i] = rulings(claim[i:i+1], check[i:i+1])[job.Rejected] > 0
		}
		const tries, checked = 2000, 20
		for try := range tries {
			root := [32]byte{byte(try), byte(try >> 8)}
			for _, i := range verify.Items(len(check), checked, []byte("bench"), root) {
				if rejected[i] {
					caught++
					break
				}
			}
		}
		figures = append(figures, atLeast("caught within 20 items: "+c.name, float64(caught)/tries, "", 0.99))
	}
	return figures, nil
}

// half16 rounds to the 11 bits of a 16-bit float's number.
func half16(x float32) float32 {
	bits := math.Float32bits(x)
	return math.Float32frombits((bits + 1<<12) &^ (1<<13 - 1))
}

func relative(a, b []float64) float64 {
	var d, s float64
	for i := range a {
		d, s = d+(a[i]-b[i])*(a[i]-b[i]), s+b[i]*b[i]
	}
	return math.Sqrt(d / s)
}

// benchPicture is a PNG of waves and edges.
func benchPicture(file string, w, h, seed int) error {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			v := func(k int) uint8 {
				return uint8(128 + 90*math.Sin(float64(x*k+seed)/23)*math.Cos(float64(y)/31) + float64((x/17+y/13+seed)%3)*12)
			}
			m.SetNRGBA(x, y, color.NRGBA{v(1), v(2), v(3), 255})
		}
	}
	b, err := media.EncodePNG(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// tiles compares a picture that the farm made in tiles with one run of the
// model on the whole.
func (b *aiBench) tiles(ctx context.Context) ([]Figure, error) {
	const w, h = 1500, 1100
	dir := filepath.Join(b.farm.dir, "tiles")
	if err := benchPicture(filepath.Join(dir, "a.png"), w, h, 1); err != nil {
		return nil, err
	}
	whole, err := b.once(filepath.Join(dir, "a.png"))
	if err != nil {
		return nil, err
	}
	out := filepath.Join(b.farm.dir, "tiles-out")
	if err := b.program(ctx, "render", "--kind", string(aiKind), "--model", b.model, dir, "-o", out, "--parts", "3x2"); err != nil {
		return nil, err
	}
	m, err := media.DecodeFile(filepath.Join(out, "a.png"), media.Limits{})
	if err != nil {
		return nil, err
	}
	off, n := 0, 0
	for c, name := range []string{"R", "G", "B"} {
		have, _ := m.Channel(name)
		for i, v := range have.Data {
			// What 8 bits make of the same number.
			want := math.Floor(255*math.Min(math.Max(float64(whole[c][i]), 0), 1) + 0.5)
			if math.Abs(want-255*float64(v)) > 0.5 {
				off++
			}
			n++
		}
	}
	return []Figure{atMost("3x2 tiles against untiled: samples that differ in 8 bits", float64(off)/float64(n), "", 1e-4)}, nil
}

// once runs the model on the whole of a picture.
func (b *aiBench) once(file string) ([3][]float32, error) {
	var out [3][]float32
	m, err := media.DecodeFile(file, media.Limits{})
	if err != nil {
		return out, err
	}
	s, err := onnx.Open(b.library, b.model, onnx.Options{Threads: 1})
	if err != nil {
		return out, err
	}
	defer s.Close()
	t := onnx.Tensor{Shape: []int64{1, 3, int64(m.Height), int64(m.Width)}}
	for _, c := range m.Channels[:3] {
		t.F32 = append(t.F32, c.Data...)
	}
	r, err := s.Run(map[string]onnx.Tensor{s.Model.Inputs[0].Name: t}, nil)
	if err != nil {
		return out, err
	}
	n := len(r[0].F32) / 3
	for c := range out {
		out[c] = r[0].F32[c*n : (c+1)*n]
	}
	return out, nil
}

// memory upscales pictures to 8k and from 8k, and asks what the process that
// did it had at the most.
func (b *aiBench) memory(ctx context.Context) ([]Figure, error) {
	var figures []Figure
	for _, p := range []struct {
		name string
		w, h int
	}{{"3840x2160 to 8k", 3840, 2160}, {"8k to 16k", 7680, 4320}} {
		dir := filepath.Join(b.farm.dir, fmt.Sprint("large", p.w))
		if err := benchPicture(filepath.Join(dir, "a.png"), p.w, p.h, 1); err != nil {
			return nil, err
		}
		peak, wall, err := b.session(ctx, dir, 0)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%s: %.1f s, %.2f GiB\n", p.name, wall.Seconds(), float64(peak)/(1<<30))
		figures = append(figures, atMost(p.name+", one machine: memory at the most", float64(peak)/(1<<30), "GiB", 2))
	}
	return figures, nil
}

// efficiency has one worker and then two, each on a core of its own, upscale
// pictures, and sets the seconds of one warm session against it.
func (b *aiBench) efficiency(ctx context.Context) ([]Figure, error) {
	workers := min(2, runtime.NumCPU())
	dir, half := filepath.Join(b.farm.dir, "pictures"), filepath.Join(b.farm.dir, "half")
	for i := range b.images {
		into := []string{dir}
		if i%2 == 0 {
			into = append(into, half)
		}
		for _, d := range into {
			if err := benchPicture(filepath.Join(d, fmt.Sprintf("%04d.png", i)), 640, 480, i); err != nil {
				return nil, err
			}
		}
	}
	_, warm, err := b.session(ctx, dir, 0)
	if err != nil {
		return nil, err
	}
	together := warm
	if workers == 2 {
		if together, err = b.sessions(ctx, [2]string{half, half}); err != nil {
			return nil, err
		}
		together *= 2
	}
	requester, others, err := b.farm.cores(ctx, workers)
	if err != nil {
		return nil, err
	}
	run := func(of, out string) (job.Status, error) {
		s, err := b.farm.render(ctx, requester, of, out, "--kind", string(aiKind), "--model", b.model, "--recheck", "0")
		if err == nil && s.Delivered != s.Tasks {
			err = errors.New(s.Reason)
		}
		return s, err
	}
	if err := working(ctx, others, 1); err != nil {
		return nil, err
	}
	alone, err := run(half, "out-alone")
	if err != nil {
		return nil, err
	}
	if err := working(ctx, others, workers); err != nil {
		return nil, err
	}
	first, err := run(dir, "out-first")
	if err != nil {
		return nil, err
	}
	// The same model with other pictures: it is there already.
	more := filepath.Join(b.farm.dir, "more")
	if err := benchPicture(filepath.Join(more, "one.png"), 64, 48, 99); err != nil {
		return nil, err
	}
	fi, err := os.Stat(b.model)
	if err != nil {
		return nil, err
	}
	second, err := run(more, "out-more")
	if err != nil {
		return nil, err
	}
	e := warm.Seconds() / (first.WallSeconds * float64(workers))
	return []Figure{
		besides(plain("one warm session on one core", warm.Seconds()/float64(b.images), "s/picture"),
			Peer{"two at once, each", together.Seconds() / float64(b.images)}),
		atLeast(fmt.Sprintf("%d pictures, 1 worker: efficiency", b.images/2), warm.Seconds()/2/alone.WallSeconds, "", 0.9),
		atLeast(fmt.Sprintf("%d pictures, %d workers: efficiency", b.images, workers), e, "", 0.9),
		plain("  the same, against sessions as many at once", together.Seconds()/(first.WallSeconds*float64(workers)), ""),
		plain("second job with the same model: sent", float64(second.UploadedBytes)/1e3, "kB"),
		plain("  of it a model of", float64(fi.Size())/1e3, "kB"),
	}, nil
}
