package node

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnxtest"
	"idlewild/render/blender"
)

// TestFramesBecomeLargerOnAFarm has one machine render and another, which has
// no Blender, make frames larger. With another model nothing is rendered again.
func TestFramesBecomeLargerOnAFarm(t *testing.T) {
	t.Parallel()
	program := needBlender(t)
	cfg := aiConfig(t)
	dir := t.TempDir()
	scene, script, model := filepath.Join(dir, "scene.blend"), filepath.Join(dir, "scene.py"), filepath.Join(dir, "twice.onnx")
	if err := os.WriteFile(script, []byte(smallScene), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write := func(seed uint64) {
		if err := os.WriteFile(model, onnxtest.Upscaler(seed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	renders := startNode(t, "renders", func(c *Config) {
		c.Blender.Path, c.Worker.Threads, c.ONNX.Library = "", 1, cfg.ONNX.Library
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	})
	enlarges := startNode(t, "enlarges", func(c *Config) {
		c.Blender.Path, c.Worker.Threads, c.ONNX.Library = filepath.Join(dir, "none"), 1, cfg.ONNX.Library
	})
	join(t, renders, enlarges)

	all, out := 1.0, filepath.Join(dir, "out")
	spec, err := SpecFor(scene, SpecOptions{Output: out, Frames: "1-3", Width: 64, Height: 64, Samples: 4, Video: "h264", Upscale: model, Recheck: &all})
	if err != nil {
		t.Fatal(err)
	}
	id, err := renders.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := renders.finish(t, id)
	if s.State != job.StateFinished || s.Rejected != 0 {
		t.Fatalf("%s, %d rejected: %s %v", s.State, s.Rejected, s.Reason, s.Problems)
	}
	at := func(name string) os.FileInfo {
		t.Helper()
		fi, err := os.Stat(filepath.Join(out, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	frames := []string{"0001.png", "0002.png", "0003.png"}
	var was []os.FileInfo
	for _, f := range frames {
		sized(t, filepath.Join(out, f), 64)
		sized(t, filepath.Join(out, blender.EnlargedFolder, f), 128)
		was = append(was, at(f), at(blender.EnlargedFolder+"/"+f))
	}
	at("0001-0003.mp4")
	workers := map[string]string{}
	for _, f := range s.Frames {
		workers[f.Label] = f.Worker
	}
	t.Logf("who did what: %v", workers)

	write(2)
	// What is reused is drawn for a check as well; none of it here.
	none := 0.0
	spec.Policy.Recheck, spec.Policy.Reuse = &none, true
	if id, err = renders.client.Submit(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	s = renders.finish(t, id)
	if s.State != job.StateFinished {
		t.Fatalf("%s: %s %v", s.State, s.Reason, s.Problems)
	}
	for i, f := range frames {
		if plain := at(f); !os.SameFile(plain, was[2*i]) || !plain.ModTime().Equal(was[2*i].ModTime()) {
			t.Errorf("%s was rendered again", f)
		}
		if larger := at(blender.EnlargedFolder + "/" + f); os.SameFile(larger, was[2*i+1]) {
			t.Errorf("%s was not made larger again", f)
		}
	}
	if keep := os.Getenv("IDLEWILD_KEEP"); keep != "" {
		if err := os.CopyFS(keep, os.DirFS(out)); err != nil {
			t.Fatal(err)
		}
	}
}

func sized(t *testing.T, file string, side int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, err := png.DecodeConfig(f); err != nil || c.Width != side || c.Height != side {
		t.Errorf("%s has %dx%d pixels instead of %d a side: %v", file, c.Width, c.Height, side, err)
	}
	if _, err := media.DecodeFile(file, media.Limits{}); err != nil {
		t.Error(err)
	}
}
