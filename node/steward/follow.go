package steward

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// The requester's side.

type callKey struct {
	job     job.ID
	steward peer.ID
}

// call is what a requester knows of one steward of one job. It is used by one
// goroutine at a time, which busy says; the rest is guarded by Part.mu.
type call struct {
	have map[int]uint64 // marks of what the steward knows
	seq  uint64
	news bool // the newest exchange had some
	// raised is the state of the job's limits that the steward has, see
	// dispatch.Handed; -1: not known here.
	raised int
	// least results were missing of a steward that holds the job, since then.
	least   int
	leastAt time.Time

	busy   bool
	due    time.Time
	again  time.Time // due already from then on, if the steward is connected: after a failure
	failed int       // times in a row while the job is open
	holds  bool
	status job.StewardStatus
}

// attend speaks to the stewards of this machine's jobs. It reports whether one of
// an open job is missed, to be spoken to as soon as it is connected.
func (p *Part) attend() (missed bool) {
	now, near := time.Now(), sync.OnceValue(p.deps.Members)
	for _, h := range p.deps.Jobs.Handed() {
		over := h.State.Ended()
		if !h.Planned || over && now.Sub(h.At) > p.o.Lasts {
			continue
		}
		p.mu.Lock()
		for rank, s := range h.Stewards {
			k := callKey{h.ID, s}
			if p.gone[k] {
				if over {
					continue
				}
				delete(p.gone, k) // it was begun again
			}
			c := p.calls[k]
			if c == nil {
				c = &call{have: map[int]uint64{}, raised: -1, status: job.StewardStatus{Peer: s.String(), State: "silent", Reason: "not reached yet"}}
				p.calls[k] = c
			}
			missed = missed || !c.again.IsZero() && c.again.Before(c.due)
			if c.busy || now.Before(c.due) && (c.again.IsZero() || now.Before(c.again) || !slices.Contains(near(), s)) {
				continue
			}
			c.busy = true
			p.do(func(ctx context.Context) { p.speak(ctx, h, rank, s, c) })
		}
		p.mu.Unlock()
	}
	return missed
}

// speak tells one steward everything that is new, and takes what it did.
func (p *Part) speak(ctx context.Context, h dispatch.Handed, rank int, s peer.ID, c *call) {
	a, err := p.tell(ctx, h, rank, s, c)
	now := time.Now()
	var near []peer.ID
	if err != nil {
		near = p.deps.Members()
	}
	p.mu.Lock()
	if err == nil {
		c.failed = 0
	}
	st := &c.status
	c.due, c.again = now.Add(p.o.Beat), time.Time{}
	if h.State.Ended() {
		c.due = now.Add(6 * p.o.Beat)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		st.State, st.Reason = "silent", err.Error()
		if !h.State.Ended() {
			if slices.Contains(near, s) {
				c.failed++ // it is there and does not answer: soon at first, then with the beats
			}
			c.again = now.Add(p.o.Beat / 10 << min(c.failed, 4))
		}
		if c.holds && now.Sub(st.Heard) > p.o.Silence/2 {
			c.holds = false // it may be gone for good: this machine goes on
		}
	case a.Refused != "":
		st.State, st.Reason, st.Heard = "refused", a.Refused, now
		c.holds = false
	default:
		st.State, st.Reason, st.Heard = "following", a.Why, now
		if a.Whole {
			st.State = "ready"
		}
		if c.news {
			c.due = now.Add(p.o.Beat / 5) // there will be more
		}
		if c.holds = a.Held > 0; c.holds {
			st.State = "holding"
			c.due = now.Add(p.o.Beat / 10)
		}
		if h.State.Ended() {
			p.gone[callKey{h.ID, s}] = true
			delete(p.calls, callKey{h.ID, s})
		}
	}
	var list []job.StewardStatus
	held := false
	for _, o := range h.Stewards {
		if x := p.calls[callKey{h.ID, o}]; x != nil {
			list = append(list, x.status)
			held = held || x.holds
		}
	}
	c.busy = false
	p.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	p.deps.Jobs.Attend(h.ID, list)
	if !held {
		_ = p.deps.Jobs.Free(ctx, h.ID) // it only fails at shutdown
	}
}

// begins reports whether the job is described from the beginning: to a steward that
// does not know it, and where its limits have changed. Which of them a steward has
// that knew it before this machine started is not known.
func (c *call) begins(known bool, raised int) bool {
	return !known || raised != c.raised && (c.raised >= 0 || raised > 0)
}

