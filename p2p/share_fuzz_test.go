package p2p

import (
	"bufio"
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// FuzzShare hands what an asker might send to the part that takes it in.
func FuzzShare(f *testing.F) {
	farm := newFarm(f, 1)
	farm[0].ServeBlocks(newMemory([]byte("x")), allowAll, nil, nil)
	scope := &wire.Scope{Job: string(job.NewID(time.Now())), Requester: []byte(farm[0].ID())}
	f.Add(framedShare(f, &wire.Share{Scope: scope, Wants: wantsFor(3, 0), Credit: 1 << 40}), true)
	f.Add(framedShare(f, &wire.Share{Wants: wantsFor(3, 0), Pull: []uint64{0, 1, 7}, Got: []uint64{2, 9}}), false)
	f.Add([]byte{2, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, deals bool) {
		server := farm[0].blocks
		sh := &share{askers: map[*asker]bool{}}
		a := &asker{wake: make(chan struct{}, 1), missed: map[cid.Cid]uint64{}, seen: map[uint64]based{}}
		sh.askers[a] = true
		if deals {
			sh.deck = newDeck()
			a.player = sh.deck.join(time.Now())
		}
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			var m wire.Share
			if _, err := wire.Read(r, &m, wire.MaxShare); err != nil {
				return
			}
			_, _ = readScope(farm[0].ID(), m.GetScope())
			if err := server.takeShare(t.Context(), &m, sh, a); err != nil {
				return
			}
			l, _ := sh.pick(time.Now(), a)
			if len(l.wants) > maxLoad || a.wants > MaxGather || len(a.pulls) > maxPulls {
				t.Fatal("over the bounds")
			}
			sh.settle(a, server.encode(t.Context(), scopeOf(farm[0]), l.wants))
		}
	})
}

func scopeOf(h *Host) scope { return scope{reader: h.ID(), requester: h.ID()} }

// FuzzAnswers hands what a holder might send to the part that reads it.
func FuzzAnswers(f *testing.F) {
	farm := newFarm(f, 1)
	blocks := manyBlocks(4, 100)
	add := func(head *wire.Answers, payload []byte) {
		b, err := wire.Append(nil, head, 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, payload...))
	}
	add(&wire.Answers{Answers: []*wire.Answer{{Size: 100, BlockSize: 100}}}, blocks[0])
	add(&wire.Answers{Have: []uint64{0, 1, 2, 3}, Deals: true, Peers: [][]byte{[]byte(farm[0].ID())}, Padding: 3}, []byte("..."))
	add(&wire.Answers{Answers: []*wire.Answer{{Index: 1, Encoding: wire.Answer_ZSTD, Size: 5, BlockSize: 1 << 20}}}, []byte("12345"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := farm[0].newGather(t.Context(), ShareRequest{BlockRequest: request(farm[0].ID(), blocks...)})
		defer g.end()
		defer g.cancel(nil)
		h := &holder{g: g, peer: farm[0].ID(), wake: make(chan struct{}, 1), has: make([]bool, len(g.wants))}
		r := bufio.NewReader(bytes.NewReader(b))
		var head wire.Answers
		if _, err := wire.Read(r, &head, wire.MaxAnswers); err != nil {
			return
		}
		if len(head.Answers) > cap(g.raws) || h.heed(&head) != nil {
			return
		}
		for i, a := range head.Answers {
			if h.take(t.Context(), r, a, paddingOf(&head, i)) != nil {
				return
			}
			select {
			case v := <-g.raws:
				g.settle(v)
			default:
			}
		}
		for g.owed < len(blocks) && len(g.results) > 0 {
			r := <-g.results
			if r.Err == nil && !slices.ContainsFunc(blocks, func(b []byte) bool { return r.ID == block(b) && bytes.Equal(r.Data, b) }) {
				t.Fatal("a block that nobody has was handed on")
			}
		}
	})
}
