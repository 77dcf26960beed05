//go:build linux

package render_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/render"
)

func TestWarmSessionServesRequestAfterRequest(t *testing.T) {
	// The process numbers are those of the host, so without the sandbox.
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	first := b.read(ask{Do: "pid"})
	for range 3 {
		if pid := b.read(ask{Do: "pid"}); pid != first {
			t.Fatalf("process %s, then %s", first, pid)
		}
	}
	other := b.task(ask{Do: "pid"})
	other.Requester = "another peer"
	_, out := b.runTask(t.Context(), b, other)
	if pid, _ := os.ReadFile(filepath.Join(out, "out.txt")); string(pid) == first {
		t.Error("a session was shared between requesters")
	}
}

func TestMeterOfColdAndWarm(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		cold, _ := b.want(ask{Do: "pid"}, job.Succeeded, "")
		warm, _ := b.want(ask{Do: "pid"}, job.Succeeded, "")
		if cold.Meter.Load <= 0 || warm.Meter.Load != 0 || cold.Meter.Wall < cold.Meter.Load || warm.Meter.Peak <= 0 {
			t.Errorf("cold %+v, warm %+v", cold.Meter, warm.Meter)
		}
		r, _ := b.want(ask{Do: "spin", N: 1_000_000}, job.Succeeded, "")
		// The work was done by a child that is gone when it is measured. A
		// busy machine lets it use less than the wall's time, never more.
		if r.Meter.CPU < 100*time.Millisecond || r.Meter.CPU > r.Meter.Wall+100*time.Millisecond {
			t.Errorf("a loop of a million took %v of processor in %v", r.Meter.CPU, r.Meter.Wall)
		}
		again, _ := b.want(ask{Do: "pid"}, job.Succeeded, "")
		if again.Meter.CPU > r.Meter.CPU/2 {
			t.Errorf("the next request pays %v for an earlier one's %v", again.Meter.CPU, r.Meter.CPU)
		}
	})
}

func TestOutputsAndPredecessors(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		prior := t.TempDir()
		os.Mkdir(filepath.Join(prior, "p"), 0o700)
		file := filepath.Join(prior, "p", "q.txt")
		os.WriteFile(file, []byte("from before"), 0o600)
		x := b.task(ask{Do: "folders"})
		x.Outputs = append(x.Outputs, job.OutputRule{Name: "a/b/c.txt", Media: job.MediaFile})
		out := t.TempDir()
		r := b.Execute(t.Context(), x, render.Dirs{In: b.in, Prior: []string{prior}, Out: out}, nil)
		if r.Outcome != job.Succeeded {
			t.Fatalf("%s: %s", r.Outcome, r.Reason)
		}
		if s, _ := os.ReadFile(filepath.Join(out, "out.txt")); string(s) != "from before" {
			t.Errorf("%q", s)
		}
		if s, _ := os.ReadFile(filepath.Join(out, "a", "b", "c.txt")); string(s) != "c" {
			t.Errorf("%q", s)
		}
		if s, _ := os.ReadFile(file); string(s) != "from before" {
			t.Errorf("the runner changed a predecessor's output: %q", s)
		}
	})
}

// A folder that a predecessor left is seen where it lies, with the files that come to
// it later, by one warm process; that of another predecessor is another process's.
func TestFoldersOfPredecessors(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		one, other := t.TempDir(), t.TempDir()
		read := func(tree, name string) (process string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(tree, name), []byte("of "+name), 0o644); err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			r := b.Execute(t.Context(), b.task(ask{Do: "tree", Text: name}), render.Dirs{
				In: b.in, Out: out, Prior: []string{t.TempDir()}, Trees: []render.Tree{{Name: "left", Dir: tree}},
			}, nil)
			text, _ := os.ReadFile(filepath.Join(out, "out.txt"))
			f := strings.Fields(string(text))
			if r.Outcome != job.Succeeded || len(f) != 4 || f[2] != name {
				t.Fatalf("%s: %s: %q", r.Outcome, r.Reason, text)
			}
			if _, sandboxed := p.(*render.Sandbox); sandboxed && f[3] != "false" {
				t.Error("it could be written to")
			}
			return f[0]
		}
		first := read(one, "a")
		if read(one, "b") != first {
			t.Error("a file that came ends the warm process")
		}
		if read(other, "a") == first {
			t.Error("a process sees two bakes")
		}
	})
}

