package p2p

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/wire"
)

// How a gathering asks.
const (
	maxHolders = 16 // streams to others at once
	// A holder may have so much under way: windowFirst until its rate is known,
	// then what came from it in windowTime, within bounds. pullFirst is for one
	// that is pulled from, where others do the same.
	windowFirst = 1 << 20
	pullFirst   = 256 << 10
	windowMin   = 128 << 10
	windowMax   = 8 << 20
	windowTime  = time.Second / 2
	sizeGuess   = 96 << 10 // of a block, until some have come
	// pullPatience is after how long without a byte a holder is asked no more
	// and what was pulled from it is pulled elsewhere; with slowPatience that is
	// done where it does send, but another has the block.
	pullPatience = 2 * time.Second
	slowPatience = 6 * time.Second
	// stealAfter is after how long another holder, that has nothing else to
	// give, is asked for a block that is under way.
	stealAfter = 700 * time.Millisecond
	// gatherPatience is after how long without a new block a gathering ends.
	gatherPatience = time.Minute
	gatherTick     = 250 * time.Millisecond // between looks after what does not come
	shareRetryMin  = 200 * time.Millisecond // between tries of a holder, doubling
	shareRetryMax  = 5 * time.Second
	// nearAfter is after how long without the requester others are asked: they
	// learn by it that there is a job, and which blocks it has.
	nearAfter  = 3 * time.Second
	maxLies    = 16   // blocks that a holder says it has and has not
	maxUnasked = 1024 // blocks that came too late, or for nothing
)

var errNoProgress = fmt.Errorf("no new block for %v", gatherPatience)

// gather is one Gather.
type gather struct {
	h       *Host
	req     ShareRequest
	source  fetchSource
	share   *share
	ctx     context.Context
	cancel  context.CancelCauseFunc
	results chan BlockResult
	raws    chan sharedRaw
	run     sync.WaitGroup // holders

	mu      sync.Mutex
	wants   []sharedWant
	left    int   // wants that are not settled
	owed    int   // results that were not handed over
	rest    []int // wants that are not settled, for looking through; may hold settled ones
	holders map[peer.ID]*holder
	size    float64 // of a block, smoothed
	moved   time.Time
	began   time.Time
	open    bool // run may grow
	wide    bool // req.Near are asked
}

// sharedWant is one want of a gathering.
type sharedWant struct {
	settled bool
	has     uint16  // holders that said that they have it
	from    *holder // a pull is under way; nil: none
	since   time.Time
	refused error // the requester's no
}

// sharedRaw is an answer before it was checked.
type sharedRaw struct {
	raw
	index int
	from  *holder
}

// Gather asks all who have blocks of a job for them: its requester and those
// whom the requester names, and req.Near where the requester is out of reach. The requester deals each block to one of
// those who gather at the same time; they pass it on. Each block is yielded
// once, in any order, checked against its CID, as with FetchFrom. Of the bases of
// a want the first that is here counts. An error of
// the sequence ends it: ErrNoShare, or that nothing came for long. A second
// Gather of the same job meanwhile works, but its blocks are not announced to
// others.
func (h *Host) Gather(ctx context.Context, req ShareRequest) iter.Seq2[BlockResult, error] {
	return func(yield func(BlockResult, error) bool) {
		if len(req.Wants) == 0 {
			return
		}
		if len(req.Wants) > MaxGather {
			yield(BlockResult{}, fmt.Errorf("gather %d blocks, at most %d", len(req.Wants), MaxGather))
			return
		}
		if x := h.exchange(); x != nil {
			x.fetch(ctx, req.Requester, req.Near, req.BlockRequest)(yield)
			return
		}
		g := h.newGather(ctx, req)
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			g.work()
			close(g.results)
		}()
		defer func() {
			g.cancel(context.Canceled)
			<-finished
			g.end()
		}()
		for r := range g.results {
			if !yield(r, nil) {
				return
			}
		}
		if err := g.failure(); err != nil {
			yield(BlockResult{}, fmt.Errorf("gather from %s and others: %w", req.Requester, err))
		}
	}
}

