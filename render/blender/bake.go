package blender

import (
	"math"
	"slices"
	"time"

	"idlewild/job"
)

// bakeTree is the folder that a bake task leaves, and bakeFrames where in it the
// files lie that only frames of a number read; see runner/baketree.py.
const (
	bakeTree   = "bake"
	bakeFrames = "frames/"
)

// bakeTimeout bounds one bake. It cannot be cut, and may be of hundreds of
// frames that take minutes each.
const bakeTimeout = 48 * time.Hour

// bake is the task that bakes the simulations of the file for these frames,
// somewhere. It is no work for a GPU, and its result is nothing that another
// machine would make bit for bit, so it is not checked (decision 0036).
func (f Facts) bake(frames []int, input job.Ref) job.Task {
	last := f.bakedTo(frames)
	return job.Task{
		Kind:    Name,
		Params:  Params{Op: opBake, Main: f.Main, Frame: last, Build: f.Build, Scene: f.Scene, OCIO: f.OCIO, Tree: true}.encode(),
		Input:   input,
		Outputs: []job.OutputRule{{Name: bakeTree, Media: job.MediaTree}},
		Label:   "bake",
		Needs:   job.Needs{Require: map[string]string{FactVersion: f.Version, FactBuild: f.Build, FactBake: bakeTree}, Device: "cpu"},
		Timeout: bakeTimeout,
	}
}

// bakedTo is the last frame that these look at.
func (f Facts) bakedTo(frames []int) int {
	return min(slices.Max(frames)+int(math.Ceil(min(max(f.Reach, 0), maxFrame)))+1, maxFrame)
}
