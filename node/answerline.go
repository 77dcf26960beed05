package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/localapi"
	"idlewild/render/ai"
)

// pump hands requests to whoever is free. a.mu is held.
func (l *line) pump() {
	l.waiting = slices.DeleteFunc(l.waiting, (*waiting).over)
	if l.a.life.Err() != nil {
		return
	}
	now := time.Now()
	for len(l.waiting) > 0 {
		to, wait := l.pick(now)
		if to == "" {
			if len(l.busy) == 0 {
				l.impatient(now)
			}
			if l.timer == nil && len(l.waiting) > 0 && wait > 0 {
				l.timer = time.AfterFunc(wait, func() {
					l.a.mu.Lock()
					defer l.a.mu.Unlock()
					l.timer = nil
					l.pump()
				})
			}
			return
		}
		n, size, texts := 0, 0, 0
		for n < len(l.waiting) && n < l.m.looked.AtOnce(l.endpoint) {
			w := l.waiting[n]
			// What went wrong once goes alone, so that it spoils no other.
			if n > 0 && (w.tries > 0 || l.waiting[0].tries > 0 || size+len(w.body) > askedBytes || texts+w.texts > askedTexts) {
				break
			}
			size, texts = size+len(w.body), texts+w.texts
			n++
		}
		batch := slices.Clone(l.waiting[:n])
		l.waiting = slices.Delete(l.waiting, 0, n)
		l.busy[to] = true
		l.a.runs.Go(func() { l.run(to, batch) })
	}
}

// pick chooses who answers next: those that have the model loaded before others.
// Without anybody it says when to look again. a.mu is held.
func (l *line) pick(now time.Time) (to peer.ID, wait time.Duration) {
	wait = time.Second // somebody may come
	for _, p := range l.a.places.list() {
		if l.busy[p] {
			continue
		}
		if left := l.rest[p].Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if p != l.a.self {
			if s := l.a.score(p); s.Banned != "" {
				l.said[p] = "it gets no work: " + s.Banned
				continue
			}
		}
		if l.warm[p] {
			return p, 0
		}
		if to == "" {
			to = p
		}
	}
	return to, wait
}

// impatient ends requests that nobody could answer for too long. a.mu is held.
func (l *line) impatient(now time.Time) {
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiting) bool {
		if now.Sub(w.since) < l.a.patience || now.Sub(l.hope) < l.a.patience {
			return false
		}
		w.end(localapi.Answered{}, refused(http.StatusServiceUnavailable, "no_worker", "no machine of the farm answers: %s", l.reasons()))
		return true
	})
}

func (l *line) reasons() string {
	if len(l.said) == 0 {
		return "this machine's worker is off and no member is connected"
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(l.said)) {
		who := "this machine"
		if p != l.a.self {
			who = "member " + p.ShortString()
		}
		out = append(out, who+": "+l.said[p])
	}
	return strings.Join(out, "; ")
}

// run has one machine answer some requests.
func (l *line) run(to peer.ID, batch []*waiting) {
	err := l.attempt(to, batch)
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	delete(l.busy, to)
	if err == nil {
		l.warm[to] = true
		delete(l.said, to)
		l.pump()
		return
	}
	no, here := err.(*job.NotHere)
	delete(l.warm, to)
	l.said[to] = err.Error()
	switch {
	case here && no.Busy:
		l.hope = time.Now()
		l.rest[to] = l.hope.Add(restBusy)
	case here:
		l.rest[to] = time.Now().Add(restUnfit)
	default:
		l.rest[to] = time.Now().Add(restLost)
		l.a.log.Warn("requests go elsewhere", "peer", to, "reason", err)
	}
	var again []*waiting
	for _, w := range batch {
		if w.over() {
			continue
		}
		if !here {
			w.tries++
		}
		if w.tries >= askTries {
			w.end(localapi.Answered{}, refused(http.StatusBadGateway, "", "tried %d times: %v", w.tries, err))
			continue
		}
		again = append(again, w)
	}
	l.waiting = append(again, l.waiting...)
	l.pump()
}

