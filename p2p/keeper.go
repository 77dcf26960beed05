package p2p

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/internal/beat"
	"idlewild/p2p/wire"
)

// Pace of the reconnect loop.
const (
	retryFirst  = time.Second
	retryMax    = 30 * time.Second
	retryRecent = 4 * time.Second // the longest for a peer seen within recently: it is to be back within 10 s of a healed cut
	recently    = time.Hour
	dialTime    = 5 * time.Second
	maxDialling = 16 // at one time

	saveEvery = 30 * time.Second

	// replaceAfter tells a new connection from one of two dials that crossed.
	replaceAfter = 10 * time.Second

	maxFailures = 3 // of a candidate: then it must be found again
	// maxDialsFound bounds the dials to those that a DHT named, of whom nobody
	// knows anything: they must not hold up the rest.
	maxDialsFound = maxDialling / 2

	// refusedFirst is the pause after somebody did not let us in, doubled each
	// time, refusedMax the longest.
	refusedFirst = 5 * time.Second
	refusedMax   = 5 * time.Minute
)

// way is how a candidate was found.
type way int

const (
	byMDNS way = iota
	byOpening
	byDHT
)

// maxCandidates bounds the candidates of each way, so that one which brings
// nothing but liars takes no room from the others.
var maxCandidates = map[way]int{byMDNS: 256, byOpening: maxContacts, byDHT: 32}

type candidate struct {
	addrs []ma.Multiaddr
	by    way
}

// keeper keeps this node connected to its farm: to the members it remembers,
// and to peers that discovery found and that may prove to be members.
type keeper struct {
	h     *Host
	wakeC chan struct{}

	mu         sync.Mutex
	dials      map[peer.ID]*dialState
	candidates map[peer.ID]candidate
}

type dialState struct {
	next     time.Time // zero: at once
	failures int
	dialling bool
	met      time.Time // last hello
	silent   int       // pings in a row without an answer
	refused  int       // hellos in a row
	until    time.Time // no dial before, because of them
	trouble  string    // why the last dial failed; empty after one that did not
}

var _ network.Notifiee = (*keeper)(nil)

func newKeeper(h *Host) *keeper {
	return &keeper{h: h, wakeC: make(chan struct{}, 1), dials: map[peer.ID]*dialState{}, candidates: map[peer.ID]candidate{}}
}

func (k *keeper) wake() {
	select {
	case k.wakeC <- struct{}{}:
	default:
	}
}

// found takes in what discovery found.
func (k *keeper) found(p peer.AddrInfo, by way) {
	if p.ID == k.h.ID() || len(p.Addrs) == 0 {
		return
	}
	k.mu.Lock()
	others := 0
	for _, c := range k.candidates {
		if c.by == by {
			others++
		}
	}
	old, ok := k.candidates[p.ID]
	if ok && by == byDHT && old.by != byDHT {
		k.mu.Unlock()
		return // a better one says where it is
	}
	if ok && old.by == by || others < maxCandidates[by] {
		k.candidates[p.ID] = candidate{p.Addrs[:min(len(p.Addrs), wire.MaxAddrs)], by}
	}
	if s, ok := k.dials[p.ID]; ok && !s.dialling {
		s.next, s.failures = time.Time{}, 0 // it shows signs of life
	}
	due := k.dials[p.ID] == nil || time.Now().After(k.dials[p.ID].until)
	k.mu.Unlock()
	if due && k.h.host.Network().Connectedness(p.ID) == network.Connected && !k.h.members.Admitted(p.ID) {
		k.h.goRun(func(ctx context.Context) { k.greet(ctx, p.ID) })
	}
	k.wake()
}

// forget drops what belonged to a farm.
func (k *keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.candidates)
}

// later puts off the first dial to a newcomer: it is about to dial us, and two
// dials that cross can undo each other.
func (k *keeper) later(p peer.ID) {
	k.mu.Lock()
	if _, ok := k.dials[p]; !ok {
		k.stateLocked(p).next = time.Now().Add(retryFirst + rand.N(retryFirst))
	}
	k.mu.Unlock()
	k.wake()
}

// met notes a hello with p.
func (k *keeper) met(p peer.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stateLocked(p)
	s.met, s.silent, s.refused, s.until = time.Now(), 0, 0, time.Time{}
	delete(k.candidates, p) // it is a member, and Membership has its addresses
}

// refusedBy puts off the next dial to a peer that did not let us in, where we
// know of no right to be there: a stranger has none, and neither is there one at
// somebody who was merely found.
func (k *keeper) refusedBy(p peer.ID) {
	if !k.h.members.isStranger() && k.h.members.nameOf(p) != "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stateLocked(p)
	s.refused++
	s.until = time.Now().Add(min(refusedMax, refusedFirst<<min(s.refused-1, 8)))
	if c, ok := k.candidates[p]; ok && c.by == byDHT && s.refused >= maxFailures {
		delete(k.candidates, p)
	}
}

