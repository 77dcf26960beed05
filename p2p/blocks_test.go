package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func request(requester peer.ID, blocks ...[]byte) BlockRequest {
	r := BlockRequest{Requester: requester, Job: job.NewID(time.Now())}
	for _, b := range blocks {
		r.Wants = append(r.Wants, BlockWant{ID: block(b)})
	}
	return r
}

// fetchAll runs a fetch to its end.
func fetchAll(ctx context.Context, h *Host, from peer.ID, r BlockRequest) (map[cid.Cid]BlockResult, error) {
	out := map[cid.Cid]BlockResult{}
	for res, err := range h.FetchFrom(ctx, from, r) {
		if err != nil {
			return out, err
		}
		out[res.ID] = res
	}
	return out, nil
}

func TestFetchManyBlocks(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	var all [][]byte
	for i := range 400 {
		n := int(rand.New(rand.NewPCG(uint64(i), 2)).IntN(60 << 10))
		switch {
		case i == 0:
			n = wire.MaxBlock
		case i%3 == 0:
			all = append(all, bytes.Repeat(fmt.Appendf(nil, "block %d ", i), n/8+1))
			continue
		}
		all = append(all, noise(uint64(i), n))
	}
	var served atomic.Int64
	var servedJob atomic.Value
	farm[0].ServeBlocks(newMemory(all...), allowAll, nil, func(id job.ID, n int) { served.Add(int64(n)); servedJob.Store(id) })
	req := request(farm[0].ID(), all...)
	got, err := fetchAll(t.Context(), farm[1], farm[0].ID(), req)
	if err != nil {
		t.Fatal(err)
	}
	var moved, plain int64
	for _, b := range all {
		r := got[block(b)]
		if r.Err != nil || !bytes.Equal(r.Data, b) {
			t.Fatalf("block of %d bytes: %v", len(b), r.Err)
		}
		moved += r.Moved
		plain += int64(len(b))
	}
	if moved >= plain*9/10 {
		t.Errorf("%d bytes moved for %d: text was not compressed", moved, plain)
	}
	if s := farm[0].Stats(); served.Load() != s.BlockBytesOut || servedJob.Load() != req.Job {
		t.Errorf("served %d of %v, out %d", served.Load(), servedJob.Load(), s.BlockBytesOut)
	}
	if in := farm[1].Stats().BlockBytesIn; in != farm[0].Stats().BlockBytesOut || in > moved {
		t.Errorf("%d came in, %d went out, %d were counted", in, farm[0].Stats().BlockBytesOut, moved)
	}
}

func TestGrantsAreAskedForEachBlock(t *testing.T) {
	farm := newFarm(t, 2)
	a, b, c := noise(1, 100), noise(2, 100), noise(3, 100)
	req := request(farm[0].ID(), a, b, c)
	req.Grant = job.Signed{Body: []byte("grant"), Sig: []byte("sig")}
	farm[0].ServeBlocks(newMemory(a, b), grantsFunc(func(p, requester peer.ID, id job.ID, grant job.Signed, x cid.Cid) bool {
		return p == farm[1].ID() && requester == farm[0].ID() && id == req.Job && string(grant.Body) == "grant" && !x.Equals(block(b))
	}), nil, nil)
	got, err := fetchAll(t.Context(), farm[1], farm[0].ID(), req)
	if err != nil {
		t.Fatal(err)
	}
	if r := got[block(a)]; r.Err != nil {
		t.Error(r.Err)
	}
	if r := got[block(b)]; !errors.Is(r.Err, ErrBlockRefused) {
		t.Errorf("refused block: %v", r.Err)
	}
	if r := got[block(c)]; !errors.Is(r.Err, ErrBlockNotFound) {
		t.Errorf("missing block: %v", r.Err)
	}
}

// suffixCodec knows blocks that continue their base.
type suffixCodec struct{}

func (suffixCodec) Encode(base, block []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(block, base)
	return rest, ok
}

func (suffixCodec) Decode(base, delta []byte, max int) ([]byte, error) {
	if len(base)+len(delta) > max {
		return nil, errors.New("too large")
	}
	return append(bytes.Clone(base), delta...), nil
}

func TestDeltas(t *testing.T) {
	farm := newFarm(t, 2)
	base, other := noise(1, 100_000), noise(2, 1000)
	want := append(bytes.Clone(base), noise(3, 500)...)
	farm[0].ServeBlocks(newMemory(base, want, other), allowAll, suffixCodec{}, nil)
	farm[1].ServeBlocks(newMemory(base, other), allowAll, suffixCodec{}, nil)
	req := request(farm[0].ID(), want)
	absent := block([]byte("absent"))
	req.Wants[0].Bases = []cid.Cid{absent, block(other), block(base)}
	got, err := fetchAll(t.Context(), farm[1], farm[0].ID(), req)
	if err != nil {
		t.Fatal(err)
	}
	r := got[block(want)]
	if r.Err != nil || !bytes.Equal(r.Data, want) {
		t.Fatal(r.Err)
	}
	if r.Moved > 1000 {
		t.Errorf("%d bytes moved for a delta of 500", r.Moved)
	}
	// Without the base it comes whole.
	farm[1].ServeBlocks(newMemory(), allowAll, suffixCodec{}, nil)
	got, err = fetchAll(t.Context(), farm[1], farm[0].ID(), req)
	if err != nil || got[block(want)].Err != nil || got[block(want)].Moved < 100_000 {
		t.Errorf("%v, %+v", err, got[block(want)].Moved)
	}
}