func (l *line) attempt(to peer.ID, batch []*waiting) error {
	ctx, cancel := context.WithCancel(l.a.life)
	defer cancel()
	gone := make(chan struct{})
	defer close(gone)
	go func() { // who waits may all go away; who has an answer still wants its receipt
		for _, w := range batch {
			select {
			case <-w.done:
				if w.err == nil {
					return
				}
			case <-gone:
				return
			}
		}
		cancel()
	}()
	var given bytes.Buffer
	for i, w := range batch {
		b, err := json.Marshal(ai.Request{CustomID: fmt.Sprint(i + 1), Method: http.MethodPost, URL: l.endpoint, Body: w.body})
		if err != nil {
			return err
		}
		given.Write(append(b, '\n'))
	}
	t, err := l.m.looked.Asked(l.endpoint, l.m.root, given.Bytes(), len(batch), to != l.a.self)
	if err != nil {
		return err
	}
	ask := job.Ask{
		Version: 1, Job: l.m.id, Lease: job.NewLeaseID(time.Now()), Task: t, Name: ai.RequestsFile, Given: given.Bytes(),
	}
	if to != l.a.self {
		if ask.Read, err = job.Sign(l.a.key, job.ContextRead, job.ReadGrant{
			Version: 1, Job: ask.Job, Root: l.m.root, Reader: to.String(), Expires: time.Now().Add(time.Hour),
		}); err != nil {
			return err
		}
	}
	verdict := func(w *waiting) localapi.AnswerVerdict {
		v := localapi.AnswerVerdict{Answer: w.name, Verdict: "unverified", Worker: to.String()}
		if to == l.a.self {
			v.Verdict = "own"
		}
		return v
	}
	answer := func(rec media.Record) {
		if rec.Item < 1 || rec.Item > len(batch) {
			return
		}
		w := batch[rec.Item-1]
		body, err := ai.Body(l.endpoint, w.called, w.body, rec, time.Now())
		if err != nil {
			w.end(localapi.Answered{}, refused(http.StatusBadRequest, "", "%v", err))
			return
		}
		l.a.note(verdict(w))
		w.end(localapi.Answered{Body: body, Verdict: verdict(w)}, nil)
	}
	heard := func(data []byte) {
		var t ai.Told
		if json.Unmarshal(data, &t) != nil || t.Item < 1 || t.Item > len(batch) {
			return
		}
		if w := batch[t.Item-1]; len(t.Chunk) > 0 && !w.over() {
			if err := w.piece(t.Chunk, verdict(w)); err != nil {
				w.end(localapi.Answered{}, err)
			}
		}
		if t.Record != nil {
			answer(*t.Record)
		}
	}
	for _, w := range batch {
		w.stream.begin()
	}
	receipt, file, err := l.a.places.ask(ctx, to, ask, heard)
	if err != nil {
		return err
	}
	leaf, err := claimed(receipt, to, l.a.self, ask, file)
	if err != nil {
		return err
	}
	if leaf.Outcome != job.Succeeded {
		return fmt.Errorf("%s: %s", leaf.Outcome, leaf.Reason)
	}
	n := 0
	if err := media.ReadRecords(bytes.NewReader(file), func(r media.Record) error {
		if n++; r.Item != n {
			return fmt.Errorf("item %d stands where item %d belongs", r.Item, n)
		}
		answer(r)
		return nil
	}); err != nil {
		return err
	}
	if n != len(batch) {
		return fmt.Errorf("%d answers to %d requests", n, len(batch))
	}
	if to != l.a.self {
		c := answerClaim{task: t, ask: ask, worker: to, receipt: receipt, leaf: leaf, file: file}
		for _, w := range batch {
			c.names = append(c.names, w.name)
		}
		l.a.judge(c)
	}
	return nil
}