func TestAFolderIsAnOutput(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{MaxOutputFiles: 10})
	x := b.task(ask{Do: "files", N: 50})
	x.Outputs = []job.OutputRule{{Name: "out.txt", Media: job.MediaTree}}
	if r, _ := b.runTask(t.Context(), b, x); r.Outcome != job.Failed || !strings.Contains(r.Reason, "no folder") {
		t.Errorf("a file for a folder: %s (%s)", r.Outcome, r.Reason)
	}
	prior := t.TempDir()
	if err := os.MkdirAll(filepath.Join(prior, "p"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(prior, "p", "q.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x = b.task(ask{Do: "folders"})
	x.Outputs = []job.OutputRule{{Name: "a", Media: job.MediaTree}}
	out := t.TempDir()
	if r := b.Execute(t.Context(), x, render.Dirs{In: b.in, Prior: []string{prior}, Out: out}, nil); r.Outcome != job.Succeeded {
		t.Errorf("%s (%s)", r.Outcome, r.Reason)
	}
	if _, err := os.Stat(filepath.Join(out, "a", "b", "c.txt")); err != nil {
		t.Error(err)
	}
}

func TestWhatARunnerMayNotLeave(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{MaxOutputBytes: 1 << 20, MaxOutputFiles: 10})
		for _, c := range []struct {
			a     ask
			words string
		}{
			{ask{Do: "symlink"}, "symbolic link"},
			{ask{Do: "dirlink"}, "symbolic link"},
			{ask{Do: "fifo"}, "pipe"},
			{ask{Do: "files", N: 11}, "more files"},
			{ask{Do: "bytes", N: 1<<20 + 1}, "bytes"},
		} {
			b.want(c.a, job.Failed, c.words)
		}
		b.want(ask{Do: "swap"}, job.Broken, "collect outputs")
		b.want(ask{Do: "nothing"}, job.Broken, "left no out.txt")
		b.want(ask{Do: "bytes", N: 1 << 20}, job.Succeeded, "")
	})
}

// A runner that knows how request folders are named must not make us write
// somewhere else.
func TestRunnerCannotChooseTheNextFolder(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	victim := t.TempDir()
	b.want(ask{Do: "next", N: 2, Text: victim}, job.Succeeded, "")
	b.want(ask{Do: "pid"}, job.Succeeded, "")
	if left, _ := os.ReadDir(victim); len(left) > 0 {
		t.Errorf("wrote %v through the runner's link", left)
	}
}

func TestForgedAndEndlessEvents(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		b.want(ask{Do: "flood", N: 1<<17 + 9}, job.Broken, "more than 131072 events")
		b.want(ask{Do: "flood", N: 1000}, job.Succeeded, "")
		if s := b.read(ask{Do: "forge"}); s != "own" {
			t.Errorf("forged events were taken for its own: %q", s)
		}
		if s := b.read(ask{Do: "echo", Text: "next"}); s != "next" {
			t.Errorf("forged events were taken for the next request's: %q", s)
		}
	})
}

func TestEndsOfAProcess(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{Timeout: 3 * time.Second})
		b.want(ask{Do: "crash"}, job.Broken, "exit code 7; its last words: panic: no more polygons")
		b.want(ask{Do: "kill"}, job.Broken, "signal 9 (killed)")
		b.want(ask{Do: "say-failed"}, job.Failed, "no camera")
		b.want(ask{Do: "long-line"}, job.Broken, "more than 65536 bytes")
		b.want(ask{Do: "garbage"}, job.Broken, "no event")
		b.want(ask{Do: "mute"}, job.Broken, "closed its events")
		b.want(ask{Do: "outcome", Text: "failed"}, job.Failed, "so it is")
		b.want(ask{Do: "outcome", Text: "broken"}, job.Broken, "so it is")
		b.want(ask{Do: "outcome", Text: "splendid"}, job.Broken, `"splendid"`)
		b.want(ask{Do: "hang"}, job.Broken, "over its time of 3s")
		b.want(ask{Do: "deaf"}, job.Succeeded, "")
		b.want(ask{Do: "pid"}, job.Broken, "over its time")
	})
}

