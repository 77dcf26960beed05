package ai

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render/ai/torch"
	"idlewild/render/assemble"
)

// ResultsFile is where the records of a batch are delivered, in the order of
// the items.
const ResultsFile = "results.jsonl"

// Plan implements dispatch.Kind.
func (k *Kind) Plan(js job.Spec, in job.Inspection, input cid.Cid) ([]job.Task, error) {
	s, err := decodeSpec(js.Params)
	if err != nil {
		return nil, err
	}
	var f facts
	if err := json.Unmarshal(in.Facts, &f); err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	p := planner{spec: s, facts: f, input: job.RefOf(input)}
	if f.Format == formatRequests {
		return p.requests()
	}
	if f.Pipeline == torch.Draw {
		return p.drawn()
	}
	if f.Scale > 0 {
		return p.pictures(js.Policy.Parts)
	}
	return p.items()
}

type planner struct {
	spec  Spec
	facts facts
	input job.Ref
}

// needs are those of a task that runs the model.
func (p planner) needs() job.Needs { return needs(p.facts.Runtime, p.spec.Device) }

func needs(runtime, device string) job.Needs {
	if runtime == "" {
		runtime = runtimeFact
	}
	return job.Needs{Require: map[string]string{string(Name): version, runtime: runtimeVer}, Device: device}
}

// own are the needs of joining and finishing.
var own = map[string]string{string(Name): version}

func (p planner) check(output string, c job.RerunCheck) (job.Check, error) {
	c.Precision, c.Tolerance = p.facts.Precision, p.spec.Tolerance
	b, err := job.Encode(c)
	return job.Check{Method: job.CheckRerun, Output: output, Params: b}, err
}

// items cuts a batch into chunks, and joins what comes of them.
func (p planner) items() ([]job.Task, error) {
	base := Params{
		Op: opItems, Model: p.facts.Model, SHA256: p.facts.SHA256, Format: p.facts.Format, Column: p.facts.Column,
		Batch: p.facts.Batch, Outputs: p.spec.Outputs, Seed: p.spec.Seed, Picture: p.spec.Picture,
		Runtime: p.facts.Runtime, Pipeline: p.facts.Pipeline, Generate: p.spec.Generate.ofTask(),
	}
	var each []Params
	if p.facts.Format == formatPictures || p.facts.Format == formatAudio {
		each = p.pictureChunks(base)
	}
	for _, c := range p.facts.Chunks {
		q := base
		q.Input, q.Offset, q.Length, q.First, q.Count = p.facts.Input, c.Offset, c.Length, c.First, c.Count
		each = append(each, q)
	}
	var tasks []job.Task
	var level []job.TaskKey
	for i, q := range each {
		t := job.Task{
			Kind: Name, Params: q.encode(), Input: p.input, Needs: p.needs(), Rank: i,
			Label:   fmt.Sprintf("items %d-%d", q.First, q.First+q.Count-1),
			Outputs: []job.OutputRule{{Name: recordsFile, Media: job.MediaFile}},
		}
		p.reads(&t, q)
		var err error
		if t.Check, err = p.check(recordsFile, job.RerunCheck{Items: q.Count, First: q.First}); err != nil {
			return nil, err
		}
		tasks, level = append(tasks, t), append(level, t.Key())
	}
	return p.join(tasks, level, Params{Op: opJoin}, ResultsFile), nil
}

// reads says which files of the content a task reads, where each item is one.
func (p planner) reads(t *job.Task, q Params) {
	if !q.Numbered {
		return
	}
	t.Needs.Require[string(Name)] = versionNumbered
	last := q.First + max(q.Count, 1) - 1
	t.Reads = []job.Reads{{Head: "input/", Tail: "/", Of: [][2]int{{1, len(p.facts.Pictures)}}, Own: [][2]int{{q.First, last}}}}
}

