package verify

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// render is one line of a jobs file of testdata/scenes.py.
type render struct {
	Scene     string  `json:"scene"`
	Out       string  `json:"out"`
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Samples   int     `json:"samples"`
	Offset    int     `json:"offset,omitempty"`
	Seed      int     `json:"seed,omitempty"`
	Frame     int     `json:"frame,omitempty"`
	Border    []int   `json:"border,omitempty"`
	Percent   int     `json:"percent,omitempty"`
	Adaptive  bool    `json:"adaptive,omitempty"`
	Threshold float64 `json:"threshold,omitempty"`
	BVH       bool    `json:"bvh,omitempty"`
	Half      bool    `json:"half,omitempty"`
	Dithered  bool    `json:"dithered,omitempty"` // by blue noise, where Blender has it
}

// studio renders with Blender into a folder.
type studio struct {
	t   *testing.T
	dir string
}

// run renders jobs in one process with that environment and number of threads.
func (s studio) run(name string, env []string, threads int, jobs []render) error {
	b, err := json.Marshal(jobs)
	if err != nil {
		return err
	}
	list := filepath.Join(s.dir, name+".json")
	if err := os.WriteFile(list, b, 0o666); err != nil {
		return err
	}
	cmd := exec.CommandContext(s.t.Context(), "blender", "-b", "--factory-startup", "-t", fmt.Sprint(threads),
		"--python-exit-code", "3", "-P", "testdata/scenes.py", "--", s.dir, list)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("blender %s: %w\n%s", name, err, out[max(0, len(out)-4000):])
	}
	return nil
}

func (s studio) path(name string) string { return filepath.Join(s.dir, name+".exr") }

