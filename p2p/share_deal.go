package p2p

import (
	"container/list"
	"time"

	"github.com/ipfs/go-cid"
)

// How who deals spreads a job's blocks over those who want them.
const (
	// aloneSlack is how many bytes more than a better player one may hold that
	// no other has: who does not pass blocks on gets fewer.
	aloneSlack = 256 << 10
	// playerAsks is how long ago a player may have been looked after to count:
	// one whose line is full is not.
	playerAsks = 3 * dealTick
	// dealPatience is how long a block that was dealt is left to the players to
	// pass on, beside what a good one takes to confirm one, and idlePatience
	// the same for one that a single player has.
	dealPatience = time.Second
	idlePatience = 600 * time.Millisecond
	// maxCards bounds the blocks of a job that are remembered; those that nobody
	// wants now go first.
	maxCards = 1 << 16
)

// deck decides which block goes to which player, so that each leaves once and
// the players pass it on. It is the super-seeding of BitTorrent (BEP 16) with
// blocks in place of pieces and without made-up bitmaps: players tell what they
// got. It touches no clock and no network; its owner guards it.
type deck struct {
	cards   map[cid.Cid]*card
	unused  list.List // of *card that nobody wants now, the longest so in front
	lonely  list.List // of *card that one player alone has, the oldest in front
	players map[*player]struct{}
	fresh   time.Time // when a block was dealt for the first time, last
	doubles int64     // blocks that were dealt again
}

// card is one block.
type card struct {
	id     cid.Cid
	wanted int       // by players now
	dealt  int       // times
	at     time.Time // when it was dealt last, or was confirmed
	owner  *player   // the only one who may have it; nil: none, or several
	size   int64
	got    int           // players that said that they have it
	unused *list.Element // in deck.unused
	lonely *list.Element // in deck.lonely
}

// player is somebody who wants blocks.
type player struct {
	wants  map[uint64]*seat
	of     map[*card]*seat
	order  []*seat // as they were asked for; those behind cursor were looked at
	cursor int
	credit int64 // bytes that it will take
	alone  int64 // bytes that it alone has
	since  time.Time
	asked  time.Time     // when it was looked after last
	lag    time.Duration // between dealing and its confirmation, smoothed
}

// seat is one want of one player.
type seat struct {
	index uint64
	card  *card
	base  cid.Cid   // that the player holds; Undef: none
	sent  time.Time // zero: not yet
	gone  bool      // it has the block, or asked for it no more
}

func newDeck() *deck {
	return &deck{cards: map[cid.Cid]*card{}, players: map[*player]struct{}{}}
}

func (d *deck) join(now time.Time) *player {
	p := &player{wants: map[uint64]*seat{}, of: map[*card]*seat{}, since: now}
	d.players[p] = struct{}{}
	return p
}

// want adds a want. One of a block that the player wants already, or of an index
// that it used, counts for nothing: then there is no seat.
func (d *deck) want(p *player, index uint64, id cid.Cid) *seat {
	c := d.cards[id]
	if c == nil {
		c = &card{id: id}
		d.cards[id] = c
	}
	if p.wants[index] != nil || p.of[c] != nil {
		d.forget(c)
		return nil
	}
	s := &seat{index: index, card: c}
	p.wants[index], p.of[c] = s, s
	p.order = append(p.order, s)
	if c.unused != nil {
		d.unused.Remove(c.unused)
		c.unused = nil
	}
	c.wanted++
	return s
}

// forget puts a card that nobody wants among the unused ones, and drops the
// oldest of those while there are too many.
func (d *deck) forget(c *card) {
	if c.wanted > 0 || c.unused != nil {
		return
	}
	c.unused = d.unused.PushBack(c)
	for len(d.cards) > maxCards && d.unused.Len() > 0 {
		old := d.unused.Remove(d.unused.Front()).(*card)
		old.unused = nil
		d.disown(old)
		delete(d.cards, old.id)
	}
}

// drop ends a want.
func (d *deck) drop(p *player, s *seat) {
	if s.gone {
		return
	}
	s.gone = true
	delete(p.wants, s.index)
	delete(p.of, s.card)
	s.card.wanted--
	d.forget(s.card)
}

