package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func init() {
	benchmarks["addon"] = benchmark{"what submitting from Blender costs the artist: 2 000 datablocks and 500 files", addonBench}
}

//go:embed addon.py
var addonScript []byte

// addonTimes are those of one submission.
type addonTimes struct {
	Held  float64 `json:"held_s"` // the main thread, by one submission
	Save  float64 `json:"save_s"` // of it Blender's own save
	Plain float64 `json:"plain_save_s"`
	// From the click until the daemon has the job, has looked at it, has
	// stored it, has given out a frame, and until its render begins.
	Taken  float64 `json:"taken_s"`
	Looked float64 `json:"looked_s"`
	Stored float64 `json:"stored_s"`
	Given  float64 `json:"given_s"`
	// By the daemon's log, until the content is unpacked for the renderer, until
	// the renderer has it open, and until the render begins.
	Unpacked float64 `json:"-"`
	Opened   float64 `json:"-"`
	Began    float64 `json:"-"`
	// When the click was, in seconds since 1970.
	Clicked float64 `json:"clicked_unix_s"`
}

// addonRun is what addon.py writes.
type addonRun struct {
	Runs       []addonTimes `json:"runs"`
	Tick       float64      `json:"tick_s"`
	Idle       float64      `json:"idle"`
	Open       float64      `json:"open_s"` // Blender's own opening of the file
	SizeBytes  int64        `json:"size_bytes"`
	Datablocks int          `json:"datablocks"`
}

// addonBench submits from a real Blender to a daemon that renders by itself.
func addonBench(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("addon", flag.ContinueOnError)
	megabytes := flags.Int("mb", 0, "megabytes of geometry in the file beyond its datablocks")
	onlyHeld := flags.Bool("held", false, "measure the main thread alone: jobs are cancelled once they are taken, and less memory is needed")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	d, err := f.start(ctx, "desk", nodeOptions{env: []string{"IDLEWILD_LOG_LEVEL=debug"}}) // its log tells the phases
	if err != nil {
		return nil, err
	}
	zip, script, report, project := filepath.Join(f.dir, "addon.zip"), filepath.Join(f.dir, "addon.py"), filepath.Join(f.dir, "report.json"), filepath.Join(f.dir, "project")
	if out, err := exec.CommandContext(ctx, f.bin, "addon", "zip", "-o", zip, "--data-dir", d.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("idlewild addon zip: %w: %s", err, out)
	}
	if err := os.WriteFile(script, addonScript, 0o600); err != nil {
		return nil, err
	}
	say("a project with %d MB of geometry, submitted four times", *megabytes)
	c := exec.CommandContext(ctx, "blender", "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--",
		project, zip, strconv.Itoa(*megabytes), report, strconv.FormatBool(*onlyHeld))
	c.Env = append(os.Environ(), "IDLEWILD_DATA_DIR="+d.dir)
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("blender: %w: %s", err, out[max(0, len(out)-1500):])
	}
	b, err := os.ReadFile(report)
	if err != nil {
		return nil, err
	}
	var r addonRun
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	var over, plain, held []float64
	for _, x := range r.Runs {
		over = append(over, 1000*(x.Held-x.Save))
		held, plain = append(held, 1000*x.Held), append(plain, 1000*x.Plain)
	}
	worst := slices.Max(over)
	figures := []Figure{
		{Name: "datablocks", Value: float64(r.Datablocks), Unit: "", Holds: true},
		{Name: "file", Value: float64(r.SizeBytes) / 1e6, Unit: "MB", Holds: true},
		{Name: "main thread blocked by a submission, worst", Value: slices.Max(held), Unit: "ms", Holds: true,
			Peers: []Peer{{"Blender's own save of a copy, worst", slices.Max(plain)}}},
		{Name: "of it beside Blender's save, worst", Value: worst, Unit: "ms", Goal: "<= 300", Holds: worst <= 300},
		{Name: "longest drain of the queue", Value: 1000 * r.Tick, Unit: "ms", Goal: "<= 20", Holds: r.Tick <= 0.02},
		{Name: "share of a core while nothing happens", Value: 100 * r.Idle, Unit: "%", Goal: "<= 0.5", Holds: r.Idle <= 0.005},
	}
	if *onlyHeld {
		return figures, nil
	}
	log, err := os.ReadFile(filepath.Join(f.dir, "desk.log"))
	if err != nil {
		return nil, err
	}
	if err := addonBegins(string(log), r.Runs); err != nil {
		return nil, err
	}
	slow := slices.MaxFunc(r.Runs[1:], func(a, b addonTimes) int { return cmp.Compare(a.Given, b.Given) }) // the first one stores the project
	began := slices.MaxFunc(r.Runs[1:], func(a, b addonTimes) int { return cmp.Compare(a.Began, b.Began) })
	figures = append(figures,
		Figure{Name: "first submission: click to first frame given out", Value: r.Runs[0].Given, Unit: "s", Holds: true},
		Figure{Name: "after a small edit, worst of three: click to job taken", Value: slow.Taken, Unit: "s", Holds: true},
		Figure{Name: "  to looked at", Value: slow.Looked, Unit: "s", Holds: true},
		Figure{Name: "  to stored", Value: slow.Stored, Unit: "s", Holds: true},
		Figure{Name: "  to first frame given out", Value: slow.Given, Unit: "s", Goal: "<= 3", Holds: slow.Given <= 3},
		Figure{Name: "  to first frame begun by the renderer, worst", Value: began.Began, Unit: "s", Goal: "<= 3", Holds: began.Began <= 3,
			Peers: []Peer{{"Blender alone saves and opens the file, no farm", began.Plain + r.Open}}},
	)
	for i, x := range r.Runs[1:] {
		for _, p := range x.phases() {
			p.Name = fmt.Sprintf("edit %d: %s", i+1, p.Name)
			figures = append(figures, p)
		}
	}
	return figures, nil
}

