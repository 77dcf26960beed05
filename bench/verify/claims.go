package verify

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"strings"

	"idlewild/media"
	"idlewild/verify"
)

// claim is a frame that somebody delivers.
type claim struct {
	name  string
	goal  string // the row of the table that it counts for; empty: listed, nothing promised
	image *media.Image
}

// Rows of the table.
const (
	goalHonest = "honest"
	goalWhole  = "whole frame"
	goalTiles  = "tiles"
	goalEdit   = "edit"
)

const (
	combined = "ViewLayer.Combined."
	normal   = "ViewLayer.Normal."
	counts   = "ViewLayer." + verify.SampleCount + ".X"
)

// studioScene is a scene with its renders, read when they are first asked for.
type studioScene struct {
	scene
	studio studio
	files  map[string]*media.Image
	err    error
}

func (s *studioScene) get(name string) *media.Image {
	if m := s.files[name]; m != nil {
		return m
	}
	m, err := s.studio.image(s.scene, name)
	if err != nil {
		if s.err == nil {
			s.err = err
		}
		return nil
	}
	s.files[name] = m
	return m
}

// part is a file of a range of samples, and how many there are in it.
type part struct {
	image *media.Image
	n     int
}

// mean merges ranges of samples.
func mean(parts ...part) *media.Image {
	total := 0
	for _, p := range parts {
		if p.image == nil {
			return nil
		}
		total += p.n
	}
	out := clone(parts[0].image)
	for k := range out.Channels {
		d := out.Channels[k].Data
		clear(d)
		for _, p := range parts {
			w := float32(p.n) / float32(total)
			for i, v := range p.image.Channels[k].Data {
				d[i] += w * v
			}
		}
	}
	return out
}

func clone(m *media.Image) *media.Image {
	out := media.New(m.Width, m.Height)
	for _, c := range m.Channels {
		copy(out.Add(c.Name, c.Sample), c.Data)
	}
	return out
}

// older is what the older machine made of some of the claim's ranges.
func (s *studioScene) older(use func(from, to int) bool) *media.Image {
	var parts []part
	for i := 1; i < len(claimRanges); i++ {
		from, to := claimRanges[i-1], claimRanges[i]
		if use(from, to) {
			parts = append(parts, part{s.get(rangeName("older", from, to)), to - from})
		}
	}
	return mean(parts...)
}

