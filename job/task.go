package job

import (
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind names a sort of work. Kinds differ through the fields of Task, never
// through branches on this string outside the kind's own package.
type Kind string

// TaskKey is the identity of a task: the CID of what determines its outputs.
type TaskKey = Ref

// Task is the smallest leasable piece of a job: a frame, a Part of one, an
// item of a batch. Two tasks with the same Key produce interchangeable
// results, whichever job they belong to.
type Task struct {
	Kind    Kind         `json:"kind" cbor:"kind"`
	Params  []byte       `json:"params" cbor:"params"`                   // the kind's own, encoded once by the planner
	Input   Ref          `json:"input" cbor:"input"`                     // manifest of the read set; zero: needs no files
	Part    Part         `json:"part" cbor:"part"`                       // zero: the whole frame
	Outputs []OutputRule `json:"outputs" cbor:"outputs"`                 // what to collect from out/
	After   []TaskKey    `json:"after,omitempty" cbor:"after,omitempty"` // predecessors, whose outputs appear under prior/<index>/

	// What follows does not change the outputs and is no part of the key.
	Label   string        `json:"label" cbor:"label"` // for people: a frame number, say
	Needs   Needs         `json:"needs" cbor:"needs"`
	Check   Check         `json:"check" cbor:"check"`
	Place   Place         `json:"place,omitempty" cbor:"place,omitempty"`
	Timeout time.Duration `json:"timeout_ns" cbor:"timeout"` // of one attempt; 0: the worker's default
	Rank    int           `json:"rank" cbor:"rank"`          // lower first, among the open tasks of a job
	// Reads names files of Input that it does not read, though others do; empty:
	// it reads all.
	Reads []Reads `json:"reads,omitempty" cbor:"reads,omitempty"`
}

// RestRank parts a job's tasks: those of a lower rank are its preview, which is
// hurried to its end before the rest matters. A job whose tasks are all below it
// has none.
const RestRank = 1 << 24

// Key is the CID (dag-cbor, sha2-256) of kind, parameters, read set, part,
// outputs and predecessors; never of job, batch, place or label.
func (t Task) Key() TaskKey {
	// An absent list and an empty one are the same task.
	if len(t.Outputs) == 0 {
		t.Outputs = nil
	}
	if len(t.After) == 0 {
		t.After = nil
	}
	if len(t.Params) == 0 {
		t.Params = nil
	}
	b, err := Encode([]any{"idlewild/task/1", t.Kind, t.Params, t.Input, t.Part, t.Outputs, t.After})
	if err != nil {
		panic(fmt.Sprintf("task key: %v", err)) // the fields above always encode
	}
	return RefOf(sum(b))
}

// Validate checks a task that came from a peer: bounds, and names that stay
// inside their folder.
func (t Task) Validate() error {
	switch {
	case t.Kind == "" || len(t.Kind) > 32:
		return fmt.Errorf("task: kind %q", t.Kind)
	case len(t.Params) > MaxTaskBytes:
		return fmt.Errorf("task: %d bytes of parameters", len(t.Params))
	case len(t.Outputs) > MaxOutputs:
		return fmt.Errorf("task: %d output rules", len(t.Outputs))
	case len(t.After) > MaxTasksPerLease:
		return fmt.Errorf("task: %d predecessors", len(t.After))
	case len(t.Label) > MaxNameBytes || !utf8.ValidString(t.Label):
		return fmt.Errorf("task: label of %d bytes", len(t.Label))
	case t.Timeout < 0:
		return fmt.Errorf("task: negative timeout")
	case len(t.Needs.Require) > MaxFacts:
		return fmt.Errorf("task: %d required facts", len(t.Needs.Require))
	case len(t.Reads) > MaxReads:
		return fmt.Errorf("task: reads of %d sequences", len(t.Reads))
	}
	for _, r := range t.Reads {
		if err := r.validate(); err != nil {
			return err
		}
	}
	for _, o := range t.Outputs {
		if err := SafeName(o.Name); err != nil {
			return fmt.Errorf("task output: %w", err)
		}
		if o.Final != "" {
			if o.Media == MediaTree {
				return fmt.Errorf("task output %q: a folder is not delivered", o.Name)
			}
			if err := SafeName(o.Final); err != nil {
				return fmt.Errorf("task output: %w", err)
			}
		}
	}
	return t.Part.Validate()
}

// SafeName checks a slash-separated relative file name that came from a peer
// or a file: no way out of its folder, on any system.
func SafeName(name string) error {
	switch {
	case name == "" || len(name) > MaxNameBytes:
		return fmt.Errorf("file name of %d bytes", len(name))
	case !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\\:"):
		return fmt.Errorf("file name %q: character not allowed", name)
	case path.IsAbs(name) || path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("file name %q leaves its folder", name)
	}
	return nil
}

// Part is a piece of a frame: a tile, a range of samples, a view layer, or a
// combination. The zero Part is the whole.
type Part struct {
	Tile    Rect   `json:"tile,omitzero" cbor:"tile"`
	Samples Range  `json:"samples,omitzero" cbor:"samples"`
	Layer   string `json:"layer,omitempty" cbor:"layer"`
}

// Whole reports whether p is the whole frame.
func (p Part) Whole() bool { return p == Part{} }

// Validate checks the bounds of a part.
func (p Part) Validate() error {
	const maxSide, maxSamples = 1 << 17, 1 << 24
	t, s := p.Tile, p.Samples
	switch {
	case t != Rect{} && (t.X0 < 0 || t.Y0 < 0 || t.X1 <= t.X0 || t.Y1 <= t.Y0 || t.X1 > maxSide || t.Y1 > maxSide):
		return fmt.Errorf("part: tile %v", t)
	case s != Range{} && (s.From < 0 || s.To <= s.From || s.To > maxSamples):
		return fmt.Errorf("part: samples %v", s)
	case len(p.Layer) > MaxNameBytes:
		return fmt.Errorf("part: layer name of %d bytes", len(p.Layer))
	}
	return nil
}

// Rect is a rectangle of pixels, half-open, origin at the bottom left of the
// frame: X0 <= x < X1, Y0 <= y < Y1.
type Rect struct {
	X0 int `json:"x0" cbor:"x0"`
	Y0 int `json:"y0" cbor:"y0"`
	X1 int `json:"x1" cbor:"x1"`
	Y1 int `json:"y1" cbor:"y1"`
}

// Dx is the width in pixels.
func (r Rect) Dx() int { return r.X1 - r.X0 }

// Dy is the height in pixels.
func (r Rect) Dy() int { return r.Y1 - r.Y0 }

// Range is a half-open range of samples: From <= s < To.
type Range struct {
	From int `json:"from" cbor:"from"`
	To   int `json:"to" cbor:"to"`
}

// OutputRule says which file a task leaves in out/ and what becomes of it.
type OutputRule struct {
	Name  string `json:"name" cbor:"name"`                       // slash-separated, under out/
	Media Media  `json:"media" cbor:"media"`                     // how it decodes
	Final string `json:"final,omitempty" cbor:"final,omitempty"` // delivered under this name in the output folder; empty: kept for later tasks only
}

// Media is how a file decodes, and so how two of them are compared.
type Media string

const (
	MediaEXR  Media = "exr" // OpenEXR, scene-linear
	MediaPNG  Media = "png"
	MediaFile Media = "file" // opaque bytes
	// MediaTree is a folder of files, stored as a manifest: who comes after its
	// task has of it what Task.Reads names. It is never delivered.
	MediaTree Media = "tree"
)

// Needs is what a machine must have to run a task.
type Needs struct {
	// Require holds facts that the machine must have, each with one of its
	// values, for example "blender" -> "3.4.1".
	Require map[string]string `json:"require,omitempty" cbor:"require,omitempty"`
	Device  string            `json:"device,omitempty" cbor:"device,omitempty"` // "cpu", "gpu" or empty for any
	// MemoryBytes of the machine's own memory that the work takes, whichever
	// device does it, and VRAMBytes of a GPU's, where one does; 0: not known.
	MemoryBytes int64   `json:"memory_bytes,omitempty" cbor:"memory_bytes,omitempty"`
	VRAMBytes   int64   `json:"vram_bytes,omitempty" cbor:"vram_bytes,omitempty"`
	Latency     Latency `json:"latency,omitempty" cbor:"latency,omitempty"`
}

// Latency is the class of urgency of a task.
type Latency string

const (
	Batch       Latency = ""            // throughput matters
	Interactive Latency = "interactive" // a person waits for this one
)

// Check says how a result can be verified.
type Check struct {
	Method CheckMethod `json:"method,omitempty" cbor:"method,omitempty"`
	Output string      `json:"output,omitempty" cbor:"output,omitempty"` // the OutputRule.Name that is judged
	// Params are for the checker of that method, the kind's own.
	Params []byte `json:"params,omitempty" cbor:"params,omitempty"`
}

// CheckMethod is a way to verify a result.
type CheckMethod string

const (
	CheckNone  CheckMethod = ""      // nothing to verify: requester's own work
	CheckCrop  CheckMethod = "crop"  // render random crops again and compare as images
	CheckExact CheckMethod = "exact" // run again elsewhere: bytes must agree
	// CheckReplica: run again on other machines of the same device class, and
	// agree as well as those do among each other.
	CheckReplica CheckMethod = "replica"
	CheckRerun   CheckMethod = "rerun" // run some items or crops again and compare as numbers
)

// Place says where a task may run.
type Place string

const (
	Anywhere    Place = ""
	AtRequester Place = "requester" // on the machine that owns the job
	AtMember    Place = "member"    // on a machine of the requester's farm, its own among them
)
