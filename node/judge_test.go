package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render/blender"
	"idlewild/verify"
)

// claimTask is a render task of a frame, as the planner makes them, and its
// kind.
func claimTask(t *testing.T, c job.CropCheck) (*blender.Kind, job.Task) {
	t.Helper()
	k, err := blender.New(blender.Options{Blender: filepath.Join(t.TempDir(), "none"), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	check, err := job.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return k, job.Task{
		Kind: blender.Name, Params: []byte(`{"op":"render","main":"a.blend","frame":1}`), Label: "1 render",
		Outputs: []job.OutputRule{{Name: "frame.exr", Media: job.MediaEXR}},
		Check:   job.Check{Method: job.CheckCrop, Output: "frame.exr", Params: check},
	}
}

// paint fills a pass of an image with what a pixel of the frame shows.
func paint(img *media.Image, pass string, at job.Rect, value func(x, y int) float32) {
	for _, channel := range []string{"R", "G", "B"} {
		data := img.Add("ViewLayer."+pass+"."+channel, media.Float)
		for row := range img.Height {
			y := at.Y1 - 1 - row
			for col := range img.Width {
				data[row*img.Width+col] = value(at.X0+col, y)
			}
		}
	}
}

// TestJudgeComparesADenoisedClaimByItsNoisyImage: the crops of a denoised job
// are not denoised, so their picture has another name than the claim's.
func TestJudgeComparesADenoisedClaimByItsNoisyImage(t *testing.T) {
	const w, h = 96, 64
	flat := func(x, y int) float32 { return 0.2 + float32(x+2*y)/400 }
	wrong := func(x, y int) float32 { return 1.5 * flat(x, y) }
	for name, claimed := range map[string]func(x, y int) float32{"honest": flat, "brighter": wrong} {
		k, task := claimTask(t, job.CropCheck{Layer: "ViewLayer", Pass: "Noisy Image", Width: w, Height: h, Samples: 16})
		dir := t.TempDir()
		frame := media.New(w, h)
		paint(frame, "Noisy Image", job.Rect{X1: w, Y1: h}, claimed)
		paint(frame, "Combined", job.Rect{X1: w, Y1: h}, func(int, int) float32 { return 0.5 })
		if err := media.WriteEXR(filepath.Join(dir, "frame.exr"), frame, false); err != nil {
			t.Fatal(err)
		}
		root, _, err := media.TileRoot(frame)
		if err != nil {
			t.Fatal(err)
		}
		leaf := job.Leaf{Outcome: job.Succeeded, Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR, Pixels: root[:]}}}
		j := &judge{croppers: map[job.Kind]cropper{blender.Name: k}, limits: verify.DefaultThresholds()}
		tasks, err := j.Challenge(task, leaf, []byte("secret"), 1)
		if err != nil || len(tasks) == 0 {
			t.Fatal(len(tasks), err)
		}
		var evidence []dispatch.Evidence
		for _, c := range tasks {
			out := t.TempDir()
			files, err := blender.ReadEvidence(c, task.Check)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				img := media.New(f.Covers.Dx(), f.Covers.Dy())
				paint(img, "Combined", f.Covers, flat)
				if err := media.WriteEXR(filepath.Join(out, f.File), img, false); err != nil {
					t.Fatal(err)
				}
			}
			evidence = append(evidence, dispatch.Evidence{Task: c, Dir: out, Leaf: job.Leaf{Outcome: job.Succeeded}})
		}
		v := j.Judge(t.Context(), task, leaf, dir, evidence)
		if want := map[string]job.Ruling{"honest": job.Accepted, "brighter": job.Rejected}[name]; v.Ruling != want {
			t.Errorf("%s: %v, want %s", name, v, want)
		}
		// A worker that commits to other pixels than it delivers is caught by
		// its own receipt.
		leaf.Outputs[0].Pixels[0] ^= 1
		if v := j.Judge(t.Context(), task, leaf, dir, evidence); v.Ruling != job.Rejected {
			t.Errorf("%s with a wrong root: %v", name, v)
		}
		// Trouble at the checker punishes nobody.
		leaf.Outputs[0].Pixels[0] ^= 1
		evidence[0].Dir = t.TempDir()
		if v := j.Judge(t.Context(), task, leaf, dir, evidence); v.Ruling != job.Unsure {
			t.Errorf("%s without evidence: %v", name, v)
		}
	}
}

