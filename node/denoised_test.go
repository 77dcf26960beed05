package node

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render"
)

// denoisedScene has Cycles' own settings: adaptive sampling, and a denoiser.
const denoisedScene = `
import bpy, sys
bpy.ops.wm.read_factory_settings(use_empty=False)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 16
assert scene.cycles.use_adaptive_sampling and scene.cycles.use_denoising
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 192, 108, 100
bpy.ops.mesh.primitive_plane_add(size=20, location=(0, 0, -1))
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
`

// TestADenoisedPictureIsDenoisedAgain: with real Blender, beside right noisy
// pixels only the picture that the denoiser makes of them is accepted, and that of
// older instructions and one thread is.
func TestADenoisedPictureIsDenoisedAgain(t *testing.T) {
	python := os.Getenv("IDLEWILD_TEST_BPY")
	if python == "" {
		t.Skip("NOT RUN: IDLEWILD_TEST_BPY names no Python with the package bpy")
	}
	dir := t.TempDir()
	script, file := filepath.Join(dir, "make.py"), filepath.Join(dir, "scene.blend")
	if err := os.WriteFile(script, []byte(denoisedScene), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), python, "-I", script, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Blender.Path, cfg.Worker.Threads = t.TempDir(), python, 2
	for _, precision := range []string{"", "half"} {
		t.Run("precision "+precision, func(t *testing.T) { denoisedAgain(t, cfg, file, precision) })
	}
}

func denoisedAgain(t *testing.T, cfg Config, file, precision string) {
	c, err := newOnce(t.Context(), cfg, CheckOptions{File: file, Frame: 1, Spec: SpecOptions{Precision: precision}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if crops, err := cropCheck(c.task); err != nil || !crops.Guided {
		t.Fatalf("the frame is planned without what a denoiser is guided by: %+v, %v", crops, err)
	}
	claim := t.TempDir()
	r := c.kit.exec.Execute(t.Context(), render.Task{Task: c.task, Requester: "self", Content: "x", Device: job.Device{Name: "cpu", Type: "cpu"}},
		render.Dirs{In: c.tree, Out: claim}, func(render.Progress) {})
	if r.Outcome != job.Succeeded {
		t.Fatalf("%s: %s\n%s", r.Outcome, r.Reason, r.Log)
	}
	honest, err := decode(filepath.Join(claim, "frame.exr"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, evidence, err := c.evidence(t.Context(), honest, claim)
	if err != nil {
		t.Fatal(err)
	}
	costs := map[string]float64{}
	for _, e := range evidence {
		costs[e.Task.Label] += e.Leaf.Meter.Wall.Seconds()
	}
	t.Logf("a check of %dx%d costs, in seconds: %v", honest.Width, honest.Height, costs)
	half := precision != ""
	for name, want := range map[string]job.Ruling{"honest": job.Accepted, "painted": job.Rejected, "blurred": job.Rejected, "noisy": job.Rejected, "no guides": job.Rejected} {
		img, changed := denoisedCheat(honest, name)
		path := filepath.Join(t.TempDir(), "frame.exr")
		if err := media.WriteEXR(path, img, half); err != nil {
			t.Fatal(err)
		}
		if img, err = decode(path); err != nil {
			t.Fatal(err)
		}
		root, _, err := media.TileRoot(img)
		if err != nil {
			t.Fatal(err)
		}
		leaf.Outputs[0].Pixels = root[:]
		v := c.judge.Judge(t.Context(), c.task, leaf, filepath.Dir(path), evidence)
		t.Logf("%s: %s, %s: off %.2g, worst %.2g", name, v.Ruling, v.Reason, v.Numbers["denoised_off"], v.Numbers["denoised_worst"])
		if half && name == "blurred" {
			want = job.Unsure // nearer to honest rounding, and somebody else renders the frame
		}
		if v.Ruling != want || changed && !strings.Contains(v.Reason, `denoised pass "Combined"`) {
			t.Errorf("%s: %s: %s", name, v.Ruling, v.Reason)
		}
		if name != "painted" {
			continue
		}
		drawn := filepath.Join(t.TempDir(), "heat.png")
		if err := writeHeatmap(drawn, c.task, leaf, img, evidence); err != nil {
			t.Fatal(err)
		}
		if x, y := reddest(t, drawn); x < 100 || x >= 120 || y < 40 || y >= 60 {
			t.Errorf("the heat map points at %d,%d", x, y)
		}
	}
}

// denoisedCheat is a claim whose noisy picture is right, and whether only the
// denoised one is wrong.
func denoisedCheat(honest *media.Image, name string) (img *media.Image, changed bool) {
	img = media.New(honest.Width, honest.Height)
	img.Attributes = honest.Attributes
	w := honest.Width
	for _, c := range honest.Channels {
		layer, pass, channel := media.Split(c.Name)
		if name == "no guides" && strings.HasPrefix(pass, "Denoising ") {
			continue
		}
		d := img.Add(c.Name, c.Sample)
		copy(d, c.Data)
		if pass != "Combined" || channel == "A" {
			continue
		}
		switch name {
		case "painted":
			for y := 40; y < 60; y++ {
				for x := 100; x < 120; x++ {
					d[y*w+x] = d[y*w+x]*.8 + .3
				}
			}
		case "blurred":
			for i := w + 1; i < len(d)-w-1; i++ {
				d[i] = (c.Data[i-1] + c.Data[i+1] + c.Data[i-w] + c.Data[i+w] + 4*c.Data[i]) / 8
			}
		case "noisy":
			n, _ := honest.Channel(layer + ".Noisy Image." + channel)
			copy(d, n.Data)
		}
	}
	return img, name != "honest" && name != "no guides"
}

// reddest is the pixel of a PNG with the most red beside what else it has.
func reddest(t *testing.T, path string) (x, y int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	most := -1
	for j := range m.Bounds().Dy() {
		for i := range m.Bounds().Dx() {
			r, g, b, _ := m.At(i, j).RGBA()
			if v := int(r) - int(b); v > most && g < r/2 { // frames are yellow
				most, x, y = v, i, j
			}
		}
	}
	return x, y
}
