package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func framedShare(t testing.TB, m *wire.Share) []byte {
	t.Helper()
	b, err := wire.Append(nil, m, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantsFor(n int, from int) []*wire.Want {
	out := make([]*wire.Want, n)
	for i := range out {
		id := func(n int) []byte { return block(binary.AppendUvarint(nil, uint64(n))).Bytes() }
		out[i] = &wire.Want{Index: uint64(from + i), Cid: id(from + i)}
		for k := range wire.MaxBases {
			out[i].Bases = append(out[i].Bases, id(1<<30+wire.MaxBases*(from+i)+k))
		}
	}
	return out
}

func TestHostileShares(t *testing.T) {
	t.Parallel()
	farm, _ := sharers(t, 2, []byte("x"))
	scope := &wire.Scope{Job: string(job.NewID(time.Now())), Requester: []byte(farm[0].ID())}
	other := &wire.Scope{Job: scope.Job, Requester: []byte(farm[1].ID())} // so that the answerer does not deal
	flood := framedShare(t, &wire.Share{Scope: other, Wants: wantsFor(1, 0), Pull: make([]uint64, maxPulls+1)})
	var table []byte
	for i := range MaxGather/wire.MaxWantsPerAsk + 1 {
		m := &wire.Share{Wants: wantsFor(wire.MaxWantsPerAsk, i*wire.MaxWantsPerAsk)}
		if i == 0 {
			m.Scope = scope
		}
		table = append(table, framedShare(t, m)...)
	}
	good := framedShare(t, &wire.Share{Scope: scope, Wants: wantsFor(1, 0)})
	for name, b := range map[string][]byte{
		"no scope":          framedShare(t, &wire.Share{Wants: wantsFor(1, 0)}),
		"no wants":          framedShare(t, &wire.Share{Scope: scope}),
		"bad cid":           framedShare(t, &wire.Share{Scope: scope, Wants: []*wire.Want{{Cid: []byte("no")}}}),
		"too many in one":   framedShare(t, &wire.Share{Scope: scope, Wants: wantsFor(wire.MaxWantsPerAsk+1, 0)}),
		"too many in all":   table,
		"too many pulls":    flood,
		"too long":          binary.AppendUvarint(nil, wire.MaxShare+1),
		"no protobuf":       {2, 0xff, 0xff},
		"later no protobuf": append(bytes.Clone(good), 2, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			before := farm[0].Stats()
			s, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolShare))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			s.Write(b)
			eventually(t, within, "noticed", func() bool {
				x := &farm[0].shares
				x.mu.Lock()
				defer x.mu.Unlock()
				return x.total == 0 && (farm[0].Stats().Malformed > before.Malformed || name == "later no protobuf")
			})
		})
	}
}

// One peer has few streams; others are served all the while.
func TestShareStreamsAreFew(t *testing.T) {
	t.Parallel()
	all := manyBlocks(100, 1000)
	farm, stores := sharers(t, 3, all...)
	for range 3 * maxSharesPerPeer {
		s, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolShare))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		s.Write([]byte{200}) // half of a length, and no more
	}
	eventually(t, within, "streams over the limit are refused", func() bool {
		return farm[0].Stats().Refused >= 2*maxSharesPerPeer
	})
	got, err := gatherAll(t.Context(), farm[2], stores[2], ShareRequest{BlockRequest: request(farm[0].ID(), all...)})
	if err != nil || len(got) != len(all) {
		t.Errorf("an honest peer got %d blocks: %v", len(got), err)
	}
}

// A slow-loris, who says nothing on its stream, loses it.
func TestSilentAskersAreCutOff(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	farm[0].ServeBlocks(newMemory([]byte("x")), allowAll, nil, nil)
	farm[0].blocks.patience = 100 * time.Millisecond
	s, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolShare))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.Write([]byte{200})
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("it was answered")
	}
	eventually(t, within, "the stream is given back", func() bool {
		x := &farm[0].shares
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.total == 0
	})
}

// liar answers a gathering as f says, in place of a member's own handler.
func liar(t *testing.T, h *Host, f func(w *bufio.Writer, first *wire.Share, next func() (*wire.Share, error))) {
	t.Helper()
	h.host.SetStreamHandler(idOf(ProtocolShare), func(s network.Stream) {
		defer s.Reset()
		r := bufio.NewReader(s)
		next := func() (*wire.Share, error) {
			var m wire.Share
			_, err := wire.Read(r, &m, wire.MaxShare)
			return &m, err
		}
		first, err := next()
		if err != nil {
			return
		}
		w := bufio.NewWriter(s)
		f(w, first, next)
		w.Flush()
	})
}

// say writes a head and payloads.
func say(w *bufio.Writer, head *wire.Answers, payloads ...[]byte) {
	b, err := wire.Append(nil, head, 1<<20)
	if err != nil {
		return
	}
	w.Write(b)
	for _, p := range payloads {
		w.Write(p)
	}
	w.Flush()
}