// unanswered counts a ping without an answer.
func (k *keeper) unanswered(p peer.ID) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stateLocked(p)
	s.silent++
	return s.silent
}

// trouble says why p is not reached, or "".
func (k *keeper) trouble(p peer.ID) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.dials[p]; ok {
		return s.trouble
	}
	return ""
}

func (k *keeper) answered(p peer.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stateLocked(p).silent = 0
}

func (k *keeper) stateLocked(p peer.ID) *dialState {
	s, ok := k.dials[p]
	if !ok {
		s = &dialState{}
		k.dials[p] = s
	}
	return s
}

// anew dials whoever is missing at once.
func (k *keeper) anew() {
	k.mu.Lock()
	for _, s := range k.dials {
		if !s.dialling {
			s.next, s.failures, s.refused, s.until = time.Time{}, 0, 0, time.Time{}
		}
	}
	k.mu.Unlock()
	k.wake()
}

// Connected implements network.Notifiee: who dialled says hello.
func (k *keeper) Connected(_ network.Network, c network.Conn) {
	direct := k.h.paths.connected(c, time.Now())
	k.h.goRun(func(ctx context.Context) { k.tidy(ctx, c, direct) })
	if c.Stat().Direction != network.DirOutbound {
		return
	}
	if _, ok := k.h.members.Farm(); !ok {
		return
	}
	p := c.RemotePeer()
	if k.h.seeking() && !k.wanted(p) {
		return // somebody of the DHT, to whom we show nothing
	}
	k.h.goRun(func(ctx context.Context) { k.greet(ctx, p) })
}

// wanted reports whether p may be a member, as far as anybody said.
func (k *keeper) wanted(p peer.ID) bool {
	if k.h.members.nameOf(p) != "" || k.h.bootstrap(p) {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.candidates[p]
	return ok
}

// tidy closes connections that a new one replaces. A peer does not dial while
// it is connected: those from before are dead to it, though we have not noticed.
// A relayed one has done its work when direct is there.
func (k *keeper) tidy(ctx context.Context, c network.Conn, direct bool) {
	opened := c.Stat().Opened
	for _, old := range k.h.host.Network().ConnsToPeer(c.RemotePeer()) {
		if old != c && c.Stat().Direction == network.DirInbound && !relayed(old) && opened.Sub(old.Stat().Opened) > replaceAfter {
			k.h.log.Debug("an old connection is replaced", "peer", c.RemotePeer())
			_ = old.Close()
		}
	}
	if !direct {
		return
	}
	pause := time.NewTimer(settleTime)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return
	case <-pause.C:
	}
	for _, old := range k.h.host.Network().ConnsToPeer(c.RemotePeer()) {
		if relayed(old) && !c.IsClosed() {
			_ = old.Close()
		}
	}
}

// greet says hello, and again if it was lost on the way: without it we do not
// hear of the peer's open offers until gossip repeats them.
func (k *keeper) greet(ctx context.Context, p peer.ID) {
	for try := 1; try <= 3; try++ {
		err := k.h.hello(ctx, p)
		if err == nil {
			return
		}
		k.h.log.Debug("hello failed", "peer", p, "err", err)
		var refused *RefusedError
		if errors.As(err, &refused) {
			k.refusedBy(p)
			k.wake() // to sweep: we may be the one that was revoked
			return
		}
		pause := time.NewTimer(time.Duration(try) * time.Second)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if k.h.host.Network().Connectedness(p) != network.Connected {
			return
		}
	}
}

// Disconnected implements network.Notifiee: the first try comes soon.
func (k *keeper) Disconnected(n network.Network, c network.Conn) {
	p := c.RemotePeer()
	if n.Connectedness(p) == network.Connected {
		return
	}
	k.h.paths.gone(p)
	k.h.reserver.gone(p)
	k.h.skews.gone(p)
	if !k.h.members.Known(p) { // a stranger, or nobody: what it can it says again
		k.h.mu.Lock()
		delete(k.h.abilities, p)
		k.h.mu.Unlock()
		k.h.offers.drop(p) // as well
	}
	k.mu.Lock()
	s := k.stateLocked(p)
	s.failures, s.next = 0, time.Now().Add(100*time.Millisecond+rand.N(400*time.Millisecond))
	k.mu.Unlock()
	k.wake()
}

// Listen implements network.Notifiee.
func (k *keeper) Listen(network.Network, ma.Multiaddr) {}

