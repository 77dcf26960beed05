package dispatch

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"

	"idlewild/job"
)

// sheet is what many tasks of a job have in common: everything but label, rank,
// predecessors, and what parameters, final names and files that are read differ
// in.
type sheet struct {
	Needs   job.Needs
	Check   job.Check
	Place   job.Place
	Kind    job.Kind
	Part    job.Part
	Input   job.Ref
	outputs []job.OutputRule // final names as of the first task
	params  string           // of the first task
	timeout time.Duration
	reads   []job.Reads // Own is each task's
	final   bool        // a file of its tasks is delivered
	class   *class
	whole   *job.Task // not nil: a sheet of one task, kept as it is
	check   *ret      // not nil: its task is evidence for that result
}

// keySize is the length of a digest that is a task's key.
const keySize = 32

// newCheck makes a task of a check: it is not one of the plan.
func newCheck(t job.Task, x *ret) *task {
	s := &sheet{Needs: t.Needs, Check: t.Check, Place: t.Place, Kind: t.Kind, Part: t.Part, Input: t.Input, final: isFinal(t), whole: &t, check: x}
	s.class = &class{needs: t.Needs, place: t.Place}
	return &task{sheet: s, Label: t.Label, Rank: int32(t.Rank), index: -1}
}

// Task is t as it was planned.
func (t *task) Task() job.Task {
	s := t.sheet
	if s.whole != nil {
		return *s.whole
	}
	u := unpacker{s: t.own}
	out := job.Task{
		Kind: s.Kind, Params: []byte(u.near(s.params)), Input: s.Input, Part: s.Part, Label: t.Label, Needs: s.Needs, Check: s.Check,
		Place: s.Place, Timeout: s.timeout, Rank: int(t.Rank),
	}
	if len(s.outputs) > 0 {
		out.Outputs = make([]job.OutputRule, len(s.outputs))
		copy(out.Outputs, s.outputs)
		for i := range out.Outputs {
			if o := &out.Outputs[i]; o.Final != "" {
				o.Final = u.near(o.Final)
			}
		}
	}
	if len(s.reads) > 0 {
		out.Reads = make([]job.Reads, len(s.reads))
		copy(out.Reads, s.reads)
		for i := range out.Reads {
			out.Reads[i].Own = u.runs()
		}
	}
	for _, p := range t.prior() {
		out.After = append(out.After, p.key())
	}
	return out
}

// runs packs runs of numbers, which are in order.
func (p *packer) runs(runs [][2]int) {
	p.uint(uint64(len(runs)))
	last := 0
	for _, r := range runs {
		p.int(int64(r[0] - last))
		p.int(int64(r[1] - r[0]))
		last = r[1]
	}
}

func (u *unpacker) runs() [][2]int {
	n := u.count()
	if n > job.MaxReadSpans {
		u.fail(fmt.Errorf("%d runs of numbers", n))
	}
	if n == 0 || u.err != nil {
		return nil
	}
	out, last := make([][2]int, n), int64(0)
	for i := range out {
		first := last + u.int()
		last = first + u.int()
		if first < 0 || last < first || last > math.MaxInt32 {
			u.fail(fmt.Errorf("numbers %d to %d", first, last))
			return nil
		}
		out[i] = [2]int{int(first), int(last)}
	}
	return out
}

// key is t's identity. It is found when it is first asked for.
func (t *task) key() job.TaskKey {
	t.digest()
	h := append(append(make([]byte, 0, 4+keySize), cidPrefixes[1]...), t.sum[:]...)
	c, err := cid.Cast(h)
	if err != nil {
		panic(err) // its form is right
	}
	return job.RefOf(c)
}

func (t *task) digest() {
	if t.sum == nil {
		h, _ := digestOf(t.Task().Key())
		t.sum = &h
	}
}

// is reports whether k is the key of t.
func (t *task) is(k job.TaskKey) bool {
	h, ok := digestOf(k)
	if !ok {
		return false
	}
	t.digest()
	return *t.sum == h
}

func digestOf(k job.TaskKey) (h [keySize]byte, ok bool) {
	s := k.KeyString()
	if len(s) != 4+keySize || s[:4] != cidPrefixes[1] {
		return h, false
	}
	copy(h[:], s[4:])
	return h, true
}

