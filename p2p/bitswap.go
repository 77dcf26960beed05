package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/wire"
)

// ProtocolShow shows a read grant to a peer whose blocks are then asked for by
// bitswap, which has no place for one: an Ask with a scope and nothing else,
// answered by an empty Answers.
const ProtocolShow Protocol = "show"

// Exchanges that a Config can name.
const (
	ExchangeOurs    = ""        // ProtocolBlocks and ProtocolShare
	ExchangeBitswap = "bitswap" // boxo's
)

const (
	maxShown        = 16 // scopes of one peer that are remembered, the newest
	maxShowers      = 1024
	bitswapPatience = 20 * time.Second // without a block: bitswap never says no for good
	bitswapTries    = 4                // in bitswapPatience
	bitswapAtOnce   = 512              // wants; of more some are forgotten for a long while
)

// bitswapExchange moves blocks by bitswap, among members only, and only what
// the read grants that they showed allow.
type bitswapExchange struct {
	h        *Host
	b        *blockServer
	bs       *bitswap.Bitswap
	patience time.Duration

	mu    sync.Mutex
	shown map[peer.ID][]scope
}

func newBitswap(h *Host, b *blockServer) *bitswapExchange {
	x := &bitswapExchange{h: h, b: b, shown: map[peer.ID][]scope{}, patience: bitswapPatience}
	x.bs = bitswap.New(h.ctx, bsnet.NewFromIpfsHost(h.paced(h.guarded)), nil, bitswapStore{h, recentFirst{&h.shares.recent, b.src}},
		bitswap.WithPeerBlockRequestFilter(x.allowed),
		bitswap.MaxQueuedWantlistEntriesPerPeer(MaxGather)) // of several fetches
	h.serve(ProtocolShow, func(s network.Stream) {
		h.goRun(func(ctx context.Context) { x.serveShow(ctx, s) })
	})
	return x
}

// allowed is bitswap's question whether p may have a block.
func (x *bitswapExchange) allowed(p peer.ID, id cid.Cid) bool {
	if !x.h.members.Known(p) {
		x.h.stats.refused.Add(1)
		return false
	}
	x.mu.Lock()
	scopes := slices.Clone(x.shown[p])
	x.mu.Unlock()
	return slices.ContainsFunc(scopes, func(s scope) bool { return !x.b.spares(s) && x.b.grants.Allow(p, s.requester, s.job, s.grant, id) })
}