// claims are all that is delivered of the scene.
func (s *studioScene) claims() []claim {
	var out []claim
	add := func(name, goal string, m *media.Image) {
		if m != nil {
			out = append(out, claim{name: name, goal: goal, image: m})
		}
	}
	var honest, half, quarter *media.Image
	if s.adaptive {
		honest = s.get("older")
		half = s.get("most-50")
		if quarter = s.get("most-25"); quarter == nil {
			quarter = half
		}
	} else {
		honest = s.older(func(int, int) bool { return true })
		half = s.older(func(_, to int) bool { return to <= 10 })
		quarter = s.older(func(_, to int) bool { return to <= 5 })
	}
	if s.err != nil || honest == nil || half == nil {
		return nil
	}
	for _, name := range s.honest() {
		if name == "older" {
			add("honest older", goalHonest, honest)
		} else {
			add("honest "+name, goalHonest, s.get(name))
		}
	}
	add("honest 16-bit", goalHonest, s.half(honest))

	if s.adaptive {
		for _, percent := range []int{95, 90, 75, 50, 25} {
			goal, x := goalWhole, fmt.Sprint(percent)
			m := s.get("most-" + x)
			if percent > 90 || spent(m, maxSamples*percent/100) > 0.96*spent(honest, maxSamples) {
				goal = ""
			}
			add(x+" % of the maximum", goal, m)
		}
		for _, x := range []string{"1.2", "1.5", "2", "4"} {
			goal := goalWhole
			m := s.get("threshold-" + x)
			if x == "1.2" || spent(m, maxSamples) > 0.96*spent(honest, maxSamples) {
				goal = "" // it saves too little to be told, and to be worth it
			}
			add("threshold x"+x, goal, m)
			add("threshold x"+x+", forged counts", goal, forgeCounts(m, honest))
		}
		add("fixed samples instead", goalWhole, forgeCounts(s.get("fixed"), honest))
	} else {
		for _, x := range []struct {
			name, goal string
			to         int
		}{{"95 % samples", "", 19}, {"90 % samples", goalWhole, 18}, {"75 % samples", goalWhole, 15}, {"50 % samples", goalWhole, 10}, {"25 % samples", goalWhole, 5}} {
			add(x.name, x.goal, s.older(func(_, to int) bool { return to <= x.to }))
		}
		add("middle quarter left out", goalWhole, s.older(func(from, _ int) bool { return from != 5 }))
		add("10 % left out before the last 10 %", goalWhole, s.older(func(from, _ int) bool { return from != 15 }))
	}
	add("wrong seed", goalWhole, s.get("seed"))
	add("previous frame", goalWhole, s.get("previous"))
	add("upscaled from half the resolution", goalWhole, forgeCounts(twice(halved(honest), honest), honest))
	add("object removed", goalEdit, forgeCounts(s.get("removed"), honest))
	for name, m := range s.tampered(honest, half, quarter) {
		goal := goalWhole
		switch {
		case strings.HasPrefix(name, "tiles 10"), strings.HasPrefix(name, "tiles") && s.adaptive && s.saves(name, honest, half, quarter) < 0.04:
			goal = "" // it saves too little
		case strings.HasPrefix(name, "tiles"):
			goal = goalTiles
		case strings.HasPrefix(name, "watermark"):
			goal = goalEdit
		case strings.HasPrefix(name, "denoised"):
		default:
			goal = ""
		}
		add(name, goal, m)
	}
	return out
}

// saves is the share of the work that tampered tiles of an adaptive frame save:
// where pixels stop early by themselves, half of the maximum is nearly all.
func (s *studioScene) saves(name string, honest, half, quarter *media.Image) float64 {
	var share float64
	fmt.Sscanf(name, "tiles %f %%", &share)
	cheap := spent(half, maxSamples/2)
	if strings.HasSuffix(name, aQuarter) {
		cheap = spent(quarter, maxSamples/4)
	}
	return share / 100 * (1 - cheap/spent(honest, maxSamples))
}

const aHalf, aQuarter = "half the samples", "a quarter of the samples"

// spent is how many samples went into a frame of at most so many a pixel.
// Cycles stores counts over the largest that the render reached.
func spent(m *media.Image, most int) float64 {
	if m == nil {
		return 0
	}
	c, _ := m.Channel(counts)
	var sum float64
	levels := map[float32]bool{}
	for _, v := range c.Data {
		sum += float64(v)
		levels[v] = true
	}
	fits := func(unit float64) bool {
		for v := range levels {
			n := float64(v) * unit
			if r := math.Round(n/16) * 16; math.Abs(n-r) > 0.1 && math.Abs(n-unit) > 0.1 {
				return false
			}
		}
		return true
	}
	if len(levels) > 1 {
		for unit := 32; unit < most; unit += 16 {
			if fits(float64(unit)) {
				return sum * float64(unit)
			}
		}
	}
	return sum * float64(most)
}

// forgeCounts gives a claim another's sample counts.
func forgeCounts(m, other *media.Image) *media.Image {
	if m == nil || other == nil {
		return nil
	}
	out := clone(m)
	a, ok := out.Channel(counts)
	b, ok2 := other.Channel(counts)
	if ok && ok2 {
		copy(a.Data, b.Data)
	}
	return out
}

// half is an honest frame through a file of 16-bit floats.
func (s *studioScene) half(m *media.Image) *media.Image {
	return edit(m, func(_, _ int, rgb [3]float32) [3]float32 {
		for k, v := range rgb {
			if v != 0 {
				_, e := math.Frexp(float64(v))
				step := math.Ldexp(1, max(e, -13)-11)
				rgb[k] = float32(math.Round(float64(v)/step) * step)
			}
		}
		return rgb
	}, media.Half)
}