// find returns the task of that key, or nil. An index is made when it is first
// asked for; usually a fence says which task is meant.
func (j *jobState) find(k job.TaskKey) *task {
	h, ok := digestOf(k)
	if !ok {
		return nil
	}
	short := [8]byte(h[:8])
	if j.byKey == nil && len(j.tasks) > 0 {
		j.byKey = make(map[[8]byte]int32, len(j.tasks))
		for i, t := range j.tasks {
			t.digest()
			j.byKey[[8]byte(t.sum[:8])] = int32(i)
			if t.phase.final() {
				t.sum = nil
			}
		}
	}
	if i, ok := j.byKey[short]; ok && j.tasks[i].is(k) {
		return j.tasks[i]
	}
	return nil
}

func find(ts []*task, k job.TaskKey) *task {
	for _, t := range ts {
		if t.is(k) {
			return t
		}
	}
	return nil
}

// drawing is a plan that is read or made, block by block.
type drawing struct {
	sheets []*sheet
	blocks [][]task // in their order
	n      int
	after  [][]int32 // by task; nil: none
	size   int       // bytes kept
}

// maxPlanBytes bounds a block of a plan once it is unpacked.
const maxPlanBytes = tasksPerRecord * (job.MaxTaskBytes + 64<<10)

// folded packs tasks into blocks for the journal.
func folded(tasks []job.Task) ([][]byte, error) {
	index := make(map[job.TaskKey]int, len(tasks))
	for i, t := range tasks {
		k := t.Key()
		if at, ok := index[k]; ok {
			return nil, fmt.Errorf("tasks %q and %q are the same", tasks[at].Label, t.Label)
		}
		index[k] = i
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var out [][]byte
	var bases []job.Task
	known := map[string]int{}
	for from := 0; from < len(tasks); from += tasksPerRecord {
		block := tasks[from:min(from+tasksPerRecord, len(tasks))]
		var sheets, rest packer
		fresh, rank := 0, 0
		for i, t := range block {
			base := t
			base.Label, base.Rank, base.After = "", 0, nil
			base.Reads = slices.Clone(t.Reads)
			for i := range base.Reads {
				base.Reads[i].Own = nil
			}
			name := base
			name.Params = nil
			name.Outputs = append([]job.OutputRule(nil), t.Outputs...)
			for i := range name.Outputs {
				if name.Outputs[i].Final != "" {
					name.Outputs[i].Final = "-"
				}
			}
			like, err := job.Encode(name)
			if err != nil {
				return nil, err
			}
			no, ok := known[string(like)]
			if !ok {
				no = len(bases)
				known[string(like)] = no
				bases = append(bases, base)
				b, err := job.Encode(base)
				if err != nil {
					return nil, err
				}
				sheets.bytes(b)
				fresh++
			}
			b := bases[no]
			rest.uint(uint64(no))
			if int(int32(t.Rank)) != t.Rank {
				return nil, fmt.Errorf("rank %d of task %q is too large", t.Rank, t.Label)
			}
			rest.int(int64(t.Rank - rank))
			rank = t.Rank
			rest.str(t.Label)
			var own packer
			own.near(string(b.Params), string(t.Params))
			for i, o := range t.Outputs {
				if o.Final != "" {
					own.near(b.Outputs[i].Final, o.Final)
				}
			}
			for _, r := range t.Reads {
				own.runs(r.Own)
			}
			rest.bytes(own.b)
			rest.uint(uint64(len(t.After)))
			last := from + i
			for _, k := range t.After {
				at, ok := index[k]
				if !ok {
					return nil, fmt.Errorf("task %q comes after a task that is not planned", t.Label)
				}
				rest.int(int64(at - last))
				last = at
			}
		}
		var whole packer
		whole.uint(uint64(len(block)))
		whole.uint(uint64(fresh))
		whole.b = append(append(whole.b, sheets.b...), rest.b...)
		out = append(out, bytes.Clone(w.EncodeAll(whole.b, nil))) // it has room for much more
	}
	return out, nil
}

// add reads one block.
func (d *drawing) add(zip []byte) error {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlanBytes), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := r.DecodeAll(zip, nil)
	if err != nil {
		return fmt.Errorf("tasks: %w", err)
	}
	u := unpacker{s: string(raw)}
	n, fresh := u.count(), u.count()
	if n > tasksPerRecord || d.n+n > job.MaxTasksPerJob {
		return fmt.Errorf("tasks: %d after %d", n, d.n)
	}
	for range fresh {
		var t job.Task
		if err := job.Decode(u.bytes(), maxPlanBytes, &t); err != nil {
			return fmt.Errorf("tasks: %w", err)
		}
		s := &sheet{Needs: t.Needs, Check: t.Check, Place: t.Place, Kind: t.Kind, Part: t.Part, Input: t.Input, outputs: t.Outputs, params: string(t.Params), timeout: t.Timeout, reads: t.Reads}
		for _, o := range t.Outputs {
			s.final = s.final || o.Final != ""
		}
		d.sheets = append(d.sheets, s)
	}
	block, rank := make([]task, n), int64(0)
	for i := range block {
		no := u.index()
		rank += u.int()
		label, own := u.str(), u.str()
		if u.err == nil && int64(int32(rank)) != rank {
			u.fail(fmt.Errorf("rank %d", rank))
		}
		if u.err != nil || no >= len(d.sheets) {
			return fmt.Errorf("tasks: sheet %d of %d: %w", no, len(d.sheets), errShort)
		}
		t := &block[i]
		t.sheet, t.Rank, t.Label, t.own, t.index = d.sheets[no], int32(rank), label, own, int32(d.n+i)
		if !t.sound() {
			return fmt.Errorf("tasks: %q: %w", label, errShort)
		}
		var after []int32
		if k := u.count(); k > 0 {
			if k > job.MaxTasksPerLease {
				return fmt.Errorf("tasks: %d predecessors", k)
			}
			last := int64(d.n + i)
			for range k {
				last += u.int()
				if last < 0 || last >= job.MaxTasksPerJob {
					return fmt.Errorf("tasks: %q comes after task %d", label, last)
				}
				after = append(after, int32(last))
			}
		}
		d.after = append(d.after, after)
	}
	if err := u.done(); err != nil {
		return fmt.Errorf("tasks: %w", err)
	}
	d.blocks = append(d.blocks, block)
	d.n += n
	return nil
}

