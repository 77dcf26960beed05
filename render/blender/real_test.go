package blender

import (
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render"
	"idlewild/render/assemble"
)

// needBlender skips a test where there is no Blender, unless it must be.
func needBlender(t *testing.T) string {
	t.Helper()
	p, err := exec.LookPath("blender")
	if err == nil {
		return p
	}
	if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
		t.Fatal("Blender is required and not on PATH")
	}
	t.Skip("NOT RUN: no Blender on PATH")
	return ""
}

// shared is what all tests of one run build once.
var shared struct {
	dir    string
	scenes func() (string, error)
}

func TestMain(m *testing.M) {
	assemble.RunnerMain()
	dir, err := os.MkdirTemp("", "blender-test-")
	if err != nil {
		panic(err)
	}
	shared.dir = dir
	shared.scenes = sync.OnceValues(func() (string, error) {
		proj := filepath.Join(dir, "proj")
		if err := os.MkdirAll(filepath.Join(proj, "textures"), 0o755); err != nil {
			return "", err
		}
		out, err := exec.Command("blender", "-b", "--factory-startup", "--python-exit-code", "9", "-P", "testdata/scenes.py", "--", proj).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build the scenes: %w\n%s", err, lastLines(out, 20))
		}
		return filepath.Join(proj, "scenes.blend"), nil
	})
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// slow reports whether there is time for all that tests can go through.
func slow() bool { return os.Getenv("IDLEWILD_SLOW") != "" }

