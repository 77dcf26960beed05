package dispatch

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// testPeer is the same peer whenever it is called with the same name.
func testPeer(t tester, name string) (crypto.PrivKey, peer.ID) {
	t.Helper()
	seed := sha256.Sum256([]byte("test peer " + name))
	k, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, id
}

func refOf(b []byte) job.Ref {
	h, err := mh.Sum(b, mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return job.RefOf(cid.NewCidV1(cid.Raw, h))
}

// fakeParams are what a fake job asks for.
type fakeParams struct {
	Frames  int             `json:"frames"`
	Parts   int             `json:"parts,omitempty"` // tasks that each frame is joined from, at the requester
	Check   job.CheckMethod `json:"check,omitempty"`
	Needs   map[string]string
	Bad     string `json:"bad,omitempty"`     // inspection finds this wrong
	Crash   string `json:"crash,omitempty"`   // inspection itself fails
	Film    bool   `json:"film,omitempty"`    // one more task, made of all frames
	Reels   int    `json:"reels,omitempty"`   // so many frames are first put together for the film
	Larger  bool   `json:"larger,omitempty"`  // a task anywhere after each frame and one for all, that needs the fact "model"
	Member  bool   `json:"member,omitempty"`  // parts are joined anywhere, and that is checked
	NoFinal bool   `json:"nofinal,omitempty"` // nothing is delivered
}

// fakeKind plans frames that cost what their parameters say.
type fakeKind struct{}

func (fakeKind) Inspect(_ context.Context, s job.Spec) (job.Inspection, error) {
	var p fakeParams
	if err := json.Unmarshal(s.Params, &p); err != nil {
		return job.Inspection{}, job.Refuse("params", err.Error(), "write JSON")
	}
	if p.Crash != "" {
		return job.Inspection{}, fmt.Errorf("%s", p.Crash)
	}
	in := job.Inspection{Facts: json.RawMessage(`{}`), Deps: []job.Dep{{Path: s.Input, Name: "scene"}}}
	if p.Bad != "" {
		in.Problems = append(in.Problems, job.Problem{Severity: job.SeverityError, Where: "scene", Message: p.Bad, Remedy: "mend it"})
	}
	return in, nil
}

func (fakeKind) Plan(s job.Spec, _ job.Inspection, input cid.Cid) ([]job.Task, error) {
	var p fakeParams
	if err := json.Unmarshal(s.Params, &p); err != nil {
		return nil, err
	}
	return fakeTasks(p, job.RefOf(input)), nil
}

func fakeTasks(p fakeParams, input job.Ref) []job.Task {
	var out []job.Task
	for f := range p.Frames {
		label := fmt.Sprint(f + 1)
		t := job.Task{Kind: "fake", Params: []byte(label), Input: input, Label: label, Rank: f, Needs: job.Needs{Require: p.Needs}, Check: job.Check{Method: p.Check, Output: "out"}}
		t.Outputs = []job.OutputRule{{Name: "out", Media: job.MediaFile, Final: label + ".txt"}}
		if p.NoFinal {
			t.Outputs[0].Final = ""
		}
		if p.Parts == 0 {
			out = append(out, t)
			if p.Larger {
				model := job.Task{Kind: "fake", Params: []byte("model"), Label: "model", Place: job.AtRequester, Outputs: []job.OutputRule{{Name: "out", Media: job.MediaFile}}}
				if f == 0 {
					out = append(out, model)
				}
				out = append(out, job.Task{Kind: "fake", Params: []byte("larger " + label), Label: label + " larger", Rank: f, After: []job.TaskKey{t.Key(), model.Key()},
					Needs: job.Needs{Require: map[string]string{"model": "1"}}, Outputs: []job.OutputRule{{Name: "out", Media: job.MediaFile, Final: "larger/" + label + ".txt"}}})
			}
			continue
		}
		join := t
		if join.Place = job.AtMember; !p.Member {
			join.Place, join.Check = job.AtRequester, job.Check{}
		}
		join.Params = []byte("join " + label)
		for i := range p.Parts {
			part := t
			part.Params = []byte(fmt.Sprintf("%s.%d", label, i))
			part.Label = fmt.Sprintf("%s.%d", label, i)
			part.Outputs = []job.OutputRule{{Name: "out", Media: job.MediaFile}}
			out = append(out, part)
			join.After = append(join.After, part.Key())
		}
		out = append(out, join)
	}
	if p.Film {
		film := job.Task{Kind: "fake", Params: []byte("film"), Label: "film", Rank: p.Frames, Place: job.AtRequester,
			Outputs: []job.OutputRule{{Name: "out", Media: job.MediaFile, Final: "film.txt"}}}
		var reels []job.Task
		for _, t := range out {
			switch n := len(reels); {
			case !isFinal(t):
			case p.Reels == 0:
				film.After = append(film.After, t.Key())
			case n == 0 || len(reels[n-1].After) == p.Reels:
				label := fmt.Sprint("reel ", n+1)
				reels = append(reels, job.Task{Kind: "fake", Params: []byte(label), Label: label, Rank: t.Rank, Place: job.AtRequester,
					Outputs: []job.OutputRule{{Name: "out", Media: job.MediaFile}}, After: []job.TaskKey{t.Key()}})
			default:
				reels[n-1].After = append(reels[n-1].After, t.Key())
			}
		}
		for _, r := range reels {
			film.After = append(film.After, r.Key())
		}
		out = append(out, reels...)
		out = append(out, film)
	}
	return out
}

// truth is what running t honestly gives.
func truth(t job.Task) []byte { return []byte("picture of " + string(t.Params)) }

// world is everything outside a Dispatcher, on shelves.
type world struct {
	t    testing.TB
	mu   sync.Mutex
	data map[string][]byte // outputs by CID

	offers    []job.Offer
	files     map[string][]byte // delivered, by path
	delivered map[string]int    // how often
	entries   map[string]string // verdicts by worker, task and fence
	scores    map[peer.ID]*job.Score
	rate      float64
	released  []job.ID
	snapshot  []byte // contents of the job's files
	full      bool   // the output folder
	moved     bool   // the same
	gone      map[peer.ID]bool
	existing  map[string]bool      // final files that were there before
	touched   map[string]time.Time // when they were written to by others
	differs   map[string]string    // by label, what comparing files finds
	adopted   []string             // labels of tasks whose files were taken again
	fetches   int
	judged    int
	kind      Kind // nil: fakeKind
	disk      recordlog.Disk
}

func newWorld(t testing.TB) *world {
	return &world{t: t, data: map[string][]byte{}, files: map[string][]byte{}, delivered: map[string]int{}, entries: map[string]string{},
		scores: map[peer.ID]*job.Score{}, gone: map[peer.ID]bool{}, existing: map[string]bool{}, snapshot: []byte("scene")}
}

func (w *world) Snapshot(_ context.Context, _ job.ID, deps []job.Dep, _ bool) (Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Snapshot{Root: refOf(w.snapshot).Cid, Files: len(deps), Bytes: 5, NewBytes: 3, NewBlocks: 1}, nil
}

func (w *world) Served(job.ID) int64 { return 42 }

func (w *world) Release(_ context.Context, id job.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = append(w.released, id)
	return nil
}

func (w *world) Announce(_ context.Context, o job.Offer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offers = append(w.offers, o)
	return nil
}

func (w *world) Fetch(_ context.Context, r Returned, dir string) (int64, error) {
	worker, leaf := r.Worker, r.Leaf
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetches++
	if w.gone[worker] {
		return 0, fmt.Errorf("fetch: no connection")
	}
	n := int64(0)
	for _, o := range leaf.Outputs {
		b, ok := w.data[o.File.String()]
		if !ok {
			return 0, fmt.Errorf("fetch: block %s not found", o.File)
		}
		if err := os.WriteFile(filepath.Join(dir, o.Name), b, 0o600); err != nil {
			return 0, err
		}
		n += int64(len(b))
	}
	return n, nil
}

func (w *world) put(b []byte) job.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := refOf(b)
	w.data[r.String()] = b
	return r
}

