package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/localapi"
	"idlewild/node/worker"
	"idlewild/p2p"
	"idlewild/verify"
)

// askedPlaces are this machine and the members that are connected to it.
type askedPlaces struct {
	self   peer.ID
	worker *worker.Worker
	host   *p2p.Host
	near   func() []peer.ID
	off    bool // this machine's worker takes nothing
}

func (x askedPlaces) list() []peer.ID {
	if x.off {
		return x.near()
	}
	return append([]peer.ID{x.self}, x.near()...)
}

func (x askedPlaces) ask(ctx context.Context, to peer.ID, a job.Ask, tell func([]byte)) (receipt job.Signed, file []byte, err error) {
	if to == x.self {
		return x.worker.Answer(ctx, x.self, a, tell)
	}
	b, err := job.Encode(a)
	if err != nil {
		return receipt, nil, err
	}
	var last job.Said
	err = x.host.Ask(ctx, to, b, job.MaxSaidBytes, func(piece []byte) error {
		var s job.Said
		if err := job.Decode(piece, job.MaxSaidBytes, &s); err != nil {
			return err
		}
		if err := s.Validate(); err != nil {
			return err
		}
		if last.Last() {
			return errors.New("it goes on after its last word")
		}
		if len(s.Data) > 0 {
			tell(s.Data)
		}
		last = s
		return nil
	})
	switch {
	case err != nil:
		return receipt, nil, err
	case last.No != "":
		return receipt, nil, &job.NotHere{Reason: last.No, Busy: last.Busy}
	case !last.Last():
		return receipt, nil, errors.New("it was lost in the middle of its answer")
	}
	return last.Receipt, last.Output, nil
}

// answering answers what members ask: p2p.Answerer.
type answering struct{ worker *worker.Worker }

func (x answering) Answer(ctx context.Context, from peer.ID, question []byte, say func([]byte) error) {
	send := func(s job.Said) {
		if b, err := job.Encode(s); err == nil {
			_ = say(b) // if nobody listens, ctx ends
		}
	}
	var a job.Ask
	if err := job.Decode(question, job.MaxAskBytes, &a); err != nil {
		send(job.Said{No: "what was asked is not understood here"})
		return
	}
	receipt, file, err := x.worker.Answer(ctx, from, a, func(data []byte) { send(job.Said{Data: data}) })
	var no *job.NotHere
	switch {
	case errors.As(err, &no):
		send(job.Said{No: no.Reason, Busy: no.Busy})
	case err != nil:
		send(job.Said{No: err.Error()})
	default:
		send(job.Said{Receipt: receipt, Output: file})
	}
}

// keepModel stores a model's files for workers to fetch.
func (c *content) keepModel(ctx context.Context, id job.ID, deps []job.Dep) (job.Ref, error) {
	s, err := c.Snapshot(ctx, id, deps, true)
	return job.RefOf(s.Root), err
}

// checkAnswers runs some answers of other machines again on this one, as often as
// their results are checked, until ctx ends. What comes of it goes into the book.
func (n *Node) checkAnswers(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-n.claims:
			if rand.Float64() < n.book.Score(c.worker).Rate {
				n.checkAnswer(ctx, c)
			}
		}
	}
}

// claim has an answer looked at, unless there are too many to be looked at.
func (n *Node) claim(c answerClaim) {
	select {
	case n.claims <- c:
	default:
	}
}

const maxClaims = 64

func (n *Node) checkAnswer(ctx context.Context, c answerClaim) {
	v, err := n.runAgain(ctx, c)
	if err != nil {
		n.log.Debug("an answer could not be checked", "peer", c.worker, "reason", err)
		return
	}
	if err := n.book.Record(c.worker, c.receipt, c.leaf, v); err != nil {
		n.log.Warn("the verdict on an answer is lost", "peer", c.worker, "error", err)
	}
	if v.Ruling == job.Rejected {
		n.log.Warn("an answer was wrong", "peer", c.worker, "reason", v.Reason)
	}
	for _, name := range c.names {
		n.asker.note(localapi.AnswerVerdict{Answer: name, Verdict: string(v.Ruling), Reason: v.Reason, Worker: c.worker.String()})
	}
}

// runAgain answers the same requests here and compares.
func (n *Node) runAgain(ctx context.Context, c answerClaim) (job.Verdict, error) {
	again := c.ask
	again.Lease = job.NewLeaseID(time.Now())
	start := time.Now()
	receipt, file, err := n.worker.Answer(ctx, n.self, again, func([]byte) {})
	if err != nil {
		return job.Verdict{}, err
	}
	leaf, err := claimed(receipt, n.self, n.self, again, file)
	if err == nil && leaf.Outcome != job.Succeeded {
		err = fmt.Errorf("running it again %s: %s", leaf.Outcome, leaf.Reason)
	}
	if err != nil {
		return job.Verdict{}, err
	}
	var check job.RerunCheck
	if err := job.Decode(c.task.Check.Params, job.MaxTaskBytes, &check); err != nil {
		return job.Verdict{}, err
	}
	var want []int
	var evidence []media.Record
	if err := recordsIn(file)(func(r media.Record) error {
		want, evidence = append(want, r.Item), append(evidence, r)
		return nil
	}); err != nil {
		return job.Verdict{}, err
	}
	v := verify.CompareRecords(verify.Count(check, want, recordsIn(c.file)), evidence, verify.MarginFor(check, c.leaf.DeviceClass, leaf.DeviceClass))
	v.CostSeconds = time.Since(start).Seconds()
	return v, nil
}
