package blender

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render/assemble"
)

// filmProgram is a Blender, or a Python with bpy, as its arguments begin.
func filmProgram(t *testing.T) (kind Options, start []string) {
	t.Helper()
	needProgram(t, "ffmpeg")
	needProgram(t, "ffprobe")
	return Options{}, []string{needBlender(t)}
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
			t.Fatalf("%s is required and not on PATH", name)
		}
		t.Skipf("NOT RUN: no %s on PATH", name)
	}
}

func command(t *testing.T, args ...string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", args[0], err, lastLines(out, 12), lastLines(log.Bytes(), 12))
	}
	return out
}

// stream is what a film says of itself.
func streams(t *testing.T, file string) string {
	t.Helper()
	return string(command(t, "ffprobe", "-v", "error", "-show_entries", "format=duration:stream=codec_name,profile,width,height,pix_fmt,r_frame_rate,nb_frames,sample_rate,channels,duration", "-of", "compact", file))
}

func pixels(t *testing.T, file string) []byte {
	t.Helper()
	return command(t, "ffmpeg", "-v", "error", "-i", file, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "gray", "-")
}

func samples(t *testing.T, file string) []byte {
	t.Helper()
	return command(t, "ffmpeg", "-v", "error", "-i", file, "-map", "0:a", "-f", "s16le", "-")
}

func TestAFilmIsWhatBlenderItselfWouldHaveWritten(t *testing.T) {
	opts, start := filmProgram(t)
	filmAsLocally(t, opts, append(start, "-b", "-Y", "--factory-startup", "--python-exit-code", "9"))
}

func TestAFilmOfBpyIsWhatBlenderItselfWouldHaveWritten(t *testing.T) {
	python := needBpy(t)
	needProgram(t, "ffmpeg")
	needProgram(t, "ffprobe")
	filmAsLocally(t, Options{Blender: python}, []string{python, "-I", "-B", "runner/launch.py", "-b", "-Y", "--factory-startup"})
}

func filmAsLocally(t *testing.T, opts Options, start []string) {
	dir := t.TempDir()
	command(t, append(slices.Clone(start), "-P", "testdata/film.py", "--", dir)...)
	file := filepath.Join(dir, "film.blend")
	local := func(name, script string) string {
		out := filepath.Join(dir, name)
		path := filepath.Join(dir, "local.py")
		text := "import bpy, os, sys\nsc = bpy.context.scene\nsc.render.filepath = sys.argv[-1]\n" + script +
			"\nbpy.ops.render.render(animation=True)\nsys.stdout.flush()\nos._exit(0)\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, append(slices.Clone(start), file, "-P", path, "--", out)...)
		return out
	}
	// A build without Audaspace has no sound, as in the package bpy 4.2.
	heard := strings.Contains(string(command(t, append(slices.Clone(start), "-P", heardScript(t))...)), "audaspace True")
	k := testKind(t, opts)
	run := func(p SpecParams) (string, []job.Task) {
		tasks, in := plan(t, k, file, p)
		s := newShop(t, k, in.Deps)
		last := ""
		for _, task := range tasks {
			last = s.must(task)
		}
		end := tasks[len(tasks)-1]
		return filepath.Join(last, end.Outputs[0].Name), tasks
	}
	t.Run("as the scene says", func(t *testing.T) {
		have, tasks := run(SpecParams{Name: "shot_###"})
		if n := len(tasks); n != 2*8+1 || tasks[n-1].Outputs[0].Final != "shot_003-010.mp4" || tasks[1].Outputs[0].Final != "shot_003.png" {
			t.Errorf("%d tasks, the last one makes %q", n, tasks[n-1].Outputs[0].Final)
		}
		same(t, local("local.mp4", ""), have, heard)
	})
	t.Run("every second frame", func(t *testing.T) {
		have, _ := run(SpecParams{Frames: "3-9x2"})
		same(t, local("second.mp4", "sc.frame_step = 2"), have, heard)
	})
	t.Run("frames with gaps", func(t *testing.T) {
		have, tasks := run(SpecParams{Frames: "3,4,9"})
		if p, err := DecodeParams(tasks[len(tasks)-1].Params); err != nil || p.Film.Sound {
			t.Errorf("%+v: %v", p.Film, err)
		}
		if s := streams(t, have); strings.Contains(s, "aac") || !strings.Contains(s, "nb_frames=3") {
			t.Error(s)
		}
	})
	t.Run("another codec", func(t *testing.T) {
		have, _ := run(SpecParams{Video: "av1", Frames: "3-5", Width: 640, Height: 360})
		if s := streams(t, have); !strings.Contains(s, "codec_name=av1") || !strings.Contains(s, "nb_frames=3") || strings.Contains(s, "codec_name=aac") != heard {
			t.Error(s)
		}
	})
}

