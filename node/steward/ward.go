package steward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/job"
	"idlewild/node/dispatch"
)

// The steward's side: what is known of a job of another.

type wardKey struct {
	requester peer.ID
	job       job.ID
}

// ward is a job of another that this machine follows. Guarded by Part.mu.
type ward struct {
	requester peer.ID
	id        job.ID
	log       *recordlog.Log

	// On disk.
	signed job.Signed // the newest delegation
	d      job.Delegation
	read   job.Signed
	state  string
	begun  bool
	copy   dispatch.Copy
	blocks int // of the plan, in all
	facts  map[int]dispatch.Fact
	seq    uint64
	spent  float64

	// Of this moment.
	rank    int
	heard   time.Time // the requester, or a steward before us that goes on
	above   uint64    // highest epoch of another steward
	held    bool      // this machine goes on with it
	yields  bool      // but not now: somebody hears the requester, or goes on before us
	doubted time.Time // since when members say that they hear it; zero: they do not
	moving  bool      // something is under way on the side
	whole   bool      // the content is here
	why     string    // it is not
	kept    map[int]bool
	tried   time.Time // when fetching failed
}

func newWard(requester peer.ID, id job.ID) *ward {
	return &ward{requester: requester, id: id, facts: map[int]dispatch.Fact{}, kept: map[int]bool{}}
}

// entry is one change of a ward on disk: a follow that was taken, without what
// is only of the moment.
type entry struct {
	Delegation job.Signed      `cbor:"delegation"`
	State      string          `cbor:"state"`
	Read       job.Signed      `cbor:"read"`
	Begin      *begin          `cbor:"begin,omitempty"`
	Plan       [][]byte        `cbor:"plan,omitempty"`
	Reset      bool            `cbor:"reset,omitempty"`
	Seq        uint64          `cbor:"seq"`
	Facts      []dispatch.Fact `cbor:"facts,omitempty"`
	Gone       []int           `cbor:"gone,omitempty"`
	Spent      float64         `cbor:"spent,omitempty"`
}

var wardLog = recordlog.Options{Magic: "ward", Version: 1, MaxRecord: 2 * maxMessage}

func (p *Part) wardDir(requester peer.ID, id job.ID) string {
	return filepath.Join(p.deps.Dir, "wards", requester.String(), string(id))
}

// folder is where finished files of a job of another lie.
func (p *Part) folder(requester peer.ID, id job.ID) string {
	return filepath.Join(p.deps.Dir, "files", requester.String(), string(id))
}

// load reads the wards, and lets go of jobs that went on here and have none.
func (p *Part) load() error {
	root := filepath.Join(p.deps.Dir, "wards")
	peers, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	now := time.Now()
	for _, e := range peers {
		requester, err := peer.Decode(e.Name())
		if err != nil {
			continue
		}
		jobs, err := os.ReadDir(filepath.Join(root, e.Name()))
		if err != nil {
			return err
		}
		for _, e := range jobs {
			id, err := job.ParseID(e.Name())
			if err != nil {
				continue
			}
			w := newWard(requester, id)
			l, err := recordlog.Open(p.wardDir(requester, id), wardLog, func(b []byte) error {
				var x entry
				if err := job.Decode(b, 2*maxMessage, &x); err != nil {
					return err
				}
				return w.take(x)
			})
			if err != nil {
				p.log.Error("a job of another cannot be read, left as it is", "requester", requester, "job", id, "err", err)
				continue
			}
			w.log = l
			w.heard = now // it may have lived while this machine did not
			p.wards[wardKey{requester, id}] = w
		}
	}
	for _, in := range p.deps.Jobs.Inheriting() {
		if w := p.wards[wardKey{in.Origin, in.ID}]; w != nil {
			w.held = !in.Back
		}
	}
	return nil
}

// take makes a change true.
func (w *ward) take(x entry) error {
	d, requester, err := job.OpenDelegation(x.Delegation, time.Time{})
	if err != nil || requester != w.requester || d.Job != w.id {
		return fmt.Errorf("delegation of another job: %w", err)
	}
	w.signed, w.d, w.state, w.read, w.spent = x.Delegation, d, x.State, x.Read, x.Spent
	if x.Begin != nil {
		w.begun, w.copy, w.blocks = true, x.Begin.Copy, x.Begin.Blocks
		w.copy.Plan = nil
		w.facts, w.kept, w.whole, w.seq = map[int]dispatch.Fact{}, map[int]bool{}, false, x.Seq
	}
	w.copy.Plan = append(w.copy.Plan, x.Plan...)
	if x.Reset {
		w.facts, w.kept = map[int]dispatch.Fact{}, map[int]bool{}
	}
	for _, f := range x.Facts {
		w.facts[f.Task] = f
		delete(w.kept, f.Task)
	}
	for _, i := range x.Gone {
		delete(w.facts, i)
		delete(w.kept, i)
	}
	w.seq = x.Seq
	return nil
}

