package verify

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/media"
)

// methodRerun is what a verdict says of comparing numbers.
const methodRerun = "rerun"

// Margin says how far two honest computations of the same thing may lie
// apart. Each is the size of the difference over the root mean square of the
// result: of the result's own numbers, so that it does not depend on units.
type Margin struct {
	RMS    float64 // root mean square of the difference: up to here it is accepted
	Max    float64 // the largest difference of one number
	Reject float64 // times that: from here it is rejected, between it is unsure
	// Loose: a text that differs is no proof. Of tokens that are drawn one after
	// the other a hair of difference makes others from there on.
	Loose bool
}

// Margins by precision, within one device class and across two. Those of
// one class are what other thread counts and batch sizes do on CPUs, with room
// (bench ai); those across classes stand for other orders of summation and
// were not measured.
func margin(precision, claim, check string) Margin {
	same := claim == check
	switch {
	case precision == "drawn":
		// Each of many steps makes what the one before it left, and a difference
		// grows with them: of another class's device it proves nothing.
		m := Margin{RMS: 1e-2, Max: 0.5, Reject: 5}
		if !same {
			m.Reject = math.Inf(1)
		}
		return m
	case precision == "fp32" && same:
		return Margin{RMS: 2e-5, Max: 4e-4, Reject: 5}
	case precision == "fp32":
		return Margin{RMS: 1e-3, Max: 2e-2, Reject: 5}
	case precision == "fp16" && same:
		return Margin{RMS: 2e-3, Max: 4e-2, Reject: 5}
	case precision == "fp16":
		return Margin{RMS: 1e-2, Max: 0.2, Reject: 4}
	}
	return Margin{RMS: 3e-2, Max: 0.5, Reject: 4, Loose: precision == "tokens"}
}

// MarginFor a check whose claim and evidence were made by devices of these
// classes.
func MarginFor(c job.RerunCheck, claim, check string) Margin {
	t := margin(c.Precision, claim, check)
	if c.Tolerance > 0 {
		t.Max, t.RMS = t.Max*c.Tolerance/t.RMS, c.Tolerance
	}
	return t
}