// TestJudgeDenoisesAgain: what a denoiser made again comes upside down, and says
// nothing where the worker's may be another one.
func TestJudgeDenoisesAgain(t *testing.T) {
	const w, h = 96, 64
	here := "cpu/" + runtime.GOARCH
	flat := func(x, y int) float32 { return 0.2 + float32(x+2*y)/400 }
	clean := func(x, y int) float32 { return 0.3 + float32(x+3*y)/500 }
	painted := func(x, y int) float32 {
		if x >= 20 && x < 30 && y < 10 {
			return 2
		}
		return clean(x, y)
	}
	for name, x := range map[string]struct {
		claimed      func(x, y int) float32
		class, build string
		want         job.Ruling
	}{
		"honest":              {clean, here, "4.5.15 abc bpy", job.Accepted},
		"painted":             {painted, here, "4.5.15 abc bpy", job.Rejected},
		"on a GPU":            {painted, "gpu/x/1", "4.5.15 abc blender.org", map[bool]job.Ruling{true: job.Rejected, false: job.Unsure}[runtime.GOARCH == "amd64"]},
		"another processor":   {painted, "cpu/other", "4.5.15 abc bpy", job.Unsure},
		"a distribution's":    {painted, here, "4.3.2 abc debian", job.Unsure},
		"honest, but another": {clean, "cpu/other", "4.3.2 abc debian", job.Accepted},
	} {
		k, task := claimTask(t, job.CropCheck{Layer: "ViewLayer", Pass: "Noisy Image", Width: w, Height: h, Samples: 16, Guided: true})
		whole, dir := job.Rect{X1: w, Y1: h}, t.TempDir()
		frame := media.New(w, h)
		paint(frame, "Noisy Image", whole, flat)
		paint(frame, "Combined", whole, x.claimed)
		if err := media.WriteEXR(filepath.Join(dir, "frame.exr"), frame, false); err != nil {
			t.Fatal(err)
		}
		root, _, err := media.TileRoot(frame)
		if err != nil {
			t.Fatal(err)
		}
		leaf := job.Leaf{Outcome: job.Succeeded, DeviceClass: x.class, Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR, Pixels: root[:]}}}
		j := &judge{croppers: map[job.Kind]cropper{blender.Name: k}, limits: verify.DefaultThresholds()}
		tasks, err := j.Challenge(task, leaf, []byte("secret"), 1)
		if err != nil {
			t.Fatal(err)
		}
		var evidence []dispatch.Evidence
		denoised := 0
		for _, c := range tasks {
			out := t.TempDir()
			if file, ok := blender.Denoised(c); ok {
				if denoised++; file != "" {
					again := media.New(w, h)
					paint(again, "Combined", whole, clean)
					again.Flip()
					if err := media.WriteEXR(filepath.Join(out, file), again, false); err != nil {
						t.Fatal(err)
					}
				}
				evidence = append(evidence, dispatch.Evidence{Task: c, Dir: out, Leaf: job.Leaf{Outcome: job.Succeeded, Build: x.build}})
				continue
			}
			files, err := blender.ReadEvidence(c, task.Check)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				img := media.New(f.Covers.Dx(), f.Covers.Dy())
				paint(img, "Combined", f.Covers, flat)
				if err := media.WriteEXR(filepath.Join(out, f.File), img, false); err != nil {
					t.Fatal(err)
				}
			}
			evidence = append(evidence, dispatch.Evidence{Task: c, Dir: out, Leaf: job.Leaf{Outcome: job.Succeeded}})
		}
		if denoised != 2 {
			t.Fatalf("%d checks of the denoised picture", denoised)
		}
		if v := j.Judge(t.Context(), task, leaf, dir, evidence); v.Ruling != x.want {
			t.Errorf("%s: %v, want %s", name, v, x.want)
		}
	}
}