// join puts the records of the level together, in the file final. The last task
// does it as last says.
func (p planner) join(tasks []job.Task, level []job.TaskKey, end Params, final string) []job.Task {
	// A task has so many predecessors at most.
	for round := 1; ; round++ {
		var next []job.TaskKey
		last := len(level) <= job.MaxTasksPerLease
		for from := 0; from < len(level); from += job.MaxTasksPerLease {
			to := min(from+job.MaxTasksPerLease, len(level))
			t := job.Task{
				Kind: Name, Params: Params{Op: opJoin}.encode(), Needs: job.Needs{Require: own}, Place: job.AtRequester,
				Label: fmt.Sprintf("join %d.%d", round, from/job.MaxTasksPerLease+1), After: level[from:to], Rank: len(tasks),
				Outputs: []job.OutputRule{{Name: recordsFile, Media: job.MediaFile}},
			}
			if last {
				t.Label, t.Outputs[0].Final, t.Params = "results", final, end.encode()
			}
			tasks, next = append(tasks, t), append(next, t.Key())
		}
		if last {
			return tasks
		}
		level = next
	}
}

// pictureChunks are batches of pictures: names are part of a task, which is
// bounded.
func (p planner) pictureChunks(base Params) []Params {
	least := max(p.facts.Batch, (len(p.facts.Pictures)+manyChunks-1)/manyChunks)
	var out []Params
	q, bytes := base, 0
	flush := func() {
		if q.Count > 0 {
			out = append(out, q)
		}
		q, bytes = base, 0
	}
	for i, pic := range p.facts.Pictures {
		if q.Count >= least || bytes+len(pic.Name) > job.MaxTaskBytes/4 {
			flush()
		}
		if q.Count == 0 {
			q.First, q.Numbered = i+1, true
		}
		q.Files, q.Count = append(q.Files, pic.Name), q.Count+1
		bytes += len(pic.Name) + 8
	}
	flush()
	return out
}

// What `auto` aims at, in pixels of the result: larger ones are cut into tiles
// of about tilePixels, if they can be joined in the memory of one machine.
const (
	tilePixels = 1 << 23
	wholeAbove = 1 << 24
	joinBelow  = 1 << 26
	minSide    = 64
)

// pictures makes a task of each picture, or of each tile of one.
func (p planner) pictures(parts string) ([]job.Task, error) {
	cut, err := job.ParseCut(parts)
	if err != nil {
		return nil, err
	}
	if cut.Ranges > 1 {
		return nil, job.Refuse("parts "+parts, "a model takes no samples", "use tiles, as 4x2")
	}
	finals := p.finals()
	var tasks []job.Task
	for i, pic := range p.facts.Pictures {
		q := Params{
			Op: opPicture, Model: p.facts.Model, SHA256: p.facts.SHA256, Input: pic.Name, First: i + 1, Numbered: true, Seed: p.spec.Seed,
			Width: pic.Width * p.facts.Scale, Height: pic.Height * p.facts.Scale, Scale: p.facts.Scale,
			Overlap: p.facts.Overlap, Deep: pic.Deep, Picture: p.spec.Picture, Runtime: p.facts.Runtime, Pipeline: p.facts.Pipeline,
		}
		columns, rows := cut.Columns, cut.Rows
		if cut.Auto {
			columns, rows = grid(q.Width, q.Height)
		}
		if p.facts.Whole || p.facts.Overlap > 0 {
			// Tiles are blended where nobody knows how far the model reaches,
			// and that happens on one machine.
			if columns*rows > 1 && !cut.Auto {
				return nil, job.Refuse("parts "+parts, "nobody knows how far the model reaches", "leave --parts out")
			}
			columns, rows = 1, 1
		}
		if columns > pic.Width || rows > pic.Height {
			return nil, job.Refuse("parts "+parts, fmt.Sprintf("%s has %dx%d pixels", pic.Name, pic.Width, pic.Height), "ask for fewer")
		}
		t := job.Task{
			Kind: Name, Params: q.encode(), Input: p.input, Needs: p.needs(), Label: pic.Name, Rank: i,
			Outputs: []job.OutputRule{{Name: pictureFile, Media: job.MediaPNG, Final: finals[i]}},
		}
		p.reads(&t, q)
		if t.Check, err = p.check(pictureFile, job.RerunCheck{Width: q.Width, Height: q.Height}); err != nil {
			return nil, err
		}
		if len(t.Label) > job.MaxNameBytes-64 {
			t.Label = fmt.Sprintf("picture %d", i+1)
		}
		if columns*rows == 1 {
			tasks = append(tasks, t)
			continue
		}
		more, err := p.tiled(t, q, columns, rows)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, more...)
	}
	return tasks, nil
}

