package blender

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"idlewild/job"
	"idlewild/render"
)

// What Cycles takes of its device is told beside what Blender takes itself.
func TestWhatCyclesTakesOfItsDevice(t *testing.T) {
	for text, want := range map[string]int64{
		"Fra:1 Mem:8.63M (Peak 8.63M) | Time:00:00.24 | Remaining:00:00.89 | Mem:0.50M, Peak:2.25G | Scene, ViewLayer | Sample 0/64": 9 << 28,
		"Fra:1 Mem:8.63M (Peak 8.63M) | Time:00:00.24 | Mem:7.00K, Peak:7.00K | Scene, ViewLayer | Synchronizing object":             7 << 10,
		"Fra:1 Mem:8.63M (Peak 8.63M) | Time:00:00.24 | Scene":                                                                       0,
		"Fra:1 | Mem:1.00M, Peak:99999999999999999999G | Sample 1/2":                                                                 0,
		"my own print of Mem:1.00M, Peak:5.00M":                                                                                      0,
	} {
		if got := parsePeak([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	f := new(Kind).Follow(func(render.Progress) {}).(*follower)
	f.Event(render.Event{Name: "shot", JSON: []byte(`{"from":0,"to":1,"parts":1,"log":true}`)})
	f.Line([]byte("Fra:1 Mem:8M (Peak 9M) | Mem:1.00M, Peak:3.00M | Sample 1/2"))
	f.Line([]byte("Fra:1 Mem:8M (Peak 9M) | Mem:1.00M, Peak:2.00M | Sample 2/2"))
	if f.Peak() != 3<<20 {
		t.Errorf("peak %d", f.Peak())
	}
}

// A Blender that is refused memory crashes, and its log tells why.
func TestABlenderThatIsRefusedMemory(t *testing.T) {
	for log, want := range map[string]job.Outcome{
		"Fra:1 Mem:8M\nMalloc returns null: len=9000000000 in Float Passes, total 12\nWriting: crash.txt\n": job.OutOfMemory,
		"Error: Malloc returns null: len=9 in x, total 12\n":                                                job.OutOfMemory,
		"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n":      job.OutOfMemory,
		"Writing: crash.txt\n": "",
	} {
		if got := new(Kind).Explain([]byte(log)); got != want {
			t.Errorf("%q: %q", log, got)
		}
	}
}

func TestWhatBlenderSaysOfItsSamples(t *testing.T) {
	const old = "Fra:1 Mem:8.63M (Peak 8.63M) | Time:00:00.24 | Remaining:00:00.89 | Mem:0.40M, Peak:0.40M | Scene, ViewLayer | "
	for _, c := range []struct {
		text string
		want counts
	}{
		// 3.4 and 4.5, as they were heard.
		{old + "Sample 0/64", counts{0, 0, 0, 64}},
		{old + "Sample 64/64", counts{0, 0, 64, 64}},
		{old + "Rendered 2/6 Tiles, Sample 16/16", counts{2, 6, 16, 16}},
		{"Fra:1 Mem:10.67M (Peak 13.01M) | Zeit:00:04.30 | Mem:1.26M, Peak:1.26M | Szene, Ebene | Sample 63/64", counts{0, 0, 63, 64}},
		{"Fra:7 Mem:9.49M (Peak 9.49M) | Time:00:00.09 | Mem:1.26M, Peak:1.26M | A | b, c | Sample 1/64", counts{0, 0, 1, 64}},
		{old + "Sample 9/64 | Denoising", counts{0, 0, 9, 64}},
		{old + "Rendered 4/8 Tiles, Denoised 2 tiles", counts{4, 8, 0, 0}},
		// 5.0.
		{"Remaining: 00:04.72 | Mem: 3M | Sample 1/64", counts{0, 0, 1, 64}},
		{"Mem: 2M | Rendered 5/6 Tiles, Sample 0/16", counts{5, 6, 0, 16}},
		// Eevee, also in other languages.
		{"Fra:1 Mem:12.22M (Peak 13.34M) | Time:00:21.27 | Rendering 51 / 64 samples", counts{0, 0, 51, 64}},
		{"Mem: 12M | Rendering 1 / 64 samples", counts{0, 0, 1, 64}},
		{"Fra:1 Mem:12.22M | Zeit:00:21.27 | Rendere 51 / 64 Samples", counts{0, 0, 51, 64}},
		{"Fra:1 Mem:12.22M | Time:00:21.27 | 正在渲染 51 / 64 采样", counts{0, 0, 51, 64}},
		// Nothing that would be a number of something else.
		{old + "Synchronizing object | Sample 3/4", counts{}},
		{old + "Synchronizing object | part 3 / 4", counts{}},
		{"Fra:1 Mem:12.22M | Time:00:21.27 | Syncing part 3 / 4 of it", counts{}},
		{old + "Updating Scene BVH | Building BVH 4/8", counts{}},
		{old + "Updating Images | Sample 1/2", counts{}},
		{old + "Loading render kernels (may take a few minutes the first time)", counts{}},
		{old + "Finished", counts{}},
		{"Time: 00:04.44 (Saving: 00:00.13)", counts{}},
		{"Fra:1 Mem:12.22M (Peak 13.34M) | Time:00:21.27", counts{}},
		{"", counts{}},
		// Nor what no renderer says.
		{old + "Sample 65/64", counts{}},
		{old + "Sample 0/0", counts{}},
		{old + "Sample -1/64", counts{}},
		{old + "Sample 1/999999999999999999999999", counts{}},
		{old + "Rendered 9/6 Tiles, Sample 1/16", counts{}},
		{old + "Rendered 1/6 Tiles, Sample 17/16", counts{}},
		{old + "Sample 1/2 | Sample 2/2", counts{}},
		{old + "Sample 1/64 of my own print", counts{}},
		{"a | 1 / 2 / 3", counts{}},
		{old + string(make([]byte, 5000)) + " | Sample 1/2", counts{}},
	} {
		got, ok := parseCounts([]byte(c.text))
		if ok != (c.want != counts{}) || ok && got != c.want {
			t.Errorf("%.200q: %+v %v, want %+v", c.text, got, ok, c.want)
		}
	}
}

// heard runs words through a follower; shots are {from, to, parts}.
func heard(t *testing.T, words ...any) []float64 {
	t.Helper()
	var out []float64
	f := new(Kind).Follow(func(p render.Progress) { out = append(out, p.Fraction) })
	for _, w := range words {
		switch w := w.(type) {
		case string:
			f.Line([]byte("Fra:1 | " + w))
			b, _ := json.Marshal(map[string]string{"text": w}) // must not count: the log does
			f.Event(render.Event{Name: "stats", JSON: b})
		case [3]float64:
			f.Event(render.Event{Name: "shot", JSON: fmt.Appendf(nil, `{"from":%g,"to":%g,"parts":%g,"log":true}`, w[0], w[1], w[2])})
		case nil:
			f.Event(render.Event{Name: "progress"})
		}
	}
	return out
}

func TestFractionsOfAFrameOnlyRise(t *testing.T) {
	all := [3]float64{0, 1, 1}
	for name, c := range map[string]struct {
		words []any
		want  []float64
	}{
		"samples":             {[]any{all, "Sample 0/8", "Sample 1/8", "Sample 1/8", "Sample 4/8", "Sample 8/8"}, []float64{0.125, 0.5, 1}},
		"a share of it":       {[]any{[3]float64{0.25, 0.75, 1}, "Sample 0/8", "Sample 4/8", "Sample 8/8"}, []float64{0.25, 0.5, 0.75}},
		"tiles":               {[]any{all, "Rendered 0/2 Tiles, Sample 0/8", "Rendered 0/2 Tiles, Sample 4/8", "Rendered 0/2 Tiles, Sample 8/8", "Rendered 1/2 Tiles, Sample 8/8", "Rendered 1/2 Tiles, Sample 4/8", "Rendered 1/2 Tiles, Sample 8/8", "Rendered 1/2 Tiles, Sample 0/8"}, []float64{0.25, 0.5, 0.75, 1}},
		"tiles without each":  {[]any{all, "Rendered 0/4 Tiles, Sample 0/8", "Rendered 1/4 Tiles, Sample 8/8", "Rendered 3/4 Tiles, Sample 6/8"}, []float64{0.25, 0.75}},
		"view layers":         {[]any{[3]float64{0, 1, 2}, "Sample 0/8", "Sample 4/8", "Sample 8/8", "Sample 0/8", "Sample 4/8", "Sample 8/8"}, []float64{0.25, 0.5, 0.75, 1}},
		"of other samples":    {[]any{[3]float64{0, 1, 2}, "Sample 4/8", "Sample 8/8", "Sample 8/16", "Sample 16/16"}, []float64{0.25, 0.5, 0.75, 1}},
		"tiled view layers":   {[]any{[3]float64{0, 1, 2}, "Rendered 1/2 Tiles", "Rendered 2/2 Tiles", "Rendered 0/2 Tiles, Sample 4/8", "Rendered 1/2 Tiles, Sample 4/8"}, []float64{0.25, 0.5, 0.625, 0.75}},
		"more than was said":  {[]any{all, "Sample 8/8", "Sample 0/8", "Sample 8/8", "Sample 1/8"}, []float64{1}},
		"two shots":           {[]any{[3]float64{0, 0.5, 1}, "Sample 8/8", nil, "Sample 1/8", [3]float64{0.5, 1, 1}, "Sample 0/8", "Sample 4/8"}, []float64{0.5, 0.75}},
		"before and after":    {[]any{"Sample 4/8", all, "Sample 2/8", nil, "Sample 8/8"}, []float64{0.25}},
		"a shot out of range": {[]any{[3]float64{0, 2, 1}, "Sample 4/8", [3]float64{-1, 1, 1}, "Sample 4/8", [3]float64{0.5, 0.5, 1}, "Sample 4/8", [3]float64{0, 1, 0}, "Sample 4/8", [3]float64{0, 1, 1e9}, "Sample 4/8"}, nil},
		"forged":              {[]any{all, "Sample 7/8", "Sample 99/8", "Sample 1/8", "Sample 8/8", "Rendered 0/99999999 Tiles"}, []float64{0.875, 1}},
	} {
		if got := heard(t, c.words...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestProgressWithinAFrame renders a frame of two view layers and many tiles,
// twice in one session. What Blender prints and what the runner says of it come
// by two ways: a frame of an instant may be over before either is heard.
func TestProgressWithinAFrame(t *testing.T) {
	t.Run("blender", func(t *testing.T) {
		within(t, needBlender(t), "-b", "--factory-startup", "--python-exit-code", "9", "-P")
	})
	t.Run("bpy", func(t *testing.T) { within(t, needBpy(t), "-I") })
}

func within(t *testing.T, program string, args ...string) {
	k := testKind(t, Options{Blender: program})
	dir := t.TempDir()
	script, file := filepath.Join(dir, "make.py"), filepath.Join(dir, "scene.blend")
	const source = `
import bpy, sys
bpy.ops.wm.read_factory_settings(use_empty=False)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_adaptive_sampling, scene.cycles.use_denoising = 128, False, False
scene.cycles.use_auto_tile, scene.cycles.tile_size = True, 16
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 64, 100
scene.view_layers.new("second")
scene.view_layers.new("unused").use = False
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
`
	if err := os.WriteFile(script, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	args = append(args, script)
	if args[0] == "-b" {
		args = append(args, "--")
	}
	if out, err := exec.CommandContext(t.Context(), program, append(args, file)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, lastLines(out, 20))
	}
	tasks, in := plan(t, k, file, SpecParams{Frames: "1-2"})
	work := newShop(t, k, in.Deps)
	for _, task := range []job.Task{tasks[0], tasks[2]} {
		out := work.must(task)
		last := 0.0
		var between []float64
		for _, p := range work.told {
			if p.Fraction < last || p.Fraction > 1 {
				t.Errorf("%s: %v after %v", task.Label, p.Fraction, last)
			}
			if last = p.Fraction; p.Phase == "rendering" && last > 0.06 && last < 0.97 {
				between = append(between, last)
			}
		}
		layer := slices.IndexFunc(between, func(f float64) bool { return f > 0.52 })
		if len(between) < 12 || layer < 4 || len(between)-layer < 4 || last != 1 {
			t.Errorf("%s: of two layers %.3f, in the end %v", task.Label, between, last)
		}
		if _, err := os.Stat(filepath.Join(out, "frame.exr")); err != nil {
			t.Error(err)
		}
	}
}
