package assemble

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render"
)

func TestMain(m *testing.M) {
	RunnerMain()
	os.Exit(m.Run())
}

const width, height = 37, 23

// picture is a frame with light, data, a cryptomatte's manifest, and what a
// denoiser is guided by.
func picture(shift float32) *media.Image {
	m := media.New(width, height)
	m.Attributes = map[string]string{"cryptomatte/1/manifest": `{"Cube":"a8fce865"}`, "cycles.A.samples": "16"}
	for k, name := range []string{
		"A.Combined.R", "A.Combined.G", "A.Combined.B", "A.Combined.A", "A.Depth.Z",
		"A.Denoising Albedo.R", "A.Denoising Albedo.G", "A.Denoising Albedo.B",
		"A.Denoising Normal.X", "A.Denoising Normal.Y", "A.Denoising Normal.Z", "A.Denoising Depth.Z",
		"B.Combined.R", "B.Combined.G", "B.Combined.B", "B.Combined.A",
	} {
		d := m.Add(name, media.Float)
		for i := range d {
			d[i] = float32(math.Sin(float64(i*(k+1)))) + shift
		}
	}
	return m
}

func write(t *testing.T, m *media.Image, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := media.WriteEXR(filepath.Join(dir, name), m, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, dir, name string) *media.Image {
	t.Helper()
	m, err := media.DecodeFile(filepath.Join(dir, name), media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run runs the task in a process of its own, in a sandbox where there is one.
func run(t *testing.T, p Params, prior ...string) (string, render.Result) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var process render.Process = render.NewLocalProcess(nil)
	if s, err := render.NewSandbox(t.Context(), nil, render.Limits{}); err == nil {
		process = s
	} else if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox") {
		t.Fatal(err)
	}
	runner := render.NewExecutor(map[job.Kind]render.Kind{Name: New(exe)}, process, render.Options{Scratch: t.TempDir()})
	defer runner.Close()
	out, in := t.TempDir(), t.TempDir()
	task := job.Task{Kind: Name, Params: p.Encode(), Outputs: []job.OutputRule{{Name: FrameFile, Media: job.MediaEXR}}}
	r := runner.Execute(context.Background(), render.Task{Task: task, Requester: "r", Device: job.Device{Name: "cpu", Type: "cpu"}},
		render.Dirs{In: in, Out: out, Prior: prior}, nil)
	return out, r
}

func must(t *testing.T, p Params, prior ...string) string {
	t.Helper()
	out, r := run(t, p, prior...)
	if r.Outcome != job.Succeeded {
		t.Fatalf("%s: %s\n%s", r.Outcome, r.Reason, r.Log)
	}
	return out
}

func same(t *testing.T, want, have *media.Image) {
	t.Helper()
	a, _, err := media.TileRoot(want)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := media.TileRoot(have)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Error("the pictures differ")
	}
}

