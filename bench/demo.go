package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/image/draw"

	"idlewild/job"
)

func init() {
	benchmarks["demo"] = benchmark{"the main job on this machine: a farm of three daemons, an edit, a cheat, a contact sheet", demo}
}

// demo walks one scene through a private farm of three processes: rendered,
// edited and submitted again, and once with a worker that cheats.
func demo(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	file := fs.String("file", "", "a .blend of yours (a scene is built if empty)")
	frames := fs.String("frames", "", "frames to render (1-24 of the built scene, the file's own of yours)")
	out := fs.String("out", filepath.Join("out", "demo"), "folder for the frames and the contact sheet")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	started := time.Now()
	outDir, err := filepath.Abs(*out)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(outDir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(outDir, 0o777); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	d := &demoRun{farm: f, out: outDir, own: *file == ""}
	if d.own {
		d.scene = filepath.Join(outDir, "project", "scene.blend")
		d.frames = "1-24"
		say("building the scene with Blender")
		if err := d.buildScene(ctx); err != nil {
			return nil, err
		}
	} else if d.scene, err = filepath.Abs(*file); err != nil {
		return nil, err
	}
	if *frames != "" {
		d.frames = *frames
	}

	if err := d.found(ctx); err != nil {
		return nil, err
	}
	first, err := d.submit(ctx, "first", d.frames)
	if err != nil {
		return nil, err
	}
	runs := []demoJob{first}
	if d.own {
		say("moving an object in Blender and saving the file")
		if err := d.buildScene(ctx, "--edit"); err != nil {
			return nil, err
		}
		again, err := d.submit(ctx, "edited", d.frames)
		if err != nil {
			return nil, err
		}
		runs = append(runs, again)
	}
	say("one of the two workers starts to cheat: it renders half of the samples")
	if err := d.sabotage(ctx); err != nil {
		return nil, err
	}
	// By now both workers are known, and so few of their frames are drawn for a
	// check that a cheat might get through six.
	cheated, err := d.submit(ctx, "cheated", firstFrames(d.frames, 6), "--recheck", "1")
	if err != nil {
		return nil, err
	}
	runs = append(runs, cheated)

	sheet := filepath.Join(outDir, "contact-sheet.png")
	if err := contactSheet(sheet, runs[0].status); err != nil {
		if d.own {
			return nil, err
		}
		say("%v", err) // a file of one's own may write another format
		sheet = "none"
	}
	d.table(runs)
	fmt.Fprintf(os.Stderr, "\nframes: %s\ncontact sheet: %s\n%.0f s in all\n", outDir, sheet, time.Since(started).Seconds())

	figures := []Figure{
		plain("frames delivered, first job", float64(first.status.Delivered), ""),
		plain("bytes to the workers, first job", float64(first.status.UploadedBytes), "B"),
	}
	if d.own {
		figures = append(figures, plain("bytes to the workers, after the edit", float64(runs[1].status.UploadedBytes), "B"))
	}
	figures = append(figures,
		plain("frames of the cheat rejected", float64(cheated.status.Rejected), ""),
		atMost("honest frames rejected", float64(first.status.Rejected), "", 0),
		atMost("the whole demo", time.Since(started).Seconds(), "s", 240))
	for _, r := range runs {
		if r.status.State != job.StateFinished {
			return figures, fmt.Errorf("job %q ended %s: %s", r.name, r.status.State, r.status.Reason)
		}
	}
	if cheated.status.Rejected == 0 {
		if !d.own && cheated.status.Rechecked == 0 {
			say("frames of this file cannot be checked by sampling (see: idlewild inspect %s), so nobody was caught", *file)
			return figures, nil
		}
		return figures, errors.New("the cheat was not caught")
	}
	return figures, nil
}

type demoRun struct {
	*farm
	out    string
	scene  string
	frames string
	own    bool // the scene is ours to edit
	artist *daemon
	honest *daemon
	cheat  *daemon
}

type demoJob struct {
	name   string
	status job.Status
	wall   time.Duration
}

func say(format string, a ...any) { fmt.Fprintf(os.Stderr, "\n== "+format+"\n", a...) }

// cli runs a command as a person would type it and shows it.
func (d *demoRun) cli(ctx context.Context, who *daemon, args ...string) ([]byte, error) {
	fmt.Fprintf(os.Stderr, "%s$ idlewild %s\n", who.name, strings.Join(args, " "))
	c := exec.CommandContext(ctx, d.bin, append(args, "--json")...)
	c.Env = who.env
	var errs strings.Builder
	c.Stderr = &errs
	b, err := c.Output()
	if err != nil {
		return b, fmt.Errorf("idlewild %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return b, nil
}

func (d *demoRun) buildScene(ctx context.Context, extra ...string) error {
	c := exec.CommandContext(ctx, "blender", append([]string{"-b", "--factory-startup", "--python-exit-code", "1",
		"-P", filepath.Join("render", "blender", "demo", "scene.py"), "--", "--out", filepath.Dir(d.scene)}, extra...)...)
	if b, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the scene: %w: %s", err, b[max(0, len(b)-2000):])
	}
	return nil
}

// found starts the artist's daemon and two workers, each on a core of its own
// and with other CPU kernels and another thread count than the checker: equal
// bits are not what makes a frame pass.
func (d *demoRun) found(ctx context.Context) error {
	say("a farm of three daemons")
	var err error
	if d.artist, err = d.start(ctx, "artist", nodeOptions{noWork: true, env: []string{"IDLEWILD_WORKER_HOME_THREADS=2"}}); err != nil {
		return err
	}
	if d.honest, err = d.start(ctx, "worker1", workerOn(0)); err != nil {
		return err
	}
	if d.cheat, err = d.start(ctx, "worker2", workerOn(1)); err != nil {
		return err
	}
	if _, err := d.cli(ctx, d.artist, "farm", "create", "demo"); err != nil {
		return err
	}
	for _, w := range []*daemon{d.honest, d.cheat} {
		b, err := d.cli(ctx, d.artist, "farm", "invite")
		if err != nil {
			return err
		}
		var invite struct {
			Ticket string `json:"ticket"`
		}
		if err := json.Unmarshal(b, &invite); err != nil {
			return fmt.Errorf("invite printed %q: %w", b, err)
		}
		if _, err := d.cli(ctx, w, "farm", "join", invite.Ticket); err != nil {
			return err
		}
	}
	return nil
}

func workerOn(core int) nodeOptions {
	return nodeOptions{
		cores: fmt.Sprint(core % runtime.NumCPU()),
		env:   []string{"IDLEWILD_WORKER_THREADS=1", "IDLEWILD_WORKER_ENV=CYCLES_CPU_NO_AVX2=1"},
	}
}

// sabotage restarts one worker as a cheat.
func (d *demoRun) sabotage(ctx context.Context) error {
	d.cheat.kill9()
	d.cheat.env = append(d.cheat.env, "IDLEWILD_WORKER_SABOTEUR=half-samples")
	return d.restart(ctx, d.cheat)
}

func (d *demoRun) submit(ctx context.Context, name, frames string, more ...string) (demoJob, error) {
	say("job %q", name)
	args := []string{"submit", d.scene, "-o", filepath.Join(d.out, name)}
	if frames != "" {
		args = append(args, "-f", frames)
	}
	args = append(args, more...)
	begun := time.Now()
	b, err := d.cli(ctx, d.artist, args...)
	if err != nil {
		return demoJob{}, err
	}
	var id struct {
		Job job.ID `json:"job"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return demoJob{}, fmt.Errorf("submit printed %q: %w", b, err)
	}
	names := map[string]string{}
	for _, w := range []*daemon{d.artist, d.honest, d.cheat} {
		if v, err := w.client.Status(ctx); err == nil {
			names[v.Machine.Peer] = w.name
		}
	}
	n := 0
	s, err := d.artist.wait(ctx, id.Job, func(e job.Event) {
		switch e.Type {
		case job.EventPhase, job.EventWarning, job.EventFailed, job.EventBroken:
			fmt.Fprintf(os.Stderr, "  %-9s %s %s %s\n", e.Type, e.Task, names[e.Worker], e.Text)
		case job.EventJudged:
			if e.Verdict != nil && e.Verdict.Ruling != job.Accepted {
				fmt.Fprintf(os.Stderr, "  %-9s frame %s of %s: %s\n", e.Verdict.Ruling, e.Task, names[e.Worker], e.Verdict.Reason)
			}
		case job.EventDelivered:
			n++
			fmt.Fprintf(os.Stderr, "  delivered %3d  frame %-5s %5.1f s\n", n, e.Task, time.Since(begun).Seconds())
		}
	})
	for i, w := range s.Workers {
		if n := names[w.Peer]; n != "" {
			s.Workers[i].Peer = n
		}
	}
	return demoJob{name: name, status: s, wall: time.Since(begun)}, err
}

func (d *demoRun) table(runs []demoJob) {
	w := os.Stderr
	fmt.Fprintf(w, "\n%-9s %7s %8s %11s %12s %12s %9s %9s\n", "job", "frames", "wall s", "efficiency", "bytes up", "bytes down", "rechecks", "rejected")
	for _, r := range runs {
		s := r.status
		fmt.Fprintf(w, "%-9s %7d %8.1f %11.2f %12d %12d %9d %9d\n", r.name, s.Delivered, r.wall.Seconds(), s.Efficiency, s.UploadedBytes, s.ResultBytes, s.Rechecked, s.Rejected)
		for _, p := range s.Workers {
			if p.Peer == d.artist.name {
				continue // finishing and checks, which are no share of the work
			}
			fmt.Fprintf(w, "  %-14s %3d frames, %6.1f s rendering of %6.1f s joined  %s\n", p.Peer, p.Tasks, p.RenderSeconds, p.JoinedSeconds, p.Resting)
		}
	}
}

// firstFrames keeps n frames of a simple range.
func firstFrames(frames string, n int) string {
	if frames == "" {
		return "" // the file's own range
	}
	var from, to int
	if c, err := fmt.Sscanf(frames, "%d-%d", &from, &to); c == 2 && err == nil && to-from >= n {
		return fmt.Sprintf("%d-%d", from, from+n-1)
	}
	return frames
}

// contactSheet puts small pictures of a job's frames into one PNG.
func contactSheet(path string, s job.Status) error {
	var files []string
	for _, t := range s.Frames {
		for _, name := range t.Files {
			if strings.EqualFold(filepath.Ext(name), ".png") {
				files = append(files, name)
			}
		}
	}
	slices.Sort(files)
	if len(files) == 0 {
		return errors.New("contact sheet: no PNG was delivered")
	}
	const width, gap, columns = 240, 4, 6
	var sheet *image.RGBA
	var height int
	for i, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("contact sheet: %s: %w", name, err)
		}
		if sheet == nil {
			b := img.Bounds()
			height = width * b.Dy() / b.Dx()
			rows := (len(files) + columns - 1) / columns
			sheet = image.NewRGBA(image.Rect(0, 0, columns*(width+gap)+gap, rows*(height+gap)+gap))
			draw.Draw(sheet, sheet.Bounds(), image.NewUniform(color.RGBA{24, 24, 24, 255}), image.Point{}, draw.Src)
		}
		x, y := gap+i%columns*(width+gap), gap+i/columns*(height+gap)
		draw.CatmullRom.Scale(sheet, image.Rect(x, y, x+width, y+height), img, img.Bounds(), draw.Over, nil)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(f, sheet); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
