package job

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Spec is what one person asked for, as it comes from the command line or the
// local API. It stays on the requester's machine: paths never leave it.
type Spec struct {
	Kind  Kind   `json:"kind"`
	Title string `json:"title,omitempty"` // for people; the input's base name if empty
	Input string `json:"input,omitempty"` // absolute path of the main file
	// CopyOf, where Input is a copy of unsaved work that lies elsewhere, is the
	// absolute path of the file that it stands for: relative paths in it mean
	// that file's folder. Both have the same base name.
	CopyOf string          `json:"copy_of,omitempty"`
	Output string          `json:"output,omitempty"` // absolute path of the folder for finished files
	Params json.RawMessage `json:"params,omitempty"` // the kind's own, decoded strictly by it

	Policy Policy `json:"policy,omitzero"`
}

// Policy is how the requester wants a job treated, whatever its kind.
type Policy struct {
	// Recheck is the share of results that is checked, 0 to 1; nil leaves it
	// to the farm's rate and each peer's history.
	Recheck     *float64 `json:"recheck,omitempty"`
	OnlyMissing bool     `json:"only_missing,omitempty"` // skip tasks whose final file is already there
	// Reuse leaves out tasks whose files an earlier job of the same file delivered
	// into the same folder, where nothing that they depend on changed.
	Reuse    bool    `json:"reuse,omitempty"`
	Parts    string  `json:"parts,omitempty"`     // see ParseCut
	Exact    bool    `json:"exact,omitempty"`     // ship the artist's own bytes
	Finish   string  `json:"finish,omitempty"`    // see ParseFinish
	MaxPrice float64 `json:"max_price,omitempty"` // per device-second; 0: free work only
	Priority int     `json:"priority,omitempty"`  // higher first among one requester's jobs
	// Only names the peers that may work on the job, where it names any, and Not
	// those that may not, by peer id; the door takes members' names as well.
	// What the requester's machine must do itself it does in any case.
	Only []string `json:"only,omitempty"`
	Not  []string `json:"not,omitempty"`
	// Stewards are the members, by id, that go on with the job while this
	// machine is silent, the first first.
	Stewards []string `json:"stewards,omitempty"`
	// Strangers lets peers work on the job that are no members, where the farm is
	// open to them. What they give back is checked more often, and what could not
	// be checked is not theirs to do.
	Strangers bool `json:"strangers,omitempty"`
	Limits
}

// Limits are what one job may take, and when it should be there. Finishing and
// checking on the requester's own machine are not counted.
type Limits struct {
	MaxWorkers int `json:"max_workers,omitempty"` // machines that work on it at a time; 0: all
	// Budget is device time that its results may take in all, in seconds; 0: no
	// bound. A job that has used it up, or leased as much, asks for nothing more;
	// the last task may go beyond it.
	Budget float64 `json:"budget_s,omitempty"`
	// Deadline is when it should be finished; zero: none. A job that would be
	// late goes before others of its priority, until then.
	Deadline time.Time `json:"deadline,omitzero"`
	// Interactive: somebody waits for it. It goes before every other job, and
	// machines put down what they are at.
	Interactive bool `json:"interactive,omitempty"`
}

// Bounds of Limits and of Policy.Priority.
const (
	MostWorkers  = 1_000_000
	MostBudget   = 1e12 // seconds
	MostPriority = 1_000_000
)

