package blender

import (
	"math"
	"slices"
	"time"

	"idlewild/job"
)

// bakeFile is the archive that a bake task leaves; see runner/bake.py.
const bakeFile = "bake.tar"

// bakeTimeout bounds one bake. It cannot be cut, and may be of hundreds of
// frames that take minutes each.
const bakeTimeout = 48 * time.Hour

// bake is the task that bakes the simulations of the file for these frames,
// somewhere. It is no work for a GPU, and its result is nothing that another
// machine would make bit for bit, so it is not checked (decision 0036).
func (f Facts) bake(frames []int, input job.Ref) job.Task {
	last := slices.Max(frames) + int(math.Ceil(min(max(f.Reach, 0), maxFrame))) + 1
	return job.Task{
		Kind:    Name,
		Params:  Params{Op: opBake, Main: f.Main, Frame: min(last, maxFrame), Build: f.Build, Scene: f.Scene, OCIO: f.OCIO}.encode(),
		Input:   input,
		Outputs: []job.OutputRule{{Name: bakeFile, Media: job.MediaFile}},
		Label:   "bake",
		Needs:   job.Needs{Require: map[string]string{FactVersion: f.Version, FactBuild: f.Build}, Device: "cpu"},
		Timeout: bakeTimeout,
	}
}
