package verify

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// batch is what a model made of n items: vectors of 64 numbers.
func batch(n int) []media.Record {
	rng := rand.New(rand.NewPCG(1, 1))
	out := make([]media.Record, n)
	for i := range out {
		v := make([]float64, 64)
		for k := range v {
			v[k] = rng.NormFloat64()
		}
		out[i] = media.Record{Item: i + 1, ID: fmt.Sprint("id", i+1), Outputs: map[string]media.Tensor{"y": {Shape: []int{64}, Data: v}}}
	}
	return out
}

// changed is a deep copy with f done to each vector.
func changed(in []media.Record, f func(i int, v []float64) []float64) []media.Record {
	out := slices.Clone(in)
	for i := range out {
		v := f(i, slices.Clone(in[i].Outputs["y"].Data))
		out[i].Outputs = map[string]media.Tensor{"y": {Shape: []int{len(v)}, Data: v}}
	}
	return out
}

func TestRecordsAreJudged(t *testing.T) {
	const n = 100
	honest := batch(n)
	c := job.RerunCheck{Items: n, First: 1, Precision: "fp32"}
	root := [32]byte{1}
	var want []int
	for _, i := range Items(n, 10, []byte("secret"), root) {
		want = append(want, i+1)
	}
	var again []media.Record
	for _, i := range want {
		again = append(again, honest[i-1])
	}
	noise := func(size float64) []media.Record {
		rng := rand.New(rand.NewPCG(2, 2))
		return changed(honest, func(_ int, v []float64) []float64 {
			for k := range v {
				v[k] *= 1 + size*rng.NormFloat64()
			}
			return v
		})
	}
	swapped := changed(honest, func(i int, _ []float64) []float64 { return honest[(i+1)%n].Outputs["y"].Data })
	random := changed(honest, func(i int, v []float64) []float64 {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		for k := range v {
			v[k] = rng.NormFloat64()
		}
		return v
	})
	short := changed(honest, func(_ int, v []float64) []float64 { return v[:32] })
	lazy := slices.Clone(honest)
	for i := range lazy {
		lazy[i].Outputs, lazy[i].Error = nil, "cannot"
	}
	twice := slices.Clone(honest)
	twice[50] = twice[49]
	for name, x := range map[string]struct {
		claim []media.Record
		want  job.Ruling
		says  string
	}{
		"the same":              {honest, job.Accepted, "10 items"},
		"rounding":              {noise(1e-6), job.Accepted, ""},
		"a little more":         {noise(4e-5), job.Unsure, "no proof"},
		"another precision":     {noise(4e-4), job.Rejected, "differs by"},
		"smaller model":         {noise(0.1), job.Rejected, "differs by"},
		"answers of others":     {swapped, job.Rejected, "differs by"},
		"random":                {random, job.Rejected, "differs by"},
		"half a vector":         {short, job.Rejected, "has the shape [32]"},
		"impossible":            {lazy, job.Rejected, "said to be impossible"},
		"too few":               {honest[:99], job.Rejected, "99 records where 100"},
		"another item's record": {twice, job.Rejected, "item 50 stands where item 51"},
		"none":                  {nil, job.Rejected, "0 records"},
	} {
		each := func(f func(media.Record) error) error {
			for _, r := range x.claim {
				if err := f(r); err != nil {
					return err
				}
			}
			return nil
		}
		v := CompareRecords(Count(c, want, each), again, MarginFor(c, "cpu/amd64", "cpu/amd64"))
		if v.Ruling != x.want || !strings.Contains(v.Reason, x.says) {
			t.Errorf("%s: %v", name, v)
		}
	}
	// What two sorts of device do is not held against either.
	claim := Records{ByItem: map[int]media.Record{}}
	for _, r := range noise(5e-4) {
		claim.ByItem[r.Item] = r
	}
	if v := CompareRecords(claim, again, MarginFor(c, "gpu/a/1", "cpu/amd64")); v.Ruling != job.Accepted {
		t.Error(v)
	}
	again[0].Outputs, again[0].Error = nil, "out of memory"
	if v := CompareRecords(claim, again, MarginFor(c, "gpu/a/1", "cpu/amd64")); v.Ruling != job.Unsure {
		t.Errorf("trouble of the checker: %v", v)
	}
}

func TestItemsAreDrawnBySecretAndRoot(t *testing.T) {
	a := Items(1000, 50, []byte("s"), [32]byte{1})
	if len(a) != 50 || !slices.IsSorted(a) || len(slices.Compact(slices.Clone(a))) != 50 || a[49] >= 1000 {
		t.Error(a)
	}
	if !slices.Equal(a, Items(1000, 50, []byte("s"), [32]byte{1})) || slices.Equal(a, Items(1000, 50, []byte("s"), [32]byte{2})) {
		t.Error("not by the root")
	}
	if got := Items(3, 9, nil, [32]byte{}); !slices.Equal(got, []int{0, 1, 2}) {
		t.Error(got)
	}
}

func TestPicturesAreJudged(t *testing.T) {
	const side = 64
	model := media.New(side, side)
	for k, name := range []string{"R", "G", "B"} {
		d := model.Add(name, media.Float)
		for i := range d {
			d[i] = float32(0.5 + 0.4*math.Sin(float64(i*(k+3))/29))
		}
	}
	file := func(f func(float32) float32) *media.Image {
		m := media.New(side, side)
		for _, c := range model.Channels {
			d := m.Add(c.Name, media.Uint8)
			for i, v := range c.Data {
				d[i] = float32(math.Round(float64(f(v))*255)) / 255
			}
		}
		return m
	}
	c := job.RerunCheck{Width: side, Height: side, Precision: "fp32"}
	rect := job.Rect{X0: 8, Y0: 10, X1: 40, Y1: 20}
	crop, err := model.Crop(rect.X0, rect.Y0, rect.X1, rect.Y1)
	if err != nil {
		t.Fatal(err)
	}
	crops := []PictureCrop{{rect, crop}}
	small, _ := file(func(v float32) float32 { return v }).Crop(0, 0, 32, 32)
	for name, x := range map[string]struct {
		claim *media.Image
		want  job.Ruling
	}{
		"the same":      {file(func(v float32) float32 { return v }), job.Accepted},
		"rounding":      {file(func(v float32) float32 { return v + 1e-6 }), job.Accepted},
		"brighter":      {file(func(v float32) float32 { return 1.03 * v }), job.Rejected},
		"bicubic, say":  {file(func(v float32) float32 { return v + 0.02*float32(math.Sin(float64(v)*40)) }), job.Rejected},
		"a smaller one": {small, job.Rejected},
	} {
		if v := ComparePicture(c, job.Rect{}, x.claim, crops, 1.0/255, MarginFor(c, "cpu", "cpu")); v.Ruling != x.want {
			t.Errorf("%s: %v", name, v)
		}
	}
	// A tile is judged where it lies.
	tile, _ := file(func(v float32) float32 { return v }).Crop(8, 0, 64, 64)
	if v := ComparePicture(c, job.Rect{X0: 8, X1: 64, Y1: 64}, tile, crops, 1.0/255, MarginFor(c, "cpu", "cpu")); v.Ruling != job.Accepted {
		t.Error(v)
	}
}