// Validate refuses what cannot be meant.
func (p Policy) Validate() error {
	switch {
	case p.Recheck != nil && !(*p.Recheck >= 0 && *p.Recheck <= 1):
		return fmt.Errorf("job: recheck rate %v is not between 0 and 1", *p.Recheck)
	case p.MaxWorkers < 0 || p.MaxWorkers > MostWorkers:
		return Refuse("max-workers", fmt.Sprintf("%d is no number of machines", p.MaxWorkers), "say how many machines may work on the job at a time, or leave it out")
	case !(p.Budget >= 0 && p.Budget <= MostBudget):
		return Refuse("budget", fmt.Sprintf("%v seconds is no device time", p.Budget), "say how much device time the job may take, as 10h, or leave it out")
	case !(p.MaxPrice >= 0) || math.IsInf(p.MaxPrice, 0):
		return Refuse("max-price", fmt.Sprintf("%v is no price", p.MaxPrice), "say what a second of a device may cost, 0 or more")
	case p.Priority < -MostPriority || p.Priority > MostPriority:
		return Refuse("priority", fmt.Sprintf("%d is too far from 0", p.Priority), fmt.Sprintf("say at most %d", MostPriority))
	}
	for _, l := range []struct {
		name  string
		peers []string
	}{{"only", p.Only}, {"not", p.Not}} {
		if len(l.peers) > maxListed {
			return fmt.Errorf("job: %d peers in %s, at most %d", len(l.peers), l.name, maxListed)
		}
		for _, who := range l.peers {
			if who == "" || len(who) > 128 {
				return fmt.Errorf("job: %.40q in %s is no peer", who, l.name)
			}
		}
	}
	if n := len(p.Stewards); n > MaxStewards {
		return fmt.Errorf("job: %d stewards where at most %d are allowed", n, MaxStewards)
	}
	if _, err := ParseFinish(p.Finish); err != nil {
		return err
	}
	_, err := ParseCut(p.Parts)
	return err
}

// maxListed bounds Policy.Only and Policy.Not, each.
const maxListed = 1024

// Allows reports whether p, a peer id, may work on the job.
func (p Policy) Allows(peer string) bool {
	return !slices.Contains(p.Not, peer) && (len(p.Only) == 0 || slices.Contains(p.Only, peer))
}

// File is the file that a person submitted: Input, or what it is a copy of.
func (s Spec) File() string {
	if s.CopyOf != "" {
		return s.CopyOf
	}
	return s.Input
}

// Validate checks what every kind has in common.
func (s Spec) Validate() error {
	switch {
	case s.Kind == "":
		return fmt.Errorf("job: no kind given")
	case s.Input != "" && !filepath.IsAbs(s.Input):
		return fmt.Errorf("job: input %q is not an absolute path", s.Input)
	case s.CopyOf != "" && !filepath.IsAbs(s.CopyOf):
		return fmt.Errorf("job: copy_of %q is not an absolute path", s.CopyOf)
	case s.CopyOf != "" && filepath.Base(s.CopyOf) != filepath.Base(s.Input):
		return fmt.Errorf("job: the copy %q must be named as the file it stands for, %q", s.Input, filepath.Base(s.CopyOf))
	case s.Output != "" && !filepath.IsAbs(s.Output):
		return fmt.Errorf("job: output folder %q is not an absolute path", s.Output)
	}
	return s.Policy.Validate()
}

// ParseFinish reads Policy.Finish: where tasks run that make files of what was
// rendered. "requester" or nothing, "member" for machines of the farm, "worker"
// for any that works on the job.
func ParseFinish(s string) (Place, error) {
	switch s {
	case "", "requester":
		return AtRequester, nil
	case "member":
		return AtMember, nil
	case "worker":
		return Anywhere, nil
	}
	return "", Refuse("finish", fmt.Sprintf("%q is no place", s), "say requester, member or worker")
}

// Cut says into which parts each frame is cut.
type Cut struct {
	Auto          bool // as is best for the job
	Columns, Rows int  // of tiles; at least 1
	Ranges        int  // of samples; at least 1
}

// MaxCut bounds the columns, rows and ranges of a Cut, and the parts that they
// make together.
const MaxCut = MaxTasksPerLease

