package verify

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/verify"
)

// rulings are those on one claim of one scene, draw by draw.
type rulings struct {
	claim, scene, goal string
	adaptive           bool
	of                 []job.Ruling
}

func caught(r job.Ruling) bool { return r != job.Accepted }

// cell is a rate over scenes, with its lower 95 % bound.
type cell struct {
	trials, scenes, missed int // missed: scenes in which it is not 1
	rate, lower            float64
}

// over makes a cell of each scene's rate and number of trials. Trials of a scene
// are not independent, so the bound is the smaller of two: a bootstrap that draws
// whole scenes, and, for where no scene misses and that says nothing, the exact
// bound on as many trials as there were.
func over(rates []float64, trials int) cell {
	c := cell{trials: trials, scenes: len(rates)}
	for _, r := range rates {
		c.rate += r / float64(len(rates))
		if r < 1 {
			c.missed++
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var means []float64
	for range 4000 {
		sum := 0.0
		for range rates {
			sum += rates[rnd.IntN(len(rates))]
		}
		means = append(means, sum/float64(len(rates)))
	}
	slices.Sort(means)
	c.lower = means[len(means)/20]
	if c.missed == 0 {
		c.lower = math.Pow(0.05, 1/float64(max(1, trials)))
	}
	return c
}

// within is the share of simulated nodes that are caught within so many frames,
// as often checked as a new peer is. right is how many of three frames it does
// honestly.
func (r rulings) within(frames, nodes int, is func(job.Ruling) bool, honestEvery int) float64 {
	rnd := rand.New(rand.NewPCG(uint64(frames), uint64(len(r.of))))
	n := 0
	for range nodes {
		checked := 0
		for f := range frames {
			if rnd.Float64() >= verify.Rate(checked, 0, 0.05) {
				continue
			}
			checked++
			if honestEvery > 0 && f%honestEvery == 0 {
				continue
			}
			if is(r.of[rnd.IntN(len(r.of))]) {
				n++
				break
			}
		}
	}
	return float64(n) / float64(nodes)
}

// table is what a run found.
type table struct {
	all []rulings
}

func (t *table) add(s scene, trials []trial) {
	at := map[string]int{}
	for _, x := range trials {
		i, ok := at[x.Claim]
		if !ok {
			i = len(t.all)
			at[x.Claim] = i
			t.all = append(t.all, rulings{claim: x.Claim, scene: x.Scene, goal: x.Goal, adaptive: s.adaptive})
		}
		t.all[i].of = append(t.all[i].of, x.Ruling)
	}
}

func (t *table) pick(is func(rulings) bool) []rulings {
	var out []rulings
	for _, r := range t.all {
		if is(r) {
			out = append(out, r)
		}
	}
	return out
}

const simulated = 2000 // nodes a scene

// pairs is how many independent nodes the draws of a claim stand for, two frames
// each: simulated ones draw from the same few.
func pairs(r rulings) int { return len(r.of) / 2 }

// rate is the cell of some rulings, each of a scene of its own or of several
// claims of the same: scenes are what is drawn.
func rate(list []rulings, of func(rulings) float64, trials func(rulings) int) cell {
	sum, n := map[string]float64{}, map[string]int{}
	total := 0
	for _, r := range list {
		sum[r.scene] += of(r)
		n[r.scene]++
		total += trials(r)
	}
	var rates []float64
	for _, s := range sortedKeys(sum) {
		rates = append(rates, sum[s]/float64(n[s]))
	}
	if len(rates) == 0 {
		return cell{}
	}
	return over(rates, total)
}

func sortedKeys(m map[string]float64) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// print writes the table of claims, adaptive sampling on and off apart.
func (t *table) print(w io.Writer) {
	for _, adaptive := range []bool{false, true} {
		mode := "off"
		if adaptive {
			mode = "on"
		}
		fmt.Fprintf(w, "\nadaptive sampling %s\n%-38s %6s %6s | %8s %8s %8s | %9s %9s %6s\n", mode,
			"claim", "scenes", "checks", "accepted", "unsure", "rejected", "2 frames", "25 frames", "lower")
		names := map[string][]rulings{}
		var order []string
		for _, r := range t.pick(func(r rulings) bool { return r.adaptive == adaptive }) {
			if names[r.claim] == nil {
				order = append(order, r.claim)
			}
			names[r.claim] = append(names[r.claim], r)
		}
		slices.SortFunc(order, func(a, b string) int {
			ga, gb := names[a][0].goal, names[b][0].goal
			return cmp.Or(cmp.Compare(goalRank(ga), goalRank(gb)), strings.Compare(a, b))
		})
		for _, name := range order {
			list := names[name]
			count := map[job.Ruling]int{}
			checks := 0
			for _, r := range list {
				for _, x := range r.of {
					count[x]++
					checks++
				}
			}
			percent := func(r job.Ruling) string { return fmt.Sprintf("%.2f %%", 100*float64(count[r])/float64(checks)) }
			frames, two, many, lower := 25, "", "", ""
			if list[0].goal != goalHonest {
				a := rate(list, func(r rulings) float64 { return r.within(2, simulated, caught, 0) }, pairs)
				b := rate(list, func(r rulings) float64 { return r.within(frames, simulated, caught, 0) }, pairs)
				two, many = fmt.Sprintf("%.2f %%", 100*a.rate), fmt.Sprintf("%.2f %%", 100*b.rate)
				lower = fmt.Sprintf("%.1f %%", 100*a.lower)
				if g := list[0].goal; g == goalTiles || g == goalEdit {
					lower = fmt.Sprintf("%.1f %%", 100*b.lower)
				}
			}
			fmt.Fprintf(w, "%-38s %6d %6d | %8s %8s %8s | %9s %9s %6s\n", name, len(list), checks,
				percent(job.Accepted), percent(job.Unsure), percent(job.Rejected), two, many, lower)
		}
	}
}

// misses lists what was not as it is wanted: claims of a scene of which a check
// said otherwise, how often, and what one of those checks said.
func misses(w io.Writer, found [][]trial) {
	type key struct{ scene, claim string }
	n, wrong, said := map[key]int{}, map[key]int{}, map[key]string{}
	var order []key
	for _, trials := range found {
		for _, x := range trials {
			k := key{x.Scene, x.Claim}
			if n[k]++; x.Goal == "" || (x.Goal == goalHonest) == (x.Ruling == job.Accepted) {
				continue
			}
			if wrong[k]++; said[k] == "" {
				order = append(order, k)
				said[k] = x.Reason
			}
		}
	}
	for _, k := range order {
		fmt.Fprintf(w, "%s, %s: %d of %d checks: %s\n", k.scene, k.claim, wrong[k], n[k], said[k])
	}
}

func goalRank(goal string) int {
	return slices.Index([]string{goalHonest, goalWhole, goalTiles, goalEdit, ""}, goal)
}

// Figure is one number of the summary.
type Figure struct {
	Name    string
	Value   float64
	Unit    string
	Goal    float64
	AtMost  bool
	Without bool // no goal
}

// figures are the rows that have a goal.
func (t *table) figures() []Figure {
	var out []Figure
	for _, adaptive := range []bool{false, true} {
		mode := "adaptive off"
		if adaptive {
			mode = "adaptive on"
		}
		of := func(goal string) []rulings {
			return t.pick(func(r rulings) bool { return r.adaptive == adaptive && r.goal == goal })
		}
		add := func(name, goal string, frames int, want float64) {
			list := of(goal)
			if goal == goalTiles {
				list = slices.DeleteFunc(list, func(r rulings) bool { return !strings.HasPrefix(r.claim, "tiles 20") })
			}
			if len(list) == 0 {
				return
			}
			c := rate(list, func(r rulings) float64 { return r.within(frames, simulated, caught, 0) }, pairs)
			out = append(out,
				Figure{Name: fmt.Sprintf("%s: %s, within %d frames", mode, name, frames), Value: 100 * c.rate, Unit: "%", Goal: want},
				Figure{Name: fmt.Sprintf("%s: %s, lower 95 %% bound", mode, name), Value: 100 * c.lower, Unit: "%", Goal: want},
				Figure{Name: fmt.Sprintf("%s: %s, scenes of %d with a miss", mode, name, c.scenes), Value: float64(c.missed), Without: true})
		}
		add("whole-frame cheats", goalWhole, 2, 99.9)
		add("20 % of the tiles cheap", goalTiles, 25, 99.9)
		add("object removed or watermark", goalEdit, 25, 95)
		thirds := t.pick(func(r rulings) bool {
			return r.adaptive == adaptive && (r.claim == "50 % samples" || r.claim == "50 % of the maximum")
		})
		if len(thirds) > 0 {
			c := rate(thirds, func(r rulings) float64 { return r.within(25, simulated, caught, 3) }, pairs)
			out = append(out, Figure{Name: mode + ": right at 1 of 3 frames, within 25", Value: 100 * c.rate, Unit: "%", Goal: 99.9})
		}
		honest := of(goalHonest)
		checks, unsure, wrong := 0, 0, 0
		for _, r := range honest {
			for _, x := range r.of {
				checks++
				switch x {
				case job.Unsure:
					unsure++
				case job.Rejected:
					wrong++
				}
			}
		}
		out = append(out,
			Figure{Name: mode + ": honest frames checked", Value: float64(checks), Without: true},
			Figure{Name: mode + ": honest frames escalated", Value: 100 * float64(unsure) / float64(max(1, checks)), Unit: "%", Goal: 0.1, AtMost: true},
			Figure{Name: mode + ": honest frames rejected", Value: float64(wrong), Goal: 0, AtMost: true})
	}
	return append(out, cost()...)
}

// cost is what checking adds to a job of 250 frames, in shares of its frames.
func cost() []Figure {
	const frames = 250
	crops := verify.Draw([]byte{1}, [32]byte{}, 1920, 1080, verify.DrawOptions{})
	pixels := 0
	for _, r := range crops {
		pixels += r.Dx() * r.Dy()
	}
	look := float64(verify.LookSamples(128)) / 128
	one := float64(pixels)/(1920*1080) + look
	of := func(checked int) float64 {
		sum := 0.0
		for n := range frames {
			sum += verify.Rate(checked+n, 0, 0.05)
		}
		return 100 * sum * one / frames
	}
	return []Figure{
		{Name: "pixels and samples checked of a job of 250 frames, new peer", Value: of(0), Unit: "%", Goal: 3, AtMost: true},
		{Name: "the same, known peer", Value: of(10000), Unit: "%", Goal: 1.5, AtMost: true},
	}
}
