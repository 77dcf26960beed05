package blender

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"

	"idlewild/job"
	"idlewild/render/assemble"
)

func TestPiecesCoverTheFrameOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := sampleFacts()
		f.Width, f.Height = rapid.IntRange(1, 300).Draw(t, "width"), rapid.IntRange(1, 200).Draw(t, "height")
		f.Samples = rapid.IntRange(1, 4096).Draw(t, "samples")
		f.Adaptive = rapid.Bool().Draw(t, "adaptive")
		asked := rapid.SampledFrom([]string{"auto", "no", "4x2", "1x7", "16x16", "8s", "1s", "256s"}).Draw(t, "parts")
		pieces, err := f.pieces(asked, SpecParams{}, 1)
		if err != nil {
			var refused *job.RefusedError
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			return
		}
		samples := map[job.Rect]int{}
		area := 0
		for _, p := range pieces {
			if err := p.part.Validate(); err != nil {
				t.Fatal(err)
			}
			tile := p.part.Tile
			if tile == (job.Rect{}) {
				tile = job.Rect{X1: f.Width, Y1: f.Height}
			}
			if p.keep.X0 < tile.X0 || p.keep.Y0 < tile.Y0 || p.keep.X1 > tile.X1 || p.keep.Y1 > tile.Y1 || tile.X1 > f.Width || tile.Y1 > f.Height {
				t.Fatalf("%v is not in tile %v", p.keep, tile)
			}
			r := p.part.Samples
			if r == (job.Range{}) {
				r.To = f.Samples
			}
			if _, seen := samples[p.keep]; !seen {
				area += p.keep.Dx() * p.keep.Dy()
			}
			if samples[p.keep] != r.From {
				t.Fatalf("samples %v follow %d", r, samples[p.keep])
			}
			samples[p.keep] = r.To
		}
		if area != f.Width*f.Height {
			t.Fatalf("%d pixels of %d", area, f.Width*f.Height)
		}
		for keep, n := range samples {
			if n != f.Samples {
				t.Fatalf("%v has %d samples of %d", keep, n, f.Samples)
			}
		}
	})
}

func TestAutoCutsLongFramesOnly(t *testing.T) {
	for _, c := range []struct {
		name          string
		width, height int
		samples       int
		frames        int
		change        func(*Facts)
		columns, rows int
	}{
		{"a short frame", 1920, 1080, 32, 1, nil, 1, 1},
		{"Cycles' defaults at full HD", 1920, 1080, 4096, 1, nil, 11, 6},
		{"a still of half a minute", 1920, 1080, 256, 1, nil, 4, 2},
		{"the same in an animation", 1920, 1080, 256, 1000, nil, 4, 2},
		{"a strip", 4000, 100, 4096, 1, nil, 31, 1},
		{"tiny and clean", 160, 90, 1 << 20, 1, nil, 1, 1},
		{"so many frames that tasks run out", 1920, 1080, 4096, job.MaxTasksPerJob / 4, nil, 2, 1},
		{"a poster of one sample", 20000, 10000, 1, 1, nil, 2, 1},
		{"Freestyle", 1920, 1080, 4096, 1, func(f *Facts) { f.Untiled = []string{"Freestyle"} }, 1, 1},
		{"Eevee", 1920, 1080, 4096, 1, func(f *Facts) { f.Engine = "BLENDER_EEVEE" }, 1, 1},
	} {
		f := sampleFacts()
		f.Width, f.Height, f.Samples = c.width, c.height, c.samples
		if c.change != nil {
			c.change(&f)
		}
		pieces, err := f.pieces("auto", SpecParams{}, c.frames)
		if err != nil || len(pieces) != c.columns*c.rows {
			t.Errorf("%s: %d pieces, %v; want %dx%d", c.name, len(pieces), err, c.columns, c.rows)
		}
	}
}

