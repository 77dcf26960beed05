package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/wire"
)

const (
	dealTick   = 100 * time.Millisecond // how often who has nothing to send looks again
	shareQuiet = 5 * time.Minute        // without a message from an asker
	maxPulls   = 1024                   // of one asker, not answered yet
	maxSeeds   = wire.MaxSharers
)

// asker is somebody's stream here. Its share's mutex guards what follows it.
type asker struct {
	scope scope
	wake  chan struct{}

	wants  int                // that it ever had
	missed map[cid.Cid]uint64 // wants that are not here yet
	seen   map[uint64]based   // wants that it may pull
	pulls  []uint64
	haves  []uint64
	player *player // where this host deals
	told   map[peer.ID]bool
}

// based is a block that is wanted, and one that the asker holds and says is
// like it; Undef: none.
type based struct{ id, base cid.Cid }

func (w want) based() based {
	if len(w.bases) == 0 {
		return based{id: w.id}
	}
	return based{w.id, w.bases[0]}
}

// want is the want that b was.
func (b based) want(index uint64) want {
	w := want{index: index, id: b.id}
	if b.base.Defined() {
		w.bases = []cid.Cid{b.base}
	}
	return w
}

func (a *asker) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// has notes that a block can be pulled from now on.
func (a *asker) has(id cid.Cid) {
	if i, ok := a.missed[id]; ok {
		delete(a.missed, id)
		a.haves = append(a.haves, i)
		a.poke()
	}
}

// serveShare runs one asker's stream.
func (b *blockServer) serveShare(ctx context.Context, s network.Stream) {
	p := s.Conn().RemotePeer()
	if !b.h.shares.enter(p) {
		b.h.stats.refused.Add(1)
		s.Reset()
		return
	}
	defer b.h.shares.leave(p)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	idle := time.AfterFunc(b.patience, cancel)
	defer idle.Stop()
	r := bufio.NewReader(s)
	var first wire.Share
	if _, err := wire.Read(r, &first, wire.MaxShare); err != nil {
		b.h.stats.malformed.Add(1)
		return
	}
	sc, err := readScope(p, first.GetScope())
	if err != nil {
		b.h.stats.malformed.Add(1)
		b.h.log.Debug("share refused", "peer", p, "err", err)
		return
	}
	wants, err := sharedWants(&first)
	if err != nil || len(wants) == 0 {
		b.h.stats.malformed.Add(1)
		return
	}
	// Who may read none of what it wants takes no part: neither names nor
	// counts are told to it.
	if b.spares(sc) || !b.mayRead(sc, wants) {
		b.h.stats.refused.Add(1)
		buf, err := wire.Append(nil, &wire.Answers{Answers: []*wire.Answer{{Index: wants[0].index, Encoding: wire.Answer_REFUSED}}}, wire.MaxAnswers)
		if err == nil {
			stopWatch := watch(s, blockWriteMax)
			_, _ = s.Write(buf)
			stopWatch()
		}
		stop()
		s.Close()
		return
	}
	a := &asker{
		scope: sc, wake: make(chan struct{}, 1), missed: map[cid.Cid]uint64{}, seen: map[uint64]based{}, told: map[peer.ID]bool{p: true},
	}
	k := shareKey{sc.requester, sc.job}
	sh := b.h.shares.get(k, sc.requester == b.h.ID())
	sh.askers[a] = true
	if sh.deck != nil {
		a.player = sh.deck.join(time.Now())
	}
	ours := sh.gather
	for other := range sh.askers {
		other.poke() // there is somebody new to be told of
	}
	sh.mu.Unlock()
	if ours != nil {
		ours.meet(p)
	}
	written := make(chan error, 1)
	go func() {
		err := b.writeShare(ctx, s, sh, a)
		if err != nil {
			cancel()
		}
		written <- err
	}()
	err = b.readShares(ctx, r, &first, idle, sh, a)
	inOrder := err == nil
	cancel()
	<-written
	sh.mu.Lock()
	delete(sh.askers, a)
	if a.player != nil {
		sh.deck.leave(a.player, inOrder)
	}
	if inOrder {
		sh.seeds = slices.DeleteFunc(sh.seeds, func(q peer.ID) bool { return q == p })
		sh.seeds = append(sh.seeds, p)
		if n := len(sh.seeds) - maxSeeds; n > 0 {
			sh.seeds = slices.Delete(sh.seeds, 0, n)
		}
	}
	for other := range sh.askers {
		other.poke()
	}
	sh.mu.Unlock()
	if err != nil {
		b.h.log.Debug("share with a peer ended", "peer", p, "job", sc.job, "err", err)
	}
}

