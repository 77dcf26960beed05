package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"idlewild/media"
)

func init() {
	benchmarks["project"] = benchmark{"makes a production-like project of 2 GB: bench project DIR", project}
}

const projectMain = "main.blend"

// project makes a project as a studio has it, of seeds: a main scene, four
// libraries that it links and overrides, painted and packed textures, EXR
// heights and sky, an image sequence, volumes, disk caches of cloth and
// particles, a font, and Alembic where a Blender can write it. What is there
// already stays.
func project(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("project", flag.ContinueOnError)
	seed := fs.Uint64("seed", 1, "another seed is another project")
	scale := fs.Float64("scale", 1, "share of the full size")
	bpy := fs.String("bpy", "", "a Python that has the package bpy, for the Alembic cache if the Blender on the path has no Alembic")
	var dir string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		dir, args = args[0], args[1:]
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = fs.Arg(0)
	}
	if dir == "" {
		return nil, errors.New("name a folder: go run ./bench project DIR")
	}
	if *scale <= 0 || *scale > 10 {
		return nil, fmt.Errorf("--scale %g: say more than 0 and at most 10", *scale)
	}
	p := &projectMaker{seed: *seed, scale: *scale, bpy: *bpy}
	var err error
	if p.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := p.make(ctx); err != nil {
		return nil, err
	}
	files, bytes, err := countFiles(p.dir)
	if err != nil {
		return nil, err
	}
	blocks, err := p.datablocks()
	if err != nil {
		return nil, err
	}
	size := plain("bytes", float64(bytes), "B")
	count := plain("datablocks of the main scene", float64(blocks), "")
	if *scale >= 1 {
		size, count = atLeast("bytes", float64(bytes), "B", 2e9), atLeast("datablocks of the main scene", float64(blocks), "", 2000)
	}
	return []Figure{plain("files", float64(files), ""), size, count, plain("time of this run", time.Since(begun).Seconds(), "s")}, nil
}

// projectMaker fills a folder.
type projectMaker struct {
	dir   string
	seed  uint64
	scale float64
	bpy   string
	blend *blender
}

// projectStep makes one file. It is given a name to write to that becomes the
// file's when it is done.
type projectStep struct {
	file string
	make func(ctx context.Context, path string) error
}

func (p *projectMaker) make(ctx context.Context) error {
	scripts, err := os.MkdirTemp("", "idlewild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scripts)
	if p.blend, err = newBlender(scripts); err != nil {
		return err
	}
	for _, sub := range []string{"textures", "footage", "volumes", "fonts", "cache", "lib"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o777); err != nil {
			return err
		}
		// Of a run that was killed; later steps take every file of a folder.
		parts, err := filepath.Glob(filepath.Join(p.dir, sub, "part-*"))
		if err != nil {
			return err
		}
		for _, part := range parts {
			if err := os.Remove(part); err != nil {
				return err
			}
		}
	}
	var steps []projectStep
	steps = append(steps, p.pictures()...)
	steps = append(steps, p.volumes()...)
	steps = append(steps, projectStep{"cache/creature.abc", p.alembic}, projectStep{"fonts/title.woff2", p.font})
	if err := p.all(ctx, steps); err != nil {
		return err
	}
	steps = nil
	for _, name := range []string{"town", "nature", "characters", "props"} {
		steps = append(steps, projectStep{"lib/" + name + ".blend", func(ctx context.Context, path string) error {
			// Blender finds the folder by the path and saves whole files.
			_, err := p.blend.run(ctx, "", "library.py", "--name", name, "--seed", fmt.Sprint(p.seed), "--scale", fmt.Sprint(p.scale), "--out", path)
			return err
		}})
	}
	if err := p.all(ctx, steps); err != nil {
		return err
	}
	return p.main(ctx)
}

