package verify

import (
	"math"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

func TestScenesAreKeptApartAndHalfOfThemAdaptive(t *testing.T) {
	adaptive, sets := map[string]int{}, map[string]int{}
	names := map[string]bool{}
	for _, s := range scenes(false) {
		if names[s.name] {
			t.Errorf("%s twice", s.name)
		}
		names[s.name] = true
		sets[s.set()]++
		if s.adaptive {
			adaptive[s.set()]++
		}
		if s.test && (s.width < 640 || s.height < 360) {
			t.Errorf("%s has %dx%d pixels", s.name, s.width, s.height)
		}
		seen := map[string]bool{}
		for _, m := range machines {
			for _, extra := range []bool{false, true} {
				for _, r := range s.renders("dir", m, extra) {
					if seen[r.Out] {
						t.Errorf("%s is rendered twice", r.Out)
					}
					seen[r.Out] = true
				}
			}
		}
	}
	for _, set := range []string{"test", "training"} {
		if sets[set] < 12 || 2*adaptive[set] != sets[set] {
			t.Errorf("%s: %d scenes, %d adaptive", set, sets[set], adaptive[set])
		}
	}
}

func TestBounds(t *testing.T) {
	sure := over([]float64{1, 1, 1}, 3000)
	if sure.missed != 0 || math.Abs(sure.lower-math.Pow(0.05, 1.0/3000)) > 1e-9 {
		t.Errorf("%+v", sure)
	}
	// One scene of four in which nothing is caught: the rest says little of the next scene.
	if c := over([]float64{1, 1, 1, 0}, 4000); c.missed != 1 || c.rate != 0.75 || c.lower > 0.51 {
		t.Errorf("%+v", c)
	}
	half := rulings{of: []job.Ruling{job.Accepted, job.Unsure}}
	if p := half.within(2, 20000, caught, 0); math.Abs(p-0.75) > 0.02 {
		t.Errorf("caught in %.3f of two frames, half of which show it", p)
	}
	always := rulings{of: []job.Ruling{job.Rejected}}
	if p := always.within(25, 1000, caught, 3); p != 1 {
		t.Errorf("right at every third frame: caught in %.3f", p)
	}
	if p := always.within(1, 1000, caught, 3); p != 0 {
		t.Errorf("caught at the frame that is right: %.3f", p)
	}
}

func TestSpent(t *testing.T) {
	m := media.New(4, 1)
	copy(m.Add(counts, media.Float), []float32{1. / 3, 2. / 3, 1, 1})
	if got := spent(m, 48); math.Abs(got-(16+32+48+48)) > 0.01 {
		t.Errorf("spent %g of 48", got)
	}
	m = media.New(2, 1)
	copy(m.Add(counts, media.Float), []float32{0.5, 1})
	if got := spent(m, 48); math.Abs(got-48) > 0.01 { // no pixel got beyond 32
		t.Errorf("spent %g where the render ended early", got)
	}
}

func TestTableNamesWhatItShows(t *testing.T) {
	var tab table
	s := scene{name: "glass-b", test: true}
	tab.add(s, []trial{
		{Scene: s.name, Claim: "honest older", Goal: goalHonest, Ruling: job.Accepted},
		{Scene: s.name, Claim: "50 % samples", Goal: goalWhole, Ruling: job.Rejected},
		{Scene: s.name, Claim: "50 % samples", Goal: goalWhole, Ruling: job.Accepted},
	})
	var out strings.Builder
	tab.print(&out)
	if !strings.Contains(out.String(), "50 % samples") || !strings.Contains(out.String(), "50.00 %") {
		t.Error(out.String())
	}
	found := map[string]float64{}
	for _, f := range tab.figures() {
		found[f.Name] = f.Value
	}
	if v := found["adaptive off: whole-frame cheats, within 2 frames"]; v < 70 || v > 80 {
		t.Errorf("%v", found)
	}
	if v := found["pixels and samples checked of a job of 250 frames, new peer"]; v <= 0 || v > 3 {
		t.Errorf("checking costs %g %%", v)
	}
}
