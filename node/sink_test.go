package node

import (
	"errors"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
)

func TestSinkDeliversWholeFilesUnderTheirFinalNames(t *testing.T) {
	out, dir := filepath.Join(t.TempDir(), "new", "folder"), t.TempDir()
	s := job.Spec{Output: out}
	task := job.Task{Outputs: []job.OutputRule{
		{Name: "frame.exr"},
		{Name: "a/image.png", Final: "0001.png"},
		{Name: "b.png", Final: "extra/0001.png"},
	}}
	os.MkdirAll(filepath.Join(dir, "a"), 0o700)
	os.WriteFile(filepath.Join(dir, "a", "image.png"), []byte("one"), 0o600)
	os.WriteFile(filepath.Join(dir, "b.png"), []byte("two"), 0o600)

	var sink folderSink
	if err := sink.Check(s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(out)); err == nil {
		t.Error("checking made the folder")
	}
	if sink.Delivered(s, task) {
		t.Error("delivered before delivery")
	}
	files, err := sink.Deliver(t.Context(), s, task, dir)
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	if !sink.Delivered(s, task) {
		t.Error("not delivered after delivery")
	}
	for name, want := range map[string]string{"0001.png": "one", "extra/0001.png": "two"} {
		if b, err := os.ReadFile(filepath.Join(out, name)); string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	entries, _ := os.ReadDir(out)
	if len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	var housed dispatch.Housed = sink
	if err := housed.Housed(s); err != nil {
		t.Error(err)
	}
	if err := os.Rename(out, out+" old"); err != nil {
		t.Fatal(err)
	}
	if err := housed.Housed(s); err == nil || !strings.Contains(err.Error(), out+" is not there any more") {
		t.Errorf("a folder that was renamed: %v", err)
	}
}

func TestSinkThatCannotWriteLeavesNothingHalf(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	s := job.Spec{Output: out}
	task := job.Task{Outputs: []job.OutputRule{{Name: "gone.png", Final: "0001.png"}}}
	if _, err := (folderSink{}).Deliver(t.Context(), s, task, dir); err == nil {
		t.Error("delivered a file that is not there")
	}
	entries, _ := os.ReadDir(out)
	if len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}

	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	err := folderSink{}.Check(job.Spec{Output: filepath.Join(file, "below")})
	if !errors.Is(err, job.ErrRefused) {
		t.Errorf("output folder below a file: %v", err)
	}
	if err := (folderSink{}).Check(job.Spec{}); !errors.Is(err, job.ErrRefused) {
		t.Errorf("no output folder: %v", err)
	}
}

func TestSinkComparesWhatIsThere(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	s := job.Spec{Output: out}
	task := job.Task{Outputs: []job.OutputRule{{Name: "frame.png", Final: "1.png"}, {Name: "kept.exr"}}}
	picture := func(path string, w int, shade func(x, y int) uint8) {
		t.Helper()
		m := image.NewGray(image.Rect(0, 0, w, 32))
		for y := range 32 {
			for x := range w {
				m.SetGray(x, y, color.Gray{Y: shade(x, y)})
			}
		}
		b, err := media.EncodePNG(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flat := func(x, y int) uint8 { return uint8(100 + (x*7+y*13)%40) }
	there := filepath.Join(out, "1.png")
	var sink folderSink
	for _, c := range []struct {
		what  string
		w     int
		shade func(x, y int) uint8
		want  bool
	}{
		{"the same", 64, flat, false},
		{"another machine's last bits", 64, func(x, y int) uint8 { return flat(x, y) + uint8((x+y)%2) }, false},
		{"another noise", 64, func(x, y int) uint8 { return uint8(100 + (x*11+y*5+3)%40) }, false},
		{"a small object", 64, func(x, y int) uint8 {
			if x >= 40 && x < 46 && y >= 8 && y < 14 {
				return 220
			}
			return flat(x, y)
		}, true},
		{"another size", 56, flat, true},
	} {
		picture(there, 64, flat)
		picture(filepath.Join(dir, "frame.png"), c.w, c.shade)
		why, err := sink.Differs(t.Context(), s, task, dir)
		if err != nil || (why != "") != c.want {
			t.Errorf("%s: %q, %v", c.what, why, err)
		}
	}
	if err := os.WriteFile(there, []byte("painted over"), 0o600); err != nil {
		t.Fatal(err)
	}
	if why, err := sink.Differs(t.Context(), s, task, dir); err != nil || why == "" {
		t.Errorf("no picture: %q, %v", why, err)
	}
	fi, err := os.Stat(there)
	if err != nil {
		t.Fatal(err)
	}
	if !sink.Kept(s, task, fi.ModTime()) || sink.Kept(s, task, fi.ModTime().Add(-time.Millisecond)) {
		t.Error("when a file was written to is not heeded")
	}
	os.Remove(there)
	if sink.Kept(s, task, time.Now().Add(time.Hour)) {
		t.Error("a file that is gone was kept")
	}
	if why, err := sink.Differs(t.Context(), s, task, dir); err != nil || why == "" {
		t.Errorf("a file that is gone: %q, %v", why, err)
	}
}