func (w *world) Challenge(t job.Task, leaf job.Leaf, secret []byte, rate float64) ([]job.Task, error) {
	root := leaf.Root()
	h := sha256.Sum256(append(root[:], secret...))
	if float64(h[0])/256 >= rate {
		return nil, nil
	}
	t.Outputs = []job.OutputRule{{Name: "out", Media: job.MediaFile}}
	t.Check = job.Check{}
	return []job.Task{t}, nil
}

func (w *world) Judge(_ context.Context, _ job.Task, _ job.Leaf, dir string, ev []Evidence) job.Verdict {
	w.mu.Lock()
	w.judged++
	w.mu.Unlock()
	claim, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		return job.Verdict{Ruling: job.Unsure, Method: "exact", Reason: err.Error()}
	}
	for _, e := range ev {
		again, err := os.ReadFile(filepath.Join(e.Dir, "out"))
		if err != nil {
			return job.Verdict{Ruling: job.Unsure, Method: "exact", Reason: err.Error()}
		}
		if !bytes.Equal(claim, again) {
			return job.Verdict{Ruling: job.Rejected, Method: "exact", Reason: "it is another picture"}
		}
	}
	return job.Verdict{Ruling: job.Accepted, Method: "exact", Reason: "equal"}
}

func (w *world) Learn(job.Task, Vouched) {}