// edit changes the picture's colours.
func edit(m *media.Image, f func(x, y int, rgb [3]float32) [3]float32, as media.Sample) *media.Image {
	out := clone(m)
	var c [3]media.Channel
	for k := range c {
		c[k], _ = out.Channel(combined + "RGB"[k:k+1])
	}
	for i := range c[0].Data {
		rgb := f(i%m.Width, i/m.Width, [3]float32{c[0].Data[i], c[1].Data[i], c[2].Data[i]})
		for k := range c {
			c[k].Data[i] = rgb[k]
		}
	}
	for k := range out.Channels {
		if strings.HasPrefix(out.Channels[k].Name, combined) {
			out.Channels[k].Sample = as
		}
	}
	return out
}

// halved is a picture at half the resolution, each pixel the mean of four: what
// a render of that size with four times the samples would show.
func halved(m *media.Image) *media.Image {
	out := media.New(m.Width/2, m.Height/2)
	for _, c := range m.Channels {
		d := out.Add(c.Name, c.Sample)
		for i := range d {
			at := i/out.Width*2*m.Width + i%out.Width*2
			d[i] = (c.Data[at] + c.Data[at+1] + c.Data[at+m.Width] + c.Data[at+m.Width+1]) / 4
		}
	}
	return out
}

// twice is a picture at half the resolution blown up, with bilinear weights.
func twice(m, like *media.Image) *media.Image {
	if m == nil {
		return nil
	}
	out := media.New(like.Width, like.Height)
	for _, c := range m.Channels {
		d := out.Add(c.Name, c.Sample)
		at := func(x, y int) float32 {
			return c.Data[max(0, min(m.Height-1, y))*m.Width+max(0, min(m.Width-1, x))]
		}
		for i := range d {
			x, y := float64(i%out.Width)/2-0.25, float64(i/out.Width)/2-0.25
			x0, y0 := int(math.Floor(x)), int(math.Floor(y))
			fx, fy := float32(x-float64(x0)), float32(y-float64(y0))
			d[i] = (1-fy)*((1-fx)*at(x0, y0)+fx*at(x0+1, y0)) + fy*((1-fx)*at(x0, y0+1)+fx*at(x0+1, y0+1))
		}
	}
	return out
}

// tampered are claims made of an honest frame and cheaper ones.
func (s *studioScene) tampered(honest, half, quarter *media.Image) map[string]*media.Image {
	rnd := rand.New(rand.NewPCG(4, 2))
	out := map[string]*media.Image{
		"gain 0.5 %": edit(honest, func(_, _ int, c [3]float32) [3]float32 { return scaled(c, 1.005) }, media.Float),
		"gain 5 %":   edit(honest, func(_, _ int, c [3]float32) [3]float32 { return scaled(c, 1.05) }, media.Float),
		"noise of 1 % added": edit(honest, func(_, _ int, c [3]float32) [3]float32 {
			return scaled(c, 1+0.01*float32(rnd.NormFloat64()))
		}, media.Float),
		"8-bit": edit(honest, func(_, _ int, c [3]float32) [3]float32 {
			for k := range c {
				c[k] = linear(math.Round(srgb(c[k])*255) / 255)
			}
			return c
		}, media.Float),
		"JPEG":                     throughJPEG(honest),
		"one pass forged":          onePass(honest),
		"denoised by a median":     forgeCounts(filtered(half, medianOf), honest),
		"denoised by a blur":       forgeCounts(filtered(half, blurOf), honest),
		"denoised by patches":      forgeCounts(filtered(quarter, patchesOf), honest),
		"denoised at full samples": forgeCounts(filtered(honest, patchesOf), honest),
		"watermark of 1 %":         watermark(honest, rnd),
		"another job's frame":      mirrored(honest),
		"a black frame":            edit(honest, func(int, int, [3]float32) [3]float32 { return [3]float32{} }, media.Float),
	}
	for _, share := range []int{10, 20, 50} {
		out[fmt.Sprintf("tiles %d %% at ", share)+aHalf] = tiles(honest, half, float64(share)/100, rnd)
		if quarter != half {
			out[fmt.Sprintf("tiles %d %% at ", share)+aQuarter] = tiles(honest, quarter, float64(share)/100, rnd)
		}
	}
	return out
}

