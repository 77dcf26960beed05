package blender

import (
	"cmp"
	"math"
	"slices"

	"idlewild/job"
)

// Bounds of what the tasks of one job say of what they read. What does not fit
// is read by all tasks.
const (
	maxReads      = job.MaxReads - 1 // sequences: a bake may be one more
	maxReadRuns   = 64               // of one sequence
	maxReadNumber = 1 << 24          // a file's number
	taskReads     = 2 << 10          // bytes, about, of one task: a lease has up to 256 of them
	jobReads      = 64 << 20         // of all tasks
	leastOfReads  = 4                // files of a sequence that is worth a word
)

// reading says which files of sequences the tasks of a job read.
type reading struct {
	reach     int
	sequences []Sequence
	of        [][][2]int // as job.Reads.Of, of each
	known     map[int][]job.Reads
	baked     int // to which frame a task bakes; 0: none does, or frames read all of it
}

// reads prepares what that many tasks say, together.
func (f Facts) reads(tasks int) *reading {
	r := &reading{known: map[int][]job.Reads{}}
	if !(f.Reach >= 0 && f.Reach <= maxReach) {
		return r
	}
	r.reach = int(math.Ceil(f.Reach))
	// The longest count first.
	found := slices.Clone(f.Sequences)
	slices.SortStableFunc(found, func(a, b Sequence) int { return cmp.Compare(b.files(), a.files()) })
	left := min(taskReads, jobReads/max(tasks, 1))
	for _, s := range found {
		of := without(s.Numbers, s.Named)
		size := len(s.Head) + len(s.Tail) + 32 + 16*len(of)
		if s.files() < leastOfReads || len(s.Users) == 0 || len(r.sequences) == maxReads || len(of) > maxReadRuns || size > left ||
			len(s.Head) > job.MaxNameBytes || len(s.Tail) > job.MaxNameBytes || s.Numbers[0][0] < 0 || s.Numbers[len(s.Numbers)-1][1] > maxReadNumber {
			continue
		}
		left -= size
		r.sequences, r.of = append(r.sequences, s), append(r.of, of)
	}
	return r
}

// bake adds what frames read of a bake: the files of their own numbers.
func (r *reading) bake(f Facts, frames []int) {
	if last := f.bakedTo(frames); f.BakesByFrame && f.Reach >= 0 && f.Reach <= maxReach && last > 0 {
		r.baked = last
	}
}

// files is how many numbers there are.
func (s Sequence) files() (n int) {
	for _, r := range s.Numbers {
		n += r[1] - r[0] + 1
	}
	return n
}

// without takes single numbers out of runs, which are in order.
func without(runs [][2]int, out []int) [][2]int {
	var left [][2]int
	out = slices.Sorted(slices.Values(out))
	for _, r := range runs {
		from := r[0]
		for _, n := range out {
			if n < from || n > r[1] {
				continue
			}
			if n > from {
				left = append(left, [2]int{from, n - 1})
			}
			from = n + 1
		}
		if from <= r[1] {
			left = append(left, [2]int{from, r[1]})
		}
	}
	return left
}

// at is what a picture of the frame reads.
func (r *reading) at(frame int) []job.Reads {
	if len(r.sequences) == 0 && r.baked == 0 {
		return nil
	}
	if known, ok := r.known[frame]; ok {
		return known
	}
	out := make([]job.Reads, len(r.sequences))
	for i, s := range r.sequences {
		out[i] = job.Reads{Head: s.Head, Tail: s.Tail, Of: r.of[i], Own: r.own(s, r.of[i], frame)}
	}
	if r.baked > 0 {
		x := job.Reads{Head: job.Within(bakeTree) + bakeFrames, Tail: "/", Of: [][2]int{{0, r.baked}}}
		if from, to := max(frame-r.reach, 0), min(frame+r.reach, r.baked); from <= to {
			x.Own = [][2]int{{from, to}}
		}
		out = append(out, x)
	}
	r.known[frame] = out
	return out
}

// own are the runs of those numbers that a frame reads; all where they are too
// many to say.
func (r *reading) own(s Sequence, of [][2]int, frame int) [][2]int {
	var numbers []int
	for _, u := range s.Users {
		for f := frame - r.reach; f <= frame+r.reach; f++ {
			n := u.number(f)
			if slices.ContainsFunc(of, func(x [2]int) bool { return x[0] <= n && n <= x[1] }) {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	var runs [][2]int
	for _, n := range slices.Compact(numbers) {
		if last := len(runs) - 1; last >= 0 && runs[last][1] == n-1 {
			runs[last][1] = n
		} else {
			runs = append(runs, [2]int{n, n})
		}
	}
	if len(runs) > maxReadRuns {
		return of
	}
	return runs
}