func TestPartsThatCannotBeAreRefusedWithAReason(t *testing.T) {
	for _, c := range []struct {
		parts  string
		change func(*Facts)
		says   []string
	}{
		{"4s", func(f *Facts) { f.Adaptive = true }, []string{"adaptive sampling", "tiles"}},
		{"4s", func(f *Facts) { f.Unsampled = []string{"the pass z of view layer 'A'"} }, []string{"pass z of view layer 'A'", "tiles"}},
		{"17s", nil, []string{"16 samples", "17"}},
		{"2x2", func(f *Facts) { f.Untiled = []string{"Freestyle draws whole lines"} }, []string{"Freestyle"}},
		{"2x2", func(f *Facts) { f.Engine = "BLENDER_EEVEE" }, []string{"BLENDER_EEVEE"}},
		{"200x1", func(f *Facts) { f.Width = 100 }, []string{"100x180"}},
		{"20x20", nil, []string{"20x20", "256"}},
		{"no", func(f *Facts) { f.Width, f.Height = 20000, 10000 }, []string{"200 million", "134 million", "--parts", "2 or more"}},
		{"8s", func(f *Facts) { f.Width, f.Height = 20000, 10000 }, []string{"200 million", "--parts"}},
		{"auto", func(f *Facts) { f.Width, f.Height, f.Engine = 20000, 10000, "BLENDER_EEVEE" }, []string{"--resolution", "BLENDER_EEVEE"}},
		{"0x2", nil, []string{"0x2"}}, {"-1x2", nil, []string{"-1x2"}}, {"2x", nil, []string{"2x"}}, {"03s", nil, []string{"03s"}}, {"many", nil, []string{"many"}},
	} {
		f := sampleFacts()
		if c.change != nil {
			c.change(&f)
		}
		_, err := f.pieces(c.parts, SpecParams{}, 1)
		var refused *job.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", c.parts, err)
			continue
		}
		for _, word := range c.says {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", c.parts, err, word)
			}
		}
	}
}

// partsOf plans with made-up facts.
func partsOf(t *testing.T, f Facts, parts string) []job.Task {
	t.Helper()
	facts, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := new(Kind).Plan(job.Spec{Kind: Name, Policy: job.Policy{Parts: parts}}, job.Inspection{Facts: facts}, cid.Undef)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

func TestPlanOfParts(t *testing.T) {
	f := sampleFacts()
	f.FrameEnd = 2
	kinds := func(tasks []job.Task) (out []string) {
		for _, task := range tasks {
			var p struct{ Op string }
			if err := json.Unmarshal(task.Params, &p); err != nil {
				t.Fatal(err)
			}
			if err := task.Validate(); err != nil {
				t.Fatal(err)
			}
			out = append(out, p.Op)
			for _, after := range task.After {
				if !slices.ContainsFunc(tasks, func(o job.Task) bool { return o.Key() == after }) {
					t.Errorf("%s comes after what is not planned", task.Label)
				}
			}
		}
		return out
	}
	frames := func(n int, ops ...string) (out []string) {
		for range n {
			out = append(out, ops...)
		}
		return out
	}
	same := func(what string, tasks []job.Task, want []string) {
		t.Helper()
		if have := kinds(tasks); !slices.Equal(have, want) {
			t.Errorf("%s: %v, want %v", what, have, want)
		}
	}
	same("tiles", partsOf(t, f, "2x1"), frames(2, "render", "render", "join", "finish"))
	f.Denoise, f.DenoiseLayers, f.Denoisers = true, []string{"ViewLayer"}, []string{"openimagedenoise"}
	tasks := partsOf(t, f, "2x1")
	same("denoised tiles", tasks, frames(2, "render", "render", "join", "denoise", "denoised", "finish"))
	var c job.CropCheck
	if err := job.Decode(tasks[0].Check.Params, job.MaxTaskBytes, &c); err != nil || c.Pass != passCombined {
		t.Errorf("a tile is checked by %q, %v", c.Pass, err)
	}
	var p Params
	if err := json.Unmarshal(tasks[0].Params, &p); err != nil || p.Denoise != denoiseLater {
		t.Errorf("a tile is denoised %q, %v", p.Denoise, err)
	}
	f.Multilayer, f.Depth, f.Codec, f.Extension = true, "16", "ZIP", ".exr"
	tasks = partsOf(t, f, "2x1")
	same("denoised tiles of a multilayer file", tasks, frames(2, "render", "render", "join", "denoise", "denoised"))
	for _, task := range tasks {
		if final := task.Outputs[0].Final; (final != "") != (strings.Contains(string(task.Params), `"op":"denoised"`)) {
			t.Errorf("%s delivers %q", task.Label, final)
		}
	}
	// Half floats lose what is computed with later, and nothing where tiles are
	// only laid side by side.
	noisy := f
	noisy.Denoise, noisy.Adaptive = false, false
	for parts, depth := range map[string]string{"2x1": "16", "2s": ""} {
		for _, task := range partsOf(t, noisy, parts) {
			if task.Kind != Name {
				continue
			}
			var p Params
			if err := json.Unmarshal(task.Params, &p); err != nil || p.Depth != depth || p.Codec != "" {
				t.Errorf("parts %s: %s has the depth %q and the codec %q, %v", parts, task.Label, p.Depth, p.Codec, err)
			}
		}
	}
	if whole := partsOf(t, f, "no"); len(whole) != 2 {
		t.Errorf("%d tasks without parts", len(whole))
	}
}

func TestHalvesAreRefusedWhereTheyWouldShow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		ok     bool
		depth  string // of the render task
	}{
		"PNG":            {func(f *Facts) {}, true, "16"},
		"DPX":            {func(f *Facts) { f.Format, f.Depth = "DPX", "10" }, true, "16"},
		"EXR of halves":  {func(f *Facts) { f.Format, f.Depth, f.Extension = "OPEN_EXR", "16", ".exr" }, true, "16"},
		"PNG of 16 bits": {func(f *Facts) { f.Depth = "16" }, false, ""},
		"EXR of floats":  {func(f *Facts) { f.Format, f.Depth = "OPEN_EXR", "32" }, false, ""},
		"File Output":    {func(f *Facts) { f.Files = []string{"depth####.exr"} }, false, ""},
		"multilayer":     {func(f *Facts) { f.Multilayer, f.Format, f.Depth, f.Codec = true, "OPEN_EXR_MULTILAYER", "32", "ZIP" }, true, "32"},
	} {
		f := sampleFacts()
		f.Format, f.Depth, f.Extension = "PNG", "8", ".png"
		c.change(&f)
		facts, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := new(Kind).Plan(job.Spec{Kind: Name, Params: []byte(`{"precision":"half"}`), Policy: job.Policy{Parts: "no"}}, job.Inspection{Facts: facts}, cid.Undef)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			if !strings.Contains(err.Error(), "precision half") || !strings.Contains(err.Error(), "leave --precision out") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var p Params
		if err := json.Unmarshal(tasks[0].Params, &p); err != nil || p.Depth != c.depth {
			t.Errorf("%s: depth %q, %v", name, p.Depth, err)
		}
	}
	if _, err := DecodeSpec([]byte(`{"precision":"double"}`)); err == nil {
		t.Error("a precision that there is not is taken")
	}
}