// Items draws k of n items, in ascending order, from the secret and the leaf's
// root: neither side can steer which.
func Items(n, k int, secret []byte, root [32]byte) []int {
	k = min(max(k, 0), n)
	rnd := newStream("idlewild items 1", secret, root)
	chosen := map[int]bool{}
	for len(chosen) < k {
		chosen[rnd.intn(n)] = true
	}
	out := make([]int, 0, k)
	for i := range chosen {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// Records is a claim of records: what a file of them says.
type Records struct {
	ByItem map[int]media.Record
	Broken error // it is not a file of the records asked for
}

// Count checks that there is one record for each item, in their order, and
// keeps those that want names.
func Count(c job.RerunCheck, want []int, each func(func(media.Record) error) error) Records {
	r := Records{ByItem: map[int]media.Record{}}
	next := c.First
	r.Broken = each(func(m media.Record) error {
		if m.Item != next {
			return fmt.Errorf("item %d stands where item %d belongs", m.Item, next)
		}
		next++
		if _, there := slices.BinarySearch(want, m.Item); there {
			r.ByItem[m.Item] = m
		}
		return nil
	})
	if r.Broken == nil && next != c.First+c.Items {
		r.Broken = fmt.Errorf("%d records where %d were asked for", next-c.First, c.Items)
	}
	return r
}

// CompareRecords judges a claim by what running some of its items again gave.
func CompareRecords(claim Records, evidence []media.Record, t Margin) job.Verdict {
	v := job.Verdict{Ruling: job.Accepted, Method: methodRerun}
	if claim.Broken != nil {
		v.Ruling, v.Reason = job.Rejected, "the result is not what was asked for: "+claim.Broken.Error()
		return v
	}
	if len(evidence) == 0 {
		v.Ruling, v.Reason = job.Unsure, "there is nothing to compare with"
		return v
	}
	var worst difference
	unsure := ""
	for _, e := range evidence {
		c := claim.ByItem[e.Item]
		d, why, sure := compareRecord(c, e, t)
		if why != "" && sure {
			v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("item %d: %s", e.Item, why)
			worst = d
			break
		}
		if why != "" && unsure == "" {
			unsure = fmt.Sprintf("item %d: %s", e.Item, why)
		}
		worst.grow(d)
	}
	v.Numbers = map[string]float64{"items": float64(len(evidence)), "rms": worst.rms, "max": worst.most, "cosine": worst.cosine()}
	switch {
	case v.Ruling == job.Rejected:
	case unsure != "":
		v.Ruling, v.Reason = job.Unsure, unsure
	default:
		v.Reason = fmt.Sprintf("%d items that were run again agree within %.1e of their size", len(evidence), worst.rms)
	}
	return v
}

// difference of two arrays, over the root mean square of the second.
type difference struct {
	rms, most float64
	angle     float64 // 1 minus the cosine
}

func (d *difference) grow(o difference) {
	d.rms, d.most, d.angle = max(d.rms, o.rms), max(d.most, o.most), max(d.angle, o.angle)
}

func (d difference) cosine() float64 { return 1 - d.angle }

// compareRecord says what is wrong with one record, and whether that is sure.
func compareRecord(c, e media.Record, t Margin) (d difference, why string, sure bool) {
	c, e = c.WithoutWriting(), e.WithoutWriting()
	switch {
	case e.Error != "" && c.Error != "":
		return d, "", false
	case e.Error != "":
		return d, "running it again here failed: " + e.Error, false
	case c.Error != "":
		return d, "it is said to be impossible (" + c.Error + "), and it is not", true
	case c.ID != e.ID:
		return d, fmt.Sprintf("it is said to be %q and is %q", c.ID, e.ID), true
	case len(c.Outputs) != len(e.Outputs):
		return d, fmt.Sprintf("%d outputs where there are %d", len(c.Outputs), len(e.Outputs)), true
	}
	names := make([]string, 0, len(e.Outputs))
	for name := range e.Outputs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		want := e.Outputs[name]
		have, ok := c.Outputs[name]
		switch {
		case !ok:
			return d, "output " + name + " is missing", true
		case !slices.Equal(have.Shape, want.Shape) || len(have.Data) != len(want.Data) || len(have.Text) != len(want.Text):
			return d, fmt.Sprintf("output %s has the shape %v instead of %v", name, have.Shape, want.Shape), true
		case len(want.Text) > 0:
			if !slices.Equal(have.Text, want.Text) {
				return d, "output " + name + " is another text", !t.Loose
			}
			continue
		}
		o := distance(have.Data, want.Data)
		if integers(want.Data) {
			// Classes and counts: a tie may fall otherwise elsewhere, numbers
			// of their own they have none.
			if off := unequal(have.Data, want.Data); off > 0 {
				return d, fmt.Sprintf("%d of %d whole numbers of output %s differ", off, len(want.Data), name), 5*off > len(want.Data) && len(want.Data) > 4
			}
			continue
		}
		d.grow(o)
		if why, sure := t.judge(o); why != "" {
			return d, "output " + name + " " + why, sure
		}
	}
	return d, "", false
}

func (t Margin) judge(d difference) (why string, sure bool) {
	switch {
	case math.IsNaN(d.rms):
		return "holds what is no number", true
	case d.rms > t.RMS*t.Reject || d.most > t.Max*t.Reject:
		return fmt.Sprintf("differs by %.1e of its size (cosine %.6f), at most by %.1e; %.1e is usual", d.rms, d.cosine(), d.most, t.RMS), true
	case d.rms > t.RMS || d.most > t.Max:
		return fmt.Sprintf("differs by %.1e of its size, at most by %.1e, which is more than usual and no proof", d.rms, d.most), false
	}
	return "", false
}

// distance of arrays of one length.
func distance(have, want []float64) difference {
	var dd, ww, hh, hw, most float64
	for i, w := range want {
		h := have[i]
		dd += (h - w) * (h - w)
		ww, hh, hw = ww+w*w, hh+h*h, hw+h*w
		most = max(most, math.Abs(h-w))
	}
	n := float64(max(len(want), 1))
	size := max(math.Sqrt(ww/n), 1e-6)
	d := difference{rms: math.Sqrt(dd/n) / size, most: most / size}
	if ww > 0 && hh > 0 {
		d.angle = max(0, 1-hw/math.Sqrt(ww*hh))
	}
	return d
}

func integers(v []float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return x != math.Trunc(x) })
}