func TestDeviceIsAsserted(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	gpu := job.Device{Name: "GPU-1", Type: "gpu"}
	for _, c := range []struct {
		asked   job.Device
		did     string
		outcome job.Outcome
	}{
		{cpu, "cpu", job.Succeeded}, {cpu, "CPU", job.Succeeded}, {cpu, "", job.Succeeded}, {cpu, "GPU-1", job.Broken},
		{gpu, "GPU-1", job.Succeeded}, {gpu, "gpu", job.Succeeded}, {gpu, "cpu", job.Broken}, {gpu, "", job.Broken},
	} {
		x := b.task(ask{Do: "device", Text: c.did})
		x.Device = c.asked
		r, _ := b.runTask(t.Context(), b, x)
		if r.Outcome != c.outcome {
			t.Errorf("asked %s, did %q: %s (%s)", c.asked.Type, c.did, r.Outcome, r.Reason)
		}
	}
}

func TestProgressIsPassedOnAndBounded(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	var got []render.Progress
	r := b.Execute(t.Context(), b.task(ask{Do: "progress"}), render.Dirs{In: b.in, Out: t.TempDir()}, func(p render.Progress) { got = append(got, p) })
	if fmt.Sprint(got) != "[{rendering 0.5 []} {saving 1 []}]" {
		t.Errorf("%v", got)
	}
	if r.Meter.Render > r.Meter.Wall || r.Meter.Load < 0 || r.Build != "test 1" {
		t.Errorf("%+v", r)
	}
}

func TestCancelEndsTheWholeTreeAtOnce(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		mark := fmt.Sprintf("%d.%d", 100000+os.Getpid(), time.Now().UnixNano()%1e9)
		ctx, cancel := context.WithCancelCause(t.Context())
		var since atomic.Int64
		hanging := func(pr render.Progress) {
			if pr.Phase != "hanging" {
				return
			}
			// The shells may not have come so far.
			eventually(t, "both sleep", func() bool { return running(t, "sleep\x00"+mark) == 2 })
			since.Store(time.Now().UnixNano())
			cancel(errors.New("the owner is back"))
		}
		out := t.TempDir()
		r := b.Execute(ctx, b.task(ask{Do: "hang-family", Text: mark}), render.Dirs{In: b.in, Out: out}, hanging)
		took := time.Duration(time.Now().UnixNano() - since.Load())
		if r.Outcome != job.Cancelled || r.Reason != "the owner is back" {
			t.Errorf("%s: %s", r.Outcome, r.Reason)
		}
		if took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if n := running(t, mark); n != 0 {
			t.Errorf("%d processes left", n)
		}
		b.want(ask{Do: "pid"}, job.Succeeded, "") // in another process
	})
}

func TestCloseEndsTheWholeTree(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		mark := fmt.Sprintf("%d.%d", 100000+os.Getpid(), time.Now().UnixNano()%1e9)
		ctx, cancel := context.WithCancel(t.Context())
		started := make(chan struct{})
		var once sync.Once
		ended := make(chan render.Result)
		go func() {
			r := b.Execute(ctx, b.task(ask{Do: "hang-family", Text: mark}), render.Dirs{In: b.in, Out: t.TempDir()}, func(render.Progress) { once.Do(func() { close(started) }) })
			ended <- r
		}()
		<-started
		go cancel()
		b.Close()
		if n := running(t, mark); n != 0 {
			t.Errorf("%d processes left", n)
		}
		if r := <-ended; r.Outcome != job.Cancelled {
			t.Errorf("%s: %s", r.Outcome, r.Reason)
		}
		if r, _ := b.run(t.Context(), ask{Do: "pid"}); r.Outcome != job.Cancelled {
			t.Errorf("after Close: %s (%s)", r.Outcome, r.Reason)
		}
		if b.Ready(t.Context()) == nil {
			t.Error("ready after Close")
		}
	})
}

func TestStartThatFails(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		for start, c := range map[string]struct {
			outcome job.Outcome
			words   string
			log     string
		}{
			"error": {job.Failed, "the scene does not open", "about to report"},
			"exit":  {job.Broken, "exit code 4", "no such library"},
			"never": {job.Broken, "not ready within", ""},
		} {
			limit := 20 * time.Second
			if start == "never" {
				limit = time.Second
			}
			b := newBench(t, testKind{env: []string{"TEST_START=" + start}, start: limit}, p, render.Options{})
			r, _ := b.want(ask{Do: "pid"}, c.outcome, c.words)
			if !strings.Contains(string(r.Log), c.log) {
				t.Errorf("%s: log %q", start, r.Log)
			}
		}
	})
}