func (w *world) Record(p peer.ID, _ job.Signed, leaf job.Leaf, v job.Verdict) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries[fmt.Sprintf("%s %s %x", p, leaf.Task, leaf.Fence)] = string(v.Ruling) + " " + v.Method
	s := w.scores[p]
	if s == nil {
		s = &job.Score{}
		w.scores[p] = s
	}
	if v.Ruling == job.Rejected {
		s.Rejected++
	}
	return nil
}

func (w *world) Score(p peer.ID) Score {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s job.Score
	if x := w.scores[p]; x != nil {
		s = *x
	}
	s.Rate = w.rate
	if s.Rejected > 0 {
		s.Rate = 1
	}
	return s
}

func (w *world) Deliver(_ context.Context, s job.Spec, t job.Task, dir string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return nil, fmt.Errorf("no space left")
	}
	var out []string
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, o.Name))
		if err != nil {
			return nil, err
		}
		path := filepath.Join(s.Output, o.Final)
		w.files[path] = b
		w.delivered[path]++
		out = append(out, path)
	}
	return out, nil
}

func (w *world) Housed(s job.Spec) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved {
		return fmt.Errorf("%s is not there", s.Output)
	}
	return nil
}

// Adopt takes what lies in the output folder.
func (w *world) Adopt(_ context.Context, _ job.ID, t job.Task, _ []string) ([]job.Output, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adopted = append(w.adopted, t.Label)
	b := truth(t)
	w.data[refOf(b).String()] = b
	return []job.Output{{Name: "out", Media: job.MediaFile, File: refOf(b), Bytes: int64(len(b))}}, nil
}

func (w *world) Delivered(_ job.Spec, t job.Task) bool {
	for _, o := range t.Outputs {
		if o.Final != "" && !w.existing[o.Final] {
			return false
		}
	}
	return true
}

func (w *world) Kept(s job.Spec, t job.Task, at time.Time) bool {
	for _, o := range t.Outputs {
		if w.touched[o.Final].After(at) {
			return false
		}
	}
	return w.Delivered(s, t)
}

func (w *world) Differs(_ context.Context, _ job.Spec, t job.Task, _ string) (string, error) {
	time.Sleep(10 * time.Second) // of the bubble: several are under way at a time
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.differs[t.Label], nil
}

func (w *world) Check(s job.Spec) error {
	if strings.HasPrefix(s.Output, "/nowhere") {
		return fmt.Errorf("%s: permission denied", s.Output)
	}
	return nil
}

func (w *world) deps(dir string, key crypto.PrivKey, self peer.ID) Deps {
	k := w.kind
	if k == nil {
		k = fakeKind{}
	}
	return Deps{Self: self, Key: key, Kinds: map[job.Kind]Kind{"fake": k}, Content: w, Market: w, Results: w, Judge: w, Book: w, Sink: w, Dir: dir, Disk: w.disk,
		Log: slog.New(slog.DiscardHandler)}
}

func spec(p fakeParams) job.Spec {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return job.Spec{Kind: "fake", Input: "/in/scene.x", Output: "/out", Params: b}
}

