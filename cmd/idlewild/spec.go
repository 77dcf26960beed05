package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
	"idlewild/render/ai"
	"idlewild/render/blender/install"
)

// overrides are the flags that replace values of the file for one job.
func overrides() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "scene", DefaultText: "the file's", Usage: "render the scene `NAME`"},
		&cli.StringFlag{Name: "camera", DefaultText: "the file's", Usage: "use the camera `NAME` throughout, whatever markers say"},
		&cli.StringFlag{Name: "view-layer", DefaultText: "all", Usage: "render only the view layer `NAME`"},
		&cli.StringFlag{Name: "engine", DefaultText: "the file's", Usage: "render with the engine `NAME`"},
		&cli.IntFlag{Name: "samples", DefaultText: "the file's", Usage: "take `N` samples per pixel"},
		&cli.StringFlag{Name: "resolution", DefaultText: "the file's", Usage: "size of the picture, `WxH` pixels"},
		&cli.StringFlag{Name: "precision", DefaultText: "float", Usage: "`WHAT` is float, or half: frames cross the network in a third of the bytes, and 8-bit pixels may differ by one step"},
		&cli.BoolFlag{DisableDefaultText: true, Name: "bake", Usage: "have one machine bake what simulations of the file are not baked, before all frames"},
		&cli.BoolFlag{DisableDefaultText: true, Name: "no-sequencer", Usage: "render the scene itself where strips of the video sequencer would replace it"},
		&cli.StringFlag{Name: "ocio", EnvVars: []string{"OCIO"}, DefaultText: "Blender's own", Usage: "colours by the OpenColorIO configuration `FILE`"},
		&cli.StringFlag{Name: blenderFlag, DefaultText: "the one that saved the file", Usage: "render with the Blender `VERSION|PATH`"},
		&cli.StringFlag{Name: "kind", Usage: "sort of job; by default the file decides on the `KIND`"},
		&cli.StringFlag{Name: "params", Usage: "parameters of the kind itself, as `JSON`"},
		&cli.StringFlag{Name: "model", Usage: "AI jobs: the `MODEL`, an ONNX file or one that was added"},
		&cli.StringFlag{Name: "upscale", DefaultText: "not", Usage: "make frames larger, too, by a `MODEL`: an ONNX file, one that was added, or 2 for the one called upscale2; AI jobs: the pictures of a folder so many times"},
	}
}

// specFlags are those of a whole job.
func specFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "frames", DefaultText: "the file's", Aliases: []string{"f"}, Usage: "`LIST` of frames, as 1-250x5,300"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "put finished files into the folder `DIR`"},
		&cli.Float64Flag{Name: "recheck", DefaultText: "the farm's", Usage: "check the share `RATE` of results, 0 to 1"},
		&cli.BoolFlag{DisableDefaultText: true, Name: "only-missing", Usage: "leave out frames whose files are in the folder already"},
		&cli.StringFlag{Name: "parts", DefaultText: "auto", Usage: "cut frames into parts: `HOW` is auto, no, tiles as 4x2 or ranges of samples as 8s"},
		&cli.StringFlag{Name: "video", DefaultText: "the file's", Usage: "make a film of the frames: `CODEC` is h264, h265, av1, prores or none"},
		&cli.StringFlag{Name: "finish", DefaultText: "requester", Usage: "where files are made of what was rendered: `PLACE` is requester, member or worker"},
		&cli.IntFlag{Name: "priority", Usage: "go before your jobs of a lower `N`"},
		&cli.Float64Flag{Name: "max-price", DefaultText: "0: free work only", Usage: "pay at most `PRICE` for a second of a device"},
		&cli.IntFlag{Name: "max-workers", DefaultText: "all", Usage: "have at most `N` machines work on it at a time"},
		&cli.DurationFlag{Name: "budget", DefaultText: "none", Usage: "ask for nothing more once `TIME` of devices is used or promised, as 20h"},
		&cli.StringFlag{Name: "deadline", DefaultText: "none", Usage: "be done at `WHEN`: in 8h, at 2026-05-01T09:00, or at 09:00 next"},
		&cli.BoolFlag{DisableDefaultText: true, Name: "interactive", Usage: "somebody waits for it: it goes before all other jobs of yours, and machines put those down"},
		&cli.BoolFlag{DisableDefaultText: true, Name: "exact", Usage: "ship the file's own bytes"},
	}, overrides()...)
}

