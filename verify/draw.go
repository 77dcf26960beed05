package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"idlewild/job"
)

// Pad is how many pixels more than it judges a crop renders on each side: the
// outermost ring differs from the frame's where adaptive sampling is on, and
// noise is estimated from neighbours.
const Pad = 2

// DrawOptions say how much of a frame is rendered again. The zero value is the
// default.
type DrawOptions struct {
	Share  float64 // of the frame's pixels; default 0.01
	Pixels int     // at least so many judged pixels, where the frame has them; default 6000, of which a third or more are noisy in most frames
	Crops  int     // rectangles, 1 to 12; default 6
}

func (o DrawOptions) withDefaults() DrawOptions {
	if !(o.Share > 0) {
		o.Share = 0.01
	}
	o.Share = min(o.Share, 1)
	if o.Pixels <= 0 {
		o.Pixels = 6000
	}
	if o.Crops <= 0 {
		o.Crops = 6
	}
	o.Crops = min(o.Crops, 12)
	return o
}

// Draw picks the rectangles of a frame that are rendered again, Pad included.
// It depends on nothing but its arguments, so both sides can repeat it once the
// secret is shown; neither could steer it before. The crops together judge
// max(Share, Pixels) pixels. A frame with less than twice that is one crop, the
// whole of it.
//
// Crops are long and thin, lying and standing by turns: a frame has empty places
// where nobody can cheat and nothing can be checked, and a strip misses what is
// in the picture less often than a square of as many pixels. A crop's centre is
// drawn evenly over the frame and the rectangle then pushed inside, so that no
// border is safer to falsify than the middle; crops are drawn again, a few
// times, when they overlap.
func Draw(secret []byte, root [32]byte, width, height int, o DrawOptions) []job.Rect {
	o = o.withDefaults()
	if width <= 0 || height <= 0 {
		return nil
	}
	whole := job.Rect{X1: width, Y1: height}
	want := max(float64(o.Pixels), o.Share*float64(width)*float64(height))
	if 2*want >= float64(width)*float64(height) {
		return []job.Rect{whole}
	}
	rnd := newStream("idlewild crops 1", secret, root)
	each := want / float64(o.Crops)
	var out []job.Rect
	standing := int(rnd.uint64() & 1)
	for i := range o.Crops {
		thick := math.Max(blockSide, math.Sqrt(each/64))
		w, h := int(math.Ceil(each/thick)), int(math.Ceil(thick))
		if i%2 == standing {
			w, h = h, w
		}
		// What does not fit into one side goes into the other.
		w = clampInt(w, 1, width)
		h = clampInt(int(math.Ceil(each/float64(w))), 1, height)
		w = clampInt(int(math.Ceil(each/float64(h))), w, width)
		var r job.Rect
		for try := 0; ; try++ {
			x := clampInt(rnd.intn(width)-w/2, 0, width-w)
			y := clampInt(rnd.intn(height)-h/2, 0, height-h)
			r = padded(job.Rect{X0: x, Y0: y, X1: x + w, Y1: y + h}, whole)
			if try == 8 || !overlaps(r, out) {
				break
			}
		}
		out = append(out, r)
	}
	return out
}

// padded grows r by Pad pixels on each side within the bounds.
func padded(r, bounds job.Rect) job.Rect {
	return job.Rect{
		X0: max(r.X0-Pad, bounds.X0), Y0: max(r.Y0-Pad, bounds.Y0),
		X1: min(r.X1+Pad, bounds.X1), Y1: min(r.Y1+Pad, bounds.Y1),
	}
}

// judged is the part of a rendered crop that counts: all but Pad pixels on the
// sides where the crop does not end with the bounds.
func judged(r, bounds job.Rect) job.Rect {
	if r.X0 > bounds.X0 {
		r.X0 += Pad
	}
	if r.Y0 > bounds.Y0 {
		r.Y0 += Pad
	}
	if r.X1 < bounds.X1 {
		r.X1 -= Pad
	}
	if r.Y1 < bounds.Y1 {
		r.Y1 -= Pad
	}
	return r
}

