package p2p

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// table is a deck with players that all want the same blocks.
func table(players, blocks int) (*deck, []*player, time.Time) {
	d, now := newDeck(), time.Unix(1e9, 0)
	var all []*player
	for range players {
		p := d.join(now)
		p.credit = 1 << 40
		for i := range blocks {
			d.want(p, uint64(i), block(fmt.Appendf(nil, "block %d", i)))
		}
		all = append(all, p)
	}
	return d, all, now
}

func TestEachBlockIsDealtOnce(t *testing.T) {
	d, players, now := table(4, 100)
	dealt := map[uint64]int{}
	for i := 0; len(dealt) < 100 && i < 10_000; i++ {
		p := players[i%4]
		if s := d.next(now, p); s != nil {
			d.deal(now, p, s, 1000)
			dealt[s.index]++
			d.got(now, p, s.index)
			for _, q := range players { // the others get it from p
				if q != p {
					d.got(now, q, s.index)
				}
			}
		}
		now = now.Add(time.Millisecond)
	}
	if len(dealt) != 100 || d.doubles != 0 {
		t.Errorf("%d blocks were dealt, %d once more", len(dealt), d.doubles)
	}
}

// Who passes nothing on gets no more than a little beyond the others.
func TestWhoPassesNothingOnGetsLess(t *testing.T) {
	d, players, now := table(2, 1000)
	good, bad := players[0], players[1]
	counts := map[*player]int{}
	for range 1000 {
		for _, p := range players {
			if s := d.next(now, p); s != nil {
				d.deal(now, p, s, 64<<10)
				counts[p]++
				if p == good {
					d.got(now, bad, s.index)
				}
			}
		}
		now = now.Add(10 * time.Millisecond)
	}
	if counts[bad] > 10 || counts[good] < 900 {
		t.Errorf("the good one got %d, the other %d", counts[good], counts[bad])
	}
}

// What a player took away comes back: at once when it is cut off, after a while
// when it is silent.
func TestBlocksOfWhoVanishesAreDealtAgain(t *testing.T) {
	for _, cut := range []bool{true, false} {
		d, players, now := table(2, 20)
		stays, gone := players[0], players[1]
		for range 10 {
			s := d.next(now, gone)
			d.deal(now, gone, s, 1000)
		}
		if cut {
			d.leave(gone, false)
		}
		got := map[uint64]bool{}
		for i := 0; len(got) < 20 && i < 1000; i++ {
			if s := d.next(now, stays); s != nil {
				d.deal(now, stays, s, 1000)
				d.got(now, stays, s.index)
				got[s.index] = true
			} else if cut {
				t.Fatal("nothing is dealt although a player was cut off")
			}
			now = now.Add(100 * time.Millisecond)
		}
		if len(got) != 20 {
			t.Errorf("cut %v: %d blocks came", cut, len(got))
		}
	}
}

// A deck forgets blocks that nobody wants rather than grow.
func TestDeckIsBounded(t *testing.T) {
	d, now := newDeck(), time.Unix(1e9, 0)
	for round := range 10 {
		p := d.join(now)
		p.credit = 1 << 40
		for i := range MaxGather {
			d.want(p, uint64(i), block(fmt.Appendf(nil, "%d %d", round, i)))
		}
		for range 100 {
			d.deal(now, p, d.next(now, p), 10)
		}
		d.leave(p, round%2 == 0)
	}
	if len(d.cards) > maxCards || d.unused.Len() > maxCards || d.lonely.Len() > maxCards || len(d.players) != 0 {
		t.Errorf("%d cards, %d unused, %d lonely, %d players", len(d.cards), d.unused.Len(), d.lonely.Len(), len(d.players))
	}
}

// Whatever players say, the accounts stay in order and nobody is sent what it
// does not want.
func TestDeckOfLiars(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		d, now := newDeck(), time.Unix(1e9, 0)
		var players []*player
		for range 3000 {
			now = now.Add(time.Duration(r.IntN(200)) * time.Millisecond)
			if len(players) == 0 || r.IntN(50) == 0 {
				players = append(players, d.join(now))
			}
			k := r.IntN(len(players))
			p := players[k]
			switch r.IntN(6) {
			case 0:
				d.want(p, uint64(r.IntN(100)), block(fmt.Appendf(nil, "%d", r.IntN(60))))
			case 1:
				d.got(now, p, uint64(r.IntN(100)))
			case 2:
				p.credit += int64(r.IntN(5000))
			case 3:
				if r.IntN(20) == 0 {
					d.leave(p, r.IntN(2) == 0)
					players = append(players[:k], players[k+1:]...)
				}
			default:
				if s := d.next(now, p); s != nil {
					if s.gone || p.wants[s.index] != s {
						t.Fatal("what is not wanted was dealt")
					}
					d.deal(now, p, s, r.IntN(2000))
				}
			}
		}
		alone := map[*player]int64{}
		for e := d.lonely.Front(); e != nil; e = e.Next() {
			c := e.Value.(*card)
			if c.owner == nil || c.lonely != e {
				t.Fatal("a lonely card has no owner")
			}
			alone[c.owner] += c.size
		}
		for p := range d.players {
			if p.alone != alone[p] {
				t.Fatalf("a player has %d bytes alone, its cards %d", p.alone, alone[p])
			}
		}
		for _, c := range d.cards {
			n := 0
			for p := range d.players {
				if p.of[c] != nil {
					n++
				}
			}
			if n != c.wanted {
				t.Fatalf("%d want a block, %d are counted", n, c.wanted)
			}
		}
	}
}