// specOptions reads the flags into options, refusing what cannot be meant.
func (k *call) specOptions() (node.SpecOptions, error) {
	o := node.SpecOptions{
		Kind: k.String("kind"), Frames: k.String("frames"),
		Scene: k.String("scene"), Camera: k.String("camera"), ViewLayer: k.String("view-layer"),
		Engine: k.String("engine"), Samples: k.Int("samples"), Precision: k.String("precision"), Bake: k.Bool("bake"), NoSequencer: k.Bool("no-sequencer"),
		OnlyMissing: k.Bool("only-missing"), Parts: k.String("parts"), Exact: k.Bool("exact"),
		Video: k.String("video"), Finish: k.String("finish"), Stewards: k.StringSlice("steward"),
	}
	if err := k.limits(&o); err != nil {
		return o, err
	}
	o.Model, o.Upscale = k.String("model"), k.String("upscale")
	if n, err := strconv.Atoi(o.Upscale); err == nil && n < 2 {
		return o, usagef("--upscale is %d; it must be at least 2", n)
	}
	if ai.IsPath(o.Upscale) {
		abs, err := absolute(o.Upscale)
		if err != nil {
			return o, err
		}
		o.Upscale = abs
	}
	if ai.IsPath(o.Model) {
		abs, err := absolute(o.Model)
		if err != nil {
			return o, err
		}
		o.Model = abs
	}
	if o.Kind != "" || o.Upscale != "" {
		cfg, _, err := k.config()
		if err != nil {
			return o, err
		}
		o.Config = cfg
	}
	if o.Blender = k.String(blenderFlag); strings.ContainsAny(o.Blender, `/\\`) {
		abs, err := absolute(o.Blender)
		if err != nil {
			return o, err
		}
		o.Blender = install.Resolve(abs)
		k.asked = o.Blender
	}
	if k.IsSet("samples") && o.Samples < 1 {
		return o, usagef("--samples is %d; it must be at least 1", o.Samples)
	}
	if r := k.String("resolution"); r != "" {
		var err error
		if o.Width, o.Height, err = parsePair(r); err != nil {
			return o, usagef("--resolution %q: %v; it is a width and a height, as 1920x1080", r, err)
		}
	}
	if _, err := job.ParseCut(o.Parts); err != nil {
		return o, usagef("--%v", err)
	}
	if _, err := job.ParseFinish(o.Finish); err != nil {
		return o, usagef("--%v", err)
	}
	if k.IsSet("recheck") {
		r := k.Float64("recheck")
		if !(r >= 0 && r <= 1) {
			return o, usagef("--recheck is %v; it must lie between 0 and 1", r)
		}
		o.Recheck = &r
	}
	if o.OCIO = k.String("ocio"); o.OCIO != "" && !strings.HasPrefix(o.OCIO, "ocio://") {
		var err error
		if o.OCIO, err = absolute(o.OCIO); err != nil {
			return o, err
		}
	}
	if s := k.String("params"); s != "" {
		if !json.Valid([]byte(s)) {
			return o, usagef("--params is not valid JSON")
		}
		o.Params = json.RawMessage(s)
	}
	if out := k.String("output"); out != "" {
		abs, err := absolute(out)
		if err != nil {
			return o, err
		}
		o.Output = abs
	}
	return o, nil
}

// limits reads what a job may take and when it should be there.
func (k *call) limits(o *node.SpecOptions) error {
	o.Priority, o.MaxPrice = k.Int("priority"), k.Float64("max-price")
	o.Limits = job.Limits{MaxWorkers: k.Int("max-workers"), Budget: k.Duration("budget").Seconds(), Interactive: k.Bool("interactive")}
	if k.IsSet("max-workers") && o.Limits.MaxWorkers < 1 {
		return usagef("--max-workers is %d; it must be at least 1", o.Limits.MaxWorkers)
	}
	if k.IsSet("budget") && !(o.Limits.Budget > 0) {
		return usagef("--budget is %v; it must be a time of devices, as 20h", k.Duration("budget"))
	}
	if s := k.String("deadline"); s != "" {
		d, err := deadline(s, time.Now())
		if err != nil {
			return err
		}
		o.Limits.Deadline = d
	}
	if err := (job.Policy{Priority: o.Priority, MaxPrice: o.MaxPrice, Limits: o.Limits}).Validate(); err != nil {
		return usagef("--%v", err)
	}
	return nil
}

// deadline reads a time: how long from now, a date with a time, or a time of
// the day, the next that comes.
func deadline(s string, now time.Time) (time.Time, error) {
	in := func() time.Time {
		if d, err := time.ParseDuration(s); err == nil {
			return now.Add(d)
		}
		for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
			if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
				return t
			}
		}
		if t, err := time.ParseInLocation("15:04", s, now.Location()); err == nil {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
			if !t.After(now) {
				t = t.AddDate(0, 0, 1)
			}
			return t
		}
		return time.Time{}
	}()
	switch {
	case in.IsZero():
		return in, usagef("--deadline %q: say how long from now, as 8h, or when, as 2026-05-01T09:00 or 09:00", s)
	case !in.After(now):
		return in, usagef("--deadline %q has passed already", s)
	}
	return in.Truncate(time.Second), nil
}

// spec makes the job that the arguments ask for. Its file is the only one.
func (k *call) spec(needOutput bool) (job.Spec, error) {
	o, err := k.specOptions()
	if err != nil {
		return job.Spec{}, err
	}
	file := k.Args().First()
	if file == "" && o.Kind == "" {
		return job.Spec{}, usagef("no file named; see: idlewild %s --help", commandPath(k.Context))
	}
	if needOutput && o.Output == "" {
		return job.Spec{}, usagef("no folder for finished files; name one with -o DIR")
	}
	if file != "" {
		if file, err = absolute(file); err != nil {
			return job.Spec{}, err
		}
	}
	s, err := node.SpecFor(file, o)
	if err != nil && !errors.Is(err, job.ErrRefused) {
		return s, usage{err}
	}
	return s, err
}

func parsePair(s string) (w, h int, err error) {
	a, b, ok := strings.Cut(s, "x")
	if !ok {
		return 0, 0, fmt.Errorf("no x in it")
	}
	const most = 1 << 16
	if w, err = strconv.Atoi(a); err != nil || w < 1 || w > most {
		return 0, 0, fmt.Errorf("%q is not a number from 1 to %d", a, most)
	}
	if h, err = strconv.Atoi(b); err != nil || h < 1 || h > most {
		return 0, 0, fmt.Errorf("%q is not a number from 1 to %d", b, most)
	}
	return w, h, nil
}

func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("the current folder is gone: %w", err)
	}
	return abs, nil
}
