package ai_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/ai/onnxtest"
)

// declaring is a PNG whose head says another size than it has.
func declaring(t *testing.T, w, h uint32) []byte {
	t.Helper()
	b := picture(t, 8, 8, false)
	binary.BigEndian.PutUint32(b[16:], w)
	binary.BigEndian.PutUint32(b[20:], h)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

// A requester may ask for anything: a worker says what is wrong with it, and
// none of it is this machine's fault.
func TestTasksOfStrangersThatMakeNothingLarger(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	file := write(t, dir, "in/_model/up.onnx", onnxtest.Upscaler(1))
	_, take, task := larger(t, k, file, 8, 8)
	exec := render.NewExecutor(map[job.Kind]render.Kind{ai.Name: k}, render.NewLocalProcess(nil), render.Options{Scratch: filepath.Join(dir, "scratch")})
	t.Cleanup(func() { exec.Close() })
	good := filepath.Dir(write(t, dir, "good/frame.png", picture(t, 8, 8, false)))
	model := filepath.Dir(file)
	empty := filepath.Join(dir, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	prior := func(name string, b []byte) []string {
		return []string{filepath.Dir(write(t, dir, name+"/frame.png", b)), model}
	}
	type set map[string]any
	for i, c := range []struct {
		of    job.Task
		set   set
		part  job.Part
		dirs  render.Dirs
		after int
		want  string
	}{
		{of: task, dirs: render.Dirs{Prior: []string{empty, model}}, want: "frame.png is not among"},
		{of: task, dirs: render.Dirs{Prior: []string{good, empty}}, want: "up.onnx is not among"},
		{of: task, dirs: render.Dirs{Prior: prior("text", []byte("no picture at all"))}, want: "neither"},
		{of: task, dirs: render.Dirs{Prior: prior("huge", declaring(t, 32000, 32000))}, want: "exceeds its limits"},
		{of: task, dirs: render.Dirs{Prior: prior("cut", picture(t, 8, 8, false)[:60])}, want: "not enough"},
		{of: task, dirs: render.Dirs{Prior: []string{filepath.Dir(write(t, dir, "folder/frame.png/x", nil)), model}}, want: "frame.png is not"},
		{of: task, dirs: render.Dirs{Prior: []string{good}}, want: "outputs of 1"},
		{of: task, after: 1, dirs: render.Dirs{Prior: []string{good}}, want: "two predecessors, not 1"},
		{of: task, set: set{"prior": "../good/frame.png"}, dirs: render.Dirs{Prior: []string{good, model}}, want: "leaves its folder"},
		{of: task, set: set{"prior": "/etc/passwd"}, dirs: render.Dirs{Prior: []string{good, model}}, want: "leaves its folder"},
		{of: task, set: set{"prior": ""}, dirs: render.Dirs{Prior: []string{good, model}}, want: "no picture is named"},
		{of: task, set: set{"model": "../up.onnx"}, dirs: render.Dirs{Prior: []string{good, model}}, want: "leaves its folder"},
		{of: task, set: set{"scale": 1, "width": 8, "height": 8}, dirs: render.Dirs{Prior: []string{good, model}}, want: "1 times as large"},
		{of: task, set: set{"width": 65536, "height": 65536, "scale": 16}, dirs: render.Dirs{Prior: []string{good, model}}, want: "a picture of 65536x65536"},
		{of: task, part: job.Part{Tile: job.Rect{X0: 1000, X1: 1 << 17, Y1: 1 << 17}}, dirs: render.Dirs{Prior: []string{good, model}}, want: "part "},
		{of: task, part: job.Part{Tile: job.Rect{X0: 4, X1: 40, Y1: 40}}, dirs: render.Dirs{Prior: []string{good, model}}, want: "part "},
		{of: task, part: job.Part{Samples: job.Range{From: 4, To: 40}}, dirs: render.Dirs{Prior: []string{good, model}}, want: "part "},
		{of: take, set: set{"files": []string{"/etc/passwd"}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "leaves its folder"},
		{of: take, set: set{"files": []string{"../../good/frame.png"}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "leaves its folder"},
		{of: take, set: set{"files": []string{"other"}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "other is not among"},
		{of: take, set: set{"files": []string{"up.onnx", "up.onnx/x"}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "is the folder of another"},
		{of: take, set: set{"files": []string{"up.onnx", "up.onnx"}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "two files"},
		{of: take, set: set{"files": []string{"."}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "leaves its folder"},
		{of: take, set: set{"input": "../good"}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "leaves its folder"},
		{of: take, set: set{"files": make([]string, 100000)}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "bytes of parameters"},
		{of: take, set: set{"files": []string{""}}, dirs: render.Dirs{In: filepath.Join(dir, "in")}, want: "without a name"},
		{of: take, dirs: render.Dirs{In: empty}, want: "up.onnx is not among"},
	} {
		q := map[string]any{}
		if err := json.Unmarshal(c.of.Params, &q); err != nil {
			t.Fatal(err)
		}
		for name, v := range c.set {
			q[name] = v
		}
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		c.of.Params, c.of.Part = b, c.part
		if c.after > 0 {
			c.of.After = c.of.After[:c.after]
		}
		c.dirs.Out = filepath.Join(dir, "out", string(rune('a'+i)))
		if c.dirs.In == "" {
			c.dirs.In = empty
		}
		if err := os.MkdirAll(c.dirs.Out, 0o755); err != nil {
			t.Fatal(err)
		}
		r := exec.Execute(context.WithoutCancel(t.Context()), render.Task{Task: c.of, Requester: "r", Content: "c", Device: job.Device{Name: "cpu", Type: "cpu"}}, c.dirs, func(render.Progress) {})
		if r.Outcome != job.Failed || !strings.Contains(r.Reason, c.want) || strings.Contains(r.Reason, dir) {
			t.Errorf("%d: %s: %.300s, want %s", i, r.Outcome, r.Reason, c.want)
		}
	}
}