// fakeWorker runs leases in fake time, as a real worker would.
type fakeWorker struct {
	w       *world
	key     crypto.PrivKey
	id      peer.ID
	machine job.Machine
	cost    func(job.Task) time.Duration
	cheat   func(job.Task) bool
	outcome func(job.Task) job.Outcome // nil: succeeded

	mu      sync.Mutex
	session string
	unsent  []job.Signed // receipts that are not settled
	ran     map[string]int
	orders  int
	reports int
	resting string
	secrets int
	settled map[job.Ruling]int
	hashes  map[string][]byte
}

func newFakeWorker(t testing.TB, w *world, name string, cost time.Duration) *fakeWorker {
	key, id := testPeer(t, name)
	return &fakeWorker{w: w, key: key, id: id, session: "s1", ran: map[string]int{}, settled: map[job.Ruling]int{}, hashes: map[string][]byte{},
		cost:    func(job.Task) time.Duration { return cost },
		machine: job.Machine{Facts: map[string][]string{"fake": {"1"}}, Devices: []job.Device{{Name: "cpu", Type: "cpu"}}}}
}

// homeOnly makes f the worker of the requester's own machine: it only does
// what must be done there.
func (f *fakeWorker) homeOnly() *fakeWorker {
	f.machine.Devices = []job.Device{{Name: job.HomeDevice, Type: "cpu"}}
	return f
}

type fakeLease struct {
	job.Lease
	at   int
	stop chan struct{}
	once sync.Once
	frac float64
}

func (l *fakeLease) end() { l.once.Do(func() { close(l.stop) }) }

