package blender

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// TestFinishHasAPlace: every task but those that render, of a job with films
// and parts that are denoised, runs where the person said.
func TestFinishHasAPlace(t *testing.T) {
	f := filmFacts()
	f.Width, f.Height, f.Samples, f.Denoise, f.Denoisers, f.DenoiseLayers = 640, 360, 64, true, []string{"openimagedenoise"}, []string{"V"}
	facts, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	planned := func(finish string) []job.Task {
		p, err := json.Marshal(SpecParams{Frames: "1-250"})
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := new(Kind).Plan(job.Spec{Kind: Name, Params: p, Policy: job.Policy{Parts: "2x1", Finish: finish}}, job.Inspection{Facts: facts}, cid.Undef)
		if err != nil {
			t.Fatal(err)
		}
		return tasks
	}
	want := planned("")
	for finish, place := range map[string]job.Place{"requester": job.AtRequester, "member": job.AtMember, "worker": job.Anywhere} {
		exact := 0
		for i, task := range planned(finish) {
			if task.Key() != want[i].Key() {
				t.Fatalf("%s: %s is another task", finish, task.Label)
			}
			if task.Part != (job.Part{}) {
				if task.Place != job.Anywhere || task.Needs.Device != "" {
					t.Fatalf("%s: %s: %q %+v", finish, task.Label, task.Place, task.Needs)
				}
				continue
			}
			if task.Place != place || (task.Needs.Device == "cpu") != (place != job.AtRequester) {
				t.Fatalf("%s: %s: %q %+v", finish, task.Label, task.Place, task.Needs)
			}
			if task.Check.Method == job.CheckExact {
				exact++
				if !slices.ContainsFunc(task.Outputs, func(o job.OutputRule) bool { return o.Name == task.Check.Output }) {
					t.Errorf("%s: the check looks at %q", task.Label, task.Check.Output)
				}
			}
		}
		if got := map[bool]int{true: 0, false: 2*250 + 2}[place == job.AtRequester]; exact != got {
			t.Errorf("%s: %d tasks are checked by doing them again, not %d", finish, exact, got)
		}
	}
}