// all makes what is missing, on every core.
func (p *projectMaker) all(ctx context.Context, steps []projectStep) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan projectStep)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for s := range next {
				if err := p.step(ctx, s); err != nil {
					cancel(fmt.Errorf("%s: %w", s.file, err))
				}
			}
		})
	}
	for _, s := range steps {
		next <- s
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func (p *projectMaker) step(ctx context.Context, s projectStep) error {
	path := filepath.Join(p.dir, filepath.FromSlash(s.file))
	if _, err := os.Stat(path); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	begun := time.Now()
	part := filepath.Join(filepath.Dir(path), "part-"+filepath.Base(path))
	defer os.Remove(part)
	if err := s.make(ctx, part); err != nil {
		return err
	}
	fi, err := os.Stat(part)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the step said why
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "  %-28s %10d bytes, %.1f s\n", s.file, fi.Size(), time.Since(begun).Seconds())
	return os.Rename(part, path)
}

// some is a count that follows the scale.
func (p *projectMaker) some(n int) int {
	return max(2, int(math.Round(float64(n)*math.Min(1, p.scale))))
}

// side is a side of a picture that follows the scale.
func (p *projectMaker) side(n int) int {
	return max(128, int(float64(n)*math.Min(1, math.Sqrt(p.scale)))&^1)
}

func (p *projectMaker) pictures() []projectStep {
	var steps []projectStep
	paint := func(name string, seed uint64, side int) {
		steps = append(steps, projectStep{"textures/" + name, func(_ context.Context, path string) error {
			return writePNG(path, painted(p.seed<<16+seed, side, side))
		}})
	}
	for i := range p.some(34) {
		paint(fmt.Sprintf("paint%02d.png", i), uint64(i), p.side(4096))
	}
	for i := range 4 {
		paint(fmt.Sprintf("pack%d.png", i), uint64(100+i), p.side(2048))
	}
	for i := range 2 {
		steps = append(steps, projectStep{fmt.Sprintf("textures/height%d.exr", i), func(_ context.Context, path string) error {
			return media.WriteEXR(path, relief(rand.New(rand.NewPCG(p.seed, uint64(200+i))), p.side(4096)), false)
		}})
	}
	steps = append(steps, projectStep{"textures/sky.exr", func(_ context.Context, path string) error {
		return media.WriteEXR(path, heaven(rand.New(rand.NewPCG(p.seed, 300)), p.side(2048)), true)
	}})
	// One plate, seen through a slow pan, with the grain of each frame.
	plate := sync.OnceValue(func() *image.NRGBA { return painted(p.seed<<16+400, p.side(2400), p.side(1200)) })
	for i := range p.some(48) {
		steps = append(steps, projectStep{fmt.Sprintf("footage/plate_%04d.png", i+1), func(_ context.Context, path string) error {
			return writePNG(path, filmed(plate(), rand.New(rand.NewPCG(p.seed, uint64(500+i))), i, p.side(1920), p.side(1080)))
		}})
	}
	return steps
}

// relief is a landscape's height: noise at eight scales and the fine grain of
// a scan.
func relief(rng *rand.Rand, side int) *media.Image {
	n := newNoise(rng)
	data := make([]float32, side*side)
	for i := range data {
		x, y := float64(i%side)/float64(side), float64(i/side)/float64(side)
		v, weight := 0.0, 0.5
		for scale := 3.0; scale < 800; scale, weight = scale*2.1, weight*0.5 {
			v += weight * n.at(x*scale, y*scale)
		}
		data[i] = float32(v) + float32(rng.NormFloat64())*0.0004
	}
	return picture(side, side, media.Channel{Name: "Y", Sample: media.Float, Data: data})
}

// heaven is a sky with a sun and clouds, as light, twice as wide as high.
func heaven(rng *rand.Rand, height int) *media.Image {
	n := newNoise(rng)
	width := 2 * height
	planes := [3][]float32{}
	for c := range planes {
		planes[c] = make([]float32, width*height)
	}
	for i := range width * height {
		x, y := float64(i%width)/float64(width), float64(i/width)/float64(height)
		cloud := 0.0
		for scale, weight := 4.0, 0.5; scale < 300; scale, weight = scale*2.2, weight*0.55 {
			cloud += weight * n.at(x*scale*2, y*scale)
		}
		cloud = max(0, cloud+0.1)
		sun := 6 * math.Exp(-((x-0.3)*(x-0.3)*4+(y-0.2)*(y-0.2))*120)
		for c, tint := range [3]float64{0.25, 0.45, 0.9} {
			v := tint*(1-0.7*y) + cloud*0.8 + sun
			planes[c][i] = float32(v * (1 + 0.004*rng.NormFloat64()))
		}
	}
	return picture(width, height,
		media.Channel{Name: "R", Sample: media.Half, Data: planes[0]},
		media.Channel{Name: "G", Sample: media.Half, Data: planes[1]},
		media.Channel{Name: "B", Sample: media.Half, Data: planes[2]})
}

