package p2p

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
)

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("IDLEWILD_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

var loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

// newHost starts a host on loopback; change may alter its Config.
func newHost(t testing.TB, name string, change ...func(*Config)) *Host {
	t.Helper()
	cfg := Config{Key: newKey(t), Listen: loopback, DataDir: t.TempDir(), Name: name, Log: testLog(t)}
	for _, f := range change {
		f(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// idOf is the newest ID of a protocol.
func idOf(p Protocol) protocol.ID { return protocol.ID(thisRelease.IDs[p][0]) }

// newFarm starts n hosts in one farm; the first one owns it.
func newFarm(t testing.TB, n int) []*Host {
	t.Helper()
	hosts := []*Host{newHost(t, "owner")}
	if _, err := hosts[0].Membership().CreateFarm("test farm"); err != nil {
		t.Fatal(err)
	}
	for len(hosts) < n {
		h := newHost(t, "member")
		joinFarm(t, hosts[0], h)
		hosts = append(hosts, h)
	}
	return hosts
}

func joinFarm(t testing.TB, owner, h *Host) {
	t.Helper()
	ticket, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Membership().Join(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func connected(h *Host, p peer.ID) bool {
	for _, v := range h.Peers() {
		if v.Peer == p {
			return v.Connected
		}
	}
	return false
}

func block(data []byte) cid.Cid {
	sum := sha256.Sum256(data)
	h, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, h)
}

// memory is a Source in memory.
type memory struct {
	mu     sync.Mutex
	blocks map[cid.Cid][]byte
}

func newMemory(blocks ...[]byte) *memory {
	m := &memory{blocks: map[cid.Cid][]byte{}}
	for _, b := range blocks {
		m.put(block(b), b)
	}
	return m
}

func (m *memory) put(id cid.Cid, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocks[id] = b
}

func (m *memory) Get(_ context.Context, id cid.Cid) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blocks[id]
	if !ok {
		return nil, errors.New("not here")
	}
	return b, nil
}

func (m *memory) Has(_ context.Context, id cid.Cid) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blocks[id]
	return ok, nil
}

// grantsFunc is a Grants.
type grantsFunc func(p, requester peer.ID, id job.ID, grant job.Signed, block cid.Cid) bool

func (f grantsFunc) Allow(p, requester peer.ID, id job.ID, grant job.Signed, block cid.Cid) bool {
	return f(p, requester, id, grant, block)
}

// Had lets through what Allow would where a grant was shown.
func (f grantsFunc) Had(p, requester peer.ID, past job.Signed, root cid.Cid) bool {
	return f(p, requester, "", past, root)
}

var allowAll = grantsFunc(func(peer.ID, peer.ID, job.ID, job.Signed, cid.Cid) bool { return true })