func TestProgramThatIsNotThere(t *testing.T) {
	k := missingKind{}
	b := newBench(t, k, render.NewLocalProcess(nil), render.Options{})
	b.want(ask{Do: "pid"}, job.Broken, "no such file")
	x := b.task(ask{})
	x.Kind = "unheard of"
	if r, _ := b.runTask(t.Context(), b, x); r.Outcome != job.Broken {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
}

type missingKind struct{ testKind }

func (missingKind) Session(render.Task, render.Dirs) (string, render.Command, error) {
	return "x", render.Command{Path: "/no/such/program"}, nil
}

func TestLogIsBoundedAndTheRequestsOwn(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		r, _ := b.want(ask{Do: "echo", Text: "one"}, job.Succeeded, "")
		if s := string(r.Log); s != "starting\nline one\n" {
			t.Errorf("%q", s)
		}
		for i := range 20 { // the log and the events are two pipes
			r, _ = b.want(ask{Do: "echo", Text: fmt.Sprint(i)}, job.Succeeded, "")
			if s := string(r.Log); s != fmt.Sprintf("line %d\n", i) {
				t.Fatalf("request %d: %q", i, s)
			}
		}
		r, _ = b.want(ask{Do: "log", N: 5 << 20}, job.Succeeded, "")
		s := string(r.Log)
		if len(s) > render.MaxLogBytes || len(s) < render.MaxLogBytes*9/10 || !strings.HasPrefix(s, "BEGIN\nxxx") || !strings.HasSuffix(s, "xxx\nEND\n") || !strings.Contains(s, "bytes left out") {
			t.Errorf("%d bytes: %.20q ... %q", len(s), s, s[max(0, len(s)-20):])
		}
	})
}

func TestSessionIsRecycledOverItsMemory(t *testing.T) {
	b := newBench(t, testKind{memory: 200 << 20}, render.NewLocalProcess(nil), render.Options{})
	small := b.read(ask{Do: "memory", N: 1 << 20})
	if pid := b.read(ask{Do: "memory", N: 1 << 20}); pid != small {
		t.Fatal("recycled for nothing")
	}
	r, out := b.want(ask{Do: "memory", N: 256 << 20}, job.Succeeded, "")
	if pid, _ := os.ReadFile(filepath.Join(out, "out.txt")); string(pid) != small {
		t.Fatal("not the same session")
	}
	if r.Meter.Peak < 256<<20 {
		t.Errorf("peak %d", r.Meter.Peak)
	}
	if pid := b.read(ask{Do: "memory", N: 1 << 20}); pid == small {
		t.Error("not recycled")
	}
}

func TestMachinesMemoryEndsAProcess(t *testing.T) {
	p := render.NewLocalProcess(nil)
	p.Limits.MemoryBytes = 200 << 20
	all := map[string]render.Process{"local": p}
	if s := sandbox(t, 200<<20); s != nil {
		all["sandbox"] = s
	}
	for name, p := range all {
		b := newBench(t, testKind{}, p, render.Options{})
		r, _ := b.want(ask{Do: "memory", N: 256 << 20, Text: "hold"}, job.OutOfMemory, "over its memory")
		if r.Meter.Peak < 200<<20 {
			t.Errorf("%s: peak %d", name, r.Meter.Peak)
		}
	}
}

// A limit of one device counts in place of the machine's, for it alone.
func TestDevicesMemoryEndsAProcess(t *testing.T) {
	p := render.NewLocalProcess(nil)
	p.Limits.MemoryBytes = 1 << 40
	for device, want := range map[string]job.Outcome{"cpu": job.OutOfMemory, "another": job.Succeeded} {
		b := newBench(t, testKind{}, p, render.Options{Memory: map[string]int64{"cpu": 200 << 20}})
		x := b.task(ask{Do: "memory", N: 256 << 20, Text: "hold"})
		if want == job.Succeeded {
			x = b.task(ask{Do: "memory", N: 256 << 20})
		}
		x.Device = job.Device{Name: device, Type: "cpu"}
		if r, _ := b.runTask(t.Context(), b, x); r.Outcome != want {
			t.Errorf("%s: %s, %s", device, r.Outcome, r.Reason)
		}
	}
}