// mayRead reports whether the asker shows a right to some of what it wants. A
// few wants are tried: what a worker holds of a job is what it asked for itself.
func (b *blockServer) mayRead(sc scope, wants []want) bool {
	const tries = 16
	for i := 0; i < len(wants); i += max(1, len(wants)/tries) {
		if b.grants.Allow(sc.reader, sc.requester, sc.job, sc.grant, wants[i].id) {
			return true
		}
	}
	return false
}

// sharedWants reads the wants of one message.
func sharedWants(m *wire.Share) ([]want, error) {
	return wantsOf(&wire.Ask{Wants: m.GetWants()})
}

// readShares takes in what an asker says until it has all it wants.
func (b *blockServer) readShares(ctx context.Context, r *bufio.Reader, m *wire.Share, idle *time.Timer, sh *share, a *asker) error {
	for {
		idle.Reset(shareQuiet)
		if err := b.takeShare(ctx, m, sh, a); err != nil {
			b.h.stats.malformed.Add(1)
			return err
		}
		m = &wire.Share{}
		if _, err := wire.Read(r, m, wire.MaxShare); err != nil {
			if isEOF(err) {
				return nil
			}
			return err
		}
	}
}

func (b *blockServer) takeShare(ctx context.Context, m *wire.Share, sh *share, a *asker) error {
	wants, err := sharedWants(m)
	if err != nil {
		return err
	}
	now := time.Now()
	sh.mu.Lock()
	if a.wants += len(wants); a.wants > MaxGather {
		sh.mu.Unlock()
		return fmt.Errorf("share: more than %d wants: %w", MaxGather, wire.ErrTooLarge)
	}
	for _, w := range wants {
		if a.player != nil {
			if s := sh.deck.want(a.player, w.index, w.id); s != nil {
				s.base = w.based().base
			}
			continue
		}
		a.seen[w.index] = w.based()
		if _, twice := a.missed[w.id]; !twice {
			a.missed[w.id] = w.index
		}
	}
	if a.player != nil {
		for _, i := range m.GetGot() {
			sh.deck.got(now, a.player, i)
		}
		a.player.credit = min(maxCredit, a.player.credit+int64(min(m.GetCredit(), maxCredit)))
		for other := range sh.askers {
			other.poke()
		}
	} else {
		if len(m.GetGot()) > 0 {
			got := make(map[uint64]bool, min(len(m.GetGot()), MaxGather))
			for _, i := range m.GetGot() {
				got[i] = true
			}
			a.pulls = slices.DeleteFunc(a.pulls, func(p uint64) bool { return got[p] })
		}
		if a.pulls = append(a.pulls, m.GetPull()...); len(a.pulls) > maxPulls {
			sh.mu.Unlock()
			return fmt.Errorf("share: more than %d pulls are not answered: %w", maxPulls, wire.ErrTooLarge)
		}
	}
	a.poke()
	sh.mu.Unlock()
	if a.player == nil {
		b.look(ctx, sh, a, wants)
	}
	return nil
}

// look finds which of the wants are here. One that comes between the looking
// and its entry is found by both ways, which does no harm.
func (b *blockServer) look(ctx context.Context, sh *share, a *asker, wants []want) {
	src := recentFirst{&b.h.shares.recent, b.src}
	for _, w := range wants {
		if has, err := src.Has(ctx, w.id); err != nil || !has {
			continue
		}
		if !b.grants.Allow(a.scope.reader, a.scope.requester, a.scope.job, a.scope.grant, w.id) {
			continue
		}
		sh.mu.Lock()
		a.has(w.id)
		sh.mu.Unlock()
	}
}