func testScenes(t *testing.T) string {
	t.Helper()
	needBlender(t)
	p, err := shared.scenes()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testKind(t *testing.T, opts Options) *Kind {
	t.Helper()
	opts.Scratch = filepath.Join(shared.dir, "scratch")
	k, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// shop runs tasks of this kind as a worker does.
type shop struct {
	t    *testing.T
	kind *Kind
	told []render.Progress // of the newest task
	exec *render.Runner
	in   string // a content's tree
	of   string // that content
	done map[job.TaskKey]string
	laid map[string]string // folders that tasks left, by where, as far as those after them read them
}

func newShop(t *testing.T, k *Kind, deps []job.Dep) *shop {
	t.Helper()
	return shopWith(t, k, deps, render.Options{})
}

// spareShop is a shop that keeps spares.
func spareShop(t *testing.T, k *Kind, deps []job.Dep) *shop {
	t.Helper()
	return shopWith(t, k, deps, render.Options{Available: func() int64 { return 64 << 30 }})
}

func shopWith(t *testing.T, k *Kind, deps []job.Dep, o render.Options) *shop {
	t.Helper()
	var p render.Process = render.NewLocalProcess(nil)
	if s, err := render.NewSandbox(t.Context(), nil, render.Limits{}); err == nil && os.Getenv("NOSB") == "" {
		p = s
	}
	dir := t.TempDir()
	s := &shop{t: t, kind: k, in: filepath.Join(dir, "in"), of: "c", done: map[job.TaskKey]string{}}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Scratch = filepath.Join(dir, "scratch")
	s.exec = render.NewExecutor(map[job.Kind]render.Kind{Name: k, assemble.Name: assemble.New(exe)}, p, o)
	t.Cleanup(func() { s.exec.Close() })
	for _, d := range deps {
		copyFile(t, d.Path, filepath.Join(s.in, filepath.FromSlash(d.Name)))
	}
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error { return os.Chmod(p, 0o755) }); err != nil {
		t.Fatal(err)
	}
	return s
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run runs one task and returns its folder of outputs.
func (s *shop) run(task job.Task) (string, render.Result) {
	s.t.Helper()
	out := s.t.TempDir()
	if err := os.Chmod(out, 0o777); err != nil {
		s.t.Fatal(err)
	}
	dirs := render.Dirs{In: s.in, Out: out}
	for i, after := range task.After {
		prior := s.done[after]
		if fi, err := os.Stat(filepath.Join(prior, bakeTree)); err == nil && fi.IsDir() {
			dirs.Trees = append(dirs.Trees, render.Tree{Prior: i, Name: bakeTree, Dir: s.lay(task, filepath.Join(prior, bakeTree))})
			prior = s.t.TempDir()
		}
		dirs.Prior = append(dirs.Prior, prior)
	}
	s.told = nil
	r := s.exec.Execute(s.t.Context(), render.Task{Task: task, Requester: "r", Content: s.of, Device: job.Device{Name: "cpu", Type: "cpu"}}, dirs, func(p render.Progress) { s.told = append(s.told, p) })
	s.done[task.Key()] = out
	return out, r
}

// lay adds to what is here of a folder what the task reads, and returns where.
func (s *shop) lay(task job.Task, tree string) string {
	s.t.Helper()
	to := s.laid[tree]
	if to == "" {
		to = filepath.Join(filepath.Dir(s.in), fmt.Sprintf("laid%d", len(s.laid)))
		if s.laid == nil {
			s.laid = map[string]string{}
		}
		s.laid[tree] = to
	}
	left := job.Output{Name: bakeTree, Media: job.MediaTree, File: task.Key()}
	wants := job.Lease{Tasks: []job.Granted{{Task: task, Prior: []job.Prior{{Outputs: []job.Output{left}}}}}}.Wants(left.File)
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err == nil && wants.Has(filepath.ToSlash(name)) {
			if at := filepath.Join(to, name); !exists(at) {
				copyFile(s.t, path, at)
			}
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return to
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (s *shop) must(task job.Task) string {
	s.t.Helper()
	out, r := s.run(task)
	if r.Outcome != job.Succeeded {
		s.t.Fatalf("%s: %s: %s\n%s", task.Label, r.Outcome, r.Reason, lastLines(r.Log, 15))
	}
	for _, o := range task.Outputs {
		if _, err := os.Stat(filepath.Join(out, o.Name)); err != nil {
			s.t.Fatalf("%s: %v", task.Label, err)
		}
	}
	return out
}

// plan inspects and plans; it fails on refusals.
func plan(t *testing.T, k *Kind, file string, p SpecParams) ([]job.Task, job.Inspection) {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	spec := job.Spec{Kind: Name, Input: file, Params: raw}
	in, err := k.Inspect(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if bad := in.Refused(); len(bad) > 0 {
		t.Fatalf("refused: %v", bad)
	}
	tasks, err := k.Plan(spec, in, cid.Undef)
	if err != nil {
		t.Fatal(err)
	}
	return tasks, in
}

// plain renders frames as anybody would, without us: script runs after the
// file is open; files come out as dir/<frame><ext>.
func plain(t *testing.T, file, script string, args ...string) {
	t.Helper()
	all := append([]string{"-b", "-Y", "--factory-startup", "--python-exit-code", "9", file}, "--python-expr", "import bpy; sc=bpy.context.scene\n"+script)
	out, err := exec.CommandContext(t.Context(), "blender", append(all, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("plain Blender: %v\n%s", err, lastLines(out, 15))
	}
}

// sameDecoded fails where two finished pictures differ in any pixel.
func sameDecoded(t *testing.T, what, want, have string) {
	t.Helper()
	if strings.HasSuffix(want, ".exr") {
		sameEXR(t, what, readEXR(t, want), readEXR(t, have))
		return
	}
	a, b := decode(t, want), decode(t, have)
	if a.Bounds() != b.Bounds() || a.ColorModel() != b.ColorModel() {
		t.Fatalf("%s: %v %T, want %v %T", what, b.Bounds(), b, a.Bounds(), a)
	}
	bad := 0
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				bad++
			}
		}
	}
	if bad > 0 {
		t.Errorf("%s: %d of %d pixels differ", what, bad, a.Bounds().Dx()*a.Bounds().Dy())
	}
}

func decode(t *testing.T, name string) image.Image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, _, err := image.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

func readEXR(t *testing.T, name string) *media.Image {
	t.Helper()
	m, err := media.DecodeFile(name, media.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

func sameEXR(t *testing.T, what string, want, have *media.Image) {
	t.Helper()
	if want.Width != have.Width || want.Height != have.Height || len(want.Channels) != len(have.Channels) {
		t.Fatalf("%s: %dx%d with %d channels, want %dx%d with %d", what, have.Width, have.Height, len(have.Channels), want.Width, want.Height, len(want.Channels))
	}
	for _, c := range want.Channels {
		d, ok := have.Channel(c.Name)
		if !ok {
			t.Fatalf("%s: no channel %s", what, c.Name)
		}
		if n, worst := differ(c.Data, d.Data); n > 0 {
			t.Errorf("%s: channel %s: %d of %d values differ, by up to %g", what, c.Name, n, len(c.Data), worst)
		}
	}
}

func differ(a, b []float32) (n int, worst float64) {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			n++
			worst = max(worst, math.Abs(float64(a[i])-float64(b[i])))
		}
	}
	return n, worst
}

// TestTwoStepsGiveBlendersOwnPixels renders each way of finishing a frame with
// plain Blender and with render and finish tasks, warm and out of order.
func TestTwoStepsGiveBlendersOwnPixels(t *testing.T) {
	file := testScenes(t)
	scenes := []struct{ name, ext string }{
		{"plain", ".png"}, {"comp", ".png"}, {"multi", ".exr"}, {"keyed", ".png"}, {"jpeg", ".jpg"}, {"exr", ".exr"}, {"layers", ".png"},
	}
	if !slow() {
		scenes = scenes[:4]
	}
	ref := t.TempDir()
	var args []string
	for _, s := range scenes {
		for _, f := range []string{"2", "5", "9"} {
			args = append(args, "-S", s.name, "-o", filepath.Join(ref, s.name+"-####"), "-f", f)
		}
	}
	plain(t, file, "", args...)
	k := testKind(t, Options{Threads: 1})
	var work *shop
	for _, s := range scenes {
		tasks, in := plan(t, k, file, SpecParams{Frames: "2,5,9", Scene: s.name})
		if work == nil {
			work = newShop(t, k, in.Deps) // one session for all scenes of the file
		}
		steps := 2
		if s.name == "multi" {
			steps = 1
		}
		if len(tasks) != 3*steps {
			t.Fatalf("%s: %d tasks", s.name, len(tasks))
		}
		for _, i := range []int{2, 0, 1} {
			group := tasks[i*steps : (i+1)*steps]
			var out string
			for _, task := range group {
				out = work.must(task)
			}
			last := group[steps-1].Outputs[0]
			sameDecoded(t, s.name+" "+last.Final, filepath.Join(ref, s.name+"-"+strings.TrimSuffix(last.Final, s.ext)+s.ext), filepath.Join(out, last.Name))
		}
	}
}

// What a session keeps from frame to frame changes no pixel; what would is not
// kept, and the frame at which that is seen comes out right.
func TestKeptFromFrameToFrame(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), needBlender(t), "-b", "-Y", "--factory-startup", "-t", "1", "--python-exit-code", "3",
		"-P", "testdata/keep.py", "--", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "KEPT") {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, frames := range map[string][]int{"warm": {1, 3, 5, 9}, "wrong": {1, 5, 9}} {
		for _, n := range frames {
			sameDecoded(t, fmt.Sprintf("%s, frame %d", name, n), filepath.Join(dir, fmt.Sprintf("fresh-%d", n), "frame.exr"),
				filepath.Join(dir, fmt.Sprintf("%s-%d", name, n), "frame.exr"))
		}
	}
}

// Frames are named as Blender names them, whatever the folder.
func TestFramesAreNamedAsTheFileSays(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{Threads: 1})
	for _, output := range []string{"//out/sh_", "//sh_##_v2", "//pic.png", "//out/"} {
		dir := t.TempDir()
		named := filepath.Join(dir, "named.blend")
		plain(t, file, fmt.Sprintf("sc.render.filepath = %q; sc.render.resolution_percentage = 10; sc.cycles.samples = 1; bpy.ops.wm.save_as_mainfile(filepath=%q)", output, named), "-S", "plain")
		plain(t, named, "", "-f", "3")
		tasks, _ := plan(t, k, named, SpecParams{Frames: "3"})
		final := tasks[len(tasks)-1].Outputs[0].Final
		if _, err := os.Stat(filepath.Join(dir, filepath.Dir(strings.TrimPrefix(output, "//")+"x"), final)); err != nil {
			t.Errorf("output %s: a frame is named %s, and that is not what Blender wrote: %v", output, final, err)
		}
	}
}

// TestHalvesOnTheWay: what travels is the whole frame's floats rounded once,
// and the finished picture is off by one step of its 8 bits at the most.
func TestHalvesOnTheWay(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{Threads: 1})
	var work *shop
	made := func(p SpecParams, parts string) (travels, finished string) {
		t.Helper()
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		spec := job.Spec{Kind: Name, Input: file, Params: raw, Policy: job.Policy{Parts: parts}}
		in, err := k.Inspect(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := k.Plan(spec, in, cid.Undef)
		if err != nil {
			t.Fatal(err)
		}
		if work == nil {
			work = newShop(t, k, in.Deps)
		}
		for _, task := range tasks {
			out := work.must(task)
			finished = filepath.Join(out, task.Outputs[0].Name)
			if task.Outputs[0].Name == claimFile {
				travels = finished
			}
		}
		return travels, finished
	}
	for _, scene := range []string{"plain", "layers"} {
		whole, want := made(SpecParams{Frames: "3", Scene: scene}, "no")
		half, have := made(SpecParams{Frames: "3", Scene: scene, Precision: precisionHalf}, "no")
		a, b := readEXR(t, whole), readEXR(t, half)
		halves := 0
		for _, c := range a.Channels {
			d, ok := b.Channel(c.Name)
			if !ok {
				t.Fatalf("%s: no channel %s", scene, c.Name)
			}
			if d.Sample == media.Half {
				halves++
			}
			for i, x := range c.Data {
				if off := math.Abs(float64(d.Data[i] - x)); off > math.Max(math.Abs(float64(x))/(1<<11), 1e-7) {
					t.Fatalf("%s: %s is %g where it was %g", scene, c.Name, d.Data[i], x)
				}
			}
		}
		if halves < 4 {
			t.Errorf("%s: %d channels of halves", scene, halves)
		}
		if one, two := size(t, whole), size(t, half); two*10 > one*7 {
			t.Errorf("%s: %d bytes travel instead of %d", scene, two, one)
		}
		p, q := decode(t, want), decode(t, have)
		for y := p.Bounds().Min.Y; y < p.Bounds().Max.Y; y++ {
			for x := p.Bounds().Min.X; x < p.Bounds().Max.X; x++ {
				r, g, b, a := p.At(x, y).RGBA()
				r2, g2, b2, a2 := q.At(x, y).RGBA()
				for _, v := range [][2]uint32{{r, r2}, {g, g2}, {b, b2}, {a, a2}} {
					if d := int(v[0]>>8) - int(v[1]>>8); d < -1 || d > 1 {
						t.Fatalf("%s: pixel %d,%d is %v where it was %v", scene, x, y, q.At(x, y), p.At(x, y))
					}
				}
			}
		}
		if scene == "plain" {
			_, joined := made(SpecParams{Frames: "3", Scene: scene, Precision: precisionHalf}, "2x2")
			sameDecoded(t, "in parts", have, joined)
		}
	}
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

func TestCropsAreSlicesOfTheFrame(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{})
	tasks, in := plan(t, k, file, SpecParams{Frames: "3", Scene: "multi"})
	work := newShop(t, k, in.Deps)
	claim := readEXR(t, filepath.Join(work.must(tasks[0]), claimFile))
	rects := []job.Rect{{X0: 0, Y0: 0, X1: 16, Y1: 8}, {X0: 40, Y0: 21, X1: 77, Y1: 64}}

	// All samples at once: bit for bit.
	p, err := DecodeParams(tasks[0].Params)
	if err != nil {
		t.Fatal(err)
	}
	p.Op, p.Depth, p.Codec = opCrop, "", ""
	for _, r := range rects {
		p.Crops = append(p.Crops, Crop{Rect: r, Asked: r, Runs: []Run{{}}})
	}
	whole := job.Task{Kind: Name, Params: p.encode(), Outputs: p.cropOutputs(), Label: "whole crops"}
	out := work.must(whole)
	for i, r := range rects {
		sameEXR(t, fmt.Sprint("crop ", r), slice(t, claim, r), readEXR(t, filepath.Join(out, cropFile(i, 0))))
	}

	// As a checker has them, in ranges of samples or at once with another seed
	// beside: they add up to the frame, whatever the pattern of the file's samples.
	challenge, err := k.Challenge(tasks[0], rects, cut(samplesOf(t, tasks[0])))
	if err != nil || len(challenge) != 1 {
		t.Fatal(len(challenge), err)
	}
	if p, err := DecodeParams(challenge[0].Params); err != nil || !p.Persistent || p.ViewLayer == "" {
		t.Errorf("the crops of one of several view layers would each take in the scene: %+v, %v", p, err)
	}
	out = work.must(challenge[0])
	evidence, err := ReadEvidence(challenge[0], tasks[0].Check)
	runs := len(evidence) / len(rects)
	if err != nil || runs != 3 && runs != 2 {
		t.Fatal(len(evidence), err)
	}
	for i, r := range rects {
		want := combined(t, slice(t, claim, r), "ViewLayer")
		sum := make([]float64, len(want))
		n := 0
		for _, e := range evidence[runs*i : runs*(i+1)] {
			if e.Rect != r || e.Covers != r {
				t.Fatalf("evidence %+v", e)
			}
			if e.SeedDelta != 0 {
				continue
			}
			weight := e.Samples.To - e.Samples.From
			n += weight
			for j, v := range combined(t, readEXR(t, filepath.Join(out, e.File)), "ViewLayer") {
				sum[j] += float64(v) * float64(weight)
			}
		}
		if n != 10 {
			t.Errorf("%d samples in all", n)
		}
		for j := range want {
			if got := sum[j] / float64(n); math.Abs(got-float64(want[j])) > 1e-4*(1+math.Abs(got)) {
				t.Fatalf("crop %v value %d: ranges give %g, the frame %g", r, j, got, want[j])
			}
		}
	}

	// And the session is as it was.
	again := readEXR(t, filepath.Join(work.must(tasks[0]), claimFile))
	sameEXR(t, "frame after crops", claim, again)

	// Half the samples are another picture.
	cheat := k.Cheat(tasks[0])
	m := readEXR(t, filepath.Join(work.must(cheat), claimFile))
	a, b := combined(t, claim, "ViewLayer"), combined(t, m, "ViewLayer")
	if n, _ := differ(a, b); n < len(a)/2 {
		t.Errorf("half the samples: only %d of %d values differ", n, len(a))
	}
}

// Cycles takes in a large scene for longer than it renders a crop of it: it is
// done once for all crops of a request, and changes nothing in them.
func TestCropsOfARequestTakeInTheSceneOnce(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{})
	tasks, in := plan(t, k, file, SpecParams{Frames: "4", Scene: "adaptive"})
	work := newShop(t, k, in.Deps)
	p, err := DecodeParams(tasks[0].Params)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Persistent {
		t.Fatal("the test needs a scene with one view layer")
	}
	p.Op, p.Depth, p.Codec = opCrop, "", ""
	crop := func(r job.Rect, runs ...Run) Crop { return Crop{Rect: r, Asked: r, Runs: runs} }
	both := []Crop{
		crop(job.Rect{X0: 10, Y0: 12, X1: 50, Y1: 40}, Run{Other: true}, Run{Count: true}, Run{To: 5}),
		crop(job.Rect{X0: 0, Y0: 0, X1: 32, Y1: 20}, Run{SeedDelta: 3}, Run{From: 5, To: 9}),
	}
	render := func(label string, crops ...Crop) (string, int) {
		t.Helper()
		q := p
		q.Crops = crops
		out, r := work.run(job.Task{Kind: Name, Params: q.encode(), Outputs: q.cropOutputs(), Label: label})
		if r.Outcome != job.Succeeded {
			t.Fatalf("%s: %s: %s\n%s", label, r.Outcome, r.Reason, lastLines(r.Log, 15))
		}
		return out, strings.Count(string(r.Log), "Loading render kernels")
	}
	together, times := render("together", both...)
	if times != 2 { // once more for the other ray tracing structure
		t.Errorf("the scene was taken in %d times, want 2", times)
	}
	for i, c := range both {
		for n, run := range c.Runs {
			alone, _ := render(fmt.Sprint("alone ", i, " ", n), crop(c.Rect, run))
			sameEXR(t, fmt.Sprintf("crop %d run %+v", i, run), readEXR(t, filepath.Join(alone, cropFile(0, 0))),
				readEXR(t, filepath.Join(together, cropFile(i, n))))
		}
	}
}