func (h *Host) newGather(ctx context.Context, req ShareRequest) *gather {
	h.mu.Lock()
	source := h.fetch
	h.mu.Unlock()
	g := &gather{
		h: h, req: req, source: source, results: make(chan BlockResult, 8), raws: make(chan sharedRaw, 4),
		wants: make([]sharedWant, len(req.Wants)), left: len(req.Wants), holders: map[peer.ID]*holder{},
		size: sizeGuess, moved: time.Now(), began: time.Now(), open: true,
	}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	g.rest = rand.Perm(len(req.Wants))
	twice := make(map[cid.Cid]bool, len(req.Wants))
	for i, w := range req.Wants {
		if twice[w.ID] {
			g.wants[i].settled = true // it is answered once
			g.left--
		}
		twice[w.ID] = true
	}
	g.owed = g.left
	g.share = h.shares.get(shareKey{req.Requester, req.Job}, req.Requester == h.ID())
	if g.share.gather == nil {
		g.share.gather = g
	}
	g.share.mu.Unlock()
	return g
}

// end leaves the share; what was kept for others goes once it is stored.
func (g *gather) end() {
	g.share.mu.Lock()
	if g.share.gather == g {
		g.share.gather = nil
	}
	g.share.mu.Unlock()
	ids := make([]cid.Cid, len(g.req.Wants))
	for i, w := range g.req.Wants {
		ids[i] = w.ID
	}
	time.AfterFunc(recentFor, func() { g.h.shares.recent.forget(ids) })
}

func (g *gather) failure() error {
	g.mu.Lock()
	owed := g.owed
	g.mu.Unlock()
	if owed == 0 {
		return nil
	}
	return context.Cause(g.ctx)
}

// work runs until every want is settled or nothing more can come.
func (g *gather) work() {
	stopHost := context.AfterFunc(g.h.ctx, func() { g.cancel(errors.New("this node is leaving")) })
	defer stopHost()
	var checkers sync.WaitGroup
	for range min(4, runtime.GOMAXPROCS(0)) { // hashing stays off the read loops
		checkers.Go(func() {
			for r := range g.raws {
				g.settle(r)
			}
		})
	}
	g.meet(g.req.Requester)
	g.share.mu.Lock()
	asking := g.share.others(g.h.ID(), maxHolders)
	g.share.mu.Unlock()
	for _, p := range asking {
		g.meet(p)
	}
	tick := time.NewTicker(gatherTick)
	for watching := true; watching; {
		select {
		case <-g.ctx.Done():
			watching = false
		case <-tick.C:
			g.watch(time.Now())
		}
	}
	tick.Stop()
	g.mu.Lock()
	g.open = false
	g.mu.Unlock()
	g.run.Wait()
	close(g.raws)
	checkers.Wait()
}

// watch looks after what does not come.
func (g *gather) watch(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.moved) > gatherPatience {
		g.cancel(errNoProgress)
		return
	}
	hopeless := g.left > 0
	for i := range g.wants {
		w := &g.wants[i]
		if w.settled {
			continue
		}
		if h := w.from; h != nil && now.Sub(w.since) > pullPatience {
			silent := now.Sub(time.Unix(0, h.heard.Load())) > pullPatience
			h.stalled = h.stalled || silent
			if silent || w.has > 1 && now.Sub(w.since) > slowPatience {
				h.under--
				w.from = nil
			}
		}
		if w.refused == nil || w.has > 0 {
			hopeless = false
		}
	}
	var source *holder
	for _, h := range g.holders {
		if h.poke(); h.peer == g.req.Requester {
			source = h
		}
	}
	if !g.wide && (source == nil || !source.deals) && now.Sub(g.began) > nearAfter {
		g.wide = true
		g.run.Go(func() {
			near := slices.Clone(g.req.Near)
			rand.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
			for _, p := range near {
				g.meet(p)
			}
		})
	}
	if hopeless && now.Sub(g.moved) > pullPatience {
		g.run.Go(g.giveUp)
	}
}

// giveUp settles what the requester does not give and nobody else has.
func (g *gather) giveUp() {
	g.mu.Lock()
	var out []BlockResult
	for i := range g.wants {
		if w := &g.wants[i]; !w.settled && w.refused != nil {
			w.settled = true
			g.left--
			out = append(out, BlockResult{ID: g.req.Wants[i].ID, Err: fmt.Errorf("block %s: %w", g.req.Wants[i].ID, w.refused)})
		}
	}
	g.mu.Unlock()
	for _, r := range out {
		g.deliver(r)
	}
}