func (s studio) image(name string) *media.Image {
	s.t.Helper()
	m, err := media.DecodeFile(s.path(name), media.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// shot is a scene as a job asks for it.
type shot struct {
	scene    string
	adaptive bool
	samples  int
	whole    bool // its crops are rendered at once
}

const shotW, shotH = 160, 90

func (s shot) name() string {
	switch {
	case s.adaptive:
		return s.scene + "-adaptive"
	case s.whole:
		return s.scene + "-whole"
	}
	return s.scene
}

func (s shot) check() job.CropCheck {
	return job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: shotW, Height: shotH, Samples: s.samples, Adaptive: s.adaptive, Whole: s.whole}
}

func (s shot) asked(dir studio, name string) render {
	return render{Scene: s.scene, Out: dir.path(s.name() + "_" + name), Width: shotW, Height: shotH, Samples: s.samples, Adaptive: s.adaptive, Dithered: s.whole}
}

func (s shot) part(dir studio, p job.Part) render {
	r := s.asked(dir, partName(p))
	if t := p.Tile; t != (job.Rect{}) {
		r.Border = []int{t.X0, t.Y0, t.X1, t.Y1}
	}
	if p.Samples != (job.Range{}) {
		r.Offset, r.Samples = p.Samples.From, p.Samples.To-p.Samples.From
	}
	return r
}

func partName(p job.Part) string {
	return fmt.Sprintf("%d_%d_%d_%d_%d_%d", p.Tile.X0, p.Tile.Y0, p.Tile.X1, p.Tile.Y1, p.Samples.From, p.Samples.To)
}

// claims are what workers render, on a machine unlike the checker's: honest
// ones, whose name begins with "honest", and the others.
func (s shot) claims(dir studio, slow bool) []render {
	var out []render
	add := func(name string, change func(*render)) {
		r := s.asked(dir, name)
		change(&r)
		out = append(out, r)
	}
	less := func(share float64) func(*render) {
		return func(r *render) { r.Samples = int(share*float64(s.samples) + 0.5) }
	}
	add("honest", func(*render) {})
	if !s.adaptive || slow {
		add("90 %", less(0.9))
	}
	add("75 %", less(0.75))
	add("50 %", less(0.5))
	add("seed", func(r *render) { r.Seed = 1 })
	add("previous", func(r *render) { r.Frame = 1 })
	add("upscaled", func(r *render) { r.Percent = 50 })
	if slow {
		add("honest half", func(r *render) { r.Half = true })
		add("25 %", less(0.25))
	}
	if s.adaptive && slow { // with few samples nothing stops early and there is nothing to save
		add("looser x1.2", func(r *render) { r.Threshold = 0.012 })
		add("looser x1.5", func(r *render) { r.Threshold = 0.015 })
		add("looser x2", func(r *render) { r.Threshold = 0.02 })
	}
	return out
}

// secret numbers the draws of a shot; draw 0 is rendered crop by crop, the
// others are cut from a whole frame, which is the same but for the outermost
// ring (asserted below).
func secret(n int) []byte { return []byte{byte(n), byte(n >> 8)} }

func TestBlenderHonestAgainstCheats(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: renders for most of a minute")
	}
	if _, err := exec.LookPath("blender"); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
			t.Fatal("blender is required and not installed")
		}
		t.Skip("NOT RUN: blender is not installed")
	}
	slow := os.Getenv("IDLEWILD_SLOW") != ""
	shots := []shot{{"glossy", false, 16, false}, {"interior", false, 16, false}, {"volume", false, 16, false}, {"hair", false, 16, false},
		{"glossy", true, 48, false}, {"interior", false, 16, true}}
	draws := 4 // every draw takes a second under the race detector; make test-long takes more
	if slow {
		draws = 60
		shots = []shot{{"glossy", false, 32, false}, {"interior", false, 32, false}, {"volume", false, 24, false}, {"hair", false, 32, false},
			{"glossy", true, 96, false}, {"interior", true, 96, false}, {"volume", true, 72, false}, {"hair", true, 96, false},
			{"glossy", false, 32, true}, {"interior", false, 32, true}, {"volume", false, 24, true}, {"hair", false, 32, true}}
	}
	dir := studio{t, t.TempDir()}

	// Build the scenes, then the two machines side by side.
	var build, mine, theirs, others []render
	for _, s := range shots {
		b := s.asked(dir, "built")
		b.Width, b.Height, b.Samples = 16, 9, 1
		build = append(build, b)
		challenge(t, s.check(), job.Part{}, secret(0), [32]byte{}, DrawOptions{}, func(p job.Part) (*media.Image, error) {
			mine = append(mine, s.part(dir, p))
			return nil, nil
		})
		whole := []job.Range{{}}
		if !s.adaptive && !s.whole {
			whole = Ranges(job.Range{To: s.samples}, nil, [32]byte{})
		}
		for _, r := range whole {
			mine = append(mine, s.part(dir, job.Part{Samples: r}))
		}
		if s.whole {
			r := s.asked(dir, "other seed")
			r.Seed = 7919
			mine = append(mine, r)
		}
		theirs = append(theirs, s.claims(dir, slow)...)
		r := s.asked(dir, "honest other")
		r.BVH = true
		others = append(others, r)
	}
	if err := dir.run("build", nil, 2, build); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	go func() { errs <- dir.run("mine", nil, 2, mine) }()
	go func() { errs <- dir.run("theirs", []string{"CYCLES_CPU_NO_AVX2=1"}, 1, theirs) }()
	go func() { errs <- dir.run("others", nil, 1, others) }()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range shots {
		t.Run(s.name(), func(t *testing.T) { judgeShot(t, dir, s, draws, slow) })
	}
}