func TestAdaptiveAndFramedCrops(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{})
	var work *shop
	for _, scene := range []string{"adaptive", "exr"} {
		tasks, in := plan(t, k, file, SpecParams{Frames: "4", Scene: scene})
		if work == nil {
			work = newShop(t, k, in.Deps)
		}
		claim := readEXR(t, filepath.Join(work.must(tasks[0]), claimFile))
		r := job.Rect{X0: 10, Y0: 12, X1: 50, Y1: 40}
		challenge, err := k.Challenge(tasks[0], []job.Rect{r}, cut(samplesOf(t, tasks[0])))
		if err != nil {
			t.Fatal(err)
		}
		out := work.must(challenge[0])
		evidence, err := ReadEvidence(challenge[0], tasks[0].Check)
		if err != nil {
			t.Fatal(err)
		}
		want := combined(t, slice(t, claim, r), "ViewLayer")
		for i, e := range evidence {
			m := readEXR(t, filepath.Join(out, e.File))
			if m.Width != e.Covers.Dx() || m.Height != e.Covers.Dy() {
				t.Fatalf("%s: %dx%d, covers %v", e.File, m.Width, m.Height, e.Covers)
			}
			in := job.Rect{X0: r.X0 - e.Covers.X0, Y0: r.Y0 - e.Covers.Y0, X1: r.X1 - e.Covers.X0, Y1: r.Y1 - e.Covers.Y0}
			got := combined(t, slice(t, m, in), "ViewLayer")
			n, _ := differ(want, got)
			switch {
			case scene == "adaptive" && i == 0:
				if n > 0 {
					t.Errorf("adaptive crop: %d of %d values differ", n, len(want))
				}
				if _, ok := m.Pass("ViewLayer", "Debug Sample Count"); !ok || !e.Counts {
					t.Errorf("no sample counts: %v", m.Passes("ViewLayer"))
				}
			case scene == "adaptive" && i == 1:
				if n == 0 {
					t.Error("another seed gives the same picture")
				}
			}
		}
		if scene == "exr" {
			// Outside the file's own border there is nothing, in the claim as
			// in the evidence.
			all := readEXR(t, filepath.Join(out, evidence[0].File))
			for _, x := range combined(t, slice(t, all, job.Rect{X0: 10, Y0: 12, X1: 24, Y1: 16}), "ViewLayer") {
				if x != 0 {
					t.Fatalf("a pixel outside the border is %g", x)
				}
			}
		}
	}
}

