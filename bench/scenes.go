package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"idlewild/internal/scenes"
	"idlewild/media"
)

func init() {
	benchmarks["scenes"] = benchmark{"frames that went through the farm, whole and in tiles, against the same frames rendered locally", compareScenes}
}

// compareScenes renders frames of each scene in Blender, which opens the file anew for
// each, and through a whole farm, whose worker keeps what it can from frame to
// frame, and compares the files. Every second scene gets what a new Cycles scene has:
// adaptive sampling and denoising.
func compareScenes(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("scenes", flag.ContinueOnError)
	name := fs.String("program", "", "a Blender executable (default: blender on PATH)")
	python := fs.String("python", "", "instead: a Python that has the bpy package")
	parts := fs.String("parts", "no,2x2", "how frames are cut, one way after the other")
	sorts := fs.String("sorts", sceneSorts, "of the scenes that are made where no files are given")
	count := fs.Int("frames", 3, "frames of each scene")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	b, err := newBlendBench("")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	kind := "blender:blender"
	switch {
	case *python != "":
		kind = "python:" + *python
	case *name != "":
		kind = "blender:" + *name
	}
	if err := b.addProgram(ctx, kind); err != nil {
		return nil, err
	}
	if err := scenes.Scripts(b.scripts); err != nil { // plain.py bakes by one of them
		return nil, err
	}
	bin := filepath.Join(b.dir, "idlewild")
	if err := buildProgram(ctx, bin); err != nil {
		return nil, err
	}
	t := &sceneTable{blendBench: b, bin: bin, parts: strings.Split(*parts, ","), count: *count}
	var files []sceneFile
	for _, path := range fs.Args() {
		files = append(files, sceneFile{path: path})
	}
	if len(files) == 0 {
		if files, err = t.makeAll(ctx, strings.Split(*sorts, ",")); err != nil {
			return nil, err
		}
	}
	for i, file := range files {
		if err := t.scene(ctx, i, file); err != nil {
			return nil, err
		}
	}
	return t.figures(), nil
}

// sceneSorts are the sorts of scenes that the benchmark makes.
const sceneSorts = "data,bakes,views,strips"

// sceneFile is a scene of the table.
type sceneFile struct {
	path string
	bake bool // with --bake
}

// makeAll makes scenes of the sorts that are asked for.
func (t *sceneTable) makeAll(ctx context.Context, sorts []string) (out []sceneFile, err error) {
	p := t.programs[0]
	maker := scenes.Program{Path: p.path, Python: p.module}
	for _, sort := range sorts {
		dir := filepath.Join(t.dir, "made", sort)
		var made []string
		switch sort {
		case "data":
			if made, err = t.make(ctx); err != nil {
				return nil, err
			}
		case "bakes":
			names := []string{"cloth", "softbody", "particles", "rigid", "paint", "smoke"}
			if p.version >= 403 {
				names = append(names, "nodes")
			}
			for _, name := range names { // each in a folder of its own: caches lie beside the file
				at := filepath.Join(dir, name)
				if err = errors.Join(os.MkdirAll(at, 0o700), maker.Make(ctx, sort, at, name)); err != nil {
					return nil, err
				}
				made = append(made, filepath.Join(at, name+".blend"))
			}
		case "views", "strips":
			if err = errors.Join(os.MkdirAll(dir, 0o700), maker.Make(ctx, sort, dir)); err != nil {
				return nil, err
			}
			if made, err = filepath.Glob(filepath.Join(dir, "*.blend")); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("there is no sort of scenes %q, but %s", sort, sceneSorts)
		}
		for _, path := range made {
			out = append(out, sceneFile{path, sort == "bakes"})
		}
	}
	return out, nil
}

// sceneTable is one run of the benchmark.
type sceneTable struct {
	*blendBench
	bin   string
	parts []string
	count int // frames of each scene

	compared, equal, defaults, refused, failed int
	worst                                      float64
}

