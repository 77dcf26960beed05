package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/node/localapi"
)

// A copy of unsaved work is the daemon's to remove: once it is stored, or when
// nobody submitted it.
func TestCopiesAreRemoved(t *testing.T) {
	x := startNode(t, "desk", nil)
	dir := filepath.Join(x.cfg.DataDir, CopiesDir)
	place := func(name string, age time.Duration) string {
		t.Helper()
		folder := filepath.Join(dir, name)
		file := filepath.Join(folder, "scene")
		if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(file, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(folder, when, when); err != nil {
			t.Fatal(err)
		}
		return file
	}
	fresh, old, used := place("fresh", 0), place("old", 48*time.Hour), place("used", 0)
	home := filepath.Join(t.TempDir(), "scene")
	spec := job.Spec{Kind: "echo", Input: used, CopyOf: home, Output: t.TempDir(), Params: []byte(`{"text":"x","count":3}`)}

	// A daemon that has just started counts its devices a moment later.
	eventually(t, "the estimate of something new", func() error {
		e, err := x.client.Estimate(t.Context(), spec)
		if err == nil && (e.Tasks != 3 || e.Skipped != 0 || e.TaskSeconds != 0 || e.Devices == 0 || len(e.Problems) > 0) {
			return fmt.Errorf("%+v", e)
		}
		return err
	})
	id, err := x.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if s := x.finish(t, id); s.State != job.StateFinished || s.File != home {
		t.Errorf("%s of %s: %s", s.State, s.File, s.Reason)
	}
	gone := func(file string) error {
		if _, err := os.Stat(filepath.Dir(file)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is there: %v", file, err)
		}
		return nil
	}
	for _, file := range []string{old, used} {
		eventually(t, "a copy goes", func() error { return gone(file) })
	}
	if gone(fresh) == nil {
		t.Error("a copy that is about to be submitted was removed")
	}

	// The next estimate of the same file knows what it cost, and what is there.
	spec.Policy.OnlyMissing = true
	spec.Input = fresh
	e, err := x.client.Estimate(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if e.Tasks != 3 || e.Skipped != 3 || !strings.Contains(e.Basis, "3 frames of this file") {
		t.Errorf("estimate of what was done: %+v", e)
	}
	if _, err := x.client.Thumbnail(t.Context(), id, "1", 64); err == nil || !strings.Contains(err.Error(), "no preview of it") {
		t.Errorf("thumbnail of a text: %v", err)
	}
	if _, err := x.client.Thumbnail(t.Context(), id, "77", 64); err == nil || !strings.Contains(err.Error(), "no such frame") {
		t.Errorf("thumbnail of no frame: %v", err)
	}
	v, err := x.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Members {
		if m.Self && len(m.Devices) == 0 {
			t.Errorf("own devices are not told: %+v", m)
		}
	}
}

// weighing is a kind of which a task of another text is twice as long.
type weighing struct{ dispatch.Kind }

func (weighing) Weigh(facts []byte) (float64, string) {
	return float64(len(facts)), fmt.Sprint(len(facts))
}

func TestEstimateIsReckonedForWhatIsAsked(t *testing.T) {
	spec := job.Spec{Kind: "echo", Input: "/home/scene"}
	s := job.Status{Kind: "echo", File: spec.Input, Delivered: 3}
	p := previews{jobs: estimated{s}, kinds: map[job.Kind]dispatch.Kind{"echo": weighing{}}}
	e := localapi.Estimate{Facts: []byte(`"1234"`), Tasks: 4}
	p.time(&e, spec)
	if want := 7.0 / 3 * 6 / 2; e.TaskSeconds != want || e.Basis != "the 3 frames of this file that were rendered last, as it was then, at 2, reckoned for 6" {
		t.Errorf("%g s, want %g; %s", e.TaskSeconds, want, e.Basis)
	}
	if e.Devices != 2 || e.LeftSeconds != 2*e.TaskSeconds {
		t.Errorf("%d devices, %g s", e.Devices, e.LeftSeconds)
	}
}

// estimated is a Dispatcher with one job, which took its frames 7 seconds.
type estimated struct{ s job.Status }

func (d estimated) List() []job.Status {
	d.s.RenderSeconds = 7
	return []job.Status{d.s}
}
func (estimated) Facts(job.ID) []byte { return []byte("{}") }
func (estimated) Workers() []dispatch.WorkerView {
	return []dispatch.WorkerView{{Devices: make([]job.Device, 2)}, {Leaving: "it is off", Devices: make([]job.Device, 1)}}
}
func (estimated) Inspect(context.Context, job.Spec) (job.Inspection, error) { panic("not asked") }
func (d estimated) Status(job.ID) (job.Status, error)                       { return d.s, nil }

func TestPicturesOfEveryFormat(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 40, 20))
	for i := range 40 * 20 {
		img.Set(i%40, i/40, color.NRGBA{200, 100, 50, 255})
	}
	dir := t.TempDir()
	write := func(name string, encode func(*bytes.Buffer) error) string {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	exr := filepath.Join(dir, "a.exr")
	m := media.New(40, 20)
	for i, c := range []string{"R", "G", "B"} {
		ch := media.Channel{Name: "ViewLayer.Combined." + c, Data: make([]float32, 800)}
		for j := range ch.Data {
			ch.Data[j] = []float32{0.58, 0.13, 0.03}[i]
		}
		m.Channels = append(m.Channels, ch)
	}
	if err := media.WriteEXR(exr, m, false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		exr,
		write("a.png", func(b *bytes.Buffer) error { return png.Encode(b, img) }),
		write("a.jpg", func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) }),
	} {
		got, err := picture(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		r, g, b, _ := got.At(20, 10).RGBA()
		if got.Bounds().Dx() != 40 || r>>8 < 195 || r>>8 > 205 || g>>8 < 95 || g>>8 > 105 || b>>8 < 42 || b>>8 > 58 {
			t.Errorf("%s: %v with %d %d %d", path, got.Bounds(), r>>8, g>>8, b>>8)
		}
	}
}