func judgeShot(t *testing.T, dir studio, s shot, draws int, slow bool) {
	dir.t = t
	c := s.check()
	claims := map[string]*media.Image{}
	var names []string
	put := func(name string, m *media.Image) {
		if m.Width == shotW/2 {
			m = twice(m)
		}
		claims[name] = m
		names = append(names, name)
	}
	for _, r := range s.claims(dir, slow) {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(r.Out), s.name()+"_"), ".exr")
		put(name, dir.image(s.name()+"_"+name))
	}
	put("honest other", dir.image(s.name()+"_honest other"))
	for name, m := range tampered(claims["honest"], claims["50 %"]) {
		put(name, m)
	}
	slices.Sort(names)

	var sets [][]Crop
	for n := range draws {
		sets = append(sets, s.crops(dir, n))
	}
	// The checker's crops as 16-bit files, as a job may ask for them.
	for n, crops := range sets[:3] {
		crops = halved(t, crops)
		for _, name := range names {
			v := Compare(c, Claim{Image: claims[name]}, crops, DefaultThresholds())
			honest := strings.HasPrefix(name, "honest")
			if honest && v.Ruling != job.Accepted || !honest && name != "previous" && name != "brighter 5 %" && !strings.HasPrefix(name, "looser") && v.Ruling == job.Accepted {
				t.Errorf("%s, draw %d, half crops: %v %v", name, n, v, v.Numbers)
			}
		}
	}
	t.Logf("%-15s %8s %8s %8s | %-17s %-15s %-13s %s", s.name(), "accepted", "rejected", "unsure", "z50", "beta", "out", "sz")
	for _, name := range names {
		count := map[job.Ruling]int{}
		lo, hi := map[string]float64{}, map[string]float64{}
		for n, crops := range sets {
			v := Compare(c, Claim{Image: claims[name]}, crops, DefaultThresholds())
			count[v.Ruling]++
			for k, x := range v.Numbers {
				if n == 0 {
					lo[k], hi[k] = x, x
				}
				lo[k], hi[k] = min(lo[k], x), max(hi[k], x)
			}
			if strings.HasPrefix(name, "honest") && v.Ruling != job.Accepted {
				t.Errorf("%s, draw %d: %v %v", name, n, v, v.Numbers)
			}
		}
		span := func(k string) string { return fmt.Sprintf("%.2g-%.2g", lo[k], hi[k]) }
		t.Logf("%-15s %8d %8d %8d | %-17s %-15s %-13s %s", name, count[job.Accepted], count[job.Rejected], count[job.Unsure],
			span("z50"), span("beta"), span("out"), span("sz"))
		share := func(r job.Ruling) float64 { return float64(count[r]) / float64(draws) }
		switch name {
		case "75 %", "50 %", "25 %", "upscaled":
			if share(job.Rejected) < 1 {
				t.Errorf("%s: rejected in %d of %d draws", name, count[job.Rejected], draws)
			}
		case "90 %":
			// What ranges of the samples show of a tenth that is missing, one
			// render does not always.
			if s.whole && share(job.Accepted) == 0 {
				break
			}
			fallthrough
		case "seed":
			if share(job.Rejected) < 0.95 || share(job.Accepted) > 0 {
				t.Errorf("%s: rejected in %d, accepted in %d of %d draws", name, count[job.Rejected], count[job.Accepted], draws)
			}
		case "previous":
			// Crops where nothing moved show nothing: a few paths that touch
			// what moved elsewhere look like hair on other hardware.
			if share(job.Rejected) < 0.25 || share(job.Accepted) > 0.5 {
				t.Errorf("%s: rejected in %d, accepted in %d of %d draws", name, count[job.Rejected], count[job.Accepted], draws)
			}
		case "half the tiles":
			// Half of them are honest, and a crop can lie in those.
			if share(job.Rejected) < 0.6 || share(job.Accepted) > 0.1 {
				t.Errorf("%s: rejected in %d, accepted in %d of %d draws", name, count[job.Rejected], count[job.Accepted], draws)
			}
		}
	}
}

// crops answers draw n of a challenge.
func (s shot) crops(dir studio, n int) []Crop {
	frames := map[job.Range]*media.Image{}
	crops := challenge(dir.t, s.check(), job.Part{}, secret(n), [32]byte{}, DrawOptions{}, func(p job.Part) (*media.Image, error) {
		whole := frames[p.Samples]
		if whole == nil {
			whole = dir.image(s.name() + "_" + partName(job.Part{Samples: p.Samples}))
			frames[p.Samples] = whole
		}
		slice, err := whole.Crop(p.Tile.X0, p.Tile.Y0, p.Tile.X1, p.Tile.Y1)
		if err != nil || n != 0 {
			return slice, err
		}
		drawn := dir.image(s.name() + "_" + partName(p))
		sameInside(dir.t, s.check(), p, drawn, slice)
		return drawn, nil
	})
	if s.whole {
		seed := dir.image(s.name() + "_other seed")
		for i, c := range crops {
			var err error
			if crops[i].OtherSeed, err = seed.Crop(c.Rect.X0, c.Rect.Y0, c.Rect.X1, c.Rect.Y1); err != nil {
				dir.t.Fatal(err)
			}
		}
	}
	return crops
}

