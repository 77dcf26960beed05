package worker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
	"idlewild/render"
)

type peerID = peer.ID

type benchPeer struct {
	key crypto.PrivKey
	id  peer.ID
}

func newBenchPeer(b *testing.B) benchPeer {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	return benchPeer{key, id}
}

func newPeer(t *testing.T) (crypto.PrivKey, peer.ID) {
	t.Helper()
	priv, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return priv, id
}

func ref(s string) job.Ref {
	h := sha256.Sum256([]byte(s))
	m, err := mh.Encode(h[:], mh.SHA2_256)
	if err != nil {
		panic(err)
	}
	return job.RefOf(cid.NewCidV1(cid.Raw, m))
}

// swarm hands each join to join.
type swarm struct {
	offers chan job.Offer
	join   func(ctx context.Context, id peer.ID) (Link, error)
}

func (s *swarm) Offers(ctx context.Context) iter.Seq[job.Offer] {
	return func(yield func(job.Offer) bool) {
		for {
			select {
			case o := <-s.offers:
				if !yield(o) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *swarm) Join(ctx context.Context, id peer.ID) (Link, error) { return s.join(ctx, id) }

// conn is a link whose other end is the test.
type conn struct {
	reports chan job.Report
	orders  chan job.Order
	down    chan struct{}
	once    sync.Once
}

func newConn() *conn {
	return &conn{reports: make(chan job.Report, 4096), orders: make(chan job.Order, 64), down: make(chan struct{})}
}

func (c *conn) cut() { c.once.Do(func() { close(c.down) }) }

func (c *conn) isCut() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

func (c *conn) Send(ctx context.Context, r job.Report) error {
	if err := r.Validate(); err != nil {
		panic(err)
	}
	if c.isCut() {
		return errors.New("link cut")
	}
	c.reports <- r
	return nil
}

func (c *conn) Orders() iter.Seq[job.Order] {
	return func(yield func(job.Order) bool) {
		for {
			select {
			case o := <-c.orders:
				if !yield(o) {
					return
				}
			case <-c.down:
				return
			}
		}
	}
}

func (c *conn) Close() error { c.cut(); return nil }

// exec runs tasks by a function.
type exec struct {
	mu    sync.Mutex
	ready error
	run   func(ctx context.Context, t render.Task, d render.Dirs, progress func(render.Progress)) render.Result
}

func (e *exec) setReady(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ready = err
}

func (e *exec) Ready(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready
}

func (e *exec) Execute(ctx context.Context, t render.Task, d render.Dirs, progress func(render.Progress)) render.Result {
	return e.run(ctx, t, d, progress)
}

// takes is an executor that needs that long for each task.
func takes(d time.Duration) *exec {
	return &exec{run: func(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
		progress(render.Progress{Phase: "rendering", Fraction: .5})
		tm := time.NewTimer(d)
		defer tm.Stop()
		select {
		case <-tm.C:
		case <-ctx.Done():
			return render.Result{Outcome: job.Cancelled, Reason: context.Cause(ctx).Error()}
		}
		for _, o := range t.Outputs {
			if err := os.WriteFile(filepath.Join(dirs.Out, o.Name), []byte(t.Label), 0o600); err != nil {
				return render.Result{Outcome: job.Broken, Reason: err.Error()}
			}
		}
		return render.Result{Outcome: job.Succeeded, Device: t.Device.Name, Build: "test 1"}
	}}
}

// assets stores nothing; each function can be replaced.
type assets struct {
	materialize func(ctx context.Context, input job.Ref, dir string, progress func(float64)) error
	extend      func(wants job.Wanted, dir string, room int64) error
	sound       func(dir string) error
	collect     func(dir string) error
	released    chan job.ID
}

func (a *assets) Materialize(ctx context.Context, _ peer.ID, _ job.Lease, input job.Ref, dir string, _ Unpacked, progress func(float64)) (Content, error) {
	c := Content{Moved: 1}
	if a.materialize != nil {
		return c, a.materialize(ctx, input, dir, progress)
	}
	return c, os.WriteFile(filepath.Join(dir, "scene"), []byte(input.String()), 0o600)
}

func (a *assets) Extend(_ context.Context, _ peer.ID, l job.Lease, input job.Ref, dir string, room int64, _ func(float64)) (Content, error) {
	if a.extend != nil {
		return Content{}, a.extend(l.Wants(input), dir, room)
	}
	return Content{}, nil
}

func (a *assets) Sound(dir string) error {
	if a.sound != nil {
		return a.sound(dir)
	}
	return nil
}

func (a *assets) Prior(_ context.Context, _ peer.ID, _ job.Lease, p job.Prior, dir string) error {
	for _, o := range p.Outputs {
		if o.Media == job.MediaTree {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, o.Name), []byte(o.File.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (a *assets) Collect(_ context.Context, _ peer.ID, _ job.ID, dir string, rules []job.OutputRule) (out []job.Output, blocks []job.Block, err error) {
	if a.collect != nil {
		if err := a.collect(dir); err != nil {
			return nil, nil, err
		}
	}
	for _, r := range rules {
		b, err := os.ReadFile(filepath.Join(dir, r.Name))
		if err != nil {
			return nil, nil, err
		}
		out = append(out, job.Output{Name: r.Name, Media: r.Media, File: ref(string(b)), Bytes: int64(len(b))})
		blocks = append(blocks, job.Block{CID: ref(string(b)), Data: b})
	}
	return out, blocks, nil
}

func (a *assets) Log(_ context.Context, _ peer.ID, _ job.ID, text []byte) (job.Ref, error) {
	return ref(string(text)), nil
}

func (a *assets) Release(_ context.Context, id job.ID) error {
	if a.released != nil {
		a.released <- id
	}
	return nil
}

// bed is a worker in fake time with the test as its requesters.
type bed struct {
	t      *testing.T
	w      *Worker
	swarm  *swarm
	exec   *exec
	assets *assets
	self   peer.ID
	key    crypto.PrivKey
	dir    string
	m      job.Machine
	// machine overrides m
	machine func() job.Machine
	log     *slog.Logger
	joins   chan joined // every join that was granted
	deny    func(id peer.ID) error
	end     func()
}

type joined struct {
	id peer.ID
	c  *conn
	at time.Time
}

func newBed(t *testing.T) *bed {
	b := &bed{
		t: t, dir: t.TempDir(), exec: takes(time.Second), assets: &assets{},
		m:     job.Machine{Facts: map[string][]string{"echo": {"1"}}, Devices: []job.Device{{Name: "cpu", Type: "cpu", Class: "x86"}}},
		joins: make(chan joined, 1024),
	}
	b.key, b.self = newPeer(t)
	b.swarm = &swarm{offers: make(chan job.Offer, 16), join: func(_ context.Context, id peer.ID) (Link, error) {
		if b.deny != nil {
			if err := b.deny(id); err != nil {
				return nil, err
			}
		}
		c := newConn()
		b.joins <- joined{id, c, time.Now()}
		return c, nil
	}}
	return b
}

// start runs a worker; end stops it and waits.
func (b *bed) start(o Options) {
	b.t.Helper()
	if b.machine == nil {
		b.machine = func() job.Machine { return b.m }
	}
	b.w = New(Deps{
		Self: b.self, Key: b.key, Swarm: b.swarm, Assets: b.assets, Exec: b.exec,
		Machine: b.machine, Dir: b.dir, Log: b.log,
	}, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.w.Run(ctx) }()
	var once sync.Once
	b.end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				b.t.Errorf("Run: %v", err)
			}
		})
	}
	b.t.Cleanup(b.end)
	synctest.Wait()
}

func (b *bed) offer(id peer.ID) {
	b.swarm.offers <- job.Offer{Job: job.NewID(time.Now()), Requester: id, Open: 1, Needs: job.Needs{Require: map[string]string{"echo": "1"}}}
	synctest.Wait()
}

// comes is a requester that offers work and is joined.
func (b *bed) comes() (peer.ID, *conn) {
	b.t.Helper()
	_, id := newPeer(b.t)
	b.offer(id)
	return id, b.joined().c
}

// joined returns the next link, which must exist.
func (b *bed) joined() joined {
	b.t.Helper()
	synctest.Wait()
	select {
	case j := <-b.joins:
		return j
	default:
		b.t.Fatal("nobody was joined")
		panic("unreachable")
	}
}

// said returns every report since the last call.
func said(c *conn) (out []job.Report) {
	synctest.Wait()
	for {
		select {
		case r := <-c.reports:
			out = append(out, r)
		default:
			return out
		}
	}
}

// order sends one.
func order(c *conn, o job.Order) {
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	if o.BeatEvery == 0 {
		o.BeatEvery = 20 * time.Second
	}
	c.orders <- o
	synctest.Wait()
}

func newLease(dev string, n int, input job.Ref) job.Lease {
	l := job.Lease{ID: job.NewLeaseID(time.Now()), Job: job.NewID(time.Now()), Device: dev, Epoch: 1, TTL: time.Minute}
	for i := range n {
		l.Tasks = append(l.Tasks, job.Granted{
			Task: job.Task{
				Kind: "echo", Params: []byte(fmt.Sprintf(`{"lease":%q,"n":%d}`, l.ID, i)), Input: input, Label: fmt.Sprint(i),
				Outputs: []job.OutputRule{{Name: "out.txt", Media: job.MediaFile, Final: "out.txt"}},
			},
			Fence: 1, SecretHash: job.HashSecret([]byte{byte(i)}),
		})
	}
	return l
}

// leaves opens the receipts of reports as the requester would.
func (b *bed) leaves(requester peer.ID, reports []job.Report) (out []job.Leaf, of []job.Receipt) {
	b.t.Helper()
	for _, rep := range reports {
		for _, s := range rep.Receipts {
			r, err := job.OpenReceipt(s, b.self, requester)
			if err != nil {
				b.t.Fatal(err)
			}
			out = append(out, r.Leaves...)
			of = append(of, r)
		}
	}
	return out, of
}

// done leaves out what was cancelled, which cancelled counts.
func done(leaves []job.Leaf) (out []job.Leaf, cancelled int) {
	for _, l := range leaves {
		if l.Outcome == job.Cancelled {
			cancelled++
		} else {
			out = append(out, l)
		}
	}
	return out, cancelled
}

func settled(l job.Lease, leaves ...job.Leaf) (o job.Order) {
	for _, leaf := range leaves {
		o.Settled = append(o.Settled, job.Settled{Job: l.Job, Lease: l.ID, Task: leaf.Task})
	}
	return o
}

func want(r job.Report, dev string) int {
	for _, b := range r.Bids {
		if b.Device == dev {
			return b.Want
		}
	}
	return 0
}
