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
	"idlewild/render/ai"
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

// runAgain judges answers by reading them again here, which costs a part of writing
// them, where they have commitments. Where they have none, or that leaves a doubt,
// they are written again and compared.
func (n *Node) runAgain(ctx context.Context, c answerClaim) (job.Verdict, error) {
	start := time.Now()
	v, read, err := n.readAgain(ctx, c)
	if no := (*job.NotHere)(nil); errors.As(err, &no) {
		return v, err
	}
	if err != nil {
		n.log.Debug("an answer could not be read again", "peer", c.worker, "reason", err)
	}
	if !read || err != nil || v.Ruling == job.Unsure {
		written, werr := n.writeAgain(ctx, c)
		switch {
		case werr != nil && (!read || err != nil):
			return v, werr
		case werr != nil || read && err == nil && written.Ruling == job.Unsure:
			// What reading it said is the better reason.
		default:
			v = written
		}
	}
	v.CostSeconds = time.Since(start).Seconds()
	return v, nil
}

// readAgain reads answers by what they are committed to; read is false where they
// have no commitments.
func (n *Node) readAgain(ctx context.Context, c answerClaim) (v job.Verdict, read bool, err error) {
	_, claims, err := recordsAll(c.file)
	if err != nil {
		return v, false, err
	}
	again := c.ask
	again.Task, again.Given, read, err = ai.Reread(c.task, c.ask.Given, claims, rand.IntN)
	if err != nil || !read {
		return v, false, err
	}
	_, file, err := n.askHere(ctx, again)
	if err != nil {
		return v, true, fmt.Errorf("reading it again: %w", err)
	}
	want, evidence, err := recordsAll(file)
	if err != nil {
		return v, true, err
	}
	var check job.RerunCheck
	if err := job.Decode(c.task.Check.Params, job.MaxTaskBytes, &check); err != nil {
		return v, true, err
	}
	return verify.CompareTokens(verify.Count(check, want, recordsIn(c.file)), evidence), true, nil
}

// writeAgain answers the same requests here and compares.
func (n *Node) writeAgain(ctx context.Context, c answerClaim) (v job.Verdict, err error) {
	leaf, file, err := n.askHere(ctx, c.ask)
	if err != nil {
		return v, err
	}
	var check job.RerunCheck
	if err := job.Decode(c.task.Check.Params, job.MaxTaskBytes, &check); err != nil {
		return v, err
	}
	want, evidence, err := recordsAll(file)
	if err != nil {
		return v, err
	}
	return verify.CompareRecords(verify.Count(check, want, recordsIn(c.file)), evidence, verify.MarginFor(check, c.leaf.DeviceClass, leaf.DeviceClass)), nil
}

// askHere has this machine do what is asked.
func (n *Node) askHere(ctx context.Context, a job.Ask) (leaf job.Leaf, file []byte, err error) {
	a.Lease = job.NewLeaseID(time.Now())
	receipt, file, err := n.worker.Answer(ctx, n.self, a, func([]byte) {})
	if err != nil {
		return leaf, nil, err
	}
	leaf, err = claimed(receipt, n.self, n.self, a, file)
	if err == nil && leaf.Outcome != job.Succeeded {
		err = fmt.Errorf("running it again %s: %s", leaf.Outcome, leaf.Reason)
	}
	return leaf, file, err
}

// recordsAll are the records of a file that is in memory, and their numbers.
func recordsAll(file []byte) (numbers []int, records []media.Record, err error) {
	err = recordsIn(file)(func(r media.Record) error {
		numbers, records = append(numbers, r.Item), append(records, r)
		return nil
	})
	return numbers, records, err
}