func picture(width, height int, channels ...media.Channel) *media.Image {
	return &media.Image{Width: width, Height: height, FrameWidth: width, FrameHeight: height, Channels: channels}
}

// filmed is a frame of footage of a plate.
func filmed(plate *image.NRGBA, rng *rand.Rand, frame, width, height int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			p := plate.NRGBAAt((x+3*frame)%plate.Rect.Dx(), (y+frame/2)%plate.Rect.Dy())
			grain := int(rng.NormFloat64() * 1.5)
			add := func(v uint8) uint8 { return uint8(max(0, min(255, int(v)+grain))) }
			img.SetNRGBA(x, y, color.NRGBA{add(p.R), add(p.G), add(p.B), 255})
		}
	}
	return img
}

func (p *projectMaker) volumes() []projectStep {
	n := newNoise(rand.New(rand.NewPCG(p.seed, 600)))
	side := max(32, int(272*math.Min(1, math.Cbrt(p.scale))))
	var steps []projectStep
	for i := range p.some(48) {
		steps = append(steps, projectStep{fmt.Sprintf("volumes/smoke_%04d.vdb", i+1), func(_ context.Context, path string) error {
			return smoke(n, side, i).write(path)
		}})
	}
	return steps
}

// alembic is written by the Blender on the path if it can, else by the
// package bpy if one is named.
func (p *projectMaker) alembic(ctx context.Context, path string) error {
	args := []string{"--seed", fmt.Sprint(p.seed), "--scale", fmt.Sprint(p.scale), "--out", path}
	if p.bpy != "" {
		out, err := exec.CommandContext(ctx, p.bpy, append([]string{filepath.Join(p.blend.dir, "alembic.py"), "--"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", p.bpy, err, out[max(0, len(out)-1000):])
		}
		return nil
	}
	if _, err := p.blend.run(ctx, "", "alembic.py", args...); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		fmt.Fprintln(os.Stderr, "  no Alembic cache: this Blender is built without Alembic; --bpy names a Python whose bpy has it")
	}
	return nil
}

// font copies one that Blender comes with.
func (p *projectMaker) font(ctx context.Context, path string) error {
	out, err := p.blend.run(ctx, "", "font.py")
	if err != nil {
		return err
	}
	for l := range strings.Lines(out) {
		if from, ok := strings.CutPrefix(strings.TrimSpace(l), "font "); ok {
			return copyFile(path, from)
		}
	}
	return errors.New("Blender comes without a font")
}

// mainDone holds the number of datablocks and says that the main scene is
// whole: it is saved twice, before and after its simulations are baked.
const mainDone = "datablocks.txt"

func (p *projectMaker) main(ctx context.Context) error {
	if _, err := p.datablocks(); err == nil {
		return nil
	}
	begun := time.Now()
	if err := os.RemoveAll(filepath.Join(p.dir, "blendcache_main")); err != nil {
		return err
	}
	path := filepath.Join(p.dir, projectMain)
	out, err := p.blend.run(ctx, "", "main.py", "--seed", fmt.Sprint(p.seed), "--scale", fmt.Sprint(p.scale), "--out", path)
	if err != nil {
		return err
	}
	for l := range strings.Lines(out) {
		if n, ok := strings.CutPrefix(l, "datablocks "); ok {
			fmt.Fprintf(os.Stderr, "  %-28s with its caches, %.1f s\n", projectMain, time.Since(begun).Seconds())
			return os.WriteFile(filepath.Join(p.dir, mainDone), []byte(n), 0o666)
		}
	}
	return fmt.Errorf("main.py did not say how many datablocks there are: %s", out[max(0, len(out)-1000):])
}

func (p *projectMaker) datablocks() (int, error) {
	b, err := os.ReadFile(filepath.Join(p.dir, mainDone))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func countFiles(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			files, bytes = files+1, bytes+fi.Size()
		}
		return err
	})
	return files, bytes, err
}
