package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/ledger"
	"idlewild/node/localapi"
	"idlewild/p2p"
	"idlewild/verify"
)

// Policy is what verdicts lead to on a machine with these settings.
func (c CheckConfig) Policy() ledger.Policy {
	return ledger.Policy{
		Rate:        func(checked, rejected int) float64 { return verify.Rate(checked, rejected, c.Rate) },
		AfterStrike: verify.AfterStrike,
		Doubted:     verify.Doubted,
		Doubt:       verify.Doubt,
		ClassRate:   verify.ClassRate,
		Ban:         verify.Ban,
		Unvested:    verify.Unvested,
		Trust: func(author peer.ID) int {
			switch {
			case slices.Contains(c.Trust, author.String()):
				return 2
			case slices.Contains(c.Trust, "*"):
				return 1
			}
			return 0
		},
	}
}

// checkers are the peers that check.checkers names.
func (c CheckConfig) checkers() []peer.ID {
	var out []peer.ID
	for _, id := range c.Checkers {
		if p, err := peer.Decode(id); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// farm is the farm that this machine is in, or "".
func (n *Node) farm() string {
	h := n.words.host.Load()
	if h == nil {
		return ""
	}
	f, ok := h.Membership().Farm()
	if !ok || f.Revoked {
		return ""
	}
	return string(f.ID)
}

// words is p2p.Words. Members may speak while this machine is still starting.
type words struct {
	n    *Node
	host atomic.Pointer[p2p.Host] // nil until everything is there

	mu    sync.Mutex
	early []earlyWord // came before that
}

type earlyWord struct {
	from peer.ID
	said job.Signed
}

const maxEarlyWords = 1024

// open is called once everything is there.
func (w *words) open() {
	w.mu.Lock()
	w.host.Store(w.n.host)
	early := w.early
	w.early = nil
	w.mu.Unlock()
	for _, e := range early {
		w.Heard(e.from, e.said)
	}
	if len(w.Words()) > 0 {
		w.n.host.Tell() // whoever said hello meanwhile heard nothing
	}
}

func (w *words) Words() []job.Signed {
	if w.host.Load() == nil {
		return nil
	}
	return w.n.book.Words(time.Now())
}

func (w *words) Heard(from peer.ID, s job.Signed) {
	w.mu.Lock()
	if w.host.Load() == nil {
		if len(w.early) < maxEarlyWords {
			w.early = append(w.early, earlyWord{from, s})
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	about, err := w.n.book.Import(from, s, time.Now())
	switch {
	case err == nil:
		w.n.log.Info("a member says how another stands", "author", from, "peer", about)
		w.n.jobs.Rescore(about)
	case errors.Is(err, ledger.ErrOfSelf):
		w.n.log.Warn("a member tells the others that it caught this machine, or takes it back", "author", from)
	case !errors.Is(err, ledger.ErrStale):
		w.n.log.Warn("a member's word is not believed", "author", from, "error", err)
	}
}

// told is dispatch.Book: what was found is told to the members.
type told struct{ n *Node }

func (t told) Record(worker peer.ID, receipt job.Signed, leaf job.Leaf, v job.Verdict) error {
	err := t.n.book.Record(worker, receipt, leaf, v)
	if err == nil && v.Confirmed {
		t.n.log.Warn("a peer was caught", "peer", worker, "reason", v.Reason)
		t.n.host.Tell()
	}
	return err
}

func (t told) Score(worker peer.ID) job.Score { return t.n.book.Score(worker) }

// Ban implements localapi.Farm.
func (f farmView) Ban(_ context.Context, id, reason string, d time.Duration) error {
	p, err := f.named(id)
	if err != nil {
		return err
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	if err := f.n.book.Ban(p, reason, until); err != nil {
		return err
	}
	f.n.jobs.Rescore(p)
	return nil
}

// Pardon implements localapi.Farm.
func (f farmView) Pardon(_ context.Context, id, reason string) error {
	p, err := f.named(id)
	if err != nil {
		return err
	}
	if err := f.n.book.Pardon(p, reason); err != nil {
		return err
	}
	f.n.jobs.Rescore(p)
	f.n.host.Tell()
	return nil
}

// named finds another member by its id or name.
func (f farmView) named(id string) (peer.ID, error) {
	p, err := peer.Decode(id)
	if err != nil {
		// People know members by name.
		var named []peer.ID
		for _, m := range f.n.host.Membership().Members() {
			if m.Name == id {
				named = append(named, m.Peer)
			}
		}
		switch len(named) {
		case 0:
			return "", job.Refuse("", fmt.Sprintf("no member is called %q", id), "see: idlewild farm members")
		case 1:
			p = named[0]
		default:
			return "", job.Refuse("", fmt.Sprintf("%d members are called %q", len(named), id), "give the peer id, see: idlewild farm members")
		}
	}
	if p == f.n.self {
		return "", job.Refuse("", selfNamed, "name another member, see: idlewild farm members")
	}
	return p, nil
}

// selfNamed is why named refuses this machine itself.
const selfNamed = "that is this machine"

// standing is what a person sees of a score.
func standing(s job.Score) localapi.Standing {
	return localapi.Standing{
		Checked: s.Checked, Accepted: s.Accepted, Rejected: s.Rejected, Confirmed: s.Confirmed, Unsure: s.Unsure, Strikes: s.Strikes, Warned: s.Warned,
		Evidence: s.Evidence, Precedence: precedence(s), Rate: s.Rate, Credit: s.Credit, Stake: s.Stake, Lost: s.Lost, Banned: s.Banned, Until: s.Until, Against: s.Against,
	}
}

// precedence is what the credit that a member earned with this machine's jobs
// buys on this machine.
func precedence(s job.Score) float64 { return verify.Precedence(s.Credit + s.Stake) }

func scoreText(s job.Score) string {
	if s.Banned != "" {
		text := "banned"
		if !s.Until.IsZero() {
			text += " until " + s.Until.Local().Format("2006-01-02 15:04")
		}
		return text + ": " + s.Banned
	}
	var parts []string
	if s.Checked > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d checked results accepted, %d rejected", s.Accepted, s.Checked, s.Rejected))
	}
	for _, x := range []struct {
		n    int
		text string
	}{{s.Strikes, "withheld or disputed"}, {s.Warned, "members say they caught it"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.text))
		}
	}
	if s.Evidence > 0 {
		parts = append(parts, "its results look more like a cheat's than an honest peer's: all are checked")
	}
	if s.Against != "" {
		parts = append(parts, "last: "+s.Against)
	}
	return strings.Join(parts, "; ")
}