func TestSessionsPerDeviceAreBounded(t *testing.T) {
	k := testKind{session: func(t render.Task) string { return t.Label }}
	b := newBench(t, k, render.NewLocalProcess(nil), render.Options{Warm: 2})
	pid := func(key, device string) string {
		t.Helper()
		x := b.task(ask{Do: "pid"})
		x.Label, x.Device = key, job.Device{Name: device, Type: "cpu"}
		_, out := b.runTask(t.Context(), b, x)
		s, err := os.ReadFile(filepath.Join(out, "out.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(s)
	}
	a, c := pid("a", "cpu"), pid("c", "cpu")
	if pid("a", "cpu") != a {
		t.Error("a is not warm")
	}
	other := pid("c", "cpu2")
	d := pid("d", "cpu") // ends c, which was used least recently
	if pid("a", "cpu") != a || pid("d", "cpu") != d || pid("c", "cpu2") != other {
		t.Error("the wrong session was ended")
	}
	if _, err := os.Stat("/proc/" + c); err == nil {
		t.Error("c lives on")
	}
	if pid("c", "cpu") == c {
		t.Error("c was not ended")
	}
}

func TestTasksOfOneSessionWaitForEachOther(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	pids := make(chan string, 8)
	for range cap(pids) {
		go func() {
			r, out := b.run(t.Context(), ask{Do: "pid"})
			s, _ := os.ReadFile(filepath.Join(out, "out.txt"))
			pids <- string(r.Outcome) + string(s)
		}()
	}
	first := <-pids
	for range cap(pids) - 1 {
		if p := <-pids; p != first {
			t.Errorf("%s and %s", first, p)
		}
	}
	if !strings.HasPrefix(first, "succeeded") {
		t.Error(first)
	}
}

func TestWaitingForASessionCanBeCancelled(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	holder, release := context.WithCancel(t.Context())
	held, ended := make(chan struct{}), make(chan struct{})
	var once sync.Once
	go func() {
		defer close(ended)
		b.Execute(holder, b.task(ask{Do: "hang"}), render.Dirs{In: b.in, Out: t.TempDir()}, func(render.Progress) { once.Do(func() { close(held) }) })
	}()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if r, _ := b.run(ctx, ask{Do: "pid"}); r.Outcome != job.Cancelled {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
	release()
	<-ended
}

func TestIdleSessionIsEnded(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{Idle: 50 * time.Millisecond})
	pid := b.read(ask{Do: "pid"})
	eventually(t, "its end", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return err != nil
	})
}

func TestScratchOfAKilledProcessIsRemoved(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "session-4194305-1", "work") // no process has that number
	own := filepath.Join(dir, fmt.Sprintf("session-%d-1", os.Getpid()))
	for _, d := range []string{old, own, filepath.Join(dir, "mine")} {
		os.MkdirAll(d, 0o700)
	}
	e := render.NewExecutor(nil, render.NewLocalProcess(nil), render.Options{Scratch: dir})
	defer e.Close()
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

func TestSessionSeesAnInputFolderThatWasMadeAgain(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, testKind{}, p, render.Options{})
		b.in = filepath.Join(b.in, "tree")
		for _, text := range []string{"old", "new"} {
			os.RemoveAll(b.in)
			os.Mkdir(b.in, 0o755)
			os.WriteFile(filepath.Join(b.in, "scene"), []byte(text), 0o644)
			if got := b.read(ask{Do: "input", Text: "scene"}); got != text {
				t.Errorf("%q, want %q", got, text)
			}
		}
		os.RemoveAll(b.in)
		b.want(ask{Do: "pid"}, job.Broken, "input folder")
	})
}

func TestEndIdleFreesADevice(t *testing.T) {
	b := newBench(t, testKind{}, render.NewLocalProcess(nil), render.Options{})
	pid := b.read(ask{Do: "pid"})
	b.EndIdle("another")
	if b.read(ask{Do: "pid"}) != pid {
		t.Error("ended on another device")
	}
	b.EndIdle("cpu")
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Error("it lives on")
	}
	if b.read(ask{Do: "pid"}) == pid {
		t.Error("not ended")
	}
}

// A day of sessions that start and end in every way leaves nothing open here.
func TestNothingIsLeftOpen(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		open := func() int {
			e, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(e)
		}
		round := func() {
			b := newBench(t, testKind{}, p, render.Options{Timeout: 200 * time.Millisecond})
			b.want(ask{Do: "pid"}, job.Succeeded, "")
			b.want(ask{Do: "crash"}, job.Broken, "")
			b.want(ask{Do: "hang"}, job.Broken, "")
			b.want(ask{Do: "garbage"}, job.Broken, "")
			b.want(ask{Do: "pid"}, job.Succeeded, "")
			b.Close()
		}
		round()
		files, routines := open(), runtime.NumGoroutine()
		for range 5 {
			round()
		}
		eventually(t, "as few open files and goroutines as before", func() bool {
			return open() <= files && runtime.NumGoroutine() <= routines
		})
	})
}
