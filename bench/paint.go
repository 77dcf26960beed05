package main

import (
	"image"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
)

// painted makes a picture as a texture artist would: a ground of noise at
// several scales, some thousand soft strokes with bristles, and paper grain in
// the darker half. It compresses like painted textures do: a PNG of it takes
// 8 to 10 bits a pixel. The same seed gives the same picture.
func painted(seed uint64, width, height int) *image.NRGBA {
	rng := rand.New(rand.NewPCG(seed, 0x1d1e))
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	ground, second := pastel(rng), pastel(rng)
	slow, fast := newNoise(rng), newNoise(rng)
	scale := float64(width) / 6
	for y := range height {
		for x := range width {
			n := slow.at(float64(x)/scale, float64(y)/scale) + 0.5*slow.at(float64(x)/scale*4, float64(y)/scale*4)
			n = max(0, min(1, 0.5+0.5*n))
			i := img.PixOffset(x, y)
			for c := range 3 {
				img.Pix[i+c] = uint8(255 * (ground[c]*(1-n) + second[c]*n))
			}
			img.Pix[i+3] = 255
		}
	}
	c := newCanvas(img, fast)
	for range width * height / 6000 {
		at := point{rng.Float64() * float64(width), rng.Float64() * float64(height)}
		s := stroke{
			from: at, heading: rng.Float64() * 2 * math.Pi, bend: rng.NormFloat64() * 0.004,
			length: 60 + rng.Float64()*240, radius: 6 + rng.Float64()*26,
			colour: pastel(rng), strength: 0.15 + 0.45*rng.Float64(), bristles: 0.5,
		}
		c.lay(s)
	}
	for y := range height {
		for x := range width {
			i := img.PixOffset(x, y)
			if grain := rng.IntN(7) - 3; img.Pix[i+1] < 128 {
				for c := range 3 {
					img.Pix[i+c] = uint8(max(0, min(255, int(img.Pix[i+c])+grain)))
				}
			}
		}
	}
	return img
}

type point struct{ x, y float64 }

// stroke is one pull of a brush. Lengths are in pixels.
type stroke struct {
	from          point
	heading, bend float64 // radians, radians a pixel
	length        float64
	radius        float64
	colour        [3]float64
	strength      float64 // how much of the colour the middle of the brush lays on, 0 to 1
	bristles      float64 // how much of that the bristles vary, 0 to 1
}

// canvas is a picture that strokes are laid on.
type canvas struct {
	img     *image.NRGBA
	hairs   *noise
	cover   []float32 // of each pixel by the stroke at hand, 0 to 1
	touched []int     // where cover is not 0
}

func newCanvas(img *image.NRGBA, hairs *noise) *canvas {
	return &canvas{img: img, hairs: hairs, cover: make([]float32, img.Rect.Dx()*img.Rect.Dy())}
}

// lay paints every pixel once, as strongly as the brush's middle ever came
// near it.
func (c *canvas) lay(s stroke) {
	width, height := c.img.Rect.Dx(), c.img.Rect.Dy()
	p, heading := s.from, s.heading
	step := max(1, s.radius/4)
	for walked := 0.0; walked < s.length; walked += step {
		taper := math.Min(1, math.Min(walked, s.length-walked)/(2*s.radius)+0.2)
		r := s.radius * taper
		sin, cos := math.Sincos(heading)
		for y := max(0, int(p.y-r)); y <= min(height-1, int(p.y+r)); y++ {
			for x := max(0, int(p.x-r)); x <= min(width-1, int(p.x+r)); x++ {
				dx, dy := float64(x)-p.x, float64(y)-p.y
				d := (dx*dx + dy*dy) / (r * r)
				if d >= 1 {
					continue
				}
				hair := 1 - s.bristles*(0.5+0.5*c.hairs.at((dy*cos-dx*sin)*0.9, walked*0.01))
				v, at := float32((1-d)*(1-d)*hair*s.strength), y*width+x
				if v <= c.cover[at] {
					continue
				}
				if c.cover[at] == 0 {
					c.touched = append(c.touched, at)
				}
				c.cover[at] = v
			}
		}
		p.x += step * cos
		p.y += step * sin
		heading += s.bend * step
	}
	for _, at := range c.touched {
		v := float64(c.cover[at])
		for k := range 3 {
			c.img.Pix[4*at+k] = uint8(float64(c.img.Pix[4*at+k])*(1-v) + 255*s.colour[k]*v + 0.5)
		}
		c.cover[at] = 0
	}
	c.touched = c.touched[:0]
}

func pastel(rng *rand.Rand) [3]float64 {
	r, g, b := rng.Float64(), rng.Float64(), rng.Float64()
	return [3]float64{0.1 + 0.75*r, 0.1 + 0.7*g, 0.1 + 0.65*b}
}

// noise is Perlin's gradient noise in the plane (K. Perlin, "Improving Noise",
// 2002), with period 256.
type noise struct{ perm [512]uint8 }

func newNoise(rng *rand.Rand) *noise {
	n := &noise{}
	for i, p := range rng.Perm(256) {
		n.perm[i], n.perm[i+256] = uint8(p), uint8(p)
	}
	return n
}

// at is between -1 and 1.
func (n *noise) at(x, y float64) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	i, j := int(fx)&255, int(fy)&255
	x, y = x-fx, y-fy
	u, v := fade(x), fade(y)
	a, b := int(n.perm[i])+j, int(n.perm[i+1])+j
	low := lerp(u, slope(n.perm[a], x, y), slope(n.perm[b], x-1, y))
	high := lerp(u, slope(n.perm[a+1], x, y-1), slope(n.perm[b+1], x-1, y-1))
	return lerp(v, low, high)
}

func fade(t float64) float64       { return t * t * t * (t*(t*6-15) + 10) }
func lerp(t, a, b float64) float64 { return a + t*(b-a) }

func slope(h uint8, x, y float64) float64 {
	switch h & 7 {
	case 0:
		return x + y
	case 1:
		return x - y
	case 2:
		return -x + y
	case 3:
		return -x - y
	case 4:
		return x
	case 5:
		return -x
	case 6:
		return y
	}
	return -y
}

// writePNG encodes a picture as this program's standard library does.
func writePNG(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(f, img); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