// ListenClose implements network.Notifiee.
func (k *keeper) ListenClose(network.Network, ma.Multiaddr) {}

// run is the loop. It owns no state of its own but the timers.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	save := time.NewTimer(beat.Until(saveEvery))
	defer save.Stop()
	look := time.NewTimer(beat.Until(pingEngaged))
	defer look.Stop()
	looks := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wakeC:
			k.h.gate.sweep()
			k.h.tendDHT()
		case <-timer.C:
		case <-save.C:
			save.Reset(beat.Until(saveEvery))
			if err := k.h.members.save(false); err != nil {
				k.h.log.Error("members not written", "err", err)
			}
			if _, due := k.h.members.passDue(time.Now()); due {
				k.h.goRun(k.h.workAnew)
			}
			continue
		case <-look.C:
			look.Reset(beat.Until(pingEngaged))
			looks++
			k.h.gate.sweep()
			k.h.tendDHT()
			k.h.pingAll(looks%int(pingEvery/pingEngaged) == 0)
			continue
		}
		timer.Reset(time.Until(k.step(time.Now())))
	}
}

// step starts the dials that are due and returns when the next one is.
func (k *keeper) step(now time.Time) time.Time {
	next := now.Add(retryMax)
	f, ok := k.h.members.Farm()
	if !ok || f.Revoked {
		return next
	}
	net := k.h.host.Network()
	contacts := k.h.members.contacts()
	k.mu.Lock()
	defer k.mu.Unlock()
	guesses := map[peer.ID]bool{} // of whom only a DHT knows
	for p, v := range k.candidates {
		c, known := contacts[p]
		guesses[p] = !known && v.by == byDHT
		c.addrs = append(append([]ma.Multiaddr(nil), v.addrs...), c.addrs...) // what was found last comes first
		contacts[p] = c
	}
	for p, s := range k.dials {
		if _, ok := contacts[p]; !ok && !s.dialling && now.After(s.until) {
			delete(k.dials, p)
		}
	}
	dialling, guessing, connected := 0, 0, 0
	for p := range contacts {
		if net.Connectedness(p) == network.Connected {
			if !guesses[p] {
				connected++
			}
		} else if s, ok := k.dials[p]; ok && s.dialling {
			dialling++
			if guesses[p] {
				guessing++
			}
		}
	}
	for p, c := range contacts {
		s := k.stateLocked(p)
		if s.dialling || len(c.addrs) == 0 && !k.h.cfg.Traverse || net.Connectedness(p) == network.Connected {
			continue
		}
		due := s.next
		if s.until.After(due) {
			due = s.until
		}
		if due.After(now) {
			if due.Before(next) {
				next = due
			}
			continue
		}
		if connected+dialling >= k.h.cfg.MaxPeers || dialling >= maxDialling {
			continue // whoever finishes wakes us
		}
		if guesses[p] {
			if guessing >= maxDialsFound {
				continue
			}
			guessing++
		}
		dialling++
		s.dialling = true
		recent := now.Sub(c.lastSeen) < recently || now.Sub(s.met) < recently
		k.h.goRun(func(ctx context.Context) {
			err := k.dial(ctx, peer.AddrInfo{ID: p, Addrs: c.addrs})
			k.dialled(p, err, recent)
		})
	}
	return next
}

func (k *keeper) dial(ctx context.Context, p peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	p.Addrs = append(p.Addrs[:len(p.Addrs):len(p.Addrs)], k.h.through(p.ID)...)
	k.h.host.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.TempAddrTTL)
	k.h.clearBackoff(p.ID)
	return k.h.host.Connect(ctx, p) // Connected says hello
}

func (k *keeper) dialled(p peer.ID, err error, recent bool) {
	k.mu.Lock()
	s := k.stateLocked(p)
	s.dialling = false
	s.trouble = ""
	if err == nil {
		// Connected, which is not yet met: if it proves to be a stranger the
		// quarantine ends it, and the next try should not follow at once.
		s.next = time.Now().Add(retryFirst)
	} else {
		s.failures++
		s.trouble = cause(err).Error()
		s.next = time.Now().Add(backoff(s.failures, recent))
		if _, ok := k.candidates[p]; ok && s.failures >= maxFailures {
			delete(k.candidates, p)
		}
		k.h.log.Debug("peer not reached", "peer", p, "failures", s.failures, "err", cause(err))
	}
	k.mu.Unlock()
	k.wake()
}

// backoff is the pause after the n-th failure in a row.
func backoff(n int, recent bool) time.Duration {
	limit := retryMax
	if recent {
		limit = retryRecent
	}
	d := limit
	if n < 8 {
		d = min(limit, retryFirst<<(n-1))
	}
	return d*7/10 + rand.N(d*6/10) // +-30 %
}