// Whatever one holder does, the blocks come from the others, right.
func TestGatherBesideLiars(t *testing.T) {
	t.Parallel()
	all := manyBlocks(120, 2000)
	farm, _ := sharers(t, 3, all...)
	haves := make([]uint64, len(all))
	for i := range haves {
		haves[i] = uint64(i)
	}
	for name, f := range map[string]func(w *bufio.Writer, first *wire.Share, next func() (*wire.Share, error)){
		"has what it has not": func(w *bufio.Writer, _ *wire.Share, next func() (*wire.Share, error)) {
			say(w, &wire.Answers{Have: haves})
			for m, err := next(); err == nil; m, err = next() {
				for _, i := range m.Pull {
					say(w, &wire.Answers{Answers: []*wire.Answer{{Index: i, Encoding: wire.Answer_NOT_FOUND}}})
				}
			}
		},
		"sends other bytes": func(w *bufio.Writer, _ *wire.Share, next func() (*wire.Share, error)) {
			say(w, &wire.Answers{Have: haves})
			for m, err := next(); err == nil; m, err = next() {
				for _, i := range m.Pull {
					say(w, &wire.Answers{Answers: []*wire.Answer{{Index: i, Size: 3, BlockSize: 3}}}, []byte("abc"))
				}
			}
		},
		"answers nothing": func(w *bufio.Writer, _ *wire.Share, next func() (*wire.Share, error)) {
			say(w, &wire.Answers{Have: haves})
			for _, err := next(); err == nil; _, err = next() {
			}
		},
		"floods": func(w *bufio.Writer, first *wire.Share, _ func() (*wire.Share, error)) {
			for range 2 * maxUnasked {
				say(w, &wire.Answers{Answers: []*wire.Answer{{Index: 0, Size: 3, BlockSize: 3}}}, []byte("abc"))
			}
		},
		"has want 9999": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) {
			say(w, &wire.Answers{Have: []uint64{9999}})
		},
		"answers want 999": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) {
			say(w, &wire.Answers{Answers: []*wire.Answer{{Index: 999}}})
		},
		"huge": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) {
			say(w, &wire.Answers{Answers: []*wire.Answer{{Size: 1 << 31}}})
		},
		"too many haves": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) {
			say(w, &wire.Answers{Have: make([]uint64, wire.MaxHavesPer+1)})
		},
		"much padding": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) {
			say(w, &wire.Answers{Padding: 1 << 30})
		},
		"names peers": func(w *bufio.Writer, _ *wire.Share, next func() (*wire.Share, error)) {
			say(w, &wire.Answers{Peers: [][]byte{[]byte("nobody"), {1}}, Deals: true})
			next()
		},
		"no protobuf": func(w *bufio.Writer, _ *wire.Share, _ func() (*wire.Share, error)) { w.Write([]byte{2, 0xff, 0xff}) },
	} {
		t.Run(name, func(t *testing.T) {
			liar(t, farm[1], f)
			stores := []*memory{nil, newMemory(), newMemory()}
			farm[2].ServeBlocks(stores[2], allowAll, nil, nil)
			// It takes part, so the source names it.
			req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = gatherAll(ctx, farm[1], stores[1], req)
			}()
			defer func() { cancel(); <-ended }()
			got, err := gatherAll(t.Context(), farm[2], stores[2], req)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range all {
				if r := got[block(b)]; r.Err != nil || !bytes.Equal(r.Data, b) {
					t.Fatalf("block: %v", r.Err)
				}
			}
		})
	}
}

// A member without a right to the job learns nothing: neither blocks, nor what
// is here, nor who else takes part.
func TestShareTellsNothingWithoutAGrant(t *testing.T) {
	t.Parallel()
	all := manyBlocks(100, 1000)
	farm, _ := sharers(t, 3, all...)
	mine := grantsFunc(func(p, _ peer.ID, _ job.ID, grant job.Signed, _ cid.Cid) bool {
		return p == farm[1].ID() && string(grant.Body) == "for the first"
	})
	req := request(farm[0].ID(), all...)
	req.Grant = job.Signed{Body: []byte("for the first"), Sig: []byte("s")}
	for _, h := range farm {
		src := newMemory()
		if h == farm[0] {
			src = newMemory(all...)
		}
		h.ServeBlocks(src, mine, nil, nil)
	}
	if _, err := gatherAll(t.Context(), farm[1], nil, ShareRequest{BlockRequest: req}); err != nil {
		t.Fatal(err)
	}
	for name, grant := range map[string]job.Signed{"replayed": req.Grant, "forged": {Body: []byte("for the second"), Sig: []byte("s")}, "none": {}} {
		for _, at := range farm[:2] {
			s, err := farm[2].host.NewStream(t.Context(), at.ID(), idOf(ProtocolShare))
			if err != nil {
				t.Fatal(err)
			}
			var wants []*wire.Want
			for i, b := range all {
				wants = append(wants, &wire.Want{Index: uint64(i), Cid: block(b).Bytes()})
			}
			s.Write(framedShare(t, &wire.Share{
				Scope: &wire.Scope{Job: string(req.Job), Requester: []byte(req.Requester), Grant: wire.FromSigned(grant)}, Wants: wants, Credit: 1 << 30,
			}))
			r := bufio.NewReader(s)
			var a wire.Answers
			if _, err := wire.Read(r, &a, wire.MaxAnswers); err != nil {
				t.Fatal(err)
			}
			if len(a.Answers) != 1 || a.Answers[0].Encoding != wire.Answer_REFUSED || len(a.Have)+len(a.Peers) > 0 || a.Deals {
				t.Errorf("%s: told %v", name, &a)
			}
			if _, err := wire.Read(r, &a, wire.MaxAnswers); err == nil {
				t.Errorf("%s: more was told", name)
			}
			s.Reset()
		}
	}
}