func TestFetchEndsWhenAskedTo(t *testing.T) {
	farm := newFarm(t, 2)
	var all [][]byte
	for i := range 300 {
		all = append(all, noise(uint64(i), 50_000))
	}
	farm[0].ServeBlocks(newMemory(all...), allowAll, nil, nil)
	req := request(farm[0].ID(), all...)
	n := 0
	for _, err := range farm[1].FetchFrom(t.Context(), farm[0].ID(), req) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := errors.New("stopped")
	var last error
	for _, err := range farm[1].FetchFrom(ctx, farm[0].ID(), req) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled: %v", last)
	}
	cctx, ccancel := context.WithCancelCause(t.Context())
	defer ccancel(nil)
	for _, err := range farm[1].FetchFrom(cctx, farm[0].ID(), req) {
		last = err
		ccancel(stopped)
	}
	if !errors.Is(last, stopped) {
		t.Errorf("the cause is lost: %v", last)
	}
	eventually(t, within, "streams are given back", func() bool {
		b := farm[0].blocks
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.open) == 0
	})
}

func TestFetchFromStrangersAndNobody(t *testing.T) {
	farm, other := newFarm(t, 2), newFarm(t, 1)[0]
	other.ServeBlocks(newMemory([]byte("x")), allowAll, nil, nil)
	if _, err := fetchAll(t.Context(), farm[0], other.ID(), request(farm[0].ID(), []byte("x"))); !errors.Is(err, ErrNotMember) {
		t.Errorf("from a stranger: %v", err)
	}
	if _, err := fetchAll(t.Context(), farm[0], farm[1].ID(), request(farm[0].ID(), []byte("x"))); err == nil {
		t.Error("from a member that serves nothing: no error")
	}
}

// hostileServer answers a fetch as f says.
func hostileServer(t *testing.T, h *Host, f func(w *bufio.Writer, ask *wire.Ask)) {
	t.Helper()
	h.host.SetStreamHandler(idOf(ProtocolBlocks), func(s network.Stream) {
		defer s.Close()
		var ask wire.Ask
		if _, err := wire.Read(bufio.NewReader(s), &ask, wire.MaxAsk); err != nil {
			return
		}
		w := bufio.NewWriter(s)
		f(w, &ask)
		w.Flush()
	})
}