// ParseCut reads Policy.Parts: "auto" or nothing, "no", tiles as columns and
// rows ("4x2"), or ranges of samples ("8s").
func ParseCut(s string) (Cut, error) {
	c := Cut{Columns: 1, Rows: 1, Ranges: 1}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil || strings.TrimLeft(s, "123456789") == s {
			return 0
		}
		return n
	}
	columns, rows, tiles := strings.Cut(s, "x")
	ranges, samples := strings.CutSuffix(s, "s")
	switch {
	case s == "" || s == "auto":
		c.Auto = true
	case s == "no":
	case tiles:
		c.Columns, c.Rows = number(columns), number(rows)
	case samples:
		c.Ranges = number(ranges)
	default:
		c.Ranges = 0
	}
	for _, n := range []int{c.Columns, c.Rows, c.Ranges, c.Columns * c.Rows * c.Ranges} {
		if n < 1 || n > MaxCut {
			return Cut{}, Refuse("parts", fmt.Sprintf("%q is no way to cut a frame", s),
				fmt.Sprintf("say auto, no, tiles as 4x2 or ranges of samples as 8s; at most %d parts", MaxCut))
		}
	}
	return c, nil
}

// Inspection is what looking at a Spec's input found, before a byte moves.
type Inspection struct {
	Facts    json.RawMessage `json:"facts,omitempty"` // the kind's own, handed to its planner
	Deps     []Dep           `json:"deps,omitempty"`
	Problems []Problem       `json:"problems,omitempty"`
	// Estimate is the memory that a device needs for one task, by a guess that
	// nothing is refused by; zero: there is none.
	Estimate Needs `json:"estimate,omitzero"`
}

// Doubts warns where no device of these machines has the memory that the job takes
// by estimate. Machines that do not say how much they have are taken to have it.
func (in Inspection) Doubts(machines []Machine) []Problem {
	n := in.Estimate
	cpu := largest(machines, "cpu")
	var out []Problem
	doubt := func(need int64, sort string, d *Device, helps string) {
		if d != nil && d.MemoryBytes > 0 && d.MemoryBytes < need {
			out = append(out, Problem{Severity: SeverityWarning, Where: "memory", Remedy: helps, Message: fmt.Sprintf(
				"it takes about %s of %s by estimate, and the most that a device here has for work is %s (%s)",
				Gigabytes(need), sort, Gigabytes(d.MemoryBytes), d.called())})
		}
	}
	if n.Device != "cpu" {
		helps := "let a machine with more join, or make it smaller"
		if cpu != nil && n.Device == "" && (cpu.MemoryBytes == 0 || cpu.MemoryBytes >= n.MemoryBytes) {
			helps = "CPUs do what does not fit, or " + helps
		}
		doubt(n.VRAMBytes, "GPU memory", largest(machines, "gpu"), helps)
	}
	if n.Device != "gpu" {
		doubt(n.MemoryBytes, "memory", cpu, "let a machine with more join, or make it smaller")
	}
	return out
}

// largest is the device of a type with the most memory, or one that does not say;
// nil: there is none.
func largest(machines []Machine, kind string) (best *Device) {
	for _, m := range machines {
		for _, d := range m.Devices {
			if d.Type == kind && d.Name != HomeDevice && (best == nil || best.MemoryBytes > 0 && (d.MemoryBytes == 0 || d.MemoryBytes > best.MemoryBytes)) {
				best = &d
			}
		}
	}
	return best
}

// Refused returns the problems that keep the job from starting.
func (in Inspection) Refused() []Problem {
	var out []Problem
	for _, p := range in.Problems {
		if p.Severity == SeverityError {
			out = append(out, p)
		}
	}
	return out
}

// Dep is one file that tasks read.
type Dep struct {
	Path string `json:"path"` // on the requester's disk
	Name string `json:"name"` // slash-separated, in the tree that workers see; keeps its base name
}

// Severity is how bad a Problem is.
type Severity string

const (
	SeverityError   Severity = "error"   // refused
	SeverityWarning Severity = "warning" // submitted, and said
)

// Problem is something wrong with a job's input that a person can mend.
type Problem struct {
	Severity Severity `json:"severity"`
	Where    string   `json:"where"`   // the datablock, file or setting
	Message  string   `json:"message"` // what is wrong, one sentence
	Remedy   string   `json:"remedy"`  // what to do about it, one sentence
}

func (p Problem) String() string {
	s := p.Message
	if p.Where != "" {
		s = p.Where + ": " + s
	}
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}