// Bounds of what a requester may hand over.
const (
	maxBlocks    = job.MaxTasksPerJob/1024 + 1
	maxPlanBytes = 256 << 20
	maxSpent     = 1e15 // seconds
)

// follow takes what a requester says, and answers with what is here.
func (p *Part) follow(ctx context.Context, d job.Delegation, requester peer.ID, q question) answer {
	f, k, now := *q.Follow, wardKey{requester, d.Job}, time.Now()
	rank := d.Rank(p.deps.Self)
	switch {
	case rank < 0:
		return answer{Refused: "this machine is none of the stewards"}
	case d.Epoch > p.deps.Jobs.Epoch()+dispatch.MaxLeap:
		return answer{Refused: fmt.Sprintf("epoch %d is too far ahead", d.Epoch)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.wards[k]
	if f.State == stateOver {
		if w != nil && !w.moving {
			p.letGo(w, "the job is over", true)
		} else if w != nil {
			return answer{Refused: "busy"}
		}
		return answer{}
	}
	if w == nil {
		if p.deps.Accept != nil {
			if err := p.deps.Accept(requester); err != nil {
				return answer{Refused: err.Error()}
			}
		}
		if len(p.wards) >= p.o.Most {
			return answer{Refused: fmt.Sprintf("it follows %d jobs already", len(p.wards))}
		}
		l, err := recordlog.Open(p.wardDir(requester, d.Job), wardLog, func([]byte) error { return nil })
		if err != nil {
			return answer{Refused: "it cannot write: " + err.Error()}
		}
		w = newWard(requester, d.Job)
		w.log = l
		p.wards[k] = w
	}
	w.heard, w.rank, w.doubted = now, rank, time.Time{}
	if d.Epoch > w.above {
		w.above = 0 // the requester has come after it
	}
	x := entry{Delegation: q.Delegation, State: f.State, Read: f.Read, Seq: w.seq, Spent: f.Spent}
	planned := 0
	for _, b := range w.copy.Plan {
		planned += len(b)
	}
	for _, b := range f.Plan {
		planned += len(b)
	}
	switch {
	case f.State != stateLive && f.State != statePaused, f.Begin != nil && (f.Begin.Blocks < 1 || f.Begin.Blocks > maxBlocks),
		f.Begin != nil && (f.Begin.Copy.Tasks < 1 || f.Begin.Copy.Tasks > job.MaxTasksPerJob), planned > maxPlanBytes,
		len(f.Gone) > job.MaxTasksPerJob, slices.ContainsFunc(f.Facts, func(x dispatch.Fact) bool { return x.Sound(w.copy.Tasks) != nil }),
		!(f.Spent >= 0 && f.Spent <= maxSpent):
		return answer{Refused: "the question is over its bounds"}
	case f.Begin != nil:
		x.Begin = f.Begin
		x.Begin.Copy.Plan = nil
	case len(f.Plan) > 0:
		if !w.begun || f.Block != len(w.copy.Plan) || f.Block+len(f.Plan) > w.blocks {
			return p.answer(w, f.From) // it sees how much is here
		}
		x.Plan = f.Plan
	case (f.Reset || len(f.Facts)+len(f.Gone) > 0) && !w.held:
		if !f.Reset && f.Seq != w.seq {
			return p.answer(w, f.From)
		}
		x.Reset, x.Facts, x.Gone, x.Seq = f.Reset, f.Facts, f.Gone, w.seq+1
	}
	if err := p.record(w, x); err != nil {
		return answer{Refused: "it cannot write: " + err.Error()}
	}
	if f.Release && w.held && !w.moving {
		p.log.Info("a job goes back to its requester", "job", w.id, "requester", requester)
		w.held, w.yields = false, false
		// Its facts come anew: what was done here is among them then.
		p.giveBack(w)
	}
	p.fetch(w)
	return p.answer(w, f.From)
}

// record makes a change true and durable. A sign of life alone is not worth a
// write. mu is held.
func (p *Part) record(w *ward, x entry) error {
	news := x.Begin != nil || len(x.Plan) > 0 || x.Reset || len(x.Facts)+len(x.Gone) > 0 || x.State != w.state ||
		w.d.Expires.IsZero() || time.Until(w.d.Expires) < p.o.Lasts/2
	d, _, err := job.OpenDelegation(x.Delegation, time.Time{})
	if err != nil {
		return err
	}
	if !news && d.Epoch == w.d.Epoch {
		w.signed, w.d, w.read, w.spent = x.Delegation, d, x.Read, x.Spent
		return nil
	}
	if err := w.take(x); err != nil {
		return err
	}
	b, err := job.Encode(x)
	if err != nil {
		return err
	}
	if w.log.Bytes() > p.shorten {
		// As short as it can be.
		whole := entry{Delegation: w.signed, State: w.state, Read: w.read, Seq: w.seq, Spent: w.spent, Reset: true,
			Begin: &begin{Copy: w.copy, Blocks: w.blocks}, Facts: slices.Collect(maps.Values(w.facts))}
		whole.Begin.Copy.Plan = nil
		frames := [][]byte{}
		for _, e := range append([]entry{whole}, w.plans()...) {
			b, err := job.Encode(e)
			if err != nil {
				return err
			}
			frames = append(frames, b)
		}
		return w.log.Rewrite(frames...)
	}
	if err := w.log.Append(b); err != nil {
		return err
	}
	return w.log.Sync()
}

func (w *ward) plans() []entry {
	var out []entry
	for _, b := range w.copy.Plan {
		out = append(out, entry{Delegation: w.signed, State: w.state, Read: w.read, Seq: w.seq, Spent: w.spent, Plan: [][]byte{b}})
	}
	return out
}

// answer says what is here. mu is held.
func (p *Part) answer(w *ward, from int) answer {
	a := answer{Known: w.begun, Blocks: len(w.copy.Plan), Seq: w.seq, Whole: w.whole && w.complete(), Why: w.why, Next: -1}
	if w.held {
		for _, in := range p.deps.Jobs.Inheriting() {
			if in.ID == w.id && in.Origin == w.requester {
				a.Held = in.Epoch
			}
		}
		a.Results, a.Next = p.deps.Jobs.Accepted(w.id, max(from, 0), roomResults)
	}
	return a
}

// complete reports whether the plan is here. mu is held.
func (w *ward) complete() bool { return w.begun && len(w.copy.Plan) == w.blocks }

// fetch brings what is not here yet. mu is held.
func (p *Part) fetch(w *ward) {
	if w.moving || w.held || !w.complete() || time.Since(w.tried) < p.o.Beat/2 {
		return
	}
	var roots []job.Ref
	content := !w.whole
	if content && w.copy.Root.Defined() {
		roots = append(roots, w.copy.Root)
	}
	var facts []dispatch.Fact
	for i, f := range w.facts {
		if len(f.Outputs) > 0 && !w.kept[i] {
			facts = append(facts, f)
			for _, o := range f.Outputs {
				roots = append(roots, o.File)
			}
		}
	}
	if len(roots) == 0 {
		w.whole = true
		return
	}
	w.moving = true
	read := w.read
	p.do(func(ctx context.Context) {
		err := p.deps.Store.Hold(ctx, w.requester, w.id, read, roots)
		p.mu.Lock()
		defer p.mu.Unlock()
		w.moving = false
		if err != nil {
			w.why, w.tried = err.Error(), time.Now()
			p.log.Info("a job that is followed is not here yet", "job", w.id, "requester", w.requester, "err", err)
			return
		}
		w.why = ""
		w.whole = true
		for _, f := range facts {
			if w.facts[f.Task].Mark == f.Mark {
				w.kept[f.Task] = true
			}
		}
	})
}

// giveBack has the board forget the job. mu is held.
func (p *Part) giveBack(w *ward) {
	w.moving = true
	p.do(func(ctx context.Context) {
		err := p.deps.Jobs.GiveBack(ctx, w.requester, w.id)
		p.mu.Lock()
		defer p.mu.Unlock()
		w.moving = false
		if err != nil && ctx.Err() == nil {
			p.log.Error("a job is not given back", "job", w.id, "err", err)
		}
	})
}

// letGo forgets a ward, with its finished files where the requester has them.
// mu is held.
func (p *Part) letGo(w *ward, why string, files bool) {
	p.log.Info("a job is not followed any more", "job", w.id, "requester", w.requester, "reason", why)
	w.moving = true
	p.do(func(ctx context.Context) {
		err := p.deps.Jobs.GiveBack(ctx, w.requester, w.id)
		err = errors.Join(err, p.deps.Store.Drop(context.WithoutCancel(ctx), w.requester, w.id))
		if files {
			err = errors.Join(err, os.RemoveAll(p.folder(w.requester, w.id)))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		w.moving = false
		if p.closed {
			return // what is left is found at the next start
		}
		err = errors.Join(err, w.log.Close(), os.RemoveAll(p.wardDir(w.requester, w.id)))
		delete(p.wards, wardKey{w.requester, w.id})
		if err != nil {
			p.log.Warn("a job is not let go of", "job", w.id, "err", err)
		}
	})
}