func TestBlocksThatDoNotMatch(t *testing.T) {
	farm := newFarm(t, 2)
	want := noise(1, 1000)
	head := func(a ...*wire.Answer) []byte {
		b, err := wire.Append(nil, &wire.Answers{Answers: a}, wire.MaxAnswers)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := enc.EncodeAll(make([]byte, 64<<20), nil)
	for name, c := range map[string]struct {
		bytes []byte
		block bool // the trouble is one block's
	}{
		"other bytes":      {append(head(&wire.Answer{Size: 1000}), noise(2, 1000)...), true},
		"nothing":          {head(&wire.Answer{Size: 0}), true},
		"not zstd":         {append(head(&wire.Answer{Encoding: wire.Answer_ZSTD, Size: 9, BlockSize: 1000}), "not zstd!"...), true},
		"zstd bomb":        {append(head(&wire.Answer{Encoding: wire.Answer_ZSTD, Size: uint32(len(bomb)), BlockSize: 1000}), bomb...), true},
		"delta of nothing": {append(head(&wire.Answer{Encoding: wire.Answer_DELTA, Size: 1, Base: 3}), 'x'), true},
		"new encoding":     {head(&wire.Answer{Encoding: 77}), true},
		"payload too long": {head(&wire.Answer{Size: 1 << 31}), false},
		"block too long":   {head(&wire.Answer{Size: 10, BlockSize: 1 << 30}), false},
		"unknown want":     {head(&wire.Answer{Index: 5}), false},
		"answer twice":     {append(append(head(&wire.Answer{Size: 1000}), want...), append(head(&wire.Answer{Size: 1000}), want...)...), false},
		"ends early":       {append(head(&wire.Answer{Size: 1000}), want[:10]...), false},
		"ends at once":     {nil, false},
		"head too long":    {binary.AppendUvarint(nil, 1<<30), false},
		"not protobuf":     {[]byte{3, 0xff, 0xff, 0xff}, false},
	} {
		t.Run(name, func(t *testing.T) {
			hostileServer(t, farm[0], func(w *bufio.Writer, _ *wire.Ask) { w.Write(c.bytes) })
			req := request(farm[0].ID(), want)
			if name == "answer twice" {
				req = request(farm[0].ID(), want, noise(9, 9))
			}
			got, err := fetchAll(t.Context(), farm[1], farm[0].ID(), req)
			switch r := got[block(want)]; {
			case c.block && (err != nil || !errors.Is(r.Err, ErrBlockWrong) || r.Data != nil):
				t.Errorf("%v, %v", err, r.Err)
			case !c.block && err == nil:
				t.Error("no error")
			}
		})
	}
	// A CID with a hash that proves nothing is never satisfied.
	weak, err := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: 0, MhLength: -1}.Sum([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if checkBlock(weak, []byte("x")) {
		t.Error("identity CID accepted")
	}
}

func TestHostileAsks(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	farm[0].ServeBlocks(newMemory([]byte("x")), allowAll, nil, nil)
	scope := &wire.Scope{Job: string(job.NewID(time.Now())), Requester: []byte(farm[0].ID())}
	many := &wire.Ask{Scope: scope}
	for i := range wire.MaxWantsPerAsk + 1 {
		many.Wants = append(many.Wants, &wire.Want{Index: uint64(i), Cid: block([]byte("x")).Bytes()})
	}
	id := block([]byte("x")).Bytes()
	for name, b := range map[string][]byte{
		"no scope":      framed(t, &wire.Ask{}),
		"no job":        framed(t, &wire.Ask{Scope: &wire.Scope{Requester: scope.Requester}}),
		"bad requester": framed(t, &wire.Ask{Scope: &wire.Scope{Job: scope.Job, Requester: []byte("no")}}),
		"large grant":   framed(t, &wire.Ask{Scope: &wire.Scope{Job: scope.Job, Requester: scope.Requester, Grant: &wire.Signed{Body: make([]byte, wire.MaxSignedBytes+1)}}}),
		"many wants":    framed(t, many),
		"no cid":        framed(t, &wire.Ask{Scope: scope, Wants: []*wire.Want{{}}}),
		"many bases":    framed(t, &wire.Ask{Scope: scope, Wants: []*wire.Want{{Cid: id, Bases: [][]byte{id, id, id, id, id}}}}),
		"edits of what": framed(t, &wire.Ask{Scope: scope, Edits: &wire.EditsWant{Have: id}}),
		"edits on what": framed(t, &wire.Ask{Scope: scope, Edits: &wire.EditsWant{Want: id, Have: []byte("no")}}),
		"edits, large":  framed(t, &wire.Ask{Scope: scope, Edits: &wire.EditsWant{Want: id, Past: &wire.Signed{Body: make([]byte, wire.MaxSignedBytes+1)}}}),
		"too long":      binary.AppendUvarint(nil, wire.MaxAsk+1),
		"no protobuf":   {2, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			before := farm[0].Stats().Malformed
			s, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolBlocks))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			s.Write(b)
			eventually(t, within, "noticed", func() bool { return farm[0].Stats().Malformed > before })
		})
	}
	// And one peer cannot take all the streams.
	var open int
	for range maxFetchesPerPeer + 8 {
		s, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolBlocks))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if _, err := s.Write(framed(t, &wire.Ask{Scope: scope})); err == nil {
			open++
		}
	}
	eventually(t, within, "streams over the limit are refused", func() bool { return farm[0].Stats().Refused >= 8 })
	_ = open
}

func framed(t *testing.T, m *wire.Ask) []byte {
	t.Helper()
	b, err := wire.Append(nil, m, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompressionIsWorthIt(t *testing.T) {
	if _, ok := compress(noise(1, 100_000)); ok {
		t.Error("noise was compressed")
	}
	text := bytes.Repeat([]byte("some words that come again "), 4000)
	z, ok := compress(text)
	if !ok {
		t.Fatal("text was not compressed")
	}
	back, err := decompress(z, len(text))
	if err != nil || !bytes.Equal(back, text) {
		t.Errorf("not the same: %v", err)
	}
}

// BenchmarkFetch moves 64 MiB over loopback in blocks of 256 KiB.
func BenchmarkFetch(b *testing.B) {
	farm := newFarm(b, 2)
	var all [][]byte
	for i := range 256 {
		all = append(all, noise(uint64(i), 256<<10))
	}
	farm[0].ServeBlocks(newMemory(all...), allowAll, nil, nil)
	req := request(farm[0].ID(), all...)
	b.SetBytes(256 * 256 << 10)
	for b.Loop() {
		if got, err := fetchAll(b.Context(), farm[1], farm[0].ID(), req); err != nil || len(got) != len(all) {
			b.Fatal(err)
		}
	}
}