// got notes that p has the block of a want, wherever it came from.
func (d *deck) got(now time.Time, p *player, index uint64) {
	s := p.wants[index]
	if s == nil {
		return
	}
	c := s.card
	c.got++
	if !s.sent.IsZero() {
		lag := now.Sub(s.sent)
		if p.lag == 0 {
			p.lag = lag
		}
		p.lag += (lag - p.lag) / 8
		c.at = now
	}
	if c.owner != nil && c.owner != p {
		d.disown(c) // it spreads
	}
	d.drop(p, s)
}

func (d *deck) disown(c *card) {
	if c.owner != nil {
		c.owner.alone -= c.size
		c.owner = nil
	}
	if c.lonely != nil {
		d.lonely.Remove(c.lonely)
		c.lonely = nil
	}
}

func (d *deck) own(c *card, p *player) {
	d.disown(c)
	c.owner, c.lonely = p, d.lonely.PushBack(c)
	p.alone += c.size
}

// leave takes a player out. What only it had is dealt anew, unless it left in
// order: then it has all it wanted, and goes on to serve it.
func (d *deck) leave(p *player, inOrder bool) {
	delete(d.players, p)
	for e := d.lonely.Front(); e != nil; {
		c := e.Value.(*card)
		e = e.Next()
		if c.owner == p {
			d.disown(c)
			if !inOrder {
				c.dealt, c.got = 0, 0
			}
		}
	}
	for _, s := range p.order {
		d.drop(p, s)
	}
	if !inOrder {
		for q := range d.players {
			q.cursor = 0 // what became fresh again may lie before it
		}
	}
}

// lag is what a good player takes to confirm a block.
func (d *deck) lag() time.Duration {
	var least time.Duration
	for p := range d.players {
		if p.lag > 0 && (least == 0 || p.lag < least) {
			least = p.lag
		}
	}
	return least
}

// next is what p should be sent now; nil: nothing yet.
func (d *deck) next(now time.Time, p *player) *seat {
	p.asked = now
	if p.credit <= 0 {
		return nil
	}
	s := d.freshFor(p)
	if s != nil {
		if d.better(now, p) {
			return nil
		}
		return s
	}
	lag := d.lag()
	wait := dealPatience + lag
	// What one player has had for long and nobody else got goes to the next.
	looked := 0
	for e := d.lonely.Front(); e != nil && looked < 64; e, looked = e.Next(), looked+1 {
		c := e.Value.(*card)
		if now.Sub(c.at) < idlePatience+lag {
			break
		}
		if s := p.of[c]; s != nil && c.owner != p && s.sent.IsZero() && !d.better(now, p) {
			return s
		}
	}
	if now.Sub(d.fresh) < wait || now.Sub(p.since) < wait {
		return nil
	}
	// The end: what the others should have brought by now, the rarest first.
	var best *seat
	for _, s := range p.wants {
		if !s.sent.IsZero() && now.Sub(s.sent) < 4*wait || now.Sub(s.card.at) < wait {
			continue
		}
		if best == nil || s.card.got < best.card.got || s.card.got == best.card.got && s.index < best.index {
			best = s
		}
	}
	return best
}

// freshFor is the first of p's wants that nobody was sent yet.
func (d *deck) freshFor(p *player) *seat {
	for p.cursor < len(p.order) {
		if s := p.order[p.cursor]; !s.gone && s.card.dealt == 0 {
			return s
		}
		p.cursor++
	}
	return nil
}

// better reports whether another player should rather have the next block.
func (d *deck) better(now time.Time, p *player) bool {
	for q := range d.players {
		if q != p && q.alone+aloneSlack < p.alone && q.credit > 0 && now.Sub(q.asked) < playerAsks && d.freshFor(q) != nil {
			return true
		}
	}
	return false
}

// deal notes that what next returned is on its way, with so many bytes.
func (d *deck) deal(now time.Time, p *player, s *seat, size int) {
	c := s.card
	lonely := c.dealt == 0 || c.owner != nil
	d.disown(c)
	c.size = int64(size)
	if c.dealt == 0 {
		d.fresh = now
	} else {
		d.doubles++
	}
	if lonely {
		d.own(c, p)
	}
	c.dealt++
	c.at, s.sent = now, now
	p.credit -= int64(size)
}
