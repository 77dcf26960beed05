package verify

import (
	"fmt"
	"math"

	"idlewild/job"
	"idlewild/media"
)

// ByReplication is the method of verdicts on what cannot be sampled: the whole
// task ran again, on other machines of the worker's device class.
const ByReplication = "replication"

// Distance is how far two renders of one task are apart.
type Distance struct {
	Mean float64 `json:"mean"` // of |a-b| / (|a|+|b|+0.02) over all samples
	Far  float64 `json:"far"`  // share of pixels in which a channel differs by more than a tenth, by that measure
}

// Tolerance is how far honest machines of one class are apart: learnt from pairs
// of renders, neither of which was the claim.
type Tolerance struct {
	Pairs int      `json:"pairs"`
	Worst Distance `json:"worst"` // of them
}

const (
	// learnt is how many pairs a tolerance rests on before one replica is enough.
	learnt = 5
	// slack is what a claim may differ beyond the worst pair.
	slack = 2
	// leastMean and leastFar are allowed where all pairs were equal.
	leastMean, leastFar = 1e-4, 1e-4
	// mostMean and mostFar: machines that differ by more cannot vouch for each
	// other.
	mostMean, mostFar = 0.02, 0.02
	// farApart is what counts for Distance.Far.
	farApart = 0.1
)

// Replicas is how many times a task has to run again.
func (t Tolerance) Replicas() int {
	if t.Pairs < learnt {
		return 2
	}
	return 1
}

// Learn takes in a pair. It is false for one that is too far apart to teach
// anything: one of the two is wrong, or the task comes out otherwise each time.
func (t *Tolerance) Learn(d Distance) bool {
	if !(d.Mean <= mostMean && d.Far <= mostFar) {
		return false
	}
	t.Pairs = min(t.Pairs+1, 1<<20)
	t.Worst = Distance{max(t.Worst.Mean, d.Mean), max(t.Worst.Far, d.Far)}
	return true
}

// Allows reports whether two renders that are so far apart agree.
func (t Tolerance) Allows(d Distance) bool {
	return d.Mean <= min(mostMean, max(leastMean, slack*t.Worst.Mean)) && d.Far <= min(mostFar, max(leastFar, slack*t.Worst.Far))
}

// Apart measures two images. Images of another size or with other channels are
// as far apart as can be.
func Apart(a, b *media.Image) Distance {
	if a.Width != b.Width || a.Height != b.Height || len(a.Channels) != len(b.Channels) || a.Width*a.Height == 0 || len(a.Channels) == 0 {
		return Distance{1, 1}
	}
	n := a.Width * a.Height
	far := make([]bool, n)
	sum := 0.0
	for _, ca := range a.Channels {
		cb, ok := b.Channel(ca.Name)
		if !ok || len(ca.Data) != n || len(cb.Data) != n {
			return Distance{1, 1}
		}
		for i, x := range ca.Data {
			d := apart(float64(x), float64(cb.Data[i]))
			sum += d
			far[i] = far[i] || d > farApart
		}
	}
	count := 0
	for _, f := range far {
		if f {
			count++
		}
	}
	return Distance{sum / float64(n*len(a.Channels)), float64(count) / float64(n)}
}

func apart(x, y float64) float64 {
	if x == y || x != x && y != y {
		return 0
	}
	d := math.Abs(x-y) / (math.Abs(x) + math.Abs(y) + 0.02)
	if d != d { // one is no number, or both are infinite
		return 1
	}
	return d
}

// Replicated judges a claim by its distances to one or two replicas, and for two
// by the distance between them (pair). The replicas are of other peers, so where
// they agree with each other and not with the claim, it is wrong; where nobody
// agrees with anybody nothing can be said.
func Replicated(claim []Distance, pair Distance, t Tolerance) job.Verdict {
	v := job.Verdict{Method: ByReplication, Numbers: map[string]float64{"pairs": float64(t.Pairs), "tolerance": max(leastMean, slack*t.Worst.Mean)}}
	agree := 0
	for i, d := range claim {
		v.Numbers[fmt.Sprintf("mean_%d", i+1)], v.Numbers[fmt.Sprintf("far_%d", i+1)] = d.Mean, d.Far
		if t.Allows(d) {
			agree++
		}
	}
	if len(claim) > 1 {
		v.Numbers["pair_mean"], v.Numbers["pair_far"] = pair.Mean, pair.Far
	}
	switch {
	case len(claim) == 0:
		v.Ruling, v.Reason = job.Unsure, "could not be checked: nobody ran it again"
	case agree > 0:
		v.Ruling, v.Reason = job.Accepted, fmt.Sprintf("another machine of its device class made the same, within %.4f", max(leastMean, slack*t.Worst.Mean))
	case len(claim) == 1 && t.Pairs < learnt, len(claim) > 1 && !t.Allows(pair):
		v.Ruling, v.Reason = job.Unsure, "machines of its device class do not make the same of this task"
	default:
		v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("another picture than %d other machines of its device class made: it differs by %.3f", len(claim), claim[0].Mean)
	}
	return v
}
