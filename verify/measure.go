package verify

import (
	"math"
	"slices"
)

// maxSlopes is how many directions a view can have: one per range of samples.
const maxSlopes = 3

// line is the sums of a regression through the origin.
type line struct {
	xx, xy, xyxy float64
	n            int // points with a direction worth the name
}

func (l *line) add(x32, y32 float32) {
	if !finite(x32) {
		return
	}
	x, y := float64(clamp3(x32)), float64(clamp3(y32))
	l.xx += x * x
	l.xy += x * y
	l.xyxy += x * x * y * y
	if math.Abs(x) > 0.05 {
		l.n++
	}
}

func (l line) fit() (slope, t float64) {
	if l.n < 15 || l.xx == 0 {
		return 0, 0
	}
	return l.xy / l.xx, l.xy / math.Sqrt(l.xyxy+1e-12)
}

// measure is what a crop, or several together, show.
type measure struct {
	pixels      int // judged, where the crop itself is a number
	broken      int // of them, the claim is no number
	out         int // of them, differ by more than a hundredth
	flat        int // noise-free pixels
	flatOut     int // of them, differ by more than Thresholds.Flat
	informative int // noisy pixels
	touched     int // of them, differ by more than a few tenths of their noise

	z     []float32 // |difference| in sigmas, of the informative pixels
	zeq   []float32 // of those whose counts agree
	byAge [3][]float32
	// counts of the judged pixels, claimed and of the crop.
	claimed, counted float64
	counts           bool
	timed            int // pixels in those sums
	otherCount       int // of them, the two disagree

	lines [maxSlopes]line // one per direction in which missing samples move a picture

	squares squares // of all informative pixels
	equals  squares // of those whose counts agree
}

// measure adds a crop's pixels to m.
func (m *measure) add(v *view, th Thresholds) {
	m.squares.add(v, func(int) bool { return true })
	m.equals.add(v, v.sameCount)
	var least, most float32
	if v.count != nil {
		least, most = slices.Min(v.count), slices.Max(v.count)
	}
	for y := v.keep.Y0; y < v.keep.Y1; y++ {
		for x := v.keep.X0; x < v.keep.X1; x++ {
			i := y*v.w + x
			rel, ok := v.relative(i)
			if !ok {
				continue
			}
			m.pixels++
			if !finite(rel) {
				m.broken++
			}
			if !(rel <= 1e-2) {
				m.out++
			}
			if v.claimedCount != nil {
				m.counts = true
				m.claimed += float64(v.claimedCount[i])
				m.counted += float64(v.count[i])
				m.timed++
				if !v.sameCount(i) {
					m.otherCount++
				}
			}
			if !(v.sigma[i] > v.noisy) {
				m.flat++
				if !(float64(rel) <= th.Flat) {
					m.flatOut++
				}
				continue
			}
			m.informative++
			d := v.difference(i)
			z := abs(d)
			m.z = append(m.z, z)
			if z > touch {
				m.touched++
			}
			if v.count != nil {
				m.byAge[age(v.count[i], least, most)] = append(m.byAge[age(v.count[i], least, most)], z)
				if v.sameCount(i) {
					m.zeq = append(m.zeq, z)
				}
			}
			for k, slope := range v.slopes {
				m.lines[k].add(slope[i], d)
			}
		}
	}
}

// touch is the difference, in units of noise, from which on a pixel counts as
// another one: not rounding, not 16-bit floats.
const touch = 0.3

// squares of blockSide pixels are looked at each by itself.
const blockSide = 8

// squares is what the squares of the crops show: their number, how many of them
// are brighter or darker as a whole, and each one's z50.
type squares struct {
	n, shifted int
	z          []float32
}

// add looks at the squares of a crop, at those of their pixels that use says.
// Noise has no sign, whatever its cause: over 64 pixels even another seed's
// averages to less than a fifth of sigma, while something that is elsewhere in
// the picture does not. And other hardware, where it changes pixels at all (in
// hair, that is), changes some of them everywhere and never most of a square.
func (s *squares) add(v *view, use func(i int) bool) {
	for y := v.keep.Y0; y+blockSide <= v.keep.Y1; y += blockSide {
		for x := v.keep.X0; x+blockSide <= v.keep.X1; x += blockSide {
			var sum float64
			var z []float32
			for k := range blockSide * blockSide {
				i := (y+k/blockSide)*v.w + x + k%blockSide
				if !(v.sigma[i] > v.noisy) || !finite(v.crop.lum[i]) || !use(i) {
					continue
				}
				d := v.difference(i)
				sum += float64(clamp3(d))
				z = append(z, abs(d))
			}
			if moved := v.alphaMoved(x, y); len(z) < blockSide*blockSide/2 && !moved {
				continue
			} else if moved {
				s.n++
				s.shifted++
				continue
			}
			s.n++
			s.z = append(s.z, float32(middle(z)))
			if math.Abs(sum)/float64(len(z)) > 1 {
				s.shifted++
			}
		}
	}
}

