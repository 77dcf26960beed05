//go:build linux

package render_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/gpu"
)

// fakeExecutor answers with a function.
type fakeExecutor struct {
	execute func(ctx context.Context, t render.Task) render.Result
	ready   error
}

func (f fakeExecutor) Ready(context.Context) error { return f.ready }

func (f fakeExecutor) Execute(ctx context.Context, t render.Task, _ render.Dirs, _ func(render.Progress)) render.Result {
	return f.execute(ctx, t)
}

func TestHealthRestsAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := job.Broken
		h := render.WithHealth(fakeExecutor{execute: func(context.Context, render.Task) render.Result {
			return render.Result{Outcome: next, Reason: "the driver is gone"}
		}}, 3, time.Minute)
		run := func(o job.Outcome, n int) {
			next = o
			for range n {
				h.Execute(t.Context(), render.Task{}, render.Dirs{}, nil)
			}
		}
		ready := func(want bool) {
			t.Helper()
			if err := h.Ready(t.Context()); (err == nil) != want || (err != nil && !strings.Contains(err.Error(), "the driver is gone")) {
				t.Errorf("ready: %v", err)
			}
		}
		run(job.Broken, 2)
		run(job.Succeeded, 1)
		run(job.Broken, 2)
		run(job.Failed, 5)
		run(job.Cancelled, 5)
		ready(true)
		run(job.Broken, 1)
		ready(false)
		time.Sleep(time.Minute)
		ready(true)
		run(job.Broken, 1) // the trial
		ready(false)
		h.Reset()
		ready(true)
	})
	h := render.WithHealth(fakeExecutor{ready: errors.New("no")}, 1, time.Minute)
	if h.Ready(t.Context()) == nil {
		t.Error("what it decorates is not ready")
	}
}

func TestRetryInAFreshSessionOnce(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		e := render.WithRetry(b)
		b.want(ask{Do: "pid"}, job.Succeeded, "")
		r, out := b.runTask(t.Context(), e, b.task(ask{Do: "crash-if-used"}))
		if s, _ := os.ReadFile(filepath.Join(out, "out.txt")); r.Outcome != job.Succeeded || string(s) != "fresh" {
			t.Errorf("%s (%s): %q", r.Outcome, r.Reason, s)
		}
		// Without it the same is broken.
		b.want(ask{Do: "crash-if-used"}, job.Broken, "exit code 7")
	})
	n := 0
	fake := fakeExecutor{execute: func(context.Context, render.Task) render.Result {
		n++
		return render.Result{Outcome: job.Broken}
	}}
	render.WithRetry(fake).Execute(t.Context(), render.Task{}, render.Dirs{}, nil)
	if n != 1 {
		t.Errorf("what broke in a fresh session was run %d times", n)
	}
}

// What a warm process has gathered may be what is too much: only a fresh one's
// word counts, and then it says nothing of the machine.
func TestOutOfMemoryInAWarmSession(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	h := render.WithHealth(render.WithRetry(b), 1, time.Hour)
	b.want(ask{Do: "pid"}, job.Succeeded, "")
	r, out := b.runTask(t.Context(), h, b.task(ask{Do: "short-if-used"}))
	if s, _ := os.ReadFile(filepath.Join(out, "out.txt")); r.Outcome != job.Succeeded || string(s) != "fresh" {
		t.Errorf("%s (%s): %q", r.Outcome, r.Reason, s)
	}
	b.want(ask{Do: "short-if-used"}, job.OutOfVRAM, "System is out of GPU memory")
	short := fakeExecutor{execute: func(context.Context, render.Task) render.Result { return render.Result{Outcome: job.OutOfVRAM} }}
	h = render.WithHealth(short, 1, time.Hour)
	h.Execute(t.Context(), render.Task{}, render.Dirs{}, nil)
	if err := h.Ready(t.Context()); err != nil {
		t.Errorf("the machine rests: %v", err)
	}
}

// everyone is a GPU of which each process of the machine has a MiB. again is
// closed when somebody asks for the second time: by then the first answer counts.
type everyone struct {
	stranger bool
	asked    int
	again    chan struct{}
}