// scene compares one file and prints its line.
func (t *sceneTable) scene(ctx context.Context, i int, f sceneFile) error {
	file := f.path
	p := t.programs[0]
	dir := filepath.Join(t.dir, "scene", fmt.Sprint(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	folder := filepath.Join(dir, "project")
	if err := os.CopyFS(folder, os.DirFS(filepath.Dir(file))); err != nil {
		return err
	}
	file = filepath.Join(folder, filepath.Base(file))
	variant := filepath.Join(folder, "variant-"+filepath.Base(file))
	request, err := json.Marshal(map[string]any{"file": file, "copy": variant, "defaults": i%2 == 1, "out": dir, "count": t.count, "bake": f.bake})
	if err != nil {
		return err
	}
	say := func(format string, a ...any) {
		kind := "plain"
		if i%2 == 1 {
			kind = "defaults"
		}
		fmt.Fprintf(os.Stderr, "%-52s %-9s %s\n", trimScene(file), kind, fmt.Sprintf(format, a...))
	}
	plainCtx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out, runErr := p.command(plainCtx, filepath.Join(t.scripts, "plain.py"), "", false, string(request)).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var done struct {
		Frames []int
		Error  string
	}
	said, err := os.ReadFile(filepath.Join(dir, "plain.json"))
	if err == nil {
		err = json.Unmarshal(said, &done)
	}
	if err != nil {
		say("Blender ends: %v: %s", errors.Join(runErr, err), lastLine(out))
		return nil
	}
	want, err := numbered(filepath.Join(dir, "plain-*"))
	if err != nil {
		return err
	}
	for _, parts := range t.parts {
		have, why := t.farm(ctx, sceneFile{variant, f.bake}, filepath.Join(dir, "out-"+parts), done.Frames, parts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case strings.Contains(why, "; ") && !strings.HasPrefix(why, "the job failed"): // a refusal has a remedy
			t.refused++
			say("%-4s refused: %s", parts, why)
		case len(want) == 0:
			say("%-4s Blender writes no picture: %s", parts, done.Error)
		case why != "":
			t.failed++
			say("%-4s FAILED: %s", parts, why)
		default:
			worst, err := t.compare(want, have, i%2 == 1)
			if err != nil {
				t.failed++
				say("%-4s FAILED: %v", parts, err)
				continue
			}
			say("%-4s %d pictures, largest difference %.3g", parts, len(want), worst)
		}
	}
	return nil
}

// compare counts the pictures of one scene and returns their largest difference.
func (t *sceneTable) compare(want, have map[frameView]string, defaults bool) (worst float64, err error) {
	for n, file := range want {
		d, err := pictureDifference(file, have[n])
		if err != nil {
			return 0, fmt.Errorf("frame %d%s: %w", n.frame, n.view, err)
		}
		t.compared++
		if defaults {
			t.defaults++
		}
		if d == 0 {
			t.equal++
		}
		worst = max(worst, d)
	}
	t.worst = max(t.worst, worst)
	return worst, nil
}

// frameView is one picture: its frame, and what its file's name has after that
// where there are several views.
type frameView struct {
	frame int
	view  string
}

var lastNumber = regexp.MustCompile(`(\d+)(\D*)\.\w+$`)

// numbered are the files of a pattern by the numbers in their names.
func numbered(pattern string) (map[frameView]string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	out := map[frameView]string{}
	for _, file := range found {
		if m := lastNumber.FindStringSubmatch(file); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				out[frameView{n, m[2]}] = file
			}
		}
	}
	return out, nil
}

// farm renders through a farm inside one process; why says what kept it.
func (t *sceneTable) farm(ctx context.Context, f sceneFile, out string, frames []int, parts string) (have map[frameView]string, why string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	args := []string{"render", f.path, "-f", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(frames)), ","), "[]"), "-o", out, "--parts", parts, "--recheck", "0", "--log-level", "error"}
	if f.bake {
		args = append(args, "--bake")
	}
	c := exec.CommandContext(ctx, t.bin, args...)
	c.Env = append(os.Environ(), "IDLEWILD_BLENDER_PATH="+t.programs[0].path, "IDLEWILD_DATA_DIR="+filepath.Join(t.dir, "data"))
	said, err := c.CombinedOutput()
	if err != nil {
		return nil, lastLine(said)
	}
	have, err = numbered(filepath.Join(out, "*"))
	if err != nil {
		return nil, err.Error()
	}
	if len(have) == 0 {
		return nil, "no file was delivered"
	}
	return have, ""
}

func (t *sceneTable) figures() []Figure {
	return []Figure{
		plain("pictures compared", float64(t.compared), ""),
		plain("of them with adaptive sampling and denoising on", float64(t.defaults), ""),
		atLeast("of them equal to the last bit", float64(t.equal)/float64(max(t.compared, 1)), "", 1),
		atMost("largest difference of a sample", t.worst, "", 1e-5),
		plain("refused with a reason", float64(t.refused), ""),
		atMost("failed", float64(t.failed), "", 0),
	}
}

// pictureDifference is the largest difference between two pictures, in their own units:
// 1 is all of an integer file's range.
func pictureDifference(want, have string) (float64, error) {
	if filepath.Ext(want) != filepath.Ext(have) {
		return 0, fmt.Errorf("%s was delivered where Blender writes %s", filepath.Base(have), filepath.Base(want))
	}
	a, err := os.ReadFile(want)
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(have)
	if err != nil {
		return 0, err
	}
	if string(a) == string(b) {
		return 0, nil
	}
	x, err := media.DecodeFile(want, media.Limits{})
	if err != nil {
		return 0, fmt.Errorf("the bytes of %s differ, and it cannot be compared otherwise: %w", filepath.Base(have), err)
	}
	y, err := media.DecodeFile(have, media.Limits{})
	if err != nil {
		return 0, err
	}
	if x.Width != y.Width || x.Height != y.Height {
		return 0, fmt.Errorf("%dx%d pixels, Blender's picture has %dx%d", y.Width, y.Height, x.Width, x.Height)
	}
	worst := 0.0
	for _, c := range x.Channels {
		d, ok := y.Channel(c.Name)
		if !ok {
			return 0, fmt.Errorf("channel %s is missing", c.Name)
		}
		for i, v := range c.Data {
			if math.Float32bits(v) != math.Float32bits(d.Data[i]) && !(v != v && d.Data[i] != d.Data[i]) {
				worst = max(worst, math.Abs(float64(v)-float64(d.Data[i])))
			}
		}
	}
	return worst, nil
}

func trimScene(file string) string {
	return strings.TrimPrefix(filepath.Base(file), "variant-")
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "idlewild: ")
}