func heardScript(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "heard.py")
	if err := os.WriteFile(path, []byte("import bpy, os, sys\nprint('audaspace', bpy.app.build_options.audaspace)\nsys.stdout.flush()\nos._exit(0)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// same compares what is seen and heard.
func same(t *testing.T, want, have string, sound bool) {
	t.Helper()
	if w, h := streams(t, want), streams(t, have); w != h {
		t.Errorf("streams\n%s\nwhere Blender writes\n%s", h, w)
	}
	w, h := pixels(t, want), pixels(t, have)
	if len(w) == 0 || !bytes.Equal(w, h) {
		t.Errorf("the pictures differ: %d and %d bytes", len(w), len(h))
	}
	if size := 96 * 54; bytes.Equal(w[:size], w[len(w)-size:]) {
		t.Error("nothing moves in the film")
	}
	if sound && !bytes.Equal(samples(t, want), samples(t, have)) {
		t.Error("the sound differs")
	}
}

// grey is a film's frame of one brightness.
func grey(t *testing.T, dir string, v uint8) {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 16, 16))
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	for y := range 16 {
		for x := range 16 {
			m.Set(x, y, color.RGBA{v, v, v, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, finalFrame), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestManyFramesGoThroughReels(t *testing.T) {
	opts, start := filmProgram(t)
	dir := t.TempDir()
	command(t, append(start, "-b", "--factory-startup", "--python-exit-code", "9", "-P", "testdata/film.py", "--", dir)...)
	file := filepath.Join(dir, "film.blend")
	k := testKind(t, opts)
	tasks, in := plan(t, k, file, SpecParams{Frames: "1-500", Width: 16, Height: 16})
	if n := len(tasks); n != 1000+3+1 {
		t.Fatalf("%d tasks", n)
	}
	s := newShop(t, k, in.Deps)
	for i := range 500 {
		at := t.TempDir()
		grey(t, at, uint8(16+(i*7)%200))
		s.done[tasks[2*i+1].Key()] = at
	}
	for _, reel := range tasks[1000:1003] {
		if err := reel.Validate(); err != nil || reel.Kind != assemble.Name {
			t.Fatal(reel.Label, err)
		}
		s.must(reel)
	}
	have := pixels(t, filepath.Join(s.must(tasks[1003]), "film.mp4"))
	if len(have) != 500*256 {
		t.Fatalf("%d frames", len(have)/256)
	}
	for i := range 500 {
		want := 16 + (i*7)%200
		if d := int(have[i*256+8*16+8]) - want; d < -6 || d > 6 {
			t.Fatalf("frame %d has brightness %d, not %d", i+1, have[i*256+8*16+8], want)
		}
	}
	// A frame that is missing ends it, with a reason.
	first := s.done[tasks[1000].Key()]
	s.done[tasks[1000].Key()] = s.done[tasks[1001].Key()]
	if _, r := s.run(tasks[1003]); r.Outcome != job.Failed || !strings.Contains(r.Reason, "a reel holds") {
		t.Errorf("reels in another order: %s: %s", r.Outcome, r.Reason)
	}
	s.done[tasks[1000].Key()] = first
	if err := os.Remove(filepath.Join(s.done[tasks[1].Key()], finalFrame)); err != nil {
		t.Fatal(err)
	}
	if _, r := s.run(tasks[1000]); r.Outcome != job.Failed || !strings.Contains(r.Reason, "frame 1 of the reel") {
		t.Errorf("a reel without a frame: %s: %s", r.Outcome, r.Reason)
	}
}

// filmFacts are those of a scene with 48 frames.
func filmFacts() Facts {
	return Facts{
		Version: "4.5.4", Build: "b", Main: "a.blend", Scene: "S", ViewLayers: []string{"V"}, FrameStart: 1, FrameEnd: 48, Width: 64, Height: 36,
		Engine: "CYCLES", Samples: 1, Format: "PNG", Extension: ".png", Film: FilmFacts{Extension: ".mp4", Own: true, Sound: true},
	}
}

func planFilm(t *testing.T, f Facts, p SpecParams) ([]job.Task, error) {
	t.Helper()
	facts, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return (&Kind{}).Plan(job.Spec{Kind: Name, Params: raw}, job.Inspection{Facts: facts}, cid.Undef)
}

func TestPlanOfAFilm(t *testing.T) {
	f := filmFacts()
	tasks, err := planFilm(t, f, SpecParams{})
	if err != nil || len(tasks) != 2*48+1 {
		t.Fatal(len(tasks), err)
	}
	film := tasks[96]
	if film.Outputs[0].Final != "0001-0048.mp4" || film.Place != job.AtRequester || len(film.After) != 48 || film.After[0] != tasks[1].Key() || film.Validate() != nil {
		t.Errorf("%+v", film)
	}
	if tasks, err := planFilm(t, f, SpecParams{Frames: "7"}); err != nil || len(tasks) != 2 {
		t.Errorf("a film of one frame: %d tasks, %v", len(tasks), err)
	}
	f.Extension, f.Format, f.Depth = ".exr", "OPEN_EXR", "16"
	tasks, err = planFilm(t, f, SpecParams{})
	if err != nil || len(tasks[1].Outputs) != 2 || tasks[1].Outputs[1].Name != filmFrame || tasks[1].Outputs[1].Final != "" {
		t.Errorf("%+v: %v", tasks[1].Outputs, err)
	}
	f.Multilayer = true
	tasks, err = planFilm(t, f, SpecParams{})
	if err != nil || len(tasks) != 97 || tasks[0].Outputs[0].Final != "0001.exr" || len(tasks[1].Outputs) != 1 || tasks[1].Outputs[0].Final != "" {
		t.Errorf("%d tasks: %v", len(tasks), err)
	}
	f = filmFacts()
	f.Width, f.Height, f.Depth = 16384, 16384, "16"
	if tasks, err = planFilm(t, f, SpecParams{Frames: "1-600"}); err != nil || len(tasks) != 1200+300+1 && len(tasks[len(tasks)-1].After) > maxReels {
		t.Logf("%d tasks: %v", len(tasks), err)
	}
	if _, err = planFilm(t, f, SpecParams{Frames: "1-2000"}); err == nil || !strings.Contains(err.Error(), "split the job") {
		t.Errorf("a film that is too long: %v", err)
	}
}

func TestFilmsThatCannotBeAreRefused(t *testing.T) {
	if _, err := DecodeSpec(json.RawMessage(`{"video":"divx"}`)); err == nil || !strings.Contains(err.Error(), "h264, h265, av1, prores, none") {
		t.Error(err)
	}
	good := Film{First: 1, Step: 1, Count: 2, Width: 2, Height: 2, Frame: finalFrame}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Film){
		"no frames": func(f *Film) { f.Count = 0 }, "many": func(f *Film) { f.Count = MaxFrames + 1 }, "no step": func(f *Film) { f.Step = 0 },
		"beyond": func(f *Film) { f.First, f.Step, f.Count = maxFrame-1, 5, 2 }, "no size": func(f *Film) { f.Width = 0 },
		"codec": func(f *Film) { f.Codec = "divx" }, "a path": func(f *Film) { f.Frame = "../../x.png" },
	} {
		f := good
		change(&f)
		if f.validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, start := filmProgram(t)
	dir := t.TempDir()
	command(t, append(start, "-b", "--factory-startup", "--python-exit-code", "9", "-P", "testdata/film.py", "--", dir)...)
	file := filepath.Join(dir, "film.blend")
	k := testKind(t, Options{})
	hasProblem(t, inspect(t, k, file, `{"width":97,"height":54}`), job.SeverityError, "even width", "97x54")
	hasProblem(t, inspect(t, k, file, `{"video":"h265"}`), job.SeverityError, "cannot write h265", "4.5 or newer")
	hasProblem(t, inspect(t, k, file, `{"frames":"1,2,9"}`), job.SeverityWarning, "gaps", "silent")
	if in := inspect(t, k, file, `{"video":"none","width":97,"height":54}`); len(in.Problems) > 0 || len(in.Deps) != 1 {
		t.Errorf("%v, %v", in.Problems, in.Deps)
	}
	if err := os.Remove(filepath.Join(dir, "sounds", "tone.wav")); err != nil {
		t.Fatal(err)
	}
	hasProblem(t, inspect(t, k, file, `{}`), job.SeverityError, "Sound 'tone.wav'", "missing")
	if in := inspect(t, k, file, `{"video":"none"}`); len(in.Problems) > 0 {
		t.Errorf("%v", in.Problems)
	}
}
