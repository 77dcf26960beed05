package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"idlewild/job"
)

// prepare takes a job from its spec to its tasks. A nil Event means that it was
// cut short, and begins anew with the next start.
func (d *Dispatcher) prepare(ctx context.Context, e Prepare) Event {
	say := func(text string, f float64) { d.post(Prepared{ID: e.ID, Text: text, Fraction: f}) }
	refuse := func(what string, err error) Event {
		if ctx.Err() != nil {
			return nil
		}
		var r *job.RefusedError
		if errors.As(err, &r) {
			return Refused{ID: e.ID, Problems: r.Problems, Reason: "refused: " + r.Error()}
		}
		return Refused{ID: e.ID, Reason: fmt.Sprintf("%s: %v", what, err)}
	}
	k, err := d.kind(e.Spec)
	if err != nil {
		return refuse("kind", err)
	}
	say("inspecting", 0)
	in, err := d.inspect(ctx, k, e.Spec)
	if err != nil {
		return refuse("inspect", err)
	}
	if bad := in.Refused(); len(bad) > 0 {
		return Refused{ID: e.ID, Problems: in.Problems, Reason: "refused: " + bad[0].String()}
	}
	var snap Snapshot
	if len(in.Deps) > 0 {
		say("storing", 0.3)
		if snap, err = d.deps.Content.Snapshot(ctx, e.ID, in.Deps, e.Spec.Policy.Exact); err != nil {
			return refuse("store", err)
		}
	}
	say("planning", 0.9)
	tasks, err := k.Plan(e.Spec, in, snap.Root)
	if err != nil {
		return refuse("plan", err)
	}
	if err := checkPlan(tasks); err != nil {
		return refuse("plan", err)
	}
	out := Planned{ID: e.ID, Facts: in.Facts, Problems: in.Problems, Snapshot: snap, Tasks: tasks}
	if !e.Spec.Policy.OnlyMissing && !e.Spec.Policy.Reuse {
		return out
	}
	if e.Spec.Policy.Reuse {
		say("comparing", 0.95)
		if out.Reuse, err = d.reuse(ctx, e, k, in, snap, tasks); errors.Is(err, errNoReuse) {
			out.Problems = append(out.Problems, job.Problem{Severity: job.SeverityWarning, Where: "reuse", Message: "everything is run: " + err.Error()})
		} else if err != nil {
			return refuse("compare", err)
		} else if len(out.Reuse.Tasks)+len(out.Reuse.Drawn) == 0 && out.Reuse.Why != "" {
			out.Problems = append(out.Problems, job.Problem{Severity: job.SeverityWarning, Where: "reuse", Message: "everything is run: " + out.Reuse.Why})
		}
	}
	stays := map[job.TaskKey]bool{}
	for _, i := range slices.Concat(out.Reuse.Tasks, out.Reuse.Drawn) {
		stays[tasks[i].Key()] = true
	}
	out.Skipped = unneeded(tasks, func(t job.Task) bool {
		return stays[t.Key()] || e.Spec.Policy.OnlyMissing && d.deps.Sink.Delivered(e.Spec, t)
	})
	out.Skipped = without(out.Skipped, tasks, out.Reuse.Drawn)
	return out
}

// checkPlan refuses what the board could not bring to an end.
func checkPlan(tasks []job.Task) error {
	switch {
	case len(tasks) == 0:
		return job.Refuse("", "there is nothing to do", "give at least one frame")
	case len(tasks) > job.MaxTasksPerJob:
		return job.Refuse("", fmt.Sprintf("%d tasks where at most %d are allowed", len(tasks), job.MaxTasksPerJob), "submit it in several jobs")
	}
	index := make(map[job.TaskKey]int, len(tasks))
	final := map[string]string{}
	for i, t := range tasks {
		if err := t.Validate(); err != nil {
			return err
		}
		k := t.Key()
		if at, ok := index[k]; ok {
			return fmt.Errorf("tasks %q and %q are the same", tasks[at].Label, t.Label)
		}
		index[k] = i
		for _, o := range t.Outputs {
			if o.Final == "" {
				continue
			}
			if other, ok := final[o.Final]; ok {
				return job.Refuse("output", fmt.Sprintf("tasks %q and %q both make %s", other, t.Label, o.Final), "give the file name a place for the frame number")
			}
			final[o.Final] = t.Label
		}
	}
	// A key covers the keys it comes after, so a cycle would need a collision;
	// an order is looked for nevertheless.
	missing := make([]int, len(tasks))
	next := make([][]int, len(tasks))
	for i, t := range tasks {
		for _, k := range t.After {
			p, ok := index[k]
			if !ok {
				return fmt.Errorf("task %q comes after a task that is not planned", t.Label)
			}
			missing[i]++
			next[p] = append(next[p], i)
		}
	}
	var free []int
	for i, n := range missing {
		if n == 0 {
			free = append(free, i)
		}
	}
	seen := 0
	for ; len(free) > 0; seen++ {
		i := free[len(free)-1]
		free = free[:len(free)-1]
		for _, n := range next[i] {
			if missing[n]--; missing[n] == 0 {
				free = append(free, n)
			}
		}
	}
	if seen != len(tasks) {
		return fmt.Errorf("the tasks wait for each other in a circle")
	}
	return nil
}

// unneeded returns the tasks whose files are there, and those that only they
// would have used. What is made of something that is not there is made again.
// Where only files that are there lead up to a task, they are taken for it
// instead of being made again (see Board.adopt).
func unneeded(tasks []job.Task, there func(job.Task) bool) []int {
	index := make(map[job.TaskKey]int, len(tasks))
	for i, t := range tasks {
		index[t.Key()] = i
	}
	last, have := make([]bool, len(tasks)), make([]bool, len(tasks))
	for i, t := range tasks {
		last[i] = true
		have[i] = isFinal(t) && there(t)
	}
	for _, t := range tasks {
		for _, k := range t.After {
			last[index[k]] = false
		}
	}
	// stale: a file that it is made of, at whatever remove, is not there.
	known, stale := make([]bool, len(tasks)), make([]bool, len(tasks))
	var old func(i int) bool
	old = func(i int) bool {
		if !known[i] {
			known[i] = true
			for _, k := range tasks[i].After {
				p := index[k]
				if old(p) || isFinal(tasks[p]) && !have[p] {
					stale[i] = true
				}
			}
		}
		return stale[i]
	}
	need := make([]bool, len(tasks))
	var mark func(i int)
	mark = func(i int) {
		if need[i] {
			return
		}
		need[i] = true
		for _, k := range tasks[i].After {
			if p := index[k]; !have[p] || old(p) || !adoptable(tasks[p]) {
				mark(p)
			}
		}
	}
	for i, t := range tasks {
		final := isFinal(t)
		if final && (!have[i] || old(i)) || !final && last[i] {
			mark(i)
		}
	}
	var out []int
	for i := range tasks {
		if !need[i] {
			out = append(out, i)
		}
	}
	return out
}