func crop(t *testing.T, m *media.Image, r job.Rect) *media.Image {
	t.Helper()
	c, err := m.Crop(r.X0, r.Y0, r.X1, r.Y1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestJoinOfTilesWithBorders(t *testing.T) {
	frame := picture(0)
	p := Params{Op: OpJoin, Width: width, Height: height}
	var prior []string
	for _, keep := range []job.Rect{{X1: 20, Y1: 11}, {X0: 20, X1: width, Y1: 11}, {Y0: 11, X1: 20, Y1: height}, {X0: 20, Y0: 11, X1: width, Y1: height}} {
		tile := job.Rect{X0: max(keep.X0-2, 0), Y0: max(keep.Y0-2, 0), X1: min(keep.X1+2, width), Y1: min(keep.Y1+2, height)}
		p.Parts = append(p.Parts, Part{Tile: tile, Keep: keep})
		prior = append(prior, write(t, crop(t, frame, tile), FrameFile))
	}
	have := read(t, must(t, p, prior...), FrameFile)
	same(t, frame, have)
	if have.Attributes["cryptomatte/1/manifest"] == "" {
		t.Error("the cryptomatte's manifest is lost")
	}
}

func TestJoinOfRangesWeighsThem(t *testing.T) {
	light := func(shift float32) *media.Image {
		m := picture(shift)
		m.Channels = slices.DeleteFunc(m.Channels, func(c media.Channel) bool { return strings.Contains(c.Name, ".Depth.") })
		return m
	}
	whole := job.Rect{X1: width, Y1: height}
	p := Params{Op: OpJoin, Width: width, Height: height, Parts: []Part{{Tile: whole, Keep: whole, Samples: 3}, {Tile: whole, Keep: whole, Samples: 1}}}
	have := read(t, must(t, p, write(t, light(0), FrameFile), write(t, light(4), FrameFile)), FrameFile)
	want := light(1)
	for _, c := range want.Channels {
		averaged, _ := have.Channel(c.Name)
		for j, v := range c.Data {
			if d := math.Abs(float64(v - averaged.Data[j])); d > 1e-6 {
				t.Fatalf("%s: off by %g", c.Name, d)
			}
		}
	}
	_, r := run(t, p, write(t, picture(0), FrameFile), write(t, picture(4), FrameFile))
	if r.Outcome != job.Failed || !strings.Contains(r.Reason, `"Depth" cannot be averaged`) {
		t.Errorf("depth: %s: %s", r.Outcome, r.Reason)
	}
}

func TestGuidesAndDenoised(t *testing.T) {
	frame := picture(0)
	whole := job.Rect{X1: width, Y1: height}
	joined := must(t, Params{Op: OpJoin, Width: width, Height: height, Parts: []Part{{Tile: whole, Keep: whole}}, Denoise: []string{"A"}}, write(t, frame, FrameFile))
	guides := read(t, joined, GuidesFile)
	if slices.ContainsFunc(guides.Channels, func(c media.Channel) bool { return strings.HasPrefix(c.Name, "B.") }) {
		t.Error("a layer that is not denoised is among the guides")
	}
	if _, ok := guides.Channel("A.Vector.W"); !ok || guides.Attributes["cycles.A.samples"] != "16" {
		t.Error("the guides lack what Blender insists on")
	}
	first, _ := guides.Channel("A.Combined.R")
	original, _ := frame.Channel("A.Combined.R")
	if !slices.Equal(first.Data[:width], original.Data[(height-1)*width:]) {
		t.Error("the guides are not upside down")
	}

	clean := picture(7)
	clean.Flip()
	p := Params{Op: OpDenoised, Width: width, Height: height, Denoise: []string{"A"}}
	have := read(t, must(t, p, joined, write(t, clean, DenoisedFile)), FrameFile)
	value := func(name string) float32 {
		c, ok := have.Channel(name)
		if !ok {
			t.Fatalf("no channel %s", name)
		}
		return c.Data[5]
	}
	at := func(m *media.Image, name string) float32 { c, _ := m.Channel(name); return c.Data[5] }
	if value("A.Combined.G") != at(picture(7), "A.Combined.G") || value("A.Noisy Image.G") != at(frame, "A.Combined.G") || value("B.Combined.G") != at(frame, "B.Combined.G") {
		t.Error("the denoised picture is not where it belongs")
	}
	if _, ok := have.Channel("A.Denoising Albedo.R"); ok {
		t.Error("guides that nobody asked for are in the frame")
	}
	p.Guided = []string{"A"}
	have = read(t, must(t, p, joined, write(t, clean, DenoisedFile)), FrameFile)
	if value("A.Denoising Albedo.R") != at(frame, "A.Denoising Albedo.R") {
		t.Error("the artist's guides are lost")
	}
}

// TestGuidesOfADenoisedFrame: what a denoiser is given again is what it was given
// the first time, not what it made of it.
func TestGuidesOfADenoisedFrame(t *testing.T) {
	frame := picture(0)
	whole := job.Rect{X1: width, Y1: height}
	first := read(t, must(t, Params{Op: OpJoin, Width: width, Height: height, Parts: []Part{{Tile: whole, Keep: whole}}, Denoise: []string{"A"}}, write(t, frame, FrameFile)), GuidesFile)
	claim, clean := picture(0), picture(7)
	if err := replaceLayers(claim, clean, []string{"A"}, []string{"A"}); err != nil {
		t.Fatal(err)
	}
	p := Params{Op: OpGuides, Width: width, Height: height, Denoise: []string{"A"}}
	again := func(p Params, frame *media.Image) (string, render.Result) {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		runner := render.NewExecutor(map[job.Kind]render.Kind{Name: New(exe)}, render.NewLocalProcess(nil), render.Options{Scratch: t.TempDir()})
		defer runner.Close()
		out := t.TempDir()
		task := job.Task{Kind: Name, Params: p.Encode(), Outputs: []job.OutputRule{{Name: GuidesFile, Media: job.MediaEXR}}}
		return out, runner.Execute(t.Context(), render.Task{Task: task, Requester: "r", Device: job.Device{Name: "cpu", Type: "cpu"}},
			render.Dirs{In: t.TempDir(), Out: out, Prior: []string{write(t, frame, FrameFile)}}, nil)
	}
	out, r := again(p, claim)
	if r.Outcome != job.Succeeded {
		t.Fatalf("%s: %s", r.Outcome, r.Reason)
	}
	same(t, first, read(t, out, GuidesFile))

	p.Width++
	if _, r := again(p, claim); r.Outcome != job.Failed || !strings.Contains(r.Reason, "37x23") {
		t.Errorf("another size: %s: %s", r.Outcome, r.Reason)
	}
	p.Width--
	claim.Channels = slices.DeleteFunc(claim.Channels, func(c media.Channel) bool { return strings.Contains(c.Name, "Albedo") })
	if _, r := again(p, claim); r.Outcome != job.Failed || !strings.Contains(r.Reason, "Denoising Albedo") {
		t.Errorf("no guide: %s: %s", r.Outcome, r.Reason)
	}
}

func TestWhatIsWrongWithPartsIsSaid(t *testing.T) {
	whole := job.Rect{X1: width, Y1: height}
	half := job.Rect{X1: 20, Y1: height}
	good := write(t, picture(0), FrameFile)
	torn := t.TempDir()
	b, err := os.ReadFile(filepath.Join(good, FrameFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(torn, FrameFile), b[:len(b)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		parts []Part
		prior []string
		says  string
	}{
		"another size":      {[]Part{{Tile: half, Keep: half}}, []string{good}, "37x23 pixels where its tile has 20x23"},
		"a gap":             {[]Part{{Tile: whole, Keep: half}}, []string{good}, "cover 460 of 851"},
		"an overlap":        {[]Part{{Tile: whole, Keep: whole}, {Tile: whole, Keep: half}}, []string{good, good}, "overlap"},
		"no file":           {[]Part{{Tile: whole, Keep: whole}}, []string{t.TempDir()}, "part 1"},
		"half a file":       {[]Part{{Tile: whole, Keep: whole}}, []string{torn}, "part 1"},
		"fewer than told":   {[]Part{{Tile: whole, Keep: whole}, {Tile: whole, Keep: whole}}, []string{good}, "1 parts where 2"},
		"ranges without it": {[]Part{{Tile: whole, Keep: whole}, {Tile: whole, Keep: whole}}, []string{good, good}, "0 samples"},
	} {
		_, r := run(t, Params{Op: OpJoin, Width: width, Height: height, Parts: c.parts}, c.prior...)
		if r.Outcome != job.Failed || !strings.Contains(r.Reason, c.says) {
			t.Errorf("%s: %s: %s", name, r.Outcome, r.Reason)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := job.Rect{X1: width, Y1: height}
	good := Params{Op: OpJoin, Width: width, Height: height, Parts: []Part{{Tile: whole, Keep: whole}}}
	if _, err := decode(good.Encode()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Params){
		"operation":     func(p *Params) { p.Op = "split" },
		"no size":       func(p *Params) { p.Width = 0 },
		"huge":          func(p *Params) { p.Height = 1 << 30 },
		"no parts":      func(p *Params) { p.Parts = nil },
		"parts":         func(p *Params) { p.Parts = make([]Part, MaxParts+1) },
		"outside":       func(p *Params) { p.Parts[0].Keep.X1++ },
		"empty":         func(p *Params) { p.Parts[0].Keep = job.Rect{} },
		"negative":      func(p *Params) { p.Parts[0].Samples = -1 },
		"layers":        func(p *Params) { p.Denoise = make([]string, 65) },
		"parts of none": func(p *Params) { p.Op = OpDenoised },
	} {
		p := good
		p.Parts = slices.Clone(good.Parts)
		change(&p)
		if _, err := decode(p.Encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, b := range []string{"", "{}", `{"op":"join"} x`, `{"unknown":1}`} {
		if _, err := decode([]byte(b)); err == nil {
			t.Errorf("%q: accepted", b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole := job.Rect{X1: width, Y1: height}
	f.Add(Params{Op: OpJoin, Width: width, Height: height, Parts: []Part{{Tile: whole, Keep: whole}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
