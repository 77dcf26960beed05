package farmtest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/steward"
	"idlewild/node/worker"
)

// stewards implements steward.Net and steward.Store.
type stewards struct{ h *host }

func (s stewards) AskSteward(ctx context.Context, to peer.ID, q []byte) ([]byte, error) {
	if err := wait(ctx, s.h.farm.Latency); err != nil {
		return nil, err
	}
	o, err := s.h.farm.reach(s.h.id, to)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	answer := o.answer
	o.mu.Unlock()
	if answer == nil {
		return nil, fmt.Errorf("%s answers no questions", o.name)
	}
	a, err := answer(ctx, s.h.id, q)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, s.h.farm.Latency); err != nil {
		return nil, err
	}
	_, err = s.h.farm.reach(to, s.h.id)
	return a, err
}

func (s stewards) Hold(ctx context.Context, requester peer.ID, _ job.ID, _ job.Signed, roots []job.Ref) error {
	for _, r := range roots {
		b, err := s.h.fetch(ctx, requester, r)
		if err != nil {
			return err
		}
		s.h.put(b)
		var t tree
		if job.Decode(b, 1<<20, &t) != nil {
			continue // a result
		}
		for _, r := range t {
			b, err := s.h.fetch(ctx, requester, r)
			if err != nil {
				return err
			}
			s.h.put(b)
		}
	}
	return nil
}

func (stewards) Serve(context.Context, peer.ID, job.ID, job.Ref, []job.Ref) error { return nil }
func (stewards) Drop(context.Context, peer.ID, job.ID) error                      { return nil }

// startSteward makes the machine one that has stewards and is one.
func (r *Requester) startSteward(w *worker.Worker) (stop func()) {
	f := r.farm
	p, err := steward.New(steward.Deps{
		Self: r.id, Key: r.key, Jobs: r.Dispatcher, Net: stewards{r.host}, Store: stewards{r.host}, Dir: filepath.Join(r.dir, "steward"),
		Members: func() (out []peer.ID) {
			f.mu.Lock()
			all := slices.Collect(maps.Keys(f.peers))
			f.mu.Unlock()
			for _, id := range all {
				if _, err := f.reach(r.id, id); err == nil && id != r.id {
					out = append(out, id)
				}
			}
			return out
		},
		Hears: w.Hears,
		Heed:  func(c steward.Claim) string { return string(w.Claim(worker.Claim(c))) },
		Log:   f.Log.With("peer", r.name),
	}, *r.opts.Steward)
	if err != nil {
		f.T.Fatalf("stewards of %s: %v", r.name, err)
	}
	r.mu.Lock()
	r.answer = p.Answer
	r.mu.Unlock()
	stopped := r.host.run("stewards", p.Run)
	return func() {
		r.mu.Lock()
		r.answer = nil
		r.mu.Unlock()
		stopped()
	}
}

// Stewards are opts of a job: these machines go on with it.
func Stewards(by ...*Requester) func(*job.Spec) {
	return func(s *job.Spec) {
		for _, r := range by {
			s.Policy.Stewards = append(s.Policy.Stewards, r.id.String())
		}
	}
}

// RunsSince are the executions that began after at.
func (f *Farm) RunsSince(at time.Time) (out []Run) {
	for _, r := range f.Runs() {
		if !r.Start.Before(at) {
			out = append(out, r)
		}
	}
	return out
}