// phases are the parts of the way from the click to the begin of the render.
func (x addonTimes) phases() []Figure {
	var out []Figure
	before := 0.0
	for _, p := range []struct {
		name string
		end  float64
	}{
		{"saved and taken", x.Taken}, {"looked at", x.Looked}, {"stored", x.Stored}, {"planned and given out", x.Given},
		{"unpacked", x.Unpacked}, {"linked into the renderer and opened", x.Opened}, {"render begun", x.Began},
	} {
		out = append(out, Figure{Name: p.name, Value: p.end - before, Unit: "s", Holds: true})
		before = p.end
	}
	return out
}

// What the daemon logs of a task of the CPU device: content is there, a session
// has opened it, the task has ended.
var (
	unpackedLine = regexp.MustCompile(`msg="content unpacked"`)
	openedLine   = regexp.MustCompile(`msg="(?:spare session has its content|session started)"`)
	endedLine    = regexp.MustCompile(`msg="task ended" .*device=cpu outcome=succeeded .*render=(\S+)`)
)

// addonBegins reads from the daemon's log when each submission's content was
// unpacked and opened, and when its one frame began to render. A spare or a session
// of the home device may start meanwhile: of several the last before the begin counts.
func addonBegins(log string, runs []addonTimes) error {
	n := 0
	var unpacked time.Time
	var opened []time.Time
	for line := range strings.Lines(log) {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			continue // not of the log's own
		}
		switch {
		case unpackedLine.MatchString(line):
			unpacked = at
			continue
		case openedLine.MatchString(line):
			opened = append(opened, at)
			continue
		}
		m := endedLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if n == len(runs) {
			return fmt.Errorf("the log tells of more than the %d frames that were submitted", len(runs))
		}
		took, err := time.ParseDuration(m[1])
		if err != nil {
			return err
		}
		began := at.Add(-took)
		x := &runs[n]
		since := func(t time.Time) float64 { return float64(t.UnixNano())/1e9 - x.Clicked }
		if unpacked.IsZero() {
			return fmt.Errorf("the log does not tell when the content of frame %d was unpacked", n+1)
		}
		ready := unpacked
		for _, t := range opened {
			if t.After(ready) && t.Before(began.Add(beginSlack)) {
				ready = t
			}
		}
		if ready.Equal(unpacked) {
			return fmt.Errorf("the log does not tell when the content of frame %d was opened", n+1)
		}
		x.Unpacked, x.Opened, x.Began = since(unpacked), since(ready), since(began)
		unpacked, opened = time.Time{}, nil
		n++
	}
	if n != len(runs) {
		return fmt.Errorf("the log tells of %d rendered frames, %d were submitted", n, len(runs))
	}
	return nil
}

// beginSlack: the begin is reckoned from the end of the task, when the frame was
// copied out as well, so that it may seem to be before the session was ready.
const beginSlack = 250 * time.Millisecond
