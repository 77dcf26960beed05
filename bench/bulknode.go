package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	lpeer "github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	manet "github.com/multiformats/go-multiaddr/net"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
	"idlewild/p2p"
)

// bulkBlocks are random bytes, cut: as the chunker does where size is 0.
type bulkBlocks struct {
	data map[cid.Cid][]byte
	ids  []cid.Cid
	size int64
}

func newBulkBlocks(total, size int) *bulkBlocks {
	all := make([]byte, total)
	rand.Read(all)
	b := &bulkBlocks{data: map[cid.Cid][]byte{}, size: int64(total)}
	for len(all) > 0 {
		n := size
		if size == 0 {
			n = min(256<<10, 16<<10+int(mrand.ExpFloat64()*60*(1<<10)))
		}
		n = min(n, len(all))
		sum := sha256.Sum256(all[:n])
		h, err := mh.Encode(sum[:], mh.SHA2_256)
		if err != nil {
			panic(err) // a constant
		}
		id := cid.NewCidV1(cid.Raw, h)
		b.data[id], b.ids = all[:n], append(b.ids, id)
		all = all[n:]
	}
	return b
}

// bulkStore is a p2p.Source in memory.
type bulkStore struct {
	mu     sync.Mutex
	blocks map[cid.Cid][]byte
}

func (s *bulkStore) Get(_ context.Context, id cid.Cid) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.blocks[id]; ok {
		return b, nil
	}
	return nil, errors.New("not here")
}

func (s *bulkStore) Has(_ context.Context, id cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blocks[id]
	return ok, nil
}

func (s *bulkStore) put(id cid.Cid, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[id] = b
}

type everything struct{}

func (everything) Allow(lpeer.ID, lpeer.ID, job.ID, job.Signed, cid.Cid) bool { return true }
func (everything) Had(lpeer.ID, lpeer.ID, job.Signed, cid.Cid) bool           { return true }

// bulkNode is a host and what it holds.
type bulkNode struct {
	*p2p.Host
	store *bulkStore
	line  *shapedNode
}

// node starts a host; on a shaped line where there is one.
func (b *bulkRun) node(ctx context.Context, exchange string, line *shapedNode) (*bulkNode, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	b.n++
	cfg := p2p.Config{Key: key, DataDir: fmt.Sprintf("%s/%d", b.dir, b.n), Name: fmt.Sprintf("node-%d", b.n), Exchange: exchange, Listen: []string{"/ip4/127.0.0.1/tcp/0"}}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	n := &bulkNode{store: &bulkStore{blocks: map[cid.Cid][]byte{}}, line: line}
	if line == nil {
		n.Host, err = p2p.New(cfg)
	} else {
		lh, e := libp2p.New(
			libp2p.Identity(key), libp2p.ListenAddrStrings(cfg.Listen...),
			libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(line.forAddr)),
			libp2p.Security(libp2ptls.ID, libp2ptls.New),
			p2p.Muxer(),
			libp2p.ResourceManager(&network.NullResourceManager{}),
			libp2p.DisableRelay(), libp2p.DisableMetrics(),
		)
		if e != nil {
			return nil, e
		}
		for _, a := range lh.Addrs() {
			if _, addr, err := manet.DialArgs(a); err == nil {
				if err := line.listens(addr); err != nil {
					return nil, err
				}
			}
		}
		n.Host, err = p2p.Wrap(lh, cfg)
	}
	if err != nil {
		return nil, err
	}
	n.ServeBlocks(n.store, everything{}, nil, nil)
	return n, nil
}

// farm is a source that holds blocks, and receivers; all know each other.
func (b *bulkRun) farm(ctx context.Context, exchange string, blocks *bulkBlocks, lines []*shapedNode) ([]*bulkNode, func(), error) {
	var nodes []*bulkNode
	shut := func() {
		for _, n := range nodes {
			n.Close()
		}
	}
	for _, line := range lines {
		n, err := b.node(ctx, exchange, line)
		if err != nil {
			shut()
			return nil, nil, err
		}
		nodes = append(nodes, n)
	}
	for id, data := range blocks.data {
		nodes[0].store.put(id, data)
	}
	if _, err := nodes[0].Membership().CreateFarm("bulk"); err != nil {
		shut()
		return nil, nil, err
	}
	for _, n := range nodes[1:] {
		ticket, err := nodes[0].Membership().Invite(time.Hour)
		if err == nil {
			_, err = n.Membership().Join(ctx, ticket)
		}
		if err != nil {
			shut()
			return nil, nil, err
		}
	}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		whole := true
		for _, n := range nodes {
			up := 0
			for _, p := range n.Peers() {
				if p.Connected {
					up++
				}
			}
			whole = whole && up == len(nodes)-1
		}
		if whole {
			return nodes, shut, nil
		}
		if time.Since(begun) > time.Minute {
			shut()
			return nil, nil, errors.New("the hosts did not connect to each other within a minute")
		}
	}
}

// take brings all blocks to a receiver.
func (n *bulkNode) take(ctx context.Context, source *bulkNode, id job.ID, blocks *bulkBlocks) (time.Duration, error) {
	begun := time.Now()
	req := p2p.ShareRequest{BlockRequest: p2p.BlockRequest{Requester: source.ID(), Job: id, Urgent: true}}
	for _, p := range n.Peers() {
		if p.Connected && !p.Self {
			req.Near = append(req.Near, p.Peer)
		}
	}
	for group := range slices.Chunk(blocks.ids, p2p.MaxGather) {
		req.Wants = nil
		for _, id := range group {
			req.Wants = append(req.Wants, p2p.BlockWant{ID: id})
		}
		for r, err := range n.Gather(ctx, req) {
			if err == nil {
				err = r.Err
			}
			if err != nil {
				return 0, err
			}
			n.store.put(r.ID, r.Data)
		}
	}
	took := time.Since(begun)
	for _, id := range blocks.ids {
		if has, _ := n.store.Has(ctx, id); !has {
			return 0, errors.New("a block is missing")
		}
	}
	return took, nil
}
