package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// Comparer is what a Kind may also be: it says which tasks read what they read
// in an earlier job.
type Comparer interface {
	// Compare returns whether what a task reads of the later content is what it
	// read of the earlier one. The task was planned for both. In doubt it is
	// not. why says for people what was found.
	Compare(ctx context.Context, v job.Versions) (same func(job.Task) bool, why string, err error)
}

// Versioned is what Content may also be: it knows the files of earlier jobs as
// long as they are stored.
type Versioned interface {
	// Changed lists the files that are not the same in both manifests.
	Changed(ctx context.Context, was, now cid.Cid) ([]job.ChangedFile, error)
	// FetchFile writes a file of a manifest to path.
	FetchFile(ctx context.Context, root cid.Cid, name, path string) error
}

// errNoReuse says why nothing of an earlier job serves; its text is for people.
var errNoReuse = errors.New("")

func noReuse(format string, args ...any) error {
	return fmt.Errorf("%w%s", errNoReuse, fmt.Sprintf(format, args...))
}

// Reuse is what a job takes over from an earlier one.
type Reuse struct {
	From  job.ID
	Tasks []int // whose delivered files stay as they are
	// Drawn are run all the same, and what they make is compared with the files
	// that are there.
	Drawn []int
	Why   string // what was found to have changed
}

// earlierJob is a copy of what must be known of one.
type earlierJob struct {
	id    job.ID
	facts []byte
	root  cid.Cid
	at    time.Time // of its end
	tasks []job.Task
	after [][]int
	good  []bool // their files were delivered, and accepted
}

// reuse finds the tasks whose files an earlier job delivered, that are there
// still, and that would come out the same.
func (d *Dispatcher) reuse(ctx context.Context, e Prepare, k Kind, in job.Inspection, snap Snapshot, tasks []job.Task) (Reuse, error) {
	compare, ok := k.(Comparer)
	content, has := d.deps.Content.(Versioned)
	if !ok || !has || !snap.Root.Defined() {
		return Reuse{}, noReuse("jobs of this kind are run whole")
	}
	was, err := d.earlier(ctx, e.ID, e.Spec)
	if err != nil {
		return Reuse{}, err
	}
	changed, err := content.Changed(ctx, was.root, snap.Root)
	if err != nil {
		if ctx.Err() != nil {
			return Reuse{}, context.Cause(ctx)
		}
		return Reuse{}, noReuse("the files of job %s are not stored here any more", was.id)
	}
	roots := map[bool]cid.Cid{true: was.root, false: snap.Root}
	same, why, err := compare.Compare(ctx, job.Versions{Spec: e.Spec, Was: was.facts, Now: in.Facts, Changed: changed, Fetch: func(ctx context.Context, earlier bool, name, path string) error {
		return content.FetchFile(ctx, roots[earlier], name, path)
	}})
	if err != nil {
		return Reuse{}, err
	}
	out := Reuse{From: was.id, Why: why}
	known := map[job.TaskKey]int{}
	for i, key := range inputless(was.tasks, was.after) {
		known[key] = i
	}
	after := priors(tasks)
	keys := inputless(tasks, after)
	holds := remembered(len(tasks), after, func(i int, prior bool) bool {
		at, ok := known[keys[i]]
		return ok && (was.good[at] || !isFinal(tasks[i])) && prior && same(tasks[i])
	})
	checkable := remembered(len(tasks), after, func(i int, _ bool) bool { return tasks[i].Check.Method != job.CheckNone })
	rate := reuseRecheck
	if r := e.Spec.Policy.Recheck; r != nil {
		rate = *r
	}
	for i, t := range tasks {
		if !isFinal(t) || !holds(i) || !d.deps.Sink.Kept(e.Spec, t, was.at) {
			continue
		}
		drawable := checkable(i) || slices.ContainsFunc(after[i], func(p int) bool { return !isFinal(tasks[p]) && checkable(p) })
		if drawable && rand.Float64() < rate {
			out.Drawn = append(out.Drawn, i)
			continue
		}
		out.Tasks = append(out.Tasks, i)
	}
	return out, nil
}

// reuseRecheck is the share of reused files that are made anew and compared,
// where the job does not say it.
const reuseRecheck = 0.02

// remembered asks f once about each task. prior is whether the answers for all
// tasks that it comes after were yes.
func remembered(n int, after [][]int, f func(i int, prior bool) bool) func(i int) bool {
	known, yes := make([]bool, n), make([]bool, n)
	var ask func(i int) bool
	ask = func(i int) bool {
		if !known[i] {
			known[i] = true
			prior := true
			for _, p := range after[i] {
				prior = ask(p) && prior
			}
			yes[i] = f(i, prior)
		}
		return yes[i]
	}
	return ask
}

// priors are the indexes of the tasks that each comes after.
func priors(tasks []job.Task) [][]int {
	index := make(map[job.TaskKey]int, len(tasks))
	for i, t := range tasks {
		index[t.Key()] = i
	}
	out := make([][]int, len(tasks))
	for i, t := range tasks {
		for _, k := range t.After {
			out[i] = append(out[i], index[k])
		}
	}
	return out
}

