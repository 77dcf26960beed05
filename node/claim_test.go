package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render/blender"
	"idlewild/verify"
)

// TestClaimsThatAreNoFrames: whatever a worker delivers gets a verdict with a
// reason, and what went wrong on this machine is nobody's fault.
func TestClaimsThatAreNoFrames(t *testing.T) {
	const w, h = 96, 64
	value := func(x, y int) float32 { return 0.2 + float32(x+2*y)/400 }
	picture := func(w, h int, f func(x, y int) float32) []byte {
		img := media.New(w, h)
		paint(img, "Combined", job.Rect{X1: w, Y1: h}, f)
		return encoded(t, img)
	}
	good := picture(w, h, value)
	layers := media.New(4, 4)
	for i := range 2000 {
		layers.Add(fmt.Sprintf("L%d.Combined.R", i), media.Float)
	}
	for name, c := range map[string]struct {
		file []byte
		want job.Ruling
	}{
		"good":          {good, job.Accepted},
		"empty":         {[]byte{}, job.Rejected},
		"text":          {[]byte("Segmentation fault (core dumped)\n"), job.Rejected},
		"a magic alone": {good[:4], job.Rejected},
		"cut off":       {good[:len(good)/2], job.Rejected},
		"small":         {picture(w/2, h, value), job.Rejected},
		"large":         {picture(w*2, h*2, value), job.Rejected},
		"NaN":           {picture(w, h, func(int, int) float32 { return float32(math.NaN()) }), job.Rejected},
		"infinite":      {picture(w, h, func(int, int) float32 { return float32(math.Inf(1)) }), job.Rejected},
		"other pass":    {bytes.ReplaceAll(good, []byte(".Combined."), []byte(".Combiner.")), job.Rejected},
		"many layers":   {encoded(t, layers), job.Rejected},
		"huge window":   {window(t, good, w, h, 1<<30), job.Rejected},
		"missing":       {nil, job.Unsure},
	} {
		t.Run(name, func(t *testing.T) {
			k, task := claimTask(t, job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: w, Height: h, Samples: 16})
			dir := t.TempDir()
			leaf := job.Leaf{Outcome: job.Succeeded, Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR}}}
			if c.file != nil {
				if err := os.WriteFile(filepath.Join(dir, "frame.exr"), c.file, 0o600); err != nil {
					t.Fatal(err)
				}
				if img, err := decode(filepath.Join(dir, "frame.exr")); err == nil {
					root, _, err := media.TileRoot(img)
					if err != nil {
						t.Fatal(err)
					}
					leaf.Outputs[0].Pixels = root[:]
				}
			}
			j := &judge{croppers: map[job.Kind]cropper{blender.Name: k}, limits: verify.DefaultThresholds()}
			v := j.Judge(t.Context(), task, leaf, dir, evidenceFor(t, j, task, leaf, value))
			if v.Ruling != c.want || v.Reason == "" || len(v.Reason) > job.MaxReasonBytes {
				t.Errorf("%v, want %s", v, c.want)
			}
		})
	}
}

// evidenceFor answers a challenge with crops that show value, as a checker would.
func evidenceFor(t *testing.T, j *judge, task job.Task, leaf job.Leaf, value func(x, y int) float32) []dispatch.Evidence {
	t.Helper()
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
			paint(img, "Combined", f.Covers, value)
			if err := media.WriteEXR(filepath.Join(out, f.File), img, false); err != nil {
				t.Fatal(err)
			}
		}
		evidence = append(evidence, dispatch.Evidence{Task: c, Dir: out, Leaf: job.Leaf{Outcome: job.Succeeded}})
	}
	return evidence
}

func encoded(t *testing.T, m *media.Image) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.exr")
	if err := media.WriteEXR(path, m, false); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// window writes another width into the windows of an EXR's header.
func window(t *testing.T, file []byte, w, h int, width uint32) []byte {
	t.Helper()
	box := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(make([]byte, 8), uint32(w-1)), uint32(h-1))
	if !bytes.Contains(file, box) {
		t.Fatal("no window in the header")
	}
	other := append([]byte{}, box...)
	binary.LittleEndian.PutUint32(other[8:], width)
	return bytes.ReplaceAll(file, box, other)
}

