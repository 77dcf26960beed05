package job

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a task says of numbered files.
const (
	MaxReads      = 64       // sequences
	MaxReadSpans  = 256      // runs of numbers, of one of them
	MaxReadsBytes = 16 << 10 // encoded
)

// Reads says of some numbered files of a task's input, which not every task of
// the job reads, which of them this one reads. It changes nothing of what a task
// makes, only what a worker has to have for it. All tasks that read the same
// input should name the same files in Of; else all of these count as read.
//
// Files of a folder that a predecessor left (MediaTree) are named in the same
// way, with Within(output) before the head.
type Reads struct {
	Head string   `json:"head" cbor:"head"` // of their names, before the number
	Tail string   `json:"tail" cbor:"tail"` // "/": all in the folder of that number
	Of   [][2]int `json:"of" cbor:"of"`     // first and last of each run of their numbers
	Own  [][2]int `json:"own" cbor:"own"`   // of these, those that are read; empty: none
}

// Within is how the heads of those Reads begin that are of a predecessor's folder
// of that name. No file of an input is called so (SafeName).
func Within(output string) string { return "prior:" + output + "/" }

// OfInput reports whether r is of the input, and not of what a predecessor left.
func (r Reads) OfInput() bool { return !strings.HasPrefix(r.Head, "prior:") }

func (r Reads) validate() error {
	if len(r.Head) > MaxNameBytes || len(r.Tail) > MaxNameBytes {
		return fmt.Errorf("task reads: name of %d bytes", len(r.Head)+len(r.Tail))
	}
	for _, runs := range [][][2]int{r.Of, r.Own} {
		if len(runs) > MaxReadSpans {
			return fmt.Errorf("task reads: %d runs of numbers", len(runs))
		}
		for _, x := range runs {
			if x[0] < 0 || x[1] < x[0] || x[1] > math.MaxInt32 {
				return fmt.Errorf("task reads: numbers %d to %d", x[0], x[1])
			}
		}
	}
	return nil
}

// number is that of a file of the sequence.
func (r Reads) number(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, r.Head)
	if !ok {
		return 0, false
	}
	if r.Tail == "/" {
		digits, _, ok = strings.Cut(digits, "/")
	} else {
		digits, ok = strings.CutSuffix(digits, r.Tail)
	}
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && within(r.Of, n)
}

func within(runs [][2]int, n int) bool {
	return slices.ContainsFunc(runs, func(x [2]int) bool { return x[0] <= n && n <= x[1] })
}

// Wanted are the files of an input that some tasks read: all but those of
// sequences of which they name others. The zero value is all of them.
type Wanted struct {
	but []Reads
	key string
}

// Wants returns which files of an input the tasks of l read, or of a folder that
// a predecessor left.
func (l Lease) Wants(input Ref) Wanted {
	var of [][]Reads
	for _, g := range l.Tasks {
		if g.Task.Input == input {
			of = append(of, slices.DeleteFunc(slices.Clone(g.Task.Reads), func(r Reads) bool { return !r.OfInput() }))
		}
		for _, o := range g.Trees() {
			if o.File != input {
				continue
			}
			var inside []Reads
			for _, r := range g.Task.Reads {
				if head, ok := strings.CutPrefix(r.Head, Within(o.Name)); ok {
					r.Head = head
					inside = append(inside, r)
				}
			}
			of = append(of, inside)
		}
	}
	return wanted(of)
}

// Made reports whether input is a folder that a predecessor of l's tasks left.
func (l Lease) Made(input Ref) bool {
	return slices.ContainsFunc(l.Tasks, func(g Granted) bool {
		return slices.ContainsFunc(g.Trees(), func(o Output) bool { return o.File == input })
	})
}

// Trees are the folders that predecessors of the task left.
func (g Granted) Trees() []Output {
	var out []Output
	for _, p := range g.Prior {
		for _, o := range p.Outputs {
			if o.Media == MediaTree {
				out = append(out, o)
			}
		}
	}
	return out
}

func wanted(tasks [][]Reads) Wanted {
	type sequence struct{ head, tail string }
	var order []sequence
	found := map[sequence]*Reads{}
	named := map[sequence]int{} // by how many tasks, in the same way
	for _, t := range tasks {
		for _, r := range t {
			s := sequence{r.Head, r.Tail}
			x := found[s]
			if x == nil {
				x = &Reads{Head: r.Head, Tail: r.Tail, Of: r.Of}
				found[s], order = x, append(order, s)
			}
			if slices.Equal(x.Of, r.Of) {
				named[s]++
				x.Own = append(x.Own, r.Own...)
			}
		}
	}
	var w Wanted
	for _, s := range order {
		if r := found[s]; named[s] == len(tasks) {
			r.Own = joined(r.Own)
			w.but = append(w.but, *r)
		}
	}
	if len(w.but) > 0 {
		b, err := Encode(w.but)
		if err != nil {
			panic(fmt.Sprintf("task reads: %v", err)) // their fields always encode
		}
		w.key = sum(b).String()
	}
	return w
}

// joined sorts runs of numbers, and makes one of those that touch.
func joined(runs [][2]int) [][2]int {
	runs = slices.Clone(runs)
	slices.SortFunc(runs, func(a, b [2]int) int { return a[0] - b[0] })
	var out [][2]int
	for _, r := range runs {
		if n := len(out) - 1; n >= 0 && r[0] <= out[n][1]+1 {
			out[n][1] = max(out[n][1], r[1])
		} else {
			out = append(out, r)
		}
	}
	return out
}

// All reports whether every file is wanted.
func (w Wanted) All() bool { return len(w.but) == 0 }

// Key is the same for the same files, and empty for all.
func (w Wanted) Key() string { return w.key }

// Has reports whether a file is wanted, by its name in the input.
func (w Wanted) Has(name string) bool {
	for _, r := range w.but {
		if n, ok := r.number(name); ok && !within(r.Own, n) {
			return false
		}
	}
	return true
}
