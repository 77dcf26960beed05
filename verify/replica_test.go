package verify

import (
	"math"
	"math/rand/v2"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

func picture(f func(i int) float32) *media.Image {
	m := media.New(64, 32)
	for _, c := range []string{"L.Combined.R", "L.Combined.G"} {
		data := m.Add(c, media.Float)
		for i := range data {
			data[i] = f(i)
		}
	}
	return m
}

func TestReplicationInsideAClass(t *testing.T) {
	base := func(i int) float32 { return float32(i%97) / 50 }
	noisy := func(seed uint64, by float32) *media.Image {
		r := rand.New(rand.NewPCG(seed, 1))
		return picture(func(i int) float32 { return base(i) + by*(r.Float32()-.5) })
	}
	cheat := picture(func(i int) float32 { return base(i) * .8 })
	patch := picture(func(i int) float32 {
		if i%20 == 0 {
			return 3
		}
		return base(i)
	})
	var tol Tolerance
	pairs := func(seeds ...uint64) (out []*media.Image) {
		for _, s := range seeds {
			out = append(out, noisy(s, 2e-4))
		}
		return out
	}
	judge := func(claim *media.Image, reps ...*media.Image) job.Verdict {
		var ds []Distance
		for _, r := range reps {
			ds = append(ds, Apart(claim, r))
		}
		var pair Distance
		use := tol
		if len(reps) > 1 {
			pair = Apart(reps[0], reps[1])
			use.Learn(pair)
			tol.Learn(pair)
		}
		return Replicated(ds, pair, use)
	}
	want := func(what string, v job.Verdict, r job.Ruling) {
		t.Helper()
		if v.Ruling != r {
			t.Errorf("%s: %v %v", what, v, v.Numbers)
		}
	}
	for s := uint64(0); tol.Replicas() == 2; s += 10 {
		p := pairs(s, s+1, s+2)
		want("honest", judge(p[0], p[1], p[2]), job.Accepted)
	}
	if tol.Pairs != learnt {
		t.Errorf("%d pairs", tol.Pairs)
	}
	p := pairs(100, 101)
	want("honest, one replica", judge(p[0], p[1]), job.Accepted)
	want("cheat, one replica", judge(cheat, p[1]), job.Rejected)
	want("patch, one replica", judge(patch, p[1]), job.Rejected)
	want("honest with a cheat for a checker", judge(p[0], p[1], cheat), job.Accepted)
	tol = Tolerance{}
	want("cheat among strangers", judge(cheat, p[0], p[1]), job.Rejected)
	tol = Tolerance{}
	want("honest with a cheat for a checker, nothing learnt", judge(p[0], p[1], cheat), job.Unsure)
	if tol.Pairs != 0 {
		t.Error("a cheat taught the tolerance")
	}
	want("nobody agrees", judge(noisy(1, .9), noisy(2, .9), noisy(3, .9)), job.Unsure)
	want("one replica before anything was learnt", judge(cheat, p[0]), job.Unsure)
	want("nobody", judge(cheat), job.Unsure)

	small, nan := media.New(2, 2), picture(func(i int) float32 { return float32(math.NaN()) })
	inf := picture(func(i int) float32 { return float32(math.Inf(1)) })
	for what, bad := range map[string]*media.Image{"another size": small, "NaN": nan, "infinite": inf} {
		if d := Apart(bad, p[0]); d.Far != 1 || d.Mean < .99 {
			t.Errorf("%s: %+v", what, d)
		}
	}
	if d := Apart(nan, nan); d != (Distance{}) {
		t.Errorf("NaN like NaN: %+v", d)
	}
	if d := Apart(inf, picture(func(int) float32 { return float32(math.Inf(-1)) })); d.Mean != 1 {
		t.Errorf("infinities: %+v", d)
	}
}