// TestChecksLookAtEverything: the challenge of a job with several view layers
// has crops of the first, some of another, a look at the whole and canaries,
// which come to an end.
func TestChecksLookAtEverything(t *testing.T) {
	const w, h = 640, 360
	c := job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: w, Height: h, Samples: 64, Others: []string{"Hair", "Shadows"}}
	k, task := claimTask(t, c)
	j := &judge{croppers: map[job.Kind]cropper{blender.Name: k}, limits: verify.DefaultThresholds()}
	layers := map[string]int{}
	for n := range 20 {
		leaf := job.Leaf{Outcome: job.Succeeded, Outputs: []job.Output{{Name: "frame.exr", Pixels: []byte{byte(n)}}}}
		tasks, err := j.Challenge(task, leaf, []byte{byte(n)}, 1)
		if err != nil {
			t.Fatal(err)
		}
		looks, others := 0, 0
		for _, x := range tasks {
			files, err := blender.ReadEvidence(x, task.Check)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				layers[f.Layer]++
				if f.Look {
					looks++
					if f.Rect != (job.Rect{X1: w, Y1: h}) || f.Samples != (job.Range{To: 2}) {
						t.Errorf("a look at %v of the samples %v", f.Rect, f.Samples)
					}
				}
				if f.Other {
					others++
				}
			}
		}
		want := 0
		if n < 3 { // nothing is known of the job
			want = verify.Canaries
		}
		if looks != 1 || others != want {
			t.Fatalf("check %d: %d looks and %d canaries, want 1 and %d", n, looks, others, want)
		}
		if n == 2 {
			for range canaryEnough {
				j.measured.add(canaryKey(task), []map[string]float64{{"informative": 100}})
			}
		}
	}
	for _, l := range append(c.Others, c.Layer) {
		if layers[l] == 0 {
			t.Errorf("layer %q is never looked at: %v", l, layers)
		}
	}
}

func TestCanariesAreBounded(t *testing.T) {
	var c jobCanaries
	for i := range canaryJobs + 10 {
		for range 3 * canaryEach {
			c.add([32]byte{byte(i)}, []map[string]float64{{"informative": 100}})
		}
	}
	if len(c.jobs) != canaryJobs || len(c.of([32]byte{0})) != 0 || len(c.of([32]byte{canaryJobs + 9})) != canaryEach {
		t.Errorf("%d jobs, %d of the first, %d of the last", len(c.jobs), len(c.of([32]byte{0})), len(c.of([32]byte{canaryJobs + 9})))
	}
}

// TestWhoIsVouchedFor: another class's claims count once three workers were
// vouched for, and not by one member alone.
func TestWhoIsVouchedFor(t *testing.T) {
	var c jobCanaries
	key := [32]byte{1}
	add := func(worker, by, class string, z float64) {
		c.vouch(key, dispatch.Vouched{Worker: peer.ID(worker), By: peer.ID(by), Class: class, Against: "cpu",
			Found: job.Verdict{Numbers: map[string]float64{"z50": z}}})
	}
	for _, w := range []string{"a", "b", "c", "a"} {
		add(w, "d", "gpu", 0.5)
	}
	if got := c.between(key, "gpu", "cpu"); got != nil {
		t.Errorf("one member vouched for all: %v", got)
	}
	add("b", "a", "gpu", 0.6)
	add("e", "a", "other gpu", 0.1)
	if got := c.between(key, "gpu", "cpu"); len(got) != 3 {
		t.Errorf("of three workers: %v", got)
	}
	for _, k := range [][2]string{{"other gpu", "cpu"}, {"gpu", "other"}} {
		if got := c.between(key, k[0], k[1]); got != nil {
			t.Errorf("%v: %v", k, got)
		}
	}
	if got := c.between([32]byte{2}, "gpu", "cpu"); got != nil {
		t.Errorf("another job: %v", got)
	}
	for i := range 3 * canaryEach {
		add(fmt.Sprint(i), "a", "gpu", 0.5)
	}
	if n := len(c.job(key).vouched); n != canaryEach {
		t.Errorf("%d are kept", n)
	}
}