// inputless are keys of tasks that do not cover the content that they read.
func inputless(tasks []job.Task, after [][]int) []job.TaskKey {
	keys := make([]job.TaskKey, len(tasks))
	done := remembered(len(tasks), after, func(i int, _ bool) bool {
		t := tasks[i]
		if t.Input.Defined() {
			t.Input = job.Ref{}
		}
		t.After = nil
		for _, p := range after[i] {
			t.After = append(t.After, keys[p])
		}
		keys[i] = t.Key()
		return true
	})
	for i := range tasks {
		done(i)
	}
	return keys
}

// earlier returns the last job that ended of the same file, into the same
// folder.
func (d *Dispatcher) earlier(ctx context.Context, id job.ID, s job.Spec) (*earlierJob, error) {
	d.mu.Lock()
	var j *jobState
	for _, o := range d.board.jobs {
		if o.id == id || o.spec.Output != s.Output {
			continue
		}
		if !o.state.Ended() {
			d.mu.Unlock()
			return nil, noReuse("job %s still writes into the folder", o.id)
		}
		if o.spec.Kind == s.Kind && o.spec.File() == s.File() && len(o.tasks) > 0 && o.snapshot.Root.Defined() {
			j = o
		}
	}
	if j == nil {
		d.mu.Unlock()
		return nil, noReuse("no earlier job of this file went into the folder")
	}
	out := &earlierJob{id: j.id, facts: j.facts, root: j.snapshot.Root, at: j.at, good: make([]bool, len(j.tasks))}
	n := len(j.tasks)
	d.mu.Unlock()
	// A large job is copied in pieces, so that the board need not wait.
	for from := 0; from < n && ctx.Err() == nil; from += tasksPerRecord {
		d.mu.Lock()
		if len(j.tasks) != n || !j.state.Ended() {
			d.mu.Unlock()
			return nil, noReuse("job %s was begun again", j.id)
		}
		for i := from; i < min(from+tasksPerRecord, n); i++ {
			t := j.tasks[i]
			x := t.Task()
			x.After = nil
			out.tasks = append(out.tasks, x)
			var after []int
			for _, p := range t.prior() {
				after = append(after, int(p.index))
			}
			out.after = append(out.after, after)
			out.good[i] = j.vouched(t)
		}
		d.mu.Unlock()
	}
	return out, ctx.Err()
}

// vouched reports whether t's files may serve another job.
func (j *jobState) vouched(t *task) bool {
	if t.skip {
		return j.reuse.has(t)
	}
	if t.accepted == nil || t.accepted.verdict == nil || t.accepted.verdict.Ruling != job.Accepted || t.accepted.recheck || t.final() && !t.placed {
		return false
	}
	for _, p := range t.prior() {
		if !j.vouched(p) && !p.skip { // files that were adopted speak for themselves
			return false
		}
	}
	return true
}

// without takes the tasks that are drawn off the list of those that need not
// run, with what they are made of.
func without(skipped []int, tasks []job.Task, drawn []int) []int {
	if len(drawn) == 0 {
		return skipped
	}
	after := priors(tasks)
	run := map[int]bool{}
	var add func(i int)
	add = func(i int) {
		if run[i] {
			return
		}
		run[i] = true
		for _, p := range after[i] {
			if !isFinal(tasks[p]) {
				add(p)
			}
		}
	}
	for _, i := range drawn {
		add(i)
	}
	return slices.DeleteFunc(skipped, func(i int) bool { return run[i] })
}

// reused is what a job took over, as the board knows it.
type reused struct {
	from      job.ID
	tasks     map[int32]bool
	drawn     map[int32]bool // to be compared with what is there
	confirmed int            // of those that were drawn
}

func (r *reused) has(t *task) bool { return r != nil && t.skip && r.tasks[t.index] }

func (r *reused) compares(t *task) bool { return r != nil && r.drawn[t.index] }

// record is r as the journal has it.
func (r *reused) record() *reuseRecord {
	out := &reuseRecord{From: r.from, Confirmed: r.confirmed}
	for i := range r.tasks {
		out.Tasks = append(out.Tasks, int(i))
	}
	for i := range r.drawn {
		out.Drawn = append(out.Drawn, int(i))
	}
	slices.Sort(out.Tasks)
	slices.Sort(out.Drawn)
	return out
}

func (j *jobState) applyReuse(r *reuseRecord) error {
	if r.From == "" {
		j.reuse = nil
		return nil
	}
	x := &reused{from: r.From, tasks: make(map[int32]bool, len(r.Tasks)), drawn: make(map[int32]bool, len(r.Drawn)), confirmed: r.Confirmed}
	for _, i := range r.Tasks {
		if _, err := j.taskAt(i); err != nil {
			return err
		}
		x.tasks[int32(i)] = true
	}
	for _, i := range r.Drawn {
		if _, err := j.taskAt(i); err != nil {
			return err
		}
		x.drawn[int32(i)] = true
	}
	j.reuse = x
	return nil
}

// mistaken: a file that was to be reused came out differently. Nothing of the
// earlier job is believed any more.
func (b *Board) mistaken(j *jobState, t *task, why string) {
	var ts []*task
	for _, o := range j.tasks {
		if j.reuse.has(o) {
			ts = append(ts, o)
		}
	}
	b.emit(j, job.Event{Type: job.EventWarning, Task: t.Label,
		Text: fmt.Sprintf("%s of job %s is not what it is now (%s): all %d that were reused are run again", t.Label, j.reuse.from, why, len(ts))})
	b.write(j, &reuseRecord{})
	b.redo(j, ts)
}
