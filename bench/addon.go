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
	Began  float64 `json:"-"` // by the daemon's log
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
	d, err := f.start(ctx, "desk", nodeOptions{})
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
	return append(figures,
		Figure{Name: "first submission: click to first frame given out", Value: r.Runs[0].Given, Unit: "s", Holds: true},
		Figure{Name: "after a small edit, worst of three: click to job taken", Value: slow.Taken, Unit: "s", Holds: true},
		Figure{Name: "  to looked at", Value: slow.Looked, Unit: "s", Holds: true},
		Figure{Name: "  to stored", Value: slow.Stored, Unit: "s", Holds: true},
		Figure{Name: "  to first frame given out", Value: slow.Given, Unit: "s", Goal: "<= 3", Holds: slow.Given <= 3},
		Figure{Name: "  to first frame begun by the renderer, worst", Value: began.Began, Unit: "s", Goal: "<= 3", Holds: began.Began <= 3,
			Peers: []Peer{{"Blender alone saves and opens the file, no farm", began.Plain + r.Open}}},
	), nil
}

// endedLine is what the daemon logs at the end of a task of the CPU device.
var endedLine = regexp.MustCompile(`(?m)^time=(\S+) .*msg="task ended" .*device=cpu outcome=succeeded .*render=(\S+)`)

// addonBegins reads from the daemon's log when each submission's one frame
// began to render.
func addonBegins(log string, runs []addonTimes) error {
	ends := endedLine.FindAllStringSubmatch(log, -1)
	if len(ends) != len(runs) {
		return fmt.Errorf("the log tells of %d rendered frames, %d were submitted", len(ends), len(runs))
	}
	for i, e := range ends {
		at, err := time.Parse(time.RFC3339Nano, e[1])
		if err != nil {
			return err
		}
		took, err := time.ParseDuration(e[2])
		if err != nil {
			return err
		}
		runs[i].Began = float64(at.Add(-took).UnixNano())/1e9 - runs[i].Clicked
	}
	return nil
}