// sameInside asserts that a crop equals the slice of the frame but for Pad.
func sameInside(t *testing.T, c job.CropCheck, p job.Part, crop, slice *media.Image) {
	t.Helper()
	if crop.Width != slice.Width || crop.Height != slice.Height {
		t.Fatalf("crop %v came as %dx%d", p.Tile, crop.Width, crop.Height)
	}
	area := job.Rect{X1: c.Width, Y1: c.Height}
	in := judged(p.Tile, area)
	in = job.Rect{X0: in.X0 - p.Tile.X0, Y0: in.Y0 - p.Tile.Y0, X1: in.X1 - p.Tile.X0, Y1: in.Y1 - p.Tile.Y0}
	a, err := newColour(crop, c, in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newColour(slice, c, in)
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range a.lum {
		if abs(a.lum[i]-b.lum[i]) > 1e-4*(abs(b.lum[i])+eps) {
			differ++
		}
	}
	if differ > len(a.lum)/200 {
		t.Errorf("crop %v: %d of %d pixels differ from the slice of the frame", p.Tile, differ, len(a.lum))
	}
}

// halved is crops through a 16-bit file.
func halved(t *testing.T, crops []Crop) []Crop {
	t.Helper()
	through := func(m *media.Image) *media.Image {
		if m == nil {
			return nil
		}
		path := filepath.Join(t.TempDir(), "half.exr")
		if err := media.WriteEXR(path, m, true); err != nil {
			t.Fatal(err)
		}
		out, err := media.DecodeFile(path, media.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var out []Crop
	for _, c := range crops {
		c.Image = through(c.Image)
		c.Ranges = slices.Clone(c.Ranges)
		for i := range c.Ranges {
			c.Ranges[i].Image = through(c.Ranges[i].Image)
		}
		out = append(out, c)
	}
	return out
}

// twice is a picture at half the resolution blown up.
func twice(m *media.Image) *media.Image {
	out := media.New(2*m.Width, 2*m.Height)
	for _, c := range m.Channels {
		d := out.Add(c.Name, c.Sample)
		for i := range d {
			d[i] = c.Data[i/out.Width/2*m.Width+i%out.Width/2]
		}
	}
	return out
}

// tampered are claims made from an honest frame and a cheap one. The counts of
// samples are those of the honest one: a liar would lie about them too.
func tampered(honest, cheap *media.Image) map[string]*media.Image {
	edit := func(f func(x, y int, v float32, c, i int) float32) *media.Image {
		out := media.New(honest.Width, honest.Height)
		for k, c := range honest.Channels {
			d := out.Add(c.Name, c.Sample)
			copy(d, c.Data)
			if strings.Contains(c.Name, "Combined") && !strings.HasSuffix(c.Name, ".A") {
				for i := range d {
					d[i] = f(i%honest.Width, i/honest.Width, d[i], k, i)
				}
			}
		}
		return out
	}
	rnd := rand.New(rand.NewPCG(4, 2))
	var tiles [shotH/10 + 1][shotW/10 + 1]bool
	for y := range tiles {
		for x := range tiles[y] {
			tiles[y][x] = rnd.IntN(2) == 0
		}
	}
	return map[string]*media.Image{
		"half the tiles": edit(func(x, y int, v float32, c, i int) float32 {
			if tiles[y/10][x/10] {
				return cheap.Channels[c].Data[i]
			}
			return v
		}),
		"denoised": func() *media.Image {
			out := edit(func(_, _ int, v float32, _, _ int) float32 { return v })
			for k, c := range out.Channels {
				if strings.Contains(c.Name, "Combined") {
					copy(out.Channels[k].Data, median(cheap.Channels[k].Data, out.Width, out.Height, 1))
				}
			}
			return out
		}(),
		"honest rounding": edit(func(_, _ int, v float32, _, _ int) float32 { return v * 1.0001 }),
		"brighter 5 %":    edit(func(_, _ int, v float32, _, _ int) float32 { return v * 1.05 }),
	}
}
