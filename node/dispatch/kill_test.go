package dispatch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// amount is how much of something a test does: by itself, or as make chaos says.
func amount(name string, short int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return short
}

// figure prints a line as the benchmarks do.
func figure(t *testing.T, name string, value any, goal string, holds bool) {
	t.Helper()
	verdict := ""
	if goal != "" {
		verdict = "goal " + goal + map[bool]string{true: ", holds", false: ", MISSED"}[holds]
	}
	t.Logf("  %-52s %12v %s", name, value, verdict)
	if !holds {
		t.Errorf("%s: %v, goal %s", name, value, goal)
	}
}

// rigJobs are the jobs that are killed: whole frames, and frames in parts that
// this machine joins. Some of their results are checked.
var rigJobs = []fakeParams{{Frames: 5, Check: job.CheckExact}, {Frames: 3, Parts: 2, Check: job.CheckExact}}

// rigOps is how long a run without a kill is: there nothing is done twice.
func rigOps(t *testing.T, dir string, names map[string]peer.ID, seed uint64) int {
	x := newRig(t, dir, names, seed, rigJobs[seed%2])
	x.written.off = true
	if !x.run(nil) {
		t.Fatalf("seed %d: the job does not end although nobody is killed: %v", seed, x)
	}
	if n, _ := x.redone(); n != 0 {
		t.Fatalf("seed %d: %d tasks done twice although nobody is killed: %v", seed, n, x)
	}
	return x.ops()
}

// redone is what was begun beside what counted in the end: tasks, and the pieces
// of work, which are leases, that they were in.
func (x *rig) redone() (tasks, pieces int) {
	counted := map[uint64]bool{}
	for _, t := range x.b.byID[x.id].tasks {
		if t.accepted != nil {
			counted[t.accepted.fence] = true
		}
	}
	in := map[job.LeaseID]bool{}
	for _, w := range x.ws {
		for _, r := range w.begun {
			if !counted[r.fence] {
				tasks++
				in[r.lease] = true
			}
		}
	}
	return tasks, len(in)
}

// TestKilledAtEveryStep kills the requester, a worker, or cuts the power at each
// operation of the protocol: before and after each write, each fsync, each
// message; half of the time once more soon after. IDLEWILD_KILLS says how many
// runs; see make chaos.
func TestKilledAtEveryStep(t *testing.T) {
	dir, names := t.TempDir(), map[string]peer.ID{}
	for _, mode := range []string{"requester", "worker", "power"} {
		runs, kills, lost, worst, redone, pieces, ops, unended := 0, 0, 0, 0.0, 0, 0, 0, 0
		all := amount("IDLEWILD_KILLS", 40)
		for seed := uint64(1); runs < all; seed++ {
			n := rigOps(t, dir, names, seed)
			step := 1
			if all < 500 { // here and there only
				step = n/(all/2) + 1
			}
			for at := 1; at <= n && runs < all; at += step {
				x := newRig(t, dir, names, seed, rigJobs[seed%2])
				x.images, x.written.off = 1, mode != "power"
				r := rand.New(rand.NewPCG(seed, uint64(at)))
				k := kill{at: at, who: -1, power: mode == "power", away: time.Duration(1+r.IntN(20)) * time.Second}
				if mode == "worker" {
					k.who = 1 + r.IntN(2)
				}
				plan := []kill{k}
				if r.IntN(2) == 0 {
					k.at += 1 + r.IntN(80)
					k.power = k.power && r.IntN(2) == 0
					plan = append(plan, k)
				}
				ended := x.run(plan)
				x.h.End()
				for _, f := range x.h.Faults() {
					if f.What == WrongLost {
						lost++
					}
					t.Errorf("%s, seed %d, killed at %d of %d: %v", mode, seed, at, n, f)
				}
				if !ended {
					unended++
					t.Errorf("%s, seed %d, killed at %d of %d: it does not come to rest: %v", mode, seed, at, n, x)
					continue
				}
				again, leases := x.redone()
				runs, kills, redone, pieces, ops = runs+1, kills+x.kills, redone+again, pieces+leases, max(ops, n)
				if x.kills > 0 {
					worst = max(worst, float64(leases)/float64(x.kills))
				}
			}
			if runs < all {
				continue
			}
			t.Logf("killed: %s; seeds 1 to %d, %d operations at most", mode, seed, ops)
		}
		figure(t, mode+": runs", runs, "", true)
		figure(t, mode+": kills", kills, "", true)
		figure(t, mode+": acknowledged frames lost", lost, "<= 0", lost == 0)
		figure(t, mode+": jobs that did not end", unended, "<= 0", unended == 0)
		figure(t, mode+": tasks redone per kill", fmt.Sprintf("%.3f", float64(redone)/float64(kills)), "", true)
		mean := float64(pieces) / float64(kills)
		figure(t, mode+": pieces redone per kill", fmt.Sprintf("%.3f", mean), "<= 1", mean <= 1)
		// Who was at work is copied while it is not back, and a cut loses the newest
		// grants, which nobody waited for: up to a piece of each worker.
		figure(t, mode+": the same in the worst run", fmt.Sprintf("%.2f", worst), "<= 3", worst <= 3)
	}
}

// TestPowerCutImages makes many images of what a cut at each operation may leave:
// each is a state that the journal was in, and none is from before what somebody
// was told. IDLEWILD_IMAGES says how many; see make chaos.
func TestPowerCutImages(t *testing.T) {
	dir, names := t.TempDir(), map[string]peer.ID{}
	all := amount("IDLEWILD_IMAGES", 200)
	images, torn, points, lost, untrue := 0, 0, 0, 0, 0
	seed := uint64(1)
	for ; images < all; seed++ {
		n := rigOps(t, dir, names, seed)
		step := 1
		if all < 5000 {
			step = n/(all/16) + 1
		}
		for at := 1; at <= n && images < all; at += step {
			x := newRig(t, dir, names, seed, rigJobs[seed%2])
			x.images = 8
			r := rand.New(rand.NewPCG(seed, uint64(at)))
			plan := []kill{{at: at, who: -1, power: r.IntN(4) > 0}}
			if !plan[0].power { // killed first, and cut soon after it was started again
				plan = append(plan, kill{at: at + 1 + r.IntN(60), who: -1, power: true})
			}
			x.run(plan)
			images, torn, points = images+x.held, torn+x.torn, points+1
			lost, untrue = lost+x.lost, untrue+x.untrue
		}
	}
	t.Logf("seeds 1 to %d", seed-1)
	figure(t, "points of time", points, "", true)
	figure(t, "crash images", images, "", true)
	figure(t, "of them with a torn tail", torn, ">= 1", torn > 0)
	figure(t, "images without what was acknowledged", lost, "<= 0", lost == 0)
	figure(t, "images with false records", untrue, "<= 0", untrue == 0)
}