func slice(t *testing.T, m *media.Image, r job.Rect) *media.Image {
	t.Helper()
	c, err := m.Crop(r.X0, r.Y0, r.X1, r.Y1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func combined(t *testing.T, m *media.Image, layer string) []float32 {
	t.Helper()
	chans, ok := m.Pass(layer, PassCombined)
	if !ok {
		t.Fatalf("no %s.Combined among %v", layer, m.Layers())
	}
	var all []float32
	for _, c := range chans {
		all = append(all, c.Data...)
	}
	return all
}

// TestRealScenes compares with plain Blender on files that artists made.
func TestRealScenes(t *testing.T) {
	needBlender(t)
	dir := filepath.Join("..", "..", "..", "shared", "scenes")
	for _, c := range []struct {
		pattern string
		frame   int
	}{{"animation_blend__06*", 7}, {"render_voxelao_teapots__03*", 1}, {"base_scene__00*", 1}} {
		found, _ := filepath.Glob(filepath.Join(dir, c.pattern))
		if len(found) == 0 {
			t.Skipf("NOT RUN: no %s in %s", c.pattern, dir)
		}
		if c.frame == 1 && !slow() {
			continue
		}
		t.Run(strings.TrimSuffix(c.pattern, "*"), func(t *testing.T) {
			file, err := filepath.Abs(found[0])
			if err != nil {
				t.Fatal(err)
			}
			ref := t.TempDir()
			plain(t, file, "sc.render.engine='CYCLES'; sc.cycles.samples=3; sc.cycles.use_denoising=False; sc.cycles.use_layer_samples='IGNORE'; r=sc.render; r.resolution_x=160; r.resolution_y=90; r.resolution_percentage=100",
				"-o", filepath.Join(ref, "####"), "-f", strconv.Itoa(c.frame))
			k := testKind(t, Options{})
			tasks, in := plan(t, k, file, SpecParams{Frames: strconv.Itoa(c.frame), Engine: "cycles", Samples: 3, Width: 160, Height: 90, Denoise: "off"})
			work := newShop(t, k, in.Deps)
			work.must(tasks[0])
			out := work.must(tasks[1])
			o := tasks[1].Outputs[0]
			sameDecoded(t, o.Final, filepath.Join(ref, o.Final), filepath.Join(out, o.Name))
		})
	}
}

// samplesOf is how many samples a task that is checked by crops has.
func samplesOf(t *testing.T, task job.Task) int {
	t.Helper()
	var c job.CropCheck
	if err := job.Decode(task.Check.Params, job.MaxTaskBytes, &c); err != nil {
		t.Fatal(err)
	}
	return c.Samples
}
