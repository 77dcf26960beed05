package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["results"] = benchmark{"a finished 4K frame on its way back over 100 Mbit/s: its bytes and its time, against the file that Blender writes (needs root)", resultsBench}
}

//go:embed results/scene.py
var resultsScene []byte

// resultCase is one format that artists deliver.
type resultCase struct {
	name string // of its .blend
	what string
	goal bool // the figure is of multilayer files
}

var resultCases = []resultCase{
	{"exr-half-zip", "multilayer half ZIP", true},
	{"exr-half-dwaa", "multilayer half DWAA", true},
	{"exr-float-passes", "multilayer float ZIP with passes and cryptomatte", true},
	{"png8", "PNG, 8 bit", false},
	{"png16", "PNG, 16 bit", false},
	{"jpeg", "JPEG", false},
}

// resultsBench renders one frame per format at one end of a line and has it
// delivered at the other. Time counts from the moment at which the worker's
// Blender begins to write the picture, which is after its last sample.
func resultsBench(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("results", flag.ContinueOnError)
	rate := flags.Float64("rate", 100, "Mbit/s of the link, each direction")
	size := flags.String("resolution", "3840x2160", "of the frame")
	samples := flags.Int("samples", 2, "of the frame")
	only := flags.String("only", "", "formats, separated by commas; empty: all")
	recheck := flags.String("recheck", "0", "the share of results that is checked, as submit takes it")
	finish := flags.String("finish", "", "where frames are finished, as submit takes it; empty: its default")
	precision := flags.String("precision", "", "of frames on their way, as submit takes it; empty: its default")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var width, height int
	if n, err := fmt.Sscanf(*size, "%dx%d", &width, &height); n != 2 || width < 16 || height < 16 {
		return nil, fmt.Errorf("--resolution %q: %w", *size, errors.Join(err, errors.New("it is WIDTHxHEIGHT")))
	}
	if *rate <= 0 || *samples < 1 {
		return nil, errors.New("--rate must be more than 0, --samples at least 1")
	}
	wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	for _, name := range wanted {
		if !slices.ContainsFunc(resultCases, func(c resultCase) bool { return c.name == name }) {
			return nil, fmt.Errorf("no format is called %q", name)
		}
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	say("the scenes")
	r := &resultsRun{submitRun: submitRun{farm: f, project: filepath.Join(f.dir, "project")}, rate: *rate, recheck: *recheck, finish: *finish, precision: *precision}
	script := filepath.Join(f.dir, "scene.py")
	if err := errors.Join(os.WriteFile(script, resultsScene, 0o600), os.Mkdir(r.project, 0o700)); err != nil {
		return nil, err
	}
	if err := blenderRun(ctx, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script,
		"--", r.project, fmt.Sprint(width), fmt.Sprint(height), fmt.Sprint(*samples)); err != nil {
		return nil, err
	}
	if r.link, err = newWireLink(ctx); err != nil {
		return nil, err
	}
	defer r.link.close()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.link.limit(ctx, *rate); err != nil {
		return nil, err
	}
	var figures []Figure
	for _, c := range resultCases {
		if len(wanted) > 0 && !slices.Contains(wanted, c.name) {
			continue
		}
		say("%s", c.what)
		more, err := r.measure(ctx, c)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", c.what, err)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

type resultsRun struct {
	submitRun
	rate                       float64
	recheck, finish, precision string
}

// measure renders one format with Blender alone and through the farm.
func (r *resultsRun) measure(ctx context.Context, c resultCase) ([]Figure, error) {
	file := filepath.Join(r.project, c.name+".blend")
	own, saving, err := r.alone(ctx, c, file)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(r.dir, "out-"+c.name)
	cmd := []string{"submit", file, "-o", out, "-f", "1", "--parts", "no", "--recheck", r.recheck, "--json"}
	if r.finish != "" {
		cmd = append(cmd, "--finish", r.finish)
	}
	if r.precision != "" {
		cmd = append(cmd, "--precision", r.precision)
	}
	before, err := r.link.ends[0].bytes(ctx)
	if err != nil {
		return nil, err
	}
	// The look at the worker's folders begins before the job does.
	w := watchResults(r.worker.dir, out)
	defer w.stop()
	id, err := r.farm.submit(ctx, r.requester, cmd...)
	if err != nil {
		return nil, err
	}
	var told []job.Event
	status, err := r.requester.wait(ctx, id, func(e job.Event) { told = append(told, e) })
	if err != nil {
		return nil, err
	}
	if status.State != job.StateFinished {
		return nil, fmt.Errorf("job %s: %s", status.State, status.Reason)
	}
	wire, err := r.link.ends[0].bytes(ctx)
	if err != nil {
		return nil, err
	}
	w.stop()
	if w.rendered.IsZero() || w.delivered.IsZero() {
		return nil, errors.New("the worker's picture, or the delivered file, was never seen")
	}
	written, took := w.written.Sub(w.rendered).Seconds(), w.delivered.Sub(w.rendered).Seconds()
	for _, e := range told {
		if at := e.Time.Sub(w.rendered).Seconds(); at > -1 && e.Type != job.EventProgress {
			fmt.Fprintf(os.Stderr, "  %6.1f s %s %s\n", at, e.Type, e.Task)
		}
	}
	fmt.Fprintf(os.Stderr, "  %6.1f s the worker's picture is written\n  %6.1f s the file is on disk\n", written, took)
	beyond := took - float64(own)*8/r.rate/1e6
	result := atMost(c.what+": result bytes against Blender's file", float64(status.ResultBytes)/float64(own), "x", 1.1)
	late := atMost(c.what+": file on disk after the last sample, beyond its bytes", beyond, "s", 2, Peer{"plain Blender, which writes it to its own disk", saving})
	if !c.goal {
		result.Goal, late.Goal, result.Holds, late.Holds = "", "", true, true
	}
	return []Figure{
		plain(c.what+": Blender's file", float64(own), "B"),
		result,
		plain(c.what+": all bytes on the wire, both ways", float64(wire-before), "B"),
		late,
		plain(c.what+": of it, the worker's Blender writes the picture", written, "s"),
	}, nil
}

// alone renders with Blender alone: the size of its file, and how long it took
// to write it.
func (r *resultsRun) alone(ctx context.Context, c resultCase, file string) (size int64, saving float64, err error) {
	out := filepath.Join(r.dir, "alone-"+c.name)
	w := watchResults("", out)
	defer w.stop()
	cmd := exec.CommandContext(ctx, "blender", "-b", "--factory-startup", file, "-o", filepath.Join(out, "####"), "-f", "1")
	if b, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("blender: %w: %s", err, b[max(0, len(b)-2000):])
	}
	found, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(found) != 1 {
		return 0, 0, fmt.Errorf("blender wrote %q: %w", found, errors.Join(err, errors.New("one file was expected")))
	}
	fi, err := os.Stat(found[0])
	if err != nil {
		return 0, 0, err
	}
	w.stop()
	fmt.Fprintf(os.Stderr, "  Blender alone: %d bytes, written in %.1f s\n", fi.Size(), fi.ModTime().Sub(w.delivered).Seconds())
	return fi.Size(), fi.ModTime().Sub(w.delivered).Seconds(), nil
}

// resultWatch sees files appear.
type resultWatch struct {
	rendered  time.Time // a worker's Blender begins to write its picture
	written   time.Time // its last look at that file that saw it grow
	delivered time.Time // the first file in the output folder

	once sync.Once
	quit chan struct{}
	done chan struct{}
}

// watchResults looks below a worker's data folder, where one is named, and into
// an output folder until it is stopped.
func watchResults(worker, out string) *resultWatch {
	w := &resultWatch{quit: make(chan struct{}), done: make(chan struct{})}
	begun := time.Now()
	go func() {
		defer close(w.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var picture string
		var size int64
		for last := false; !last; {
			select {
			case <-w.quit:
				last = true // on a crowded machine the file came since the look before
			case <-tick.C:
			}
			if worker != "" && picture == "" {
				findPicture(worker, func(path string) bool {
					if fi, err := os.Stat(path); err == nil && fi.ModTime().After(begun) { // of this job
						picture, w.rendered = path, time.Now()
					}
					return picture != ""
				})
			}
			if fi, err := os.Stat(picture); picture != "" && err == nil && fi.Size() > size {
				size, w.written = fi.Size(), time.Now()
			}
			if w.delivered.IsZero() && slices.ContainsFunc(names(out), func(n string) bool { return n[0] != '.' }) {
				w.delivered = time.Now()
			}
		}
	}()
	return w
}

func (w *resultWatch) stop() {
	w.once.Do(func() { close(w.quit) })
	<-w.done
}

// names of the files in a folder that may not be there.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// findPicture shows files that a worker's Blender writes until one is taken.
func findPicture(dir string, take func(path string) bool) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil: // gone meanwhile
			return nil
		case e.IsDir() && slices.Contains([]string{"store", "blenders", "models"}, e.Name()):
			return fs.SkipDir
		case e.Name() == "frame.exr" && take(path):
			return fs.SkipAll
		}
		return nil
	})
}