// tell is the exchange itself: as many questions as it takes.
func (p *Part) tell(ctx context.Context, h dispatch.Handed, rank int, s peer.ID, c *call) (answer, error) {
	now := time.Now()
	d := job.Delegation{Version: 1, Requester: p.deps.Self.String(), Job: h.ID, Expires: now.Add(p.o.Lasts)}
	for _, o := range h.Stewards {
		d.Stewards = append(d.Stewards, o.String())
	}
	read, err := job.Sign(p.deps.Key, job.ContextRead, job.ReadGrant{Version: 1, Job: h.ID, Root: h.Root, Reader: s.String(), Expires: d.Expires})
	if err != nil {
		return answer{}, err
	}
	c.news = false
	state := stateLive
	switch {
	case h.State.Ended():
		state = stateOver
	case h.State == job.StatePaused:
		state = statePaused
	}
	ask := func(f follow) (answer, error) {
		// The epoch rises with what a steward gives back: a later take-over has to
		// be above it.
		d.Epoch = p.deps.Jobs.Epoch()
		signed, err := job.Sign(p.deps.Key, job.ContextDelegation, d)
		if err != nil {
			return answer{}, err
		}
		f.State, f.Read, f.Seq, f.Spent = state, read, c.seq, h.Spent
		return p.ask(ctx, s, question{Delegation: signed, Follow: &f})
	}
	a, err := ask(follow{})
	if err != nil || a.Refused != "" || state == stateOver {
		return a, err
	}
	if a.Held > 0 {
		// What it did comes first: nothing of it is done again.
		return p.collect(ctx, h, rank, s, c, a, ask)
	}
	copied, ok := p.deps.Jobs.Copy(h.ID)
	if !ok {
		return a, nil
	}
	begun := c.begins(a.Known, h.Raised)
	if begun {
		first := copied
		first.Plan = nil
		if a, err = ask(follow{Begin: &begin{Copy: first, Blocks: len(copied.Plan)}}); err != nil || a.Refused != "" {
			return a, err
		}
	}
	c.raised = h.Raised
	for a.Blocks < len(copied.Plan) {
		n, size := a.Blocks, 0
		for n < len(copied.Plan) && (size == 0 || size+len(copied.Plan[n]) <= roomPlan) {
			size += len(copied.Plan[n])
			n++
		}
		was := a.Blocks
		if a, err = ask(follow{Block: was, Plan: copied.Plan[was:n]}); err != nil || a.Refused != "" {
			return a, err
		}
		if a.Blocks <= was {
			return a, fmt.Errorf("steward %s does not take the plan", s)
		}
	}
	reset := a.Seq != c.seq || c.seq == 0 || begun
	if reset {
		c.have = map[int]uint64{}
	}
	for {
		news, gone := p.deps.Jobs.News(h.ID, c.have, roomFacts)
		if len(news) == 0 && len(gone) == 0 && !reset {
			return a, nil
		}
		if a, err = ask(follow{Facts: news, Gone: gone, Reset: reset}); err != nil || a.Refused != "" {
			return a, err
		}
		if a.Seq == c.seq {
			return a, fmt.Errorf("steward %s does not take the news", s)
		}
		reset = false
		c.seq = a.Seq
		c.news = true
		for _, f := range news {
			c.have[f.Task] = f.Mark
		}
		for _, i := range gone {
			delete(c.have, i)
		}
	}
}

// collect takes the results of a steward that holds the job, and releases it
// once they are safe here. The steward goes on meanwhile: what it does after the
// second look is done again.
func (p *Part) collect(ctx context.Context, h dispatch.Handed, rank int, s peer.ID, c *call, a answer, ask func(follow) (answer, error)) (answer, error) {
	epoch := a.Held
	for round := 0; ; round++ {
		missing, late := 0, false
		for {
			n, waited, err := p.safe(ctx, h.ID, s, rank, epoch, a.Results)
			if err != nil {
				return a, err
			}
			missing, late = missing+n, late || waited
			from := a.Next
			if from < 0 {
				break
			}
			if a, err = ask(follow{From: from}); err != nil || a.Refused != "" {
				return a, err
			}
			if a.Held != epoch || a.Next >= 0 && a.Next <= from {
				return a, fmt.Errorf("steward %s changes its mind", s)
			}
		}
		if now := time.Now(); missing > 0 {
			if c.leastAt.IsZero() || missing < c.least {
				c.least, c.leastAt = missing, now
			}
			if now.Sub(c.leastAt) < p.o.Doubt {
				return a, nil
			}
			p.log.Warn("a steward does not give what it says that it has; it is done again", "job", h.ID, "steward", s, "results", missing)
		}
		if round > 0 || !late {
			break
		}
		var err error
		if a, err = ask(follow{}); err != nil || a.Refused != "" || a.Held != epoch {
			return a, err
		}
	}
	c.leastAt = time.Time{}
	p.log.Info("a steward gave a job back", "job", h.ID, "steward", s, "epoch", epoch)
	c.news = true // what it gave is not among its facts yet
	return ask(follow{Release: true})
}

// safe hands results to the board and waits until they are safe here, for the
// time of a beat at most. late says that it had to wait.
func (p *Part) safe(ctx context.Context, id job.ID, s peer.ID, rank int, epoch uint64, results []dispatch.Result) (missing int, late bool, err error) {
	t := time.NewTicker(p.o.Beat / 100)
	defer t.Stop()
	for end := time.Now().Add(p.o.Beat); ; {
		missing, err = p.deps.Jobs.Hold(ctx, id, s, rank, epoch, results)
		if err != nil || missing == 0 || time.Now().After(end) {
			return missing, late, err
		}
		late = true
		select {
		case <-t.C:
		case <-ctx.Done():
			return missing, late, ctx.Err()
		}
	}
}
