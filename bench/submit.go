package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["submit"] = benchmark{"what the artist waits for: submit to first sample over 20 Mbit/s, first time and after an edit", submitBench}
}

// submitBench submits one frame of a project from one daemon to another over
// a link of limited rate, moves an object and submits again. Beside it stands
// plain Blender on the same file and machine.
func submitBench(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("submit", flag.ContinueOnError)
	dir := flags.String("project", "", "folder of go run ./bench project")
	rate := flags.Float64("rate", 20, "Mbit/s of the link, each direction")
	skip := flags.Bool("skip-first", false, "let the first submission pass without a limit; its figures are left out")
	frame := flags.Int("frame", 12, "the frame to render")
	edits := flags.Int("edits", 3, "how often the file is edited and submitted again")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *dir == "" {
		return nil, errors.New("name a project: go run ./bench project DIR, then --project DIR")
	}
	if *rate <= 0 || *edits < 1 {
		return nil, errors.New("--rate must be more than 0, --edits at least 1")
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	s := &submitRun{farm: f, frame: *frame, project: filepath.Join(f.dir, "project")}
	if s.blend, err = newBlender(f.dir); err != nil {
		return nil, err
	}
	say("a copy of the project")
	if err := linkTree(s.project, *dir); err != nil {
		return nil, err
	}
	if s.link, err = newWireLink(ctx); err != nil {
		return nil, err
	}
	defer s.link.close()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if !*skip {
		if err := s.link.limit(ctx, *rate); err != nil {
			return nil, err
		}
	}
	say("the first submission, %s", map[bool]string{true: "without a limit", false: fmt.Sprintf("at %g Mbit/s", *rate)}[*skip])
	first, err := s.submit(ctx, "first")
	if err != nil {
		return nil, err
	}
	if err := s.link.limit(ctx, *rate); err != nil {
		return nil, err
	}
	var all []submitted
	var plains []loading
	for i := range *edits {
		say("an object is moved and the file is submitted again, at %g Mbit/s", *rate)
		main := filepath.Join(s.project, projectMain)
		if _, err := s.blend.run(ctx, main, "edit.py", "--edit", "move", "--packed", main); err != nil {
			return nil, err
		}
		again, err := s.submit(ctx, fmt.Sprintf("edit%d", i+1))
		if err != nil {
			return nil, err
		}
		all = append(all, again)
		l, err := s.plain(ctx)
		if err != nil {
			return nil, err
		}
		plains = append(plains, l)
		fmt.Fprintf(os.Stderr, "  plain Blender: loaded after %.1f s, rendering after %.1f s, first sample after %.1f s\n", l.loaded, l.rendering, l.sample)
	}
	// A worker says when its Blender begins a frame, but not when the first
	// sample comes. In between Cycles copies the scene, as in plain Blender.
	loaded := median(pick(plains, func(l loading) float64 { return l.loaded }))
	rendering := median(pick(plains, func(l loading) float64 { return l.rendering }))
	sync := median(pick(plains, func(l loading) float64 { return l.sample - l.rendering }))
	edited := median(pick(all, func(v submitted) float64 { return v.rendering }))
	var figures []Figure
	if !*skip {
		figures = append(figures,
			plain("first: submit to first sample", first.rendering+sync, "s"),
			plain("first: bytes on the wire", float64(first.wire), "B"))
	}
	return append(figures,
		plain("plain Blender: start to file loaded", loaded, "s"),
		plain("plain Blender: start to frame begun", rendering, "s"),
		plain("plain Blender: start to first sample", rendering+sync, "s"),
		plain("edit: submit to planned", median(pick(all, func(v submitted) float64 { return v.planned })), "s"),
		plain("edit: submit to frame begun", edited, "s"),
		plain("edit: submit to first sample", edited+sync, "s"),
		plain("edit: bytes on the wire", median(pick(all, func(v submitted) float64 { return float64(v.wire) })), "B"),
		atMost("edit: first sample beyond plain Blender's", edited-rendering, "s", 5)), nil
}

type submitRun struct {
	*farm
	link      *wireLink
	blend     *blender
	project   string
	frame     int
	requester *daemon
	worker    *daemon
}

// start brings up a daemon at each end of the link.
func (s *submitRun) start(ctx context.Context) error {
	var err error
	at := func(i int, o nodeOptions) nodeOptions {
		e := s.link.ends[i]
		o.before = e.enter()
		o.env = append(o.env, "IDLEWILD_NETWORK_LISTEN=/ip4/"+e.address+"/tcp/0")
		return o
	}
	if s.requester, err = s.farm.start(ctx, "requester", at(0, nodeOptions{noWork: true})); err != nil {
		return err
	}
	if s.worker, err = s.farm.start(ctx, "worker", at(1, nodeOptions{})); err != nil {
		return err
	}
	return s.found(ctx, s.requester, s.worker)
}

// submitted is what one submission took, in seconds after the command began.
type submitted struct {
	planned   float64 // the job's tasks exist
	rendering float64 // the worker's Blender has loaded the file and begins the frame
	sample    float64 // and begins to sample it
	wire      int64   // bytes that crossed the link until the first sample
}

func (s *submitRun) submit(ctx context.Context, name string) (submitted, error) {
	var v submitted
	before, err := s.link.ends[0].bytes(ctx)
	if err != nil {
		return v, err
	}
	out := filepath.Join(s.dir, "out-"+name)
	c := exec.CommandContext(ctx, s.bin, "submit", filepath.Join(s.project, projectMain), "-o", out, "-f", fmt.Sprint(s.frame), "--json")
	c.Env = s.requester.env
	var errs strings.Builder
	c.Stderr = &errs
	begun := time.Now()
	b, err := c.Output()
	if err != nil {
		return v, fmt.Errorf("submit: %w: %s%s", err, errs.String(), b[max(0, len(b)-1000):])
	}
	var id struct {
		Job job.ID `json:"job"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return v, fmt.Errorf("submit printed %q: %w", b, err)
	}
	v.planned = time.Since(begun).Seconds()
	fmt.Fprintf(os.Stderr, "  %6.1f s planned\n", v.planned)
	last := ""
	var wireErr error
	status, err := s.requester.wait(ctx, id.Job, func(e job.Event) {
		at := e.Time.Sub(begun).Seconds()
		if said := string(e.Type) + " " + e.Text; said != last {
			last = said
			fmt.Fprintf(os.Stderr, "  %6.1f s %s %s\n", at, e.Type, e.Text)
		}
		if e.Type == job.EventProgress && e.Text == "rendering" && v.rendering == 0 {
			v.rendering = at
			var now int64
			now, wireErr = s.link.ends[0].bytes(ctx)
			v.wire = now - before
		}
	})
	if err != nil {
		return v, err
	}
	if status.State != job.StateFinished {
		return v, fmt.Errorf("job %s: %s", status.State, status.Reason)
	}
	if wireErr != nil {
		return v, wireErr
	}
	if v.rendering == 0 {
		return v, errors.New("the worker never said that it renders")
	}
	fmt.Fprintf(os.Stderr, "  the frame is begun %.1f s after submit; %d bytes on the wire until then\n", v.rendering, v.wire)
	return v, nil
}

// sampleLine is what Cycles prints when it begins to sample.
var sampleLine = regexp.MustCompile(`(?:Sample|Rendering) \d+ ?/ ?\d+`)

// loading is what plain Blender takes from its start, in seconds.
type loading struct{ loaded, rendering, sample float64 }

// plain renders the same frame of the same file with Blender alone, up to its
// first sample.
func (s *submitRun) plain(ctx context.Context) (loading, error) {
	var l loading
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, "blender", "-b", "--factory-startup", filepath.Join(s.project, projectMain),
		"--python-expr", fmt.Sprintf(`import bpy; print("loaded", flush=True); bpy.context.scene.frame_set(%d); print("rendering", flush=True)`, s.frame),
		"-o", filepath.Join(s.dir, "plain-####"), "-f", fmt.Sprint(s.frame))
	out, err := c.StdoutPipe()
	if err != nil {
		return l, err
	}
	c.Stderr = c.Stdout
	begun := time.Now()
	if err := c.Start(); err != nil {
		return l, fmt.Errorf("start Blender: %w", err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch text := lines.Text(); {
		case text == "loaded":
			l.loaded = time.Since(begun).Seconds()
		case text == "rendering":
			l.rendering = time.Since(begun).Seconds()
		case sampleLine.MatchString(text):
			l.sample = time.Since(begun).Seconds()
			cancel()
			io.Copy(io.Discard, out)
			c.Wait() // killed
			return l, nil
		}
	}
	return l, fmt.Errorf("plain Blender came to no sample: %w", errors.Join(lines.Err(), c.Wait()))
}

// linkTree makes a folder of hard links to another one's files, or of copies
// where that cannot be. Programs that replace a file leave the other's alone.
func linkTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		if e.IsDir() {
			return os.MkdirAll(at, 0o777)
		}
		if os.Link(path, at) == nil {
			return nil
		}
		return copyFile(at, path)
	})
}
