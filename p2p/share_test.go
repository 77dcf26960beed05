package p2p

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// gatherAll runs a Gather to its end and puts what comes into m.
func gatherAll(ctx context.Context, h *Host, m *memory, r ShareRequest) (map[cid.Cid]BlockResult, error) {
	out := map[cid.Cid]BlockResult{}
	for res, err := range h.Gather(ctx, r) {
		if err != nil {
			return out, err
		}
		out[res.ID] = res
		if res.Err == nil && m != nil {
			m.put(res.ID, res.Data)
		}
	}
	return out, nil
}

// sharers is a farm in which every host serves a store of its own; the first
// one's has the blocks.
func sharers(t testing.TB, n int, blocks ...[]byte) ([]*Host, []*memory) {
	t.Helper()
	farm := newFarm(t, n)
	stores := make([]*memory, n)
	for i, h := range farm {
		stores[i] = newMemory()
		if i == 0 {
			stores[i] = newMemory(blocks...)
		}
		h.ServeBlocks(stores[i], allowAll, nil, nil)
	}
	return farm, stores
}

func manyBlocks(n, size int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = noise(uint64(i), size+i%100)
	}
	return out
}

func TestGatherAlone(t *testing.T) {
	t.Parallel()
	all := manyBlocks(300, 20_000)
	farm, stores := sharers(t, 2, all...)
	got, err := gatherAll(t.Context(), farm[1], stores[1], ShareRequest{BlockRequest: request(farm[0].ID(), all...)})
	if err != nil {
		t.Fatal(err)
	}
	var moved int64
	for _, b := range all {
		r := got[block(b)]
		if r.Err != nil || !bytes.Equal(r.Data, b) {
			t.Fatalf("block: %v", r.Err)
		}
		moved += r.Moved
	}
	if in := farm[1].Stats().BlockBytesIn; in != farm[0].Stats().BlockBytesOut || in > moved {
		t.Errorf("%d came in, %d went out, %d were counted", in, farm[0].Stats().BlockBytesOut, moved)
	}
}

// Those who gather at the same time get most of it from each other.
func TestGatherTogether(t *testing.T) {
	t.Parallel()
	all := manyBlocks(400, 20_000)
	farm, stores := sharers(t, 5, all...)
	// Nobody is faster than the others: what leaves the source is bounded.
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	farm[0].up = newThrottle(4 << 20)
	var wg sync.WaitGroup
	for i, h := range farm[1:] {
		wg.Go(func() {
			got, err := gatherAll(t.Context(), h, stores[i+1], req)
			if err != nil || len(got) != len(all) {
				t.Errorf("%d of %d blocks: %v", len(got), len(all), err)
			}
			for _, b := range all {
				if r := got[block(b)]; r.Err != nil || !bytes.Equal(r.Data, b) {
					t.Errorf("block %s: %v", block(b), r.Err)
				}
			}
		})
	}
	wg.Wait()
	size := 0
	for _, b := range all {
		size += len(b)
	}
	if out := farm[0].Stats().BlockBytesOut; float64(out) > 2*float64(size) {
		t.Errorf("the source sent %d bytes of a content of %d to 4", out, size)
	}
}

// What is like a block that the gatherers hold comes as what differs, from the
// requester and from each other.
func TestGatherOfWhatIsLikeOthers(t *testing.T) {
	t.Parallel()
	old := manyBlocks(200, 20_000)
	var all [][]byte
	for i, b := range old {
		all = append(all, append(bytes.Clone(b), noise(uint64(i+1000), 200)...))
	}
	farm := newFarm(t, 3)
	for i, h := range farm {
		m := newMemory(old...)
		if i == 0 {
			m = newMemory(slices.Concat(old, all)...)
		}
		h.ServeBlocks(m, allowAll, suffixCodec{}, nil)
	}
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	for i := range req.Wants {
		req.Wants[i].Bases = []cid.Cid{block(old[i])}
	}
	var wg sync.WaitGroup
	for _, h := range farm[1:] {
		wg.Go(func() {
			got, err := gatherAll(t.Context(), h, nil, req)
			if err != nil {
				t.Error(err)
			}
			for _, b := range all {
				if r := got[block(b)]; r.Err != nil || !bytes.Equal(r.Data, b) {
					t.Errorf("block %s: %v", block(b), r.Err)
				}
			}
		})
	}
	wg.Wait()
	for i, h := range farm {
		if out := h.Stats().BlockBytesOut; out > 4*200*int64(len(all)) {
			t.Errorf("host %d sent %d bytes of blocks that differ in %d", i, out, 200*len(all))
		}
	}
}

// forgetful has lost a block since it said that it has it.
type forgetful struct {
	Source
	lost cid.Cid
}

func (s forgetful) Get(ctx context.Context, id cid.Cid) ([]byte, error) {
	if id == s.lost {
		return nil, ErrBlockNotFound
	}
	return s.Source.Get(ctx, id)
}