// The memory that peers can make a host spend is bounded: all the streams that
// it serves, each with as many wants as it may have, stay under the figure that
// is written beside the bounds.
func TestShareMemoryIsBounded(t *testing.T) {
	const part = 4 // a fourth of the streams is enough to see what one takes
	const peers = maxShares / maxSharesPerPeer / part
	farm, _ := sharers(t, 1, []byte("x"))
	b := farm[0].blocks
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var kept []*asker
	for i := range peers * maxSharesPerPeer {
		sh := farm[0].shares.get(shareKey{farm[0].ID(), job.NewID(time.Now())}, true)
		a := &asker{wake: make(chan struct{}, 1), missed: map[cid.Cid]uint64{}, seen: map[uint64]based{}, player: sh.deck.join(time.Now())}
		sh.askers[a] = true
		sh.mu.Unlock()
		for at := 0; at < MaxGather; at += wire.MaxWantsPerAsk {
			m := &wire.Share{Wants: wantsFor(wire.MaxWantsPerAsk, i*MaxGather+at)}
			if err := b.takeShare(t.Context(), m, sh, a); err != nil {
				t.Fatal(err)
			}
		}
		kept = append(kept, a)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const bound = 256 << 20 / part
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d streams of %d wants take %d MiB", len(kept), MaxGather, grown>>20)
	if grown > bound {
		t.Errorf("%d streams take %d bytes, at most %d were meant", len(kept), grown, bound)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				data := make([]byte, 100<<10)
				farm[0].shares.recent.put(block(fmt.Appendf(nil, "%d", i)), data)
			}
		})
	}
	wg.Wait()
	if r := &farm[0].shares.recent; r.bytes > recentBytes || r.order.Len() != len(r.byID) {
		t.Errorf("%d bytes of recent blocks are kept", r.bytes)
	}
	runtime.KeepAlive(kept)
}

// A metered machine serves its own jobs, and passes nothing on.
func TestMeteredHostsPassNothingOn(t *testing.T) {
	t.Parallel()
	all := manyBlocks(100, 1000)
	farm, stores := sharers(t, 3, all...)
	farm[0].SetMetered(true)
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	if _, err := gatherAll(t.Context(), farm[1], stores[1], req); err != nil {
		t.Fatal(err)
	}
	if _, err := fetchAll(t.Context(), farm[2], farm[1].ID(), req.BlockRequest); err != nil {
		t.Fatalf("a worker did not pass it on: %v", err)
	}
	farm[1].SetMetered(true)
	if _, err := fetchAll(t.Context(), farm[2], farm[1].ID(), req.BlockRequest); err == nil {
		t.Error("a metered worker passed it on")
	}
}

// What was gathered before a cut is not asked for again, and the rest comes
// after it.
func TestGatherGoesOnAfterACut(t *testing.T) {
	t.Parallel()
	all := manyBlocks(300, 20_000)
	farm, stores := sharers(t, 2, all...)
	farm[0].up = newThrottle(4 << 20)
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	n := 0
	for r, err := range farm[1].Gather(t.Context(), req) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		stores[1].put(r.ID, r.Data)
		if n++; n == 50 || n == 150 {
			farm[1].host.Network().ClosePeer(farm[0].ID())
		}
	}
	if n != len(all) {
		t.Errorf("%d blocks came", n)
	}
	var size int64
	for _, b := range all {
		size += int64(len(b))
	}
	// What was under way when the link was cut is lost; nothing else is.
	if out := farm[0].Stats().BlockBytesOut; out > size+size/2+2*windowFirst {
		t.Errorf("%d bytes left for a content of %d", out, size)
	}
	if errors.Is(t.Context().Err(), nil) && len(stores[1].blocks) != len(all) {
		t.Error("blocks are missing")
	}
}
