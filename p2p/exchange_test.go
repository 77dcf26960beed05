package p2p

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// exchanges are the ways in which blocks move; each has to do what all do.
var exchanges = map[string]string{"share": ExchangeOurs, "bitswap": ExchangeBitswap}

// hasty makes a host give up soon on what does not come: bitswap never says no.
func hasty(h *Host, patience time.Duration) {
	if h.swap != nil {
		h.swap.patience = patience
	}
}

// exchangeFarm is a farm that moves blocks by an exchange; the first host has
// them.
func exchangeFarm(t *testing.T, exchange string, n int, grants Grants, blocks ...[]byte) ([]*Host, []*memory) {
	t.Helper()
	farm := []*Host{newHost(t, "owner", func(c *Config) { c.Exchange = exchange })}
	if _, err := farm[0].Membership().CreateFarm("test farm"); err != nil {
		t.Fatal(err)
	}
	for len(farm) < n {
		h := newHost(t, "member", func(c *Config) { c.Exchange = exchange })
		joinFarm(t, farm[0], h)
		farm = append(farm, h)
	}
	stores := make([]*memory, n)
	for i, h := range farm {
		stores[i] = newMemory()
		if i == 0 {
			stores[i] = newMemory(blocks...)
		}
		h.ServeBlocks(stores[i], grants, nil, nil)
	}
	return farm, stores
}

func TestExchanges(t *testing.T) {
	t.Parallel()
	all := manyBlocks(150, 5000)
	type way func(h *Host, ctx context.Context, req BlockRequest) iter.Seq2[BlockResult, error]
	ways := map[string]way{
		"gather": func(h *Host, ctx context.Context, req BlockRequest) iter.Seq2[BlockResult, error] {
			return h.Gather(ctx, ShareRequest{BlockRequest: req})
		},
		"from one": func(h *Host, ctx context.Context, req BlockRequest) iter.Seq2[BlockResult, error] {
			return h.FetchFrom(ctx, req.Requester, req)
		},
	}
	for name, exchange := range exchanges {
		for how, ask := range ways {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				t.Run("all blocks come", func(t *testing.T) {
					farm, stores := exchangeFarm(t, exchange, 4, allowAll, all...)
					req := request(farm[0].ID(), all...)
					var wg sync.WaitGroup
					for i, h := range farm[1:] {
						wg.Go(func() {
							got := map[cid.Cid][]byte{}
							for r, err := range ask(h, t.Context(), req) {
								if err != nil || r.Err != nil {
									t.Error(err, r.Err)
									return
								}
								got[r.ID] = r.Data
								stores[i+1].put(r.ID, r.Data)
							}
							for _, b := range all {
								if !bytes.Equal(got[block(b)], b) {
									t.Error("a block is not what it was")
									return
								}
							}
						})
					}
					wg.Wait()
				})
				t.Run("more than a thousand", func(t *testing.T) {
					many := manyBlocks(1300, 100)
					farm, _ := exchangeFarm(t, exchange, 2, allowAll, many...)
					n := 0
					for r, err := range ask(farm[1], t.Context(), request(farm[0].ID(), many...)) {
						if err != nil || r.Err != nil {
							t.Fatal(err, r.Err)
						}
						n++
					}
					if n != len(many) {
						t.Errorf("%d of %d blocks came", n, len(many))
					}
				})
				t.Run("only with a grant", func(t *testing.T) {
					var reader peer.ID
					grants := grantsFunc(func(p, _ peer.ID, _ job.ID, grant job.Signed, _ cid.Cid) bool {
						return p == reader && string(grant.Body) == "yes"
					})
					farm, _ := exchangeFarm(t, exchange, 3, grants, all...)
					reader = farm[1].ID()
					hasty(farm[2], time.Second)
					req := request(farm[0].ID(), all[:10]...)
					req.Grant = job.Signed{Body: []byte("yes"), Sig: []byte("s")}
					for i, h := range farm[1:] {
						n := 0
						for r, err := range ask(h, t.Context(), req) {
							if err == nil && r.Err == nil {
								n++
							}
						}
						if want := []int{10, 0}[i]; n != want {
							t.Errorf("peer %d got %d blocks, not %d", i+1, n, want)
						}
					}
				})
				t.Run("not from strangers", func(t *testing.T) {
					farm, _ := exchangeFarm(t, exchange, 1, allowAll, all...)
					other, _ := exchangeFarm(t, exchange, 1, allowAll, all...)
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					defer cancel()
					for r, err := range ask(farm[0], ctx, request(other[0].ID(), all[:3]...)) {
						if err == nil && r.Err == nil {
							t.Error("a stranger's block came")
						}
					}
				})
				t.Run("ends when asked to", func(t *testing.T) {
					farm, _ := exchangeFarm(t, exchange, 2, allowAll, all[1:]...) // one never comes
					why := errors.New("not needed any more")
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					var last error
					for _, err := range ask(farm[1], ctx, request(farm[0].ID(), all...)) {
						last = err
						cancel(why)
					}
					if !errors.Is(last, why) {
						t.Errorf("the cause is lost: %v", last)
					}
				})
				t.Run("what is not there", func(t *testing.T) {
					farm, _ := exchangeFarm(t, exchange, 2, allowAll, all[1:]...)
					hasty(farm[1], 2*time.Second)
					n, missing := 0, 0
					for r, err := range ask(farm[1], t.Context(), request(farm[0].ID(), all...)) {
						if err != nil {
							t.Fatal(err)
						}
						if n++; errors.Is(r.Err, ErrBlockNotFound) && r.ID == block(all[0]) {
							missing++
						} else if r.Err != nil {
							t.Error(r.Err)
						}
					}
					if n != len(all) || missing != 1 {
						t.Errorf("%d results, %d not there", n, missing)
					}
				})
			})
		}
	}
}

// TestBoundsHoldForEachExchange: what is slower than it may be says nothing, but
// nothing is faster.
func TestBoundsHoldForEachExchange(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	all := manyBlocks(60, 40_000)
	size := 0
	for _, b := range all {
		size += len(b)
	}
	for name, exchange := range exchanges {
		for way, change := range map[string][2]func(*Config){
			"up":   {func(c *Config) { c.UpBytes = bound }, func(*Config) {}},
			"down": {func(*Config) {}, func(c *Config) { c.DownBytes = bound }},
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				owner := newHost(t, "owner", func(c *Config) { c.Exchange = exchange; change[0](c) })
				if _, err := owner.Membership().CreateFarm("test farm"); err != nil {
					t.Fatal(err)
				}
				h := newHost(t, "member", func(c *Config) { c.Exchange = exchange; change[1](c) })
				joinFarm(t, owner, h)
				owner.ServeBlocks(newMemory(all...), allowAll, nil, nil)
				h.ServeBlocks(newMemory(), allowAll, nil, nil)
				begun, n := time.Now(), 0
				for r, err := range h.FetchFrom(t.Context(), owner.ID(), request(owner.ID(), all...)) {
					if err != nil || r.Err != nil {
						t.Fatal(err, r.Err)
					}
					n += len(r.Data)
				}
				if n != size {
					t.Fatalf("%d of %d bytes", n, size)
				}
				least := time.Duration(size-2*burst) * time.Second / bound
				if took := time.Since(begun); took < least {
					t.Errorf("%d bytes in %v, which is faster than %d a second", n, took, bound)
				}
			})
		}
	}
}