func (x *bitswapExchange) serveShow(ctx context.Context, s network.Stream) {
	ctx, cancel := context.WithTimeout(ctx, scopeTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	defer s.Close()
	var ask wire.Ask
	if _, err := wire.Read(bufio.NewReader(s), &ask, wire.MaxAsk); err != nil {
		x.h.stats.malformed.Add(1)
		return
	}
	sc, err := readScope(s.Conn().RemotePeer(), ask.GetScope())
	if err != nil {
		x.h.stats.malformed.Add(1)
		return
	}
	x.mu.Lock()
	all := slices.DeleteFunc(x.shown[sc.reader], func(o scope) bool { return o.job == sc.job && o.requester == sc.requester })
	if all = append(all, sc); len(all) > maxShown {
		all = all[1:]
	}
	if len(x.shown) >= maxShowers && x.shown[sc.reader] == nil {
		clear(x.shown) // they show it again with the next fetch
	}
	x.shown[sc.reader] = all
	x.mu.Unlock()
	_, _ = wire.Write(s, &wire.Answers{}, wire.MaxAnswers)
}

// show shows our grant to a peer.
func (x *bitswapExchange) show(ctx context.Context, p peer.ID, req BlockRequest) error {
	ctx, cancel := context.WithTimeout(ctx, scopeTime)
	defer cancel()
	s, err := x.h.open(ctx, p, ProtocolShow)
	if err != nil {
		return err
	}
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if _, err := wire.Write(s, &wire.Ask{Scope: &wire.Scope{
		Job: string(req.Job), Requester: []byte(req.Requester), Grant: wire.FromSigned(req.Grant), Capability: x.h.release.Capability,
	}}, wire.MaxAsk); err != nil {
		return err
	}
	var a wire.Answers
	_, err = wire.Read(bufio.NewReader(s), &a, wire.MaxAnswers)
	return err
}

// fetch is Gather and FetchFrom by bitswap.
func (x *bitswapExchange) fetch(ctx context.Context, first peer.ID, near []peer.ID, req BlockRequest) iter.Seq2[BlockResult, error] {
	return func(yield func(BlockResult, error) bool) {
		if len(req.Wants) == 0 {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(x.h.ctx, cancel)
		defer stop()
		fail := func(err error) {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			yield(BlockResult{}, fmt.Errorf("bitswap from %s: %w", first, err))
		}
		if err := x.show(ctx, first, req); err != nil {
			fail(err)
			return
		}
		var showing sync.WaitGroup
		for _, p := range near {
			if p != first && p != x.h.ID() {
				showing.Go(func() { _ = x.show(ctx, p, req) }) // who is away has nothing for us
			}
		}
		showing.Wait()
		twice := make(map[cid.Cid]bool, len(req.Wants))
		var ids []cid.Cid
		for _, w := range req.Wants {
			if !twice[w.ID] {
				twice[w.ID] = true
				ids = append(ids, w.ID)
			}
		}
		for part := range slices.Chunk(ids, bitswapAtOnce) {
			more, err := x.part(ctx, part, yield)
			if err != nil {
				fail(err)
			}
			if !more || err != nil {
				return
			}
		}
	}
}

// part brings some blocks. It reports whether the reader wants more. What does
// not come is asked for again in another session: now and then bitswap sends a
// want once, to a peer that forgets it.
func (x *bitswapExchange) part(ctx context.Context, ids []cid.Cid, yield func(BlockResult, error) bool) (more bool, err error) {
	open := make(map[cid.Cid]bool, len(ids))
	for _, id := range ids {
		open[id] = true
	}
	for idle := 0; len(open) > 0 && idle < bitswapTries; idle++ {
		before := len(open)
		if more, err = x.try(ctx, open, yield); err != nil || !more {
			return false, err
		}
		if len(open) < before {
			idle = -1
		}
	}
	for id := range open {
		if !yield(BlockResult{ID: id, Err: fmt.Errorf("block %s: %w", id, ErrBlockNotFound)}, nil) {
			return false, nil
		}
	}
	return true, nil
}

// try asks for all that is open until nothing has come for a while.
func (x *bitswapExchange) try(ctx context.Context, open map[cid.Cid]bool, yield func(BlockResult, error) bool) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got, err := x.bs.NewSession(ctx).GetBlocks(ctx, slices.Collect(maps.Keys(open)))
	if err != nil {
		return false, err
	}
	patience := time.NewTimer(x.patience / bitswapTries)
	defer patience.Stop()
	for len(open) > 0 {
		patience.Reset(x.patience / bitswapTries)
		select {
		case b, ok := <-got:
			if !ok {
				return false, errors.New("the session ended")
			}
			id, data := b.Cid(), b.RawData()
			if !open[id] {
				continue
			}
			delete(open, id)
			r := BlockResult{ID: id, Data: slices.Clone(data), Moved: int64(len(data))}
			x.h.stats.blocksIn.Add(r.Moved)
			if !checkBlock(id, data) {
				r.Data, r.Err = nil, fmt.Errorf("block %s: %w", id, ErrBlockWrong)
			}
			if !yield(r, nil) {
				return false, nil
			}
		case <-patience.C:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// bitswapStore is what bitswap serves from. What it received it keeps for a
// while, to pass on; whoever asked for it stores it.
type bitswapStore struct {
	h   *Host
	src Source
}

func (s bitswapStore) Get(ctx context.Context, id cid.Cid) (blocks.Block, error) {
	b, err := s.src.Get(ctx, id)
	if err != nil {
		return nil, ipld.ErrNotFound{Cid: id}
	}
	s.h.stats.blocksOut.Add(int64(len(b)))
	return blocks.NewBlockWithCid(b, id)
}

func (s bitswapStore) Has(ctx context.Context, id cid.Cid) (bool, error) { return s.src.Has(ctx, id) }

func (s bitswapStore) GetSize(ctx context.Context, id cid.Cid) (int, error) {
	b, err := s.src.Get(ctx, id)
	if err != nil {
		return 0, ipld.ErrNotFound{Cid: id}
	}
	return len(b), nil
}

func (s bitswapStore) Put(_ context.Context, b blocks.Block) error {
	s.h.shares.recent.put(b.Cid(), b.RawData())
	return nil
}

func (s bitswapStore) PutMany(ctx context.Context, all []blocks.Block) error {
	for _, b := range all {
		_ = s.Put(ctx, b)
	}
	return nil
}

func (bitswapStore) DeleteBlock(context.Context, cid.Cid) error {
	return errors.New("bitswap deletes nothing here")
}

func (bitswapStore) AllKeysChan(context.Context) (<-chan cid.Cid, error) {
	return nil, errors.New("bitswap lists nothing here")
}