// run works on one stream until it or ctx ends.
func (f *fakeWorker) run(ctx context.Context, d interface {
	Open(context.Context, peer.ID) (chan<- job.Report, <-chan job.Order)
}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out := d.Open(ctx, f.id)
	defer close(in)
	var mu sync.Mutex
	queues := map[string][]*fakeLease{}
	var leases []*fakeLease
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	first := true
	f.mu.Lock()
	pendingReceipts := slices.Clone(f.unsent)
	f.mu.Unlock()
	report := func() bool {
		mu.Lock()
		r := job.Report{Session: f.session}
		if first {
			m := f.machine
			r.Machine = &m
			first = false
		}
		load := map[string]int{}
		for _, l := range leases {
			r.Progress = append(r.Progress, job.Progress{Lease: l.ID, Task: l.at, Fraction: l.frac, Phase: "rendering"})
			load[l.Device]++
		}
		for _, dev := range f.machine.Devices {
			if want := 2 - load[dev.Name]; want > 0 {
				r.Bids = append(r.Bids, job.Bid{Device: dev.Name, Want: want})
			}
		}
		r.Receipts = pendingReceipts
		pendingReceipts = nil
		mu.Unlock()
		select {
		case in <- r:
			f.mu.Lock()
			f.reports++
			f.mu.Unlock()
			return true
		case <-ctx.Done():
			return false
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	work := map[string]chan struct{}{}
	for _, dev := range f.machine.Devices {
		ch := make(chan struct{}, 1)
		work[dev.Name] = ch
		wg.Go(func() {
			for {
				mu.Lock()
				var l *fakeLease
				if q := queues[dev.Name]; len(q) > 0 {
					l, queues[dev.Name] = q[0], q[1:]
				}
				mu.Unlock()
				if l == nil {
					select {
					case <-ch:
						continue
					case <-ctx.Done():
						return
					}
				}
				f.lease(ctx, l, &mu, func(s *job.Signed, last bool) {
					mu.Lock()
					if s != nil {
						f.mu.Lock()
						f.unsent = append(f.unsent, *s)
						f.mu.Unlock()
						pendingReceipts = append(pendingReceipts, *s)
					}
					if last {
						leases = slices.DeleteFunc(leases, func(x *fakeLease) bool { return x == l })
					}
					mu.Unlock()
					poke()
				})
			}
		})
	}
	wg.Go(func() {
		defer cancel()
		for o := range out {
			if err := o.Validate(); err != nil {
				f.w.t.Errorf("bad order: %v", err)
			}
			f.mu.Lock()
			f.orders++
			f.resting = o.Resting
			f.mu.Unlock()
			mu.Lock()
			for _, l := range o.Leases {
				if _, err := job.OpenReadGrant(l.Read, requesterID(f.w.t), f.id, time.Now()); err != nil {
					f.w.t.Errorf("lease without a read grant: %v", err)
				}
				x := &fakeLease{Lease: l, at: -1, stop: make(chan struct{})}
				leases = append(leases, x)
				queues[l.Device] = append(queues[l.Device], x)
				select {
				case work[l.Device] <- struct{}{}:
				default:
				}
				f.mu.Lock()
				for _, g := range l.Tasks {
					f.hashes[string(l.ID)+g.Task.Key().String()] = g.SecretHash
				}
				f.mu.Unlock()
			}
			for _, s := range o.Stops {
				for _, l := range leases {
					if l.ID == s.Lease {
						l.end()
					}
				}
			}
			mu.Unlock()
			for _, s := range o.Settled {
				f.settle(s)
			}
		}
	})
	beat := time.NewTicker(20 * time.Second)
	defer beat.Stop()
	for report() {
		select {
		case <-wake:
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
}

func requesterID(t testing.TB) peer.ID { _, id := testPeer(t, "requester"); return id }

func (f *fakeWorker) settle(s job.Settled) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled[s.Ruling]++
	if len(s.Secret) > 0 {
		if h := f.hashes[string(s.Lease)+s.Task.String()]; h != nil && !job.SecretMatches(s.Secret, h) {
			f.w.t.Errorf("the secret of %s is not what was committed to", s.Task)
		}
		f.secrets++
	}
	f.unsent = slices.DeleteFunc(f.unsent, func(x job.Signed) bool {
		var r job.Receipt
		if err := job.Decode(x.Body, job.MaxReceiptBytes, &r); err != nil {
			f.w.t.Error(err)
		}
		return r.Lease == s.Lease && r.Leaves[0].Task == s.Task
	})
}

// lease runs a lease's tasks one after the other, with a receipt for each.
func (f *fakeWorker) lease(ctx context.Context, l *fakeLease, mu *sync.Mutex, done func(*job.Signed, bool)) {
	for i, g := range l.Tasks {
		mu.Lock()
		l.at = i
		mu.Unlock()
		start := time.Now()
		t := time.NewTimer(f.cost(g.Task))
		stopped := false
		select {
		case <-t.C:
		case <-l.stop:
			stopped = true
		case <-ctx.Done():
			t.Stop()
			return // the process is gone: no word of it
		}
		t.Stop()
		leaf := job.Leaf{Task: g.Task.Key(), Fence: g.Fence, Outcome: job.Succeeded, Device: l.Device,
			Meter: job.Meter{Wall: time.Since(start), Render: time.Since(start)}}
		if f.outcome != nil {
			if o := f.outcome(g.Task); o != "" {
				leaf.Outcome, leaf.Reason = o, "it happened"
			}
		}
		if stopped {
			leaf.Outcome, leaf.Reason = job.Cancelled, "stopped"
		}
		if leaf.Outcome == job.Succeeded {
			b := truth(g.Task)
			if f.cheat != nil && f.cheat(g.Task) {
				b = []byte("lie about " + string(g.Task.Params))
			}
			if len(g.Prior) != len(g.Task.After) {
				f.w.t.Errorf("task %s: %d priors", g.Task.Label, len(g.Prior))
			}
			for _, p := range g.Prior {
				for _, o := range p.Outputs {
					f.w.mu.Lock()
					if got := f.w.data[o.File.String()]; !strings.HasPrefix(string(got), "picture of ") {
						f.w.t.Errorf("task %s is made of %q", g.Task.Label, got)
					}
					f.w.mu.Unlock()
				}
			}
			for _, o := range g.Task.Outputs {
				leaf.Outputs = append(leaf.Outputs, job.Output{Name: o.Name, Media: o.Media, File: f.w.put(b), Bytes: int64(len(b))})
			}
		}
		f.mu.Lock()
		f.ran[g.Task.Label]++
		f.mu.Unlock()
		s, err := job.SignReceipt(f.key, job.Receipt{Version: 1, Requester: requesterID(f.w.t).String(), Worker: f.id.String(), Job: l.Job, Lease: l.ID, Epoch: l.Epoch, Leaves: []job.Leaf{leaf}})
		if err != nil {
			f.w.t.Error(err)
		}
		done(&s, i == len(l.Tasks)-1 || stopped)
		if stopped {
			return
		}
	}
}