func (e *everyone) Devices(context.Context) ([]gpu.Device, error) {
	if e.asked++; e.asked == 2 {
		close(e.again)
	}
	d := gpu.Device{UUID: "GPU-1", MemoryBytes: 1 << 40}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if e.stranger {
			pid += 1 << 24 // as a container's host counts
		}
		p := gpu.Process{PID: pid, MemoryBytes: 1 << 20}
		d.Processes = append(d.Processes, p, p) // it draws as well
	}
	return []gpu.Device{{UUID: "GPU-0"}, d}, nil
}

func TestGPUMemoryOfASessionIsMeasured(t *testing.T) {
	for _, stranger := range []bool{false, true} {
		gpus := &everyone{stranger: stranger, again: make(chan struct{})}
		b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{GPUs: gpus})
		x := b.task(ask{Do: "pid"})
		x.Device = job.Device{Name: "GPU-1", Type: ""}
		if r, _ := b.runTask(t.Context(), b, x); r.Meter.VRAM != 0 {
			t.Errorf("a task of no GPU took %d of it", r.Meter.VRAM)
		}
		x = b.task(ask{Do: "hang"}) // until it was measured: how it ends does not matter here
		x.Device = job.Device{Name: "GPU-1", Type: "gpu"}
		want := int64(1 << 20)
		if stranger {
			want = 0
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-gpus.again
			cancel()
		}()
		if r, _ := b.runTask(ctx, b, x); r.Meter.VRAM != want {
			t.Errorf("strangers %v: %d bytes, want %d", stranger, r.Meter.VRAM, want)
		}
	}
}

func TestSessionKilledFromOutsideIsReplaced(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	e := render.WithRetry(b)
	pid := b.read(ask{Do: "pid"})
	// As the kernel does when memory is short, between two requests.
	kill(t, pid)
	r, out := b.runTask(t.Context(), e, b.task(ask{Do: "pid"}))
	if s, _ := os.ReadFile(filepath.Join(out, "out.txt")); r.Outcome != job.Succeeded || string(s) == pid {
		t.Errorf("%s (%s): %s, before %s", r.Outcome, r.Reason, s, pid)
	}
}

func TestLogSaysHowTasksEnd(t *testing.T) {
	var text bytes.Buffer
	e := render.WithLog(fakeExecutor{execute: func(context.Context, render.Task) render.Result {
		return render.Result{Outcome: job.Broken, Reason: "it broke"}
	}}, slog.New(slog.NewTextHandler(&text, nil)))
	e.Execute(t.Context(), render.Task{Task: job.Task{Label: "17"}}, render.Dirs{}, nil)
	for _, want := range []string{"level=WARN", "task=17", "outcome=broken", `reason="it broke"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in %s", want, &text)
		}
	}
}

func TestSaboteurCheats(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	read := func(e render.Executor, text, content string) string {
		t.Helper()
		x := b.task(ask{Do: "echo", Text: text})
		x.Content = content
		r, out := b.runTask(t.Context(), e, x)
		s, err := os.ReadFile(filepath.Join(out, "out.txt"))
		if err != nil {
			t.Fatal(r.Reason, err)
		}
		return string(s)
	}
	half, err := render.NewSaboteur(b, render.HalfSamples, func(x job.Task) job.Task {
		x.Params = bytes.Replace(x.Params, []byte("frame"), []byte("fra"), 1)
		return x
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	if s := read(half, "frame 1", "c"); s != "fra 1" {
		t.Error(s)
	}
	stale, err := render.NewSaboteur(b, render.Stale, nil, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s := read(stale, "frame 1", "c") + read(stale, "frame 2", "c") + read(stale, "frame 3", "d"); s != "frame 1frame 1frame 3" {
		t.Error(s)
	}
	for _, mode := range []render.SabotageMode{render.HalfSamples, render.Stale, "other"} {
		if _, err := render.NewSaboteur(b, mode, nil, ""); err == nil {
			t.Errorf("%s without what it needs", mode)
		}
	}
}