// A base that went meanwhile costs its block, which is said at once, and no
// peer is blamed.
func TestGatherWithoutItsBase(t *testing.T) {
	t.Parallel()
	old := manyBlocks(2, 20_000)
	all := [][]byte{append(bytes.Clone(old[0]), "more"...), append(bytes.Clone(old[1]), "more"...)}
	farm := newFarm(t, 2)
	farm[0].ServeBlocks(newMemory(slices.Concat(old, all)...), allowAll, suffixCodec{}, nil)
	farm[1].ServeBlocks(forgetful{newMemory(old...), block(old[0])}, allowAll, suffixCodec{}, nil)
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	for i := range req.Wants {
		req.Wants[i].Bases = []cid.Cid{block(old[i])}
	}
	got, err := gatherAll(t.Context(), farm[1], nil, req)
	if err != nil || !errors.Is(got[block(all[0])].Err, errBaseGone) || !bytes.Equal(got[block(all[1])].Data, all[1]) {
		t.Errorf("%d blocks, %v, %v", len(got), err, got[block(all[0])].Err)
	}
}

func TestGatherIsRefused(t *testing.T) {
	t.Parallel()
	all := manyBlocks(50, 1000)
	farm, _ := sharers(t, 2, all...)
	farm[0].ServeBlocks(newMemory(all...), grantsFunc(func(peer.ID, peer.ID, job.ID, job.Signed, cid.Cid) bool { return false }), nil, nil)
	_, err := gatherAll(t.Context(), farm[1], nil, ShareRequest{BlockRequest: request(farm[0].ID(), all...)})
	if !errors.Is(err, ErrBlockRefused) {
		t.Errorf("%v", err)
	}
	if farm[0].Stats().Refused == 0 {
		t.Error("nothing was counted")
	}
}

func TestGatherFromOldPeers(t *testing.T) {
	t.Parallel()
	farm, _ := sharers(t, 2, []byte("x"))
	farm[0].host.RemoveStreamHandler(idOf(ProtocolShare))
	_, err := gatherAll(t.Context(), farm[1], nil, ShareRequest{BlockRequest: request(farm[0].ID(), []byte("x"))})
	if !errors.Is(err, ErrNoShare) {
		t.Errorf("%v", err)
	}
}

func TestGatherEndsWhenAskedTo(t *testing.T) {
	t.Parallel()
	all := manyBlocks(300, 50_000)
	farm, _ := sharers(t, 2, all...)
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	n := 0
	for _, err := range farm[1].Gather(t.Context(), req) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 3 {
			break
		}
	}
	why := errors.New("not needed any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for _, err := range farm[1].Gather(ctx, req) {
		last = err
		cancel(why)
	}
	if !errors.Is(last, why) {
		t.Errorf("the cause is lost: %v", last)
	}
	eventually(t, within, "streams are given back", func() bool {
		x := &farm[0].shares
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.total == 0
	})
}

func TestGatherOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	all := manyBlocks(100, 1000)
	farm, _ := sharers(t, 2, all[:99]...)
	got, err := gatherAll(t.Context(), farm[1], nil, ShareRequest{BlockRequest: request(farm[0].ID(), all...)})
	if err != nil || len(got) != 100 || !errors.Is(got[block(all[99])].Err, ErrBlockNotFound) {
		t.Errorf("%d blocks, %v, %v", len(got), err, got[block(all[99])].Err)
	}
}

// Where the requester is away, those who are near have what they fetched.
// A requester that lost some blocks says so of each, and gives all others.
func TestGatherOfWhatIsThereInPart(t *testing.T) {
	t.Parallel()
	all := manyBlocks(120, 2000)
	farm, stores := sharers(t, 2, all[:60]...)
	got, err := gatherAll(t.Context(), farm[1], stores[1], ShareRequest{BlockRequest: request(farm[0].ID(), all...)})
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range all {
		if r := got[block(b)]; i < 60 && r.Err != nil || i >= 60 && !errors.Is(r.Err, ErrBlockNotFound) {
			t.Fatalf("block %d: %v", i, r.Err)
		}
	}
}

func TestGatherWithoutTheRequester(t *testing.T) {
	t.Parallel()
	all := manyBlocks(100, 1000)
	farm, stores := sharers(t, 3, all...)
	req := ShareRequest{BlockRequest: request(farm[0].ID(), all...)}
	if _, err := gatherAll(t.Context(), farm[1], stores[1], req); err != nil {
		t.Fatal(err)
	}
	farm[0].Close()
	req.Near = []peer.ID{farm[1].ID()}
	if got, err := gatherAll(t.Context(), farm[2], stores[2], req); err != nil || len(got) != len(all) {
		t.Errorf("%d blocks, %v", len(got), err)
	}
}