// alphaMoved says that the mean alpha of the square at x, y differs by more than
// a tenth.
func (v *view) alphaMoved(x, y int) bool {
	if v.crop.alpha == nil {
		return false
	}
	var sum float64
	for k := range blockSide * blockSide {
		i := (y+k/blockSide)*v.w + x + k%blockSide
		d := v.claim.alpha[i] - v.crop.alpha[i]
		if !finite(v.crop.alpha[i]) {
			d = 0
		} else if !finite(d) {
			d = 1
		}
		sum += float64(max(-1, min(d, 1)))
	}
	return math.Abs(sum) > 0.1*blockSide*blockSide
}

// above is how many squares have a z50 above z.
func (s *squares) above(z float64) int {
	n := 0
	for _, b := range s.z {
		if float64(b) > z {
			n++
		}
	}
	return n
}

// several says that n squares are more than a share of them and no accident.
func (s *squares) several(n int, share float64) bool {
	return n >= 2 && float64(n) > share*float64(s.n)
}

// difference is claim minus crop at pixel i in units of its noise.
func (v *view) difference(i int) float32 {
	d := (v.claim.lum[i] - v.crop.lum[i]) / v.scale(i) / v.sigma[i]
	if !finite(d) {
		return 1e3
	}
	return d
}

// sameCount says that claim and crop report as many samples for pixel i.
func (v *view) sameCount(i int) bool {
	return v.count != nil && v.claimedCount != nil && abs(v.claimedCount[i]-v.count[i]) < 0.5
}

// relative is the difference of pixel i, worst channel over brightest channel,
// or that of alpha where it is larger; false where the crop itself is no number there, +Inf where the claim is none.
func (v *view) relative(i int) (float32, bool) {
	var diff, bright float32
	for k := range v.crop.chans {
		a, b := v.claim.chans[k][i], v.crop.chans[k][i]
		if !finite(b) {
			return 0, false
		}
		if !finite(a) {
			return float32(math.Inf(1)), true
		}
		diff = max(diff, abs(a-b))
		bright = max(bright, abs(a), abs(b))
	}
	diff /= bright + eps
	if v.crop.alpha != nil && finite(v.crop.alpha[i]) {
		if a := v.claim.alpha[i]; finite(a) {
			diff = max(diff, abs(a-v.crop.alpha[i]))
		} else {
			diff = float32(math.Inf(1))
		}
	}
	return diff, true
}

// age is the class of a pixel by its number of samples: stopped at the first
// occasion, later, or not at all.
func age(count, least, most float32) int {
	switch {
	case count >= most-0.5:
		return 2
	case count <= least+0.5:
		return 0
	}
	return 1
}

func (m *measure) z50() float64 { return middle(m.z) }

// beta is the steepest slope of those that are significant, and its t; 0, 0
// where there is too little to fit.
func (m *measure) beta(th Thresholds) (slope, t float64) {
	for _, l := range m.lines {
		s, st := l.fit()
		if s > slope && (st > th.BetaHintT || t <= th.BetaHintT) {
			slope, t = s, st
		}
	}
	return slope, t
}

// slopes is whether there was a direction to fit.
func (m *measure) slopes() bool { return m.lines[0].n > 0 }

// sz is the worst median of the classes that have enough pixels.
func (m *measure) sz() float64 {
	var worst float64
	for _, z := range m.byAge {
		if len(z) >= 20 {
			worst = max(worst, middle(z))
		}
	}
	return worst
}

// touchedShare is how many of the informative pixels are other pixels.
func (m *measure) touchedShare() float64 {
	if m.informative == 0 {
		return 0
	}
	return float64(m.touched) / float64(m.informative)
}

func (m *measure) share(n int) float64 {
	if m.pixels == 0 {
		return 0
	}
	return float64(n) / float64(m.pixels)
}

func middle(v []float32) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return float64(v[len(v)/2])
}

func abs(v float32) float32 {
	if v < 0 {
		return -v
	}
	return v
}
func sqrt(v float32) float32   { return float32(math.Sqrt(float64(v))) }
func clamp3(v float32) float32 { return max(-3, min(3, v)) }
func finite(v float32) bool    { return v-v == 0 }