// load is what goes into one frame.
type load struct {
	wants []want
	haves []uint64
	peers []peer.ID
}

func (l load) empty() bool { return len(l.wants) == 0 && len(l.haves) == 0 && len(l.peers) == 0 }

// pick takes what can be sent to a now. size guesses a block's.
func (sh *share) pick(now time.Time, a *asker) (l load, waits bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := min(len(a.haves), wire.MaxHavesPer)
	l.haves, a.haves = a.haves[:n:n], a.haves[n:]
	for _, p := range sh.others(a.scope.reader, wire.MaxSharers) {
		if !a.told[p] && len(a.told) < 4*wire.MaxSharers {
			a.told[p] = true
			l.peers = append(l.peers, p)
		}
	}
	if a.player == nil {
		for len(a.pulls) > 0 && len(l.wants) < maxLoad {
			i := a.pulls[0]
			a.pulls = a.pulls[1:]
			// One that was never wanted is answered, so that it is noticed.
			l.wants = append(l.wants, a.seen[i].want(i))
		}
		return l, false
	}
	for len(l.wants) < maxLoad {
		s := sh.deck.next(now, a.player)
		if s == nil {
			break
		}
		// What it weighs is known when it is encoded; a guess holds others off
		// until then.
		sh.deck.deal(now, a.player, s, guessBytes)
		l.wants = append(l.wants, based{s.card.id, s.base}.want(s.index))
	}
	return l, len(a.player.wants) > 0
}

const (
	maxLoad    = 4        // blocks of one frame
	guessBytes = 64 << 10 // of a block that was not looked at yet
)

// settle replaces the guess by what was sent, and ends wants that cannot be had
// here.
func (sh *share) settle(a *asker, answers []answer) {
	if a.player == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, x := range answers {
		a.player.credit += guessBytes - int64(len(x.payload))
		s := a.player.wants[x.head.Index]
		if s == nil {
			continue
		}
		switch x.head.Encoding {
		case wire.Answer_NOT_FOUND, wire.Answer_REFUSED:
			sh.deck.disown(s.card)
			sh.deck.drop(a.player, s)
		}
	}
}

func (b *blockServer) writeShare(ctx context.Context, s network.Stream, sh *share, a *asker) error {
	first := true
	tick := time.NewTimer(dealTick)
	defer tick.Stop()
	for {
		l, waits := sh.pick(time.Now(), a)
		if l.empty() && !first {
			if waits {
				tick.Reset(dealTick)
			} else {
				tick.Stop()
			}
			select {
			case <-a.wake:
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		answers := b.encode(ctx, a.scope, l.wants)
		sh.settle(a, answers)
		head := &wire.Answers{Have: l.haves, Deals: first && a.player != nil}
		for _, p := range l.peers {
			head.Peers = append(head.Peers, []byte(p))
		}
		first = false
		if err := b.send(ctx, s, a.scope, head, answers); err != nil {
			return err
		}
		for _, x := range answers {
			if x.head.Encoding == wire.Answer_REFUSED {
				return errors.New("the right to read has ended")
			}
		}
	}
}

// encode makes the answers of some wants, side by side.
func (b *blockServer) encode(ctx context.Context, sc scope, wants []want) []answer {
	out := make([]answer, len(wants))
	if len(wants) < 2 || runtime.GOMAXPROCS(0) < 3 {
		for i, w := range wants {
			out[i] = b.answerOr(ctx, sc, w)
		}
		return out
	}
	var wg sync.WaitGroup
	for i, w := range wants {
		wg.Go(func() { out[i] = b.answerOr(ctx, sc, w) })
	}
	wg.Wait()
	return out
}

func (b *blockServer) answerOr(ctx context.Context, sc scope, w want) answer {
	if !w.id.Defined() { // pulled without having been wanted
		return answer{head: &wire.Answer{Index: w.index, Encoding: wire.Answer_NOT_FOUND}}
	}
	return b.answer(ctx, sc, w)
}