func unequal(a, b []float64) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// PictureCrop is a rectangle of a picture, made again.
type PictureCrop struct {
	Rect  job.Rect // of the whole picture
	Image *media.Image
}

// ComparePicture judges a claim, which is the whole picture or the tile that
// covers says, by crops that were made again. step is the distance of two
// neighbouring values in the claim's file, 0 where it holds floats.
func ComparePicture(c job.RerunCheck, covers job.Rect, claim *media.Image, crops []PictureCrop, step float64, t Margin) job.Verdict {
	v := job.Verdict{Ruling: job.Accepted, Method: methodRerun}
	if covers == (job.Rect{}) {
		covers = job.Rect{X1: c.Width, Y1: c.Height}
	}
	if claim.Width != covers.Dx() || claim.Height != covers.Dy() {
		v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("the result has %dx%d pixels, %dx%d were asked for", claim.Width, claim.Height, covers.Dx(), covers.Dy())
		return v
	}
	if len(crops) == 0 {
		v.Ruling, v.Reason = job.Unsure, "there is nothing to compare with"
		return v
	}
	var squares, wants float64
	var n, off int
	var most float64
	// What the file's own steps and the tolerance allow of one sample.
	for _, crop := range crops {
		part, err := claim.Crop(crop.Rect.X0-covers.X0, crop.Rect.Y0-covers.Y0, crop.Rect.X1-covers.X0, crop.Rect.Y1-covers.Y0)
		if err != nil {
			v.Ruling, v.Reason = job.Unsure, "a crop lies outside of the result"
			return v
		}
		for _, ch := range crop.Image.Channels {
			have, ok := part.Channel(ch.Name)
			if !ok {
				if strings.HasSuffix(ch.Name, "A") {
					continue // wholly opaque: a file need not say so
				}
				v.Ruling, v.Reason = job.Rejected, "the result has no channel "+ch.Name
				return v
			}
			for i, w := range ch.Data {
				want := float64(w)
				if step > 0 {
					want = min(max(want, 0), 1)
				}
				d := math.Abs(float64(have.Data[i]) - want)
				if math.IsNaN(d) {
					d = 1
				}
				// Rounding to the file's steps is nobody's fault.
				d = max(0, d-0.5*step)
				if d > step/2 {
					off++
				}
				squares += d * d
				wants += want * want
				most = max(most, d)
				n++
			}
		}
	}
	size := max(math.Sqrt(wants/float64(max(n, 1))), 1e-3)
	d := difference{rms: math.Sqrt(squares/float64(max(n, 1))) / size, most: most / size}
	t.Max += step / size // a value between two steps falls to either
	v.Numbers = map[string]float64{"samples": float64(n), "rms": d.rms, "max": d.most, "off": float64(off) / float64(max(n, 1))}
	switch why, sure := t.judge(d); {
	case why == "":
		v.Reason = fmt.Sprintf("%d samples that were made again agree within %.1e of their size", n, d.rms)
	case sure:
		v.Ruling, v.Reason = job.Rejected, "another picture: it "+why
	default:
		v.Ruling, v.Reason = job.Unsure, "it "+why
	}
	return v
}