// sound reports whether t can be unfolded.
func (t *task) sound() bool {
	u := unpacker{s: t.own}
	u.near(t.params)
	for _, o := range t.outputs {
		if o.Final != "" {
			u.near(o.Final)
		}
	}
	for range t.reads {
		u.runs()
	}
	return u.done() == nil
}

func (j *jobState) applyPlan(r *planRecord) error {
	if ts := j.unplaned; len(ts) > 0 {
		zips, err := folded(ts)
		if err != nil {
			return err
		}
		j.drawing, j.zips = drawing{}, zips
		for _, z := range zips {
			if err := j.drawing.add(z); err != nil {
				return err
			}
		}
	}
	if r.Tasks != j.drawing.n {
		return fmt.Errorf("plan of %d tasks, %d are here", r.Tasks, j.drawing.n)
	}
	j.facts = r.Facts
	j.problems = r.Problems
	j.snapshot = Snapshot{Root: r.Root.Cid, Files: r.Files, Bytes: r.Bytes, NewBytes: r.NewBytes, NewBlocks: r.Blocks}
	d := j.drawing
	j.unplaned, j.drawing = nil, drawing{}
	return j.setTasks(d, r.Skipped)
}

// setTasks makes the plan: classes, and who follows whom.
func (j *jobState) setTasks(d drawing, skip []int) error {
	j.tasks = make([]*task, 0, d.n)
	for _, block := range d.blocks {
		for i := range block {
			j.tasks = append(j.tasks, &block[i])
		}
	}
	classes := map[string]*class{}
	for _, s := range d.sheets {
		name, err := job.Encode([]any{s.Needs, s.Place})
		if err != nil {
			return err
		}
		if s.class = classes[string(name)]; s.class == nil {
			s.class = &class{needs: s.Needs, place: s.Place, costs: newCosts(d.n), fits: map[*shape]bool{}}
			classes[string(name)] = s.class
			j.classes = append(j.classes, s.class)
		}
	}
	for i, t := range j.tasks {
		if t.early() {
			t.class.previews++
		}
		if len(d.after[i]) == 0 {
			continue
		}
		if t.kin == nil {
			t.kin = &kin{}
		}
		for _, n := range d.after[i] {
			p, err := j.taskAt(int(n))
			if err != nil || p == t {
				return fmt.Errorf("task %q comes after a task that is not planned", t.Label)
			}
			t.kin.prior = append(t.kin.prior, p)
			if p.kin == nil {
				p.kin = &kin{}
			}
			p.kin.next = append(p.kin.next, t)
		}
		t.missing = int16(len(t.kin.prior)) // at most MaxTasksPerLease
	}
	for _, i := range skip {
		t, err := j.taskAt(i)
		if err != nil {
			return err
		}
		t.skip = true
	}
	j.left = len(j.tasks)
	j.byKey = nil
	j.state = job.StatePlanned
	return nil
}
