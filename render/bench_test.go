//go:build linux

package render_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/echo"
)

// BenchmarkExecute measures what Execute costs around a task that does
// nothing, in a warm session: folders, request, events, metering, collecting.
func BenchmarkExecute(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	k := echo.New(exe)
	tasks, err := k.Plan(job.Spec{Kind: echo.Name}, job.Inspection{}, cid.Undef)
	if err != nil {
		b.Fatal(err)
	}
	for name, p := range processes(b) {
		b.Run(name, func(b *testing.B) {
			e := render.NewExecutor(map[job.Kind]render.Kind{echo.Name: k}, p, render.Options{Scratch: b.TempDir()})
			defer e.Close()
			in, out := b.TempDir(), b.TempDir()
			task := render.Task{Task: tasks[0], Requester: "peer", Device: cpu}
			run := func() {
				if r := e.Execute(b.Context(), task, render.Dirs{In: in, Out: out}, nil); r.Outcome != job.Succeeded {
					b.Fatal(r.Reason)
				}
				if err := os.Remove(filepath.Join(out, "out.txt")); err != nil { // Out is empty at the start
					b.Fatal(err)
				}
			}
			run() // starts the session
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkColdStart measures a task in a session of its own.
func BenchmarkColdStart(b *testing.B) {
	for name, p := range processes(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				x := newBench(b, testKind{}, p, render.Options{})
				x.want(ask{Do: "pid"}, job.Succeeded, "")
				x.Close()
			}
		})
	}
}
