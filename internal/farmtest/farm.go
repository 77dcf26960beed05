// Package farmtest is a whole farm in memory and fake time, for tests: real
// dispatchers and real workers, with everything between and below them
// replaced by what a test can cut, slow down, kill and corrupt.
//
// A Farm is made inside testing/synctest.Test: then leases expire in
// microseconds, and a test can stop between any two moments.
package farmtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Farm is a network of requesters and workers.
type Farm struct {
	T testing.TB
	// Latency of every message and fetch, one way; 1 ms. Set it before the
	// first peer is made.
	Latency time.Duration
	Log     *slog.Logger

	dir string

	mu    sync.Mutex
	peers map[peer.ID]*host
	cut   map[[2]peer.ID]bool
	links map[*link]bool
	hear  map[peer.ID]chan job.Offer
	runs  []Run
	sent  int
}

// Run is one execution of a task by a worker.
type Run struct {
	Worker  string
	Label   string
	Check   bool // a challenge task
	Outcome job.Outcome
	Start   time.Time
	Wall    time.Duration
}

// errUnreachable is what a network without a way says.
var errUnreachable = errors.New("no route to peer")

// New makes an empty farm. With FARMTEST_LOG set in the environment its peers
// log to stderr.
func New(t testing.TB) *Farm {
	f := &Farm{
		T: t, Latency: time.Millisecond, dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		peers: map[peer.ID]*host{}, cut: map[[2]peer.ID]bool{}, links: map[*link]bool{}, hear: map[peer.ID]chan job.Offer{},
	}
	if os.Getenv("FARMTEST_LOG") != "" {
		f.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return f
}

// host is one machine: an identity, a store and a power switch.
type host struct {
	farm *Farm
	name string
	id   peer.ID
	key  crypto.PrivKey
	dir  string // changes with each crash
	gen  int

	mu     sync.Mutex
	blocks map[job.Ref][]byte // survive a crash: they are on disk
	off    bool
	accept func(from peer.ID) (chan<- job.Report, <-chan job.Order)
	answer func(ctx context.Context, from peer.ID, q []byte) ([]byte, error)
}

func (f *Farm) newHost(name string) *host {
	f.T.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		f.T.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.T.Fatal(err)
	}
	h := &host{farm: f, name: name, id: id, key: key, dir: filepath.Join(f.dir, name, "0"), blocks: map[job.Ref][]byte{}}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		f.T.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers[id] = h
	return h
}

// powerOff is kill -9: from one moment to the next nothing of the machine is
// heard, and what lies in its folder at that moment is what it finds later.
func (h *host) powerOff() {
	h.farm.T.Helper()
	synctest.Wait() // between two moments
	h.mu.Lock()
	h.off = true
	h.accept, h.answer = nil, nil
	h.mu.Unlock()
	h.farm.sever(func(l *link) bool { return l.from == h.id || l.to == h.id })
	h.gen++
	next := filepath.Join(h.farm.dir, h.name, fmt.Sprint(h.gen))
	if err := copyTree(h.dir, next); err != nil {
		h.farm.T.Fatal(err)
	}
	h.dir = next
}

// copyTree copies regular files and folders; locks and sockets stay behind.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o700)
		case !d.Type().IsRegular() || d.Name() == "lock":
			return nil
		}
		in, err := os.Open(p)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(dst)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			out.Close()
			return err
		}
		return out.Close()
	})
}

func (h *host) powerOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.off = false
}

func (h *host) isOff() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}

func pair(a, b peer.ID) [2]peer.ID {
	if a > b {
		a, b = b, a
	}
	return [2]peer.ID{a, b}
}

// Cut takes the network between two peers away, with the links over it.
func (f *Farm) Cut(a, b peer.ID) {
	f.mu.Lock()
	f.cut[pair(a, b)] = true
	f.mu.Unlock()
	f.sever(func(l *link) bool { return pair(l.from, l.to) == pair(a, b) })
}

// Heal gives it back. Nobody is told.
func (f *Farm) Heal(a, b peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cut, pair(a, b))
}

// Drop ends the links between two peers, which could speak again at once.
func (f *Farm) Drop(a, b peer.ID) {
	f.sever(func(l *link) bool { return pair(l.from, l.to) == pair(a, b) })
}

// sever cuts links, without a word to either side but the end of the stream.
func (f *Farm) sever(which func(*link) bool) {
	f.mu.Lock()
	var list []*link
	for l := range f.links {
		if which(l) {
			list = append(list, l)
		}
	}
	f.mu.Unlock()
	for _, l := range list {
		l.cut()
	}
}

// reach returns the other machine if there is a way to it.
func (f *Farm) reach(from, to peer.ID) (*host, error) {
	f.mu.Lock()
	a, b := f.peers[from], f.peers[to]
	cut := f.cut[pair(from, to)]
	f.mu.Unlock()
	if a == nil || b == nil || cut || a.isOff() || b.isOff() {
		return nil, fmt.Errorf("%w %s", errUnreachable, to)
	}
	return b, nil
}

// Runs returns every execution that ended, in the order of their ends.
func (f *Farm) Runs() []Run {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Run(nil), f.runs...)
}

// Messages counts reports and orders between machines.
func (f *Farm) Messages() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}

func (f *Farm) ran(r Run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = append(f.runs, r)
}