// deliver hands a result over; after the last one the gathering ends.
func (g *gather) deliver(r BlockResult) {
	select {
	case g.results <- r:
	case <-g.ctx.Done():
		return
	}
	g.mu.Lock()
	g.owed--
	last := g.owed == 0
	g.mu.Unlock()
	if last {
		g.cancel(nil)
	}
}

// meet begins to ask a peer, unless it is asked already.
func (g *gather) meet(p peer.ID) {
	if p == g.h.ID() || !g.h.members.Known(p) && !(p == g.req.Requester && g.h.members.Stranger(p)) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open || g.holders[p] != nil || len(g.holders) >= maxHolders && p != g.req.Requester {
		return
	}
	h := &holder{g: g, peer: p, wake: make(chan struct{}, 1), has: make([]bool, len(g.wants))}
	g.holders[p] = h
	g.run.Go(h.run)
}

// settle checks an answer and hands it on.
func (g *gather) settle(r sharedRaw) {
	f := fetching{source: g.source}
	res := f.check(g.ctx, r.raw)
	g.mu.Lock()
	w := &g.wants[r.index]
	if w.from == r.from {
		w.from.under--
		w.from = nil
	}
	if w.settled {
		g.mu.Unlock()
		g.h.stats.blocksTwice.Add(1)
		r.from.poke()
		return
	}
	// What lacks its base would come in the same way again: it is for the caller
	// to ask for it without.
	gone := errors.Is(res.Err, errBaseGone)
	if res.Err != nil && !gone {
		r.from.failed(r.index, res.Err)
		g.mu.Unlock()
		r.from.poke()
		return
	}
	w.settled = true
	g.left--
	g.moved = time.Now()
	g.size += (float64(len(r.payload)) - g.size) / 32
	for _, h := range g.holders {
		if h.deals {
			h.got = append(h.got, uint64(r.index))
			h.poke()
		}
	}
	r.from.poke()
	g.mu.Unlock()
	// First the others, who can pass it on: the store takes its time.
	if !gone && g.share.busy() {
		g.h.shares.recent.put(res.ID, slices.Clone(res.Data))
		g.share.arrived(res.ID)
	}
	g.deliver(res)
}

// choose picks up to n wants to pull from h, those that the fewest have; g.mu
// is held.
func (g *gather) choose(h *holder, n int, now time.Time) []int {
	type candidate struct{ index, has int }
	var best []candidate
	kept := g.rest[:0]
	start := 0
	if len(g.rest) > 0 {
		start = rand.IntN(len(g.rest)) // ties are broken otherwise at each holder
	}
	for _, i := range g.rest {
		if !g.wants[i].settled {
			kept = append(kept, i)
		}
	}
	g.rest = kept
	for k := range g.rest {
		i := g.rest[(start+k)%len(g.rest)]
		w := &g.wants[i]
		if !h.has[i] || w.from != nil {
			continue
		}
		c := candidate{i, int(w.has)}
		if len(best) == n && best[n-1].has <= c.has {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c.has, func(x candidate, has int) int {
			if x.has <= has {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, c)
		if len(best) > n {
			best = best[:n]
		}
	}
	if len(best) == 0 {
		return g.steal(h, n, now)
	}
	out := make([]int, len(best))
	for k, c := range best {
		out[k] = c.index
		g.wants[c.index].from, g.wants[c.index].since = h, now
	}
	return out
}

// steal picks wants that another holder takes its time with, where h has nothing
// else to give; g.mu is held.
func (g *gather) steal(h *holder, n int, now time.Time) []int {
	var out []int
	for _, i := range g.rest {
		w := &g.wants[i]
		if len(out) == n {
			break
		}
		if w.settled || !h.has[i] || w.from == nil || w.from == h || now.Sub(w.since) < stealAfter {
			continue
		}
		w.from.under--
		w.from.got = append(w.from.got, uint64(i)) // if it can still be stopped
		w.from.poke()
		w.from, w.since = h, now
		out = append(out, i)
	}
	return out
}

// scope is what each holder is shown.
func (g *gather) scope() *wire.Scope {
	return &wire.Scope{
		Job: string(g.req.Job), Requester: []byte(g.req.Requester), Grant: wire.FromSigned(g.req.Grant),
		Capability: g.h.release.Capability, Urgent: g.req.Urgent,
	}
}