func scaled(c [3]float32, by float32) [3]float32 { return [3]float32{c[0] * by, c[1] * by, c[2] * by} }

func srgb(v float32) float64 {
	f := math.Max(0, math.Min(1, float64(v)))
	if f <= 0.0031308 {
		return 12.92 * f
	}
	return 1.055*math.Pow(f, 1/2.4) - 0.055
}

func linear(f float64) float32 {
	if f <= 0.04045 {
		return float32(f / 12.92)
	}
	return float32(math.Pow((f+0.055)/1.055, 2.4))
}

func throughJPEG(m *media.Image) *media.Image {
	pic := image.NewRGBA(image.Rect(0, 0, m.Width, m.Height))
	edit(m, func(x, y int, c [3]float32) [3]float32 {
		pic.SetRGBA(x, y, color.RGBA{uint8(srgb(c[0])*255 + 0.5), uint8(srgb(c[1])*255 + 0.5), uint8(srgb(c[2])*255 + 0.5), 255})
		return c
	}, media.Float)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, pic, &jpeg.Options{Quality: 95}); err != nil {
		return nil
	}
	back, err := jpeg.Decode(&b)
	if err != nil {
		return nil
	}
	return edit(m, func(x, y int, _ [3]float32) [3]float32 {
		r, g, b, _ := back.At(x, y).RGBA()
		return [3]float32{linear(float64(r) / 65535), linear(float64(g) / 65535), linear(float64(b) / 65535)}
	}, media.Float)
}

// onePass blackens the normals, and leaves the picture.
func onePass(m *media.Image) *media.Image {
	out := clone(m)
	for _, c := range out.Channels {
		if strings.HasPrefix(c.Name, normal) {
			clear(c.Data)
		}
	}
	return out
}

// watermark brightens a rectangle of a hundredth of the picture.
func watermark(m *media.Image, rnd *rand.Rand) *media.Image {
	h := int(math.Sqrt(float64(m.Width*m.Height) * 0.01 / 4))
	w := 4 * h
	x0, y0 := rnd.IntN(m.Width-w), rnd.IntN(m.Height-h)
	return edit(m, func(x, y int, c [3]float32) [3]float32 {
		if x < x0 || y < y0 || x >= x0+w || y >= y0+h {
			return c
		}
		return [3]float32{0.85*c[0] + 0.15, 0.85*c[1] + 0.15, 0.85*c[2] + 0.15}
	}, media.Float)
}

// tiles takes a share of the tiles of 32 pixels from a cheaper frame.
func tiles(honest, cheap *media.Image, share float64, rnd *rand.Rand) *media.Image {
	const side = 32
	wide := (honest.Width + side - 1) / side
	pick := make([]bool, wide*((honest.Height+side-1)/side))
	for i := range pick {
		pick[i] = rnd.Float64() < share
	}
	out := clone(honest)
	for k, c := range out.Channels {
		if c.Name == counts {
			continue
		}
		for i := range c.Data {
			if pick[i/honest.Width/side*wide+i%honest.Width/side] {
				c.Data[i] = cheap.Channels[k].Data[i]
			}
		}
	}
	return out
}

// mirrored stands for a frame of another job with the same settings.
func mirrored(m *media.Image) *media.Image {
	out := clone(m)
	for k, c := range out.Channels {
		for i := range c.Data {
			y, x := i/m.Width, i%m.Width
			out.Channels[k].Data[i] = m.Channels[k].Data[y*m.Width+m.Width-1-x]
		}
	}
	return out
}
