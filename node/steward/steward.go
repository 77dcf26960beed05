// Package steward lets a job go on while its requester is silent.
//
// The requester of a job names stewards by rank, tells each every few seconds
// that it lives, and hands over the plan, the content and what has a result. A
// steward that has heard nothing for long enough asks the members whether they
// do, and if nobody does goes on with the job in a higher epoch. Once the
// requester is back it takes the receipts of what was done meanwhile, and the
// steward lets go.
//
// A Part is both sides. It decides when; package node/dispatch grants and
// judges, as for any job.
package steward

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/beat"
	"idlewild/job"
	"idlewild/node/dispatch"
)

// Net asks members.
type Net interface {
	AskSteward(ctx context.Context, p peer.ID, question []byte) ([]byte, error)
}

// Store keeps content of others' jobs.
type Store interface {
	// Hold brings a job's content, or outputs of its tasks, here from the
	// requester and whoever else has them, and keeps them until Drop.
	Hold(ctx context.Context, requester peer.ID, id job.ID, read job.Signed, roots []job.Ref) error
	// Serve lets this machine's workers read what is held, as the content of a job
	// and as results of its tasks.
	Serve(ctx context.Context, requester peer.ID, id job.ID, content job.Ref, results []job.Ref) error
	// Drop lets go of it.
	Drop(ctx context.Context, requester peer.ID, id job.ID) error
}

// Claim is a steward's word that it goes on with a job.
type Claim struct {
	Requester peer.ID
	Job       job.ID
	Steward   peer.ID
	Rank      int
	Epoch     uint64
	Quiet     time.Duration // for which the requester must have been out of reach
	For       time.Duration // how long it holds unless it is repeated
}

// Deps is what a Part needs of the rest of the program.
type Deps struct {
	Self    peer.ID
	Key     job.Signer
	Jobs    *dispatch.Dispatcher
	Net     Net
	Store   Store
	Members func() []peer.ID // that are connected
	// Hears says for how long a requester must be silent here not to be heard, and
	// whether it is.
	Hears func(requester peer.ID, quiet time.Duration) bool
	// Heed has this machine's worker heed a claim; the answer is as in an Answer.
	Heed func(Claim) string
	// Accept says whether this machine is a steward for a requester; nil: it is.
	Accept func(requester peer.ID) error
	Dir    string // what is followed, and finished files
	Log    *slog.Logger
}

// Options are the times of it. The zero value is meant for use.
type Options struct {
	Silence time.Duration // until the first steward goes on; 60 s
	Step    time.Duration // and each further one so much later; 30 s
	Beat    time.Duration // how often a requester speaks to its stewards; 10 s
	Claim   time.Duration // how often a steward repeats its claim; 20 s
	// Doubt is how long members are believed who say that they hear a requester
	// that is silent here; 10 min.
	Doubt time.Duration
	// Lasts is how long a delegation lasts after the requester was heard; 7 days.
	Lasts time.Duration
	Most  int // jobs of others that are followed; 64
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Silence, 60*time.Second)
	set(&o.Step, 30*time.Second)
	set(&o.Beat, 10*time.Second)
	set(&o.Claim, 20*time.Second)
	set(&o.Doubt, 10*time.Minute)
	set(&o.Lasts, 7*24*time.Hour)
	if o.Most <= 0 {
		o.Most = 64
	}
	return o
}

// Part is this machine as a requester with stewards, and as a steward.
type Part struct {
	deps Deps
	o    Options
	log  *slog.Logger
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
	// shorten is the length from which on a ward's log is rewritten.
	shorten int64

	mu      sync.Mutex
	closed  bool
	wards   map[wardKey]*ward
	calls   map[callKey]*call
	gone    map[callKey]bool // stewards that know that a job is over
	claimed time.Time
}

// New returns a Part with what it followed before. Run runs it.
func New(d Deps, o Options) (*Part, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	p := &Part{deps: d, o: o.withDefaults(), log: d.Log.With("part", "steward"), shorten: 4 * maxMessage,
		wards: map[wardKey]*ward{}, calls: map[callKey]*call{}, gone: map[callKey]bool{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	if err := p.load(); err != nil {
		p.end()
		return nil, fmt.Errorf("stewards: %w", err)
	}
	return p, nil
}

// Run works until ctx ends.
func (p *Part) Run(ctx context.Context) error {
	every := min(p.o.Silence/12, p.o.Beat/2)
	t := time.NewTimer(beat.Until(every))
	defer t.Stop()
	defer p.Close()
	for {
		wait := every
		if p.attend() {
			wait = min(every, p.o.Beat/10)
		}
		p.watch()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			t.Reset(beat.Until(wait))
		}
	}
}

// Close ends everything and waits for it; Run does the same at its end.
func (p *Part) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.wards {
		if err := w.log.Close(); err != nil {
			p.log.Warn("close", "job", w.id, "err", err)
		}
	}
}

// do runs f on the side; Run waits for it. mu is held.
func (p *Part) do(f func(ctx context.Context)) {
	if p.closed {
		return
	}
	p.wg.Go(func() { f(p.ctx) })
}

func (p *Part) ask(ctx context.Context, to peer.ID, q question) (answer, error) {
	b, err := job.Encode(q)
	if err != nil {
		return answer{}, err
	}
	if b, err = p.deps.Net.AskSteward(ctx, to, b); err != nil {
		return answer{}, err
	}
	var a answer
	if err := job.Decode(b, maxMessage, &a); err != nil {
		return answer{}, fmt.Errorf("answer of %s: %w", to, err)
	}
	return a, nil
}

// Answer answers a member's question.
func (p *Part) Answer(ctx context.Context, from peer.ID, b []byte) ([]byte, error) {
	var q question
	if err := job.Decode(b, maxMessage, &q); err != nil {
		return nil, err
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil, context.Canceled
	}
	var a answer
	d, requester, err := job.OpenDelegation(q.Delegation, time.Now())
	switch {
	case err != nil:
		a.Refused = err.Error()
	case q.Follow != nil && requester == from:
		a = p.follow(ctx, d, requester, q)
	case q.Claim != nil && d.Rank(from) >= 0:
		a.Stand = p.claim(d, requester, from, *q.Claim)
	default:
		a.Refused = "the delegation is not for that"
	}
	return job.Encode(a)
}