// finals are the names of the results: those of the pictures, as PNG. Where
// two would be the same, the ending that a picture had stays in its name.
func (p planner) finals() []string {
	out := make([]string, len(p.facts.Pictures))
	taken := map[string]int{}
	short := func(name string) string { return strings.TrimSuffix(name, path.Ext(name)) + ".png" }
	for _, pic := range p.facts.Pictures {
		taken[strings.ToLower(short(pic.Name))]++
	}
	for i, pic := range p.facts.Pictures {
		out[i] = short(pic.Name)
		if taken[strings.ToLower(out[i])] > 1 {
			out[i] = pic.Name + ".png"
		}
	}
	return out
}

// grid is how many columns and rows of tiles a picture is best cut into.
func grid(width, height int) (columns, rows int) {
	n := float64(width) * float64(height)
	if n < wholeAbove || n > joinBelow {
		return 1, 1
	}
	n /= tilePixels
	columns = max(1, int(math.Round(math.Sqrt(n*float64(width)/float64(height)))))
	rows = max(1, int(math.Round(n/float64(columns))))
	return min(columns, width/minSide), min(rows, height/minSide)
}

// tiled is whole cut into tiles, and what puts them together.
func (p planner) tiled(whole job.Task, q Params, columns, rows int) ([]job.Task, error) {
	join := assemble.Params{Op: assemble.OpJoin, Width: q.Width, Height: q.Height}
	gather := job.Task{
		Kind: assemble.Name, Label: whole.Label + " join", Rank: whole.Rank, Place: job.AtRequester,
		Outputs: []job.OutputRule{{Name: assemble.FrameFile, Media: job.MediaEXR}},
		Needs:   job.Needs{Require: map[string]string{string(assemble.Name): assemble.Version}},
	}
	var tasks []job.Task
	share := func(i, n, length int) int { return int(int64(i)*int64(length/q.Scale)/int64(n)) * q.Scale }
	for row := range rows {
		for column := range columns {
			t := whole
			t.Part.Tile = job.Rect{
				X0: share(column, columns, q.Width), X1: share(column+1, columns, q.Width),
				Y0: share(row, rows, q.Height), Y1: share(row+1, rows, q.Height),
			}
			t.Label = fmt.Sprintf("%s tile %d of %d", whole.Label, row*columns+column+1, columns*rows)
			t.Outputs = []job.OutputRule{{Name: tileFile, Media: job.MediaEXR}}
			var err error
			if t.Check, err = p.check(tileFile, job.RerunCheck{Width: q.Width, Height: q.Height}); err != nil {
				return nil, err
			}
			tasks = append(tasks, t)
			join.Parts = append(join.Parts, assemble.Part{Tile: t.Part.Tile, Keep: t.Part.Tile})
			gather.After = append(gather.After, t.Key())
		}
	}
	gather.Params = join.Encode()
	finish := job.Task{
		Kind: Name, Params: Params{Op: opFinish, Width: q.Width, Height: q.Height, Deep: q.Deep}.encode(),
		After: []job.TaskKey{gather.Key()}, Label: whole.Label + " finish", Rank: whole.Rank, Place: job.AtRequester,
		Needs: job.Needs{Require: own}, Outputs: whole.Outputs,
	}
	return append(tasks, gather, finish), nil
}
