package steward

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// due reports whether it is time to go on with a job: the requester, and every
// steward before this one, was silent for long enough.
func (w *ward) due(now time.Time, o Options) bool {
	return !w.held && !w.moving && w.state == stateLive && w.complete() && w.whole && w.rank >= 0 &&
		now.Before(w.d.Expires) && now.Sub(w.heard) >= o.Silence+time.Duration(w.rank)*o.Step
}

// watch looks at every job that is followed.
func (p *Part) watch() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	round := now.Sub(p.claimed) >= p.o.Claim
	if round {
		p.claimed = now
	}
	for _, w := range p.wards {
		w.rank = w.d.Rank(p.deps.Self)
		switch {
		case w.moving:
		case now.After(w.d.Expires):
			p.letGo(w, "the delegation expired", false)
		case w.due(now, p.o), w.held && round && now.Sub(w.heard) >= p.o.Silence/2:
			w.moving = true
			p.do(func(ctx context.Context) { p.press(ctx, w) })
		default:
			p.fetch(w)
		}
	}
	for _, in := range p.deps.Jobs.Inheriting() {
		if p.wards[wardKey{in.Origin, in.ID}] == nil && !in.Back {
			p.do(func(ctx context.Context) { _ = p.deps.Jobs.GiveBack(ctx, in.Origin, in.ID) })
		}
	}
}

// press asks the members whether they hear the requester, and goes on with its
// job, or goes on going on, unless somebody does.
func (p *Part) press(ctx context.Context, w *ward) {
	p.mu.Lock()
	epoch := max(w.d.Epoch, w.above, p.deps.Jobs.Epoch()) + 1
	if w.held {
		epoch = p.heldEpoch(w)
	}
	since := w.heard
	p.mu.Unlock()
	stands := p.claims(ctx, w, claim{Epoch: epoch, Probe: true})

	p.mu.Lock()
	now := time.Now()
	yield := ""
	switch {
	case ctx.Err() != nil || w.heard.After(since): // it is back
		w.moving = false
		p.mu.Unlock()
		return
	case stands[standBetter] > 0:
		yield = "another steward goes on with it"
		w.heard = now
	case stands[standHeard] > 0:
		if w.doubted.IsZero() {
			w.doubted = now
		}
		if now.Sub(w.doubted) < p.o.Doubt {
			yield = "members hear the requester"
		}
	default:
		w.doubted = time.Time{}
	}
	held, yields := w.held, w.yields
	in := p.inheritance(w, epoch)
	p.mu.Unlock()

	var err error
	switch {
	case yield != "" && held && !yields:
		p.log.Info("a job is left to others for now", "job", w.id, "reason", yield)
		err = p.steer(ctx, w.id, job.Pause)
	case yield != "":
	case !held:
		var files []job.Ref
		for _, f := range in.Facts {
			for _, o := range f.Outputs {
				files = append(files, o.File)
			}
		}
		if err = p.deps.Store.Serve(ctx, w.requester, w.id, in.Copy.Root, files); err == nil {
			if err = os.MkdirAll(in.Output, 0o700); err == nil {
				err = p.deps.Jobs.Inherit(ctx, in)
			}
		}
		if err == nil {
			p.log.Info("this machine goes on with a job", "job", w.id, "requester", w.requester, "epoch", epoch, "silent", now.Sub(since).Round(time.Second))
			held = true
		}
	case yields:
		err = p.steer(ctx, w.id, job.Resume)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("a job that is followed", "job", w.id, "err", err)
	}

	p.mu.Lock()
	w.held = held
	if err == nil && held {
		w.yields = yield != ""
	}
	if held {
		epoch = p.heldEpoch(w)
	}
	press := held && !w.yields
	p.mu.Unlock()
	if press {
		p.claims(ctx, w, claim{Epoch: epoch})
	}
	p.mu.Lock()
	w.moving = false
	p.mu.Unlock()
}

// steer pauses or resumes what goes on here; of a job that ended there is nothing
// to steer.
func (p *Part) steer(ctx context.Context, id job.ID, a job.Action) error {
	for _, in := range p.deps.Jobs.Inheriting() {
		if in.ID == id && !in.State.Ended() {
			return p.deps.Jobs.Steer(ctx, id, a)
		}
	}
	return nil
}

// heldEpoch is that of this machine's grants. mu is held.
func (p *Part) heldEpoch(w *ward) uint64 {
	for _, in := range p.deps.Jobs.Inheriting() {
		if in.ID == w.id && in.Origin == w.requester {
			return in.Epoch
		}
	}
	return 0
}

// inheritance is what the board begins with. mu is held.
func (p *Part) inheritance(w *ward, epoch uint64) dispatch.Inheritance {
	in := dispatch.Inheritance{ID: w.id, Origin: w.requester, Lane: w.rank + 1, Epoch: epoch, Delegation: w.signed, Copy: w.copy, Spent: w.spent,
		Output: p.folder(w.requester, w.id)}
	for _, i := range slices.Sorted(maps.Keys(w.facts)) {
		f := w.facts[i]
		if !w.kept[i] {
			f.Outputs = nil // what needs them has them made again
		}
		in.Facts = append(in.Facts, f)
	}
	return in
}

// claims tells all members, this machine's worker among them, and counts how
// they stand to it.
func (p *Part) claims(ctx context.Context, w *ward, c claim) map[string]int {
	p.mu.Lock()
	q := question{Delegation: w.signed, Claim: &c}
	d := w.d
	p.mu.Unlock()
	out := map[string]int{}
	if s := p.claim(d, w.requester, p.deps.Self, c); s == standHeard {
		out[s]++
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range p.deps.Members() {
		if m == w.requester || m == p.deps.Self {
			continue
		}
		wg.Go(func() {
			a, err := p.ask(ctx, m, q)
			if err != nil || a.Refused != "" {
				p.log.Debug("claim not heard", "peer", m, "err", err, "refused", a.Refused)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[a.Stand]++
		})
	}
	wg.Wait()
	return out
}

// claim is how this machine stands to a steward's claim.
func (p *Part) claim(d job.Delegation, requester, steward peer.ID, c claim) string {
	rank := d.Rank(steward)
	if c.Epoch <= d.Epoch || c.Epoch > d.Epoch+dispatch.MaxLeap || c.Epoch >= 1<<31 || rank < 0 {
		return standBetter
	}
	quiet := p.o.Silence / 3
	p.mu.Lock()
	if w := p.wards[wardKey{requester, d.Job}]; w != nil && steward != p.deps.Self {
		switch mine := p.heldEpoch(w); {
		case w.held && !w.yields && (mine > c.Epoch || mine == c.Epoch && w.rank < rank):
			p.mu.Unlock()
			return standBetter
		case time.Since(w.heard) < quiet && w.above < c.Epoch:
			p.mu.Unlock()
			return standHeard
		case !c.Probe:
			w.heard, w.above = time.Now(), max(w.above, c.Epoch)
			if w.held && !w.yields {
				w.yields = true
				p.do(func(ctx context.Context) {
					if err := p.steer(ctx, w.id, job.Pause); err != nil && ctx.Err() == nil {
						p.log.Warn("a job is left to another steward", "job", w.id, "err", err)
					}
				})
			}
		}
	}
	p.mu.Unlock()
	if p.deps.Hears != nil && p.deps.Hears(requester, quiet) {
		return standHeard
	}
	if c.Probe || p.deps.Heed == nil {
		return ""
	}
	return p.deps.Heed(Claim{Requester: requester, Job: d.Job, Steward: steward, Rank: rank, Epoch: c.Epoch, Quiet: quiet, For: 3 * p.o.Claim})
}
