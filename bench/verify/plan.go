// Package verify renders scenes as honest and as cheating workers would, has
// idlewild's comparer judge them, and counts what it says: the bench of cheats.
// Renders are kept in a folder, so that a run that was broken off goes on.
package verify

import (
	"fmt"
	"path/filepath"

	"idlewild/verify"
)

// families are the scenes' subjects, functions of scenes.py. Each is built
// twice: variant a for fitting, variant b for the published table. Where a
// family's test scene has adaptive sampling its training scene has none, and
// the other way round, so half of both have it.
var families = []string{
	"glossy", "glass", "volume", "hair", "subsurface", "motion", "fireflies", "particles", "textures", "displacement",
	"interior", "animation",
}

// scene is one scene as a job asks for it.
type scene struct {
	name          string // FAMILY-VARIANT
	test          bool
	adaptive      bool
	width, height int
}

// Sampling of the scenes. Adaptive ones stop after 16, 32 or maxSamples
// samples. Cycles' own 0.01 and 4096 would stop as variously, at a
// hundred times the cost.
const (
	fixedSamples  = 20
	maxSamples    = 48
	minSamples    = 8
	threshold     = 0.05
	checkerRanges = 10 // files in which the checker's samples come: any of their sums is a sample range
)

// claimRanges are where a fixed worker's samples are cut, so that every cheat
// that leaves some out is a sum of files.
var claimRanges = []int{0, 5, 10, 15, 18, 19, 20}

func scenes(quick bool) []scene {
	var out []scene
	for i, f := range families {
		if quick && i%3 != 0 {
			continue
		}
		test := scene{name: f + "-b", test: true, adaptive: i%2 == 0, width: 640, height: 360}
		if quick {
			test.width, test.height = 320, 180
			test.adaptive = i%6 == 0
		}
		out = append(out, test, scene{name: f + "-a", adaptive: !test.adaptive, width: 320, height: 180})
	}
	return out
}

func (s scene) samples() int {
	if s.adaptive {
		return maxSamples
	}
	return fixedSamples
}

func (s scene) set() string {
	if s.test {
		return "test"
	}
	return "training"
}

// render is one line of scenes.py's job file.
type render struct {
	Scene     string  `json:"scene"`
	Out       string  `json:"out"`
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Samples   int     `json:"samples"`
	Offset    int     `json:"offset,omitempty"`
	Seed      int     `json:"seed,omitempty"`
	Frame     int     `json:"frame,omitempty"`
	Percent   int     `json:"percent,omitempty"`
	Adaptive  bool    `json:"adaptive,omitempty"`
	Threshold float64 `json:"threshold,omitempty"`
	Min       int     `json:"min_samples,omitempty"`
	BVH       string  `json:"bvh,omitempty"`
	Tile      int     `json:"tile,omitempty"`
	Removed   bool    `json:"removed,omitempty"`
}

// machine is a way of running Blender: a stand-in for somebody's hardware.
type machine struct {
	name    string
	env     []string
	threads int
}

var (
	mine   = machine{"checker", nil, 2}
	older  = machine{"older", []string{"CYCLES_CPU_NO_AVX2=1"}, 1}
	oldest = machine{"oldest", []string{"CYCLES_CPU_NO_AVX2=1", "CYCLES_CPU_NO_AVX=1"}, 1}
)

var machines = []machine{mine, older, oldest}

func (s scene) file(dir, name string) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%dx%d", s.name, s.width, s.height), name+".exr")
}

func (s scene) asked(dir, name string, change func(*render)) render {
	r := render{Scene: s.name, Out: s.file(dir, name), Width: s.width, Height: s.height, Samples: s.samples()}
	if s.adaptive {
		r.Adaptive, r.Threshold, r.Min = true, threshold, minSamples
	}
	if change != nil {
		change(&r)
	}
	return r
}

func rangeName(who string, from, to int) string { return fmt.Sprintf("%s-%d-%d", who, from, to) }

// renders are what a machine has to render of a scene: first what every table
// needs, and as extra what only lists further cheats.
func (s scene) renders(dir string, m machine, extra bool) []render {
	var out []render
	add := func(name string, change func(*render)) { out = append(out, s.asked(dir, name, change)) }
	ranges := func(who string, cuts []int) {
		for i := 1; i < len(cuts); i++ {
			from, to := cuts[i-1], cuts[i]
			add(rangeName(who, from, to), func(r *render) { r.Offset, r.Samples = from, to-from })
		}
	}
	most := func(percent int) {
		add(fmt.Sprintf("most-%d", percent), func(r *render) { r.Samples = maxSamples * percent / 100 })
	}
	looser := func(name string, by float64) {
		add("threshold-"+name, func(r *render) { r.Threshold = by * threshold })
	}
	switch {
	case m.name == oldest.name:
		if extra && s.test {
			add("oldest", func(r *render) { r.Tile = 128 })
		}
	case m.name == mine.name && extra:
		if s.test && !s.adaptive {
			add("splits", func(r *render) { r.BVH = "splits" })
		}
	case m.name == mine.name:
		if s.adaptive {
			add("checker", nil)
			add("checker-seed", func(r *render) { r.Seed = 7919 })
			add("checker-look", func(r *render) { r.Samples = verify.LookSamples(maxSamples) })
		} else {
			ranges("checker", checkerCuts())
		}
		add("bvh2", func(r *render) { r.BVH = "bvh2" })
	case extra:
		if !s.test {
			break
		}
		if s.adaptive {
			add("seed", func(r *render) { r.Seed = 1 })
		}
		add("removed", func(r *render) { r.Removed = true })
		if s.adaptive {
			add("fixed", func(r *render) { r.Adaptive = false; r.Samples = maxSamples * 5 / 8 })
			looser("2", 2)
			most(75)
			looser("4", 4)
			looser("1.2", 1.2)
			most(25)
			most(95)
		}
	default:
		add("previous", func(r *render) { r.Frame = 1 })
		if s.adaptive {
			add("older", nil)
			looser("1.5", 1.5)
			most(90)
			most(50)
		} else {
			ranges("older", claimRanges)
			add("seed", func(r *render) { r.Seed = 1 })
		}
	}
	return out
}

func checkerCuts() []int {
	var out []int
	for i := range checkerRanges + 1 {
		out = append(out, i*fixedSamples/checkerRanges)
	}
	return out
}

// honest are the claims that must never be punished: older instructions and one
// thread, older still and in tiles, another ray tracing structure.
func (s scene) honest() []string { return []string{"older", "oldest", "bvh2", "splits"} }