func overlaps(r job.Rect, others []job.Rect) bool {
	for _, o := range others {
		if r.X0 < o.X1 && o.X0 < r.X1 && r.Y0 < o.Y1 && o.Y0 < r.Y1 {
			return true
		}
	}
	return false
}

// Pick draws one of n things that are not looked at every time; -1 where n is 0.
func Pick(secret []byte, root [32]byte, n int) int {
	if n <= 0 {
		return -1
	}
	return newStream("idlewild pick 1", secret, root).intn(n)
}

// Ranges cuts a range of samples as the comparer wants it: into three, at places
// that are drawn from the secret and the root, so that no worker knows which
// samples are looked at together. Together they are the whole render, at no more
// cost than it. With fewer than four samples there is nothing to cut and the
// range comes back whole.
func Ranges(whole job.Range, secret []byte, root [32]byte) []job.Range {
	n := whole.To - whole.From
	if n < 4 {
		return []job.Range{whole}
	}
	rnd := newStream("idlewild ranges 1", secret, root)
	a := whole.From + clampInt(int(math.Round((0.3+0.3*rnd.float())*float64(n))), 1, n-2)
	b := whole.From + int(math.Round((0.7+0.25*rnd.float())*float64(n)))
	b = clampInt(b, a+1, whole.To-1)
	return []job.Range{{From: whole.From, To: a}, {From: a, To: b}, {From: b, To: whole.To}}
}

// LookSamples is how many of n samples a look at the whole frame takes: a small
// part, at most four, and none where the least would be more than a sixteenth.
func LookSamples(n int) int {
	if n < 16 {
		return 0
	}
	return clampInt(n/32, 1, 4)
}

// Crops draws, as Draw does, within a claimed part of a frame (the zero Part: all
// of it), without the ring of pixels that come out otherwise there than in the
// whole frame. The rectangles are the frame's.
func Crops(c job.CropCheck, claimed job.Part, secret []byte, root [32]byte, o DrawOptions) []job.Rect {
	area := solid(c, claimed)
	crops := Draw(secret, root, area.Dx(), area.Dy(), o)
	for i, r := range crops {
		crops[i] = job.Rect{X0: r.X0 + area.X0, Y0: r.Y0 + area.Y0, X1: r.X1 + area.X0, Y1: r.Y1 + area.Y0}
	}
	return crops
}

// frameOf is the rectangle of the frame that a claim shows.
func frameOf(c job.CropCheck, claimed job.Part) job.Rect {
	if claimed.Tile != (job.Rect{}) {
		return claimed.Tile
	}
	return job.Rect{X1: c.Width, Y1: c.Height}
}

// solid is what of a claim's rectangle is as it is in the whole frame: with
// adaptive sampling, which looks at a pixel's neighbours, not the outermost
// pixels of a tile, unless the frame ends there.
func solid(c job.CropCheck, claimed job.Part) job.Rect {
	area := frameOf(c, claimed)
	whole := job.Rect{X1: c.Width, Y1: c.Height}
	if in := judged(area, whole); c.Adaptive && in.Dx() > 0 && in.Dy() > 0 {
		return in
	}
	return area
}

// stream is a sequence of random numbers: SHA-256 over a domain, the secret,
// the root and a counter.
type stream struct {
	seed  [32]byte
	count uint64
}

func newStream(domain string, secret []byte, root [32]byte) *stream {
	b := append([]byte(domain), 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(secret)))
	b = append(append(b, secret...), root[:]...)
	return &stream{seed: sha256.Sum256(b)}
}

func (s *stream) uint64() uint64 {
	b := binary.LittleEndian.AppendUint64(s.seed[:], s.count)
	s.count++
	h := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(h[:])
}

// float is even over [0, 1).
func (s *stream) float() float64 { return float64(s.uint64()>>11) / (1 << 53) }

// intn is even over [0, n), up to a bias of n/2^53.
func (s *stream) intn(n int) int { return int(s.float() * float64(n)) }

func clampInt(v, lo, hi int) int { return max(lo, min(v, hi)) }
