package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"idlewild/job"
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