// TestADiskThatCannotBeReadPunishesNobody: what this machine cannot read is not
// the worker's fault; what the worker sent broken is.
func TestADiskThatCannotBeReadPunishesNobody(t *testing.T) {
	for _, method := range []job.CheckMethod{job.CheckCrop, job.CheckReplica} {
		k, task := claimTask(t, job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: 96, Height: 64, Samples: 16})
		task.Check.Method = method
		j := &judge{croppers: map[job.Kind]cropper{blender.Name: k}, limits: verify.DefaultThresholds(), canaries: openCanaries("", slog.New(slog.DiscardHandler))}
		leaf := job.Leaf{Outcome: job.Succeeded, Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR}}}
		img := media.New(96, 64)
		paint(img, "Combined", job.Rect{X1: 96, Y1: 64}, func(int, int) float32 { return .5 })
		whole := filepath.Join(t.TempDir(), "frame.exr")
		if err := media.WriteEXR(whole, img, false); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, "frame.exr"), b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		for dir, want := range map[string]job.Ruling{t.TempDir(): job.Unsure, torn: job.Rejected} {
			if v := j.Judge(t.Context(), task, leaf, dir, nil); v.Ruling != want {
				t.Errorf("%s, %s: %v, want %s", method, filepath.Base(dir), v, want)
			}
		}
	}
}

// TestReplicasTeachTheClass: two other machines say how far honest ones are
// apart; then one is enough, also after a restart.
func TestReplicasTeachTheClass(t *testing.T) {
	path := filepath.Join(t.TempDir(), canariesFile)
	_, task := claimTask(t, job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: 32, Height: 32, Samples: 16})
	task.Check = job.Check{Method: job.CheckReplica, Output: "frame.exr", Params: []byte("BLENDER_EEVEE")}
	render := func(value float32) (string, job.Leaf) {
		dir, img := t.TempDir(), media.New(32, 32)
		paint(img, "Combined", job.Rect{X1: 32, Y1: 32}, func(x, y int) float32 { return value })
		if err := media.WriteEXR(filepath.Join(dir, "frame.exr"), img, false); err != nil {
			t.Fatal(err)
		}
		root, _, err := media.TileRoot(img)
		if err != nil {
			t.Fatal(err)
		}
		return dir, job.Leaf{Outcome: job.Succeeded, DeviceClass: "gpu/x", Build: "b", Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR, Pixels: root[:]}}}
	}
	judged := func(claim float32) (job.Verdict, int) {
		j := &judge{canaries: openCanaries(path, slog.New(slog.DiscardHandler))}
		dir, leaf := render(claim)
		tasks, err := j.Challenge(task, leaf, []byte("secret"), 1)
		if err != nil {
			t.Fatal(err)
		}
		var evidence []dispatch.Evidence
		for i := range tasks {
			d, l := render(.5 + float32(i)/1e4)
			evidence = append(evidence, dispatch.Evidence{Task: tasks[i], Leaf: l, Dir: d})
		}
		return j.Judge(t.Context(), task, leaf, dir, evidence), len(tasks)
	}
	for i := range 7 {
		want := 2
		if i >= 5 {
			want = 1
		}
		if v, n := judged(.5002); v.Ruling != job.Accepted || v.Basis() != "verified by replication" || n != want {
			t.Errorf("%d: %v by %d replicas, want %d", i, v, n, want)
		}
	}
	if v, _ := judged(.4); v.Ruling != job.Rejected {
		t.Errorf("another picture: %v", v)
	}
}