// TestPartsMakeTheWholeFrame renders frames whole and in parts. Tiles have to
// give the same bits, also with adaptive sampling; ranges of samples come
// within what adding floats in another order costs.
func TestPartsMakeTheWholeFrame(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{})
	_, in := plan(t, k, file, SpecParams{Frames: "3", Scene: "plain"})
	work := newShop(t, k, in.Deps)
	last := func(tasks []job.Task) (frame, final string) {
		for i, task := range tasks {
			out := work.must(task)
			switch {
			case task.Outputs[0].Name == assemble.FrameFile:
				frame = filepath.Join(out, assemble.FrameFile)
			case i == len(tasks)-1:
				final = filepath.Join(out, task.Outputs[0].Name)
			}
		}
		return frame, final
	}
	for _, c := range []struct {
		scene, parts string
		most         float64
	}{
		{"plain", "3x2", 0}, {"adaptive", "3x2", 0}, {"layers", "1x3", 0}, {"comp", "2x2", 0}, {"multi", "5x1", 0},
		{"plain", "3s", 1e-5}, {"jpeg", "2s", 1e-5},
	} {
		if !slow() && (c.parts == "2s" || c.scene+c.parts == "plain3x2") {
			continue
		}
		t.Run(c.scene+" "+c.parts, func(t *testing.T) {
			p := SpecParams{Frames: "3", Scene: c.scene}
			work.t = t
			whole, in := plan(t, k, file, p)
			frame, final := last(whole)
			raw, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			// One look at the file is enough for both.
			parts, err := k.Plan(job.Spec{Kind: Name, Input: file, Params: raw, Policy: job.Policy{Parts: c.parts}}, in, cid.Undef)
			if err != nil {
				t.Fatal(err)
			}
			if len(parts) < len(whole)+2 {
				t.Fatalf("%d tasks", len(parts))
			}
			together, finished := last(parts)
			want, have := readEXR(t, frame), readEXR(t, together)
			if len(want.Channels) != len(have.Channels) {
				t.Fatalf("%d channels, the whole has %d", len(have.Channels), len(want.Channels))
			}
			worst := 0.0
			for _, w := range want.Channels {
				h, ok := have.Channel(w.Name)
				if !ok {
					t.Fatalf("no channel %s", w.Name)
				}
				if h.Sample != w.Sample {
					t.Errorf("channel %s is stored otherwise", w.Name)
				}
				for i := range w.Data {
					if math.Float32bits(w.Data[i]) != math.Float32bits(h.Data[i]) {
						worst = max(worst, math.Abs(float64(w.Data[i]-h.Data[i])))
					}
				}
			}
			if !(worst <= c.most) {
				t.Errorf("parts differ by %g", worst)
			}
			for name, value := range want.Attributes {
				if strings.HasPrefix(name, "cryptomatte/") && have.Attributes[name] != value {
					t.Errorf("attribute %s is %q", name, have.Attributes[name])
				}
			}
			if final != "" && c.most == 0 {
				sameDecoded(t, fmt.Sprint(c.scene, " finished"), final, finished)
			}
		})
	}
}
