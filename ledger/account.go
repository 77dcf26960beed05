package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Policy is what verdicts lead to. The program takes it from package verify.
type Policy struct {
	// Rate is the share of a peer's results to check after so many checked and
	// rejected ones.
	Rate func(checked, rejected int) float64
	// AfterStrike changes that share for a peer with strikes, since results ago.
	// Nil changes nothing.
	AfterStrike func(rate float64, strikes, since int) float64
	// Doubted changes that share for what the rulings on a peer's newest judged
	// results, at most Doubt of them and oldest first, come to. evidence goes into
	// its score. Nil changes nothing.
	Doubted func(rate float64, history []job.Ruling) (changed, evidence float64)
	Doubt   int
	// ClassRate is the credit of a second of a device class. Nil: 1.
	ClassRate func(class string) float64
	// Ban is how long a peer gets no work that was caught for the nth time, from
	// 1. Nil: it is not banned.
	Ban func(nth int) time.Duration
	// Unvested is how many of the newest verified results a peer can lose the
	// credit of.
	Unvested int
	// Trust is how much the word of a member weighs here: 0 nothing, 1 what one
	// of several says, 2 enough by itself. Nil: nothing.
	Trust func(author peer.ID) int
}

// Account is what is known of one peer in one farm. It is a sum over entries
// and touches neither clock nor disk.
type Account struct {
	policy *Policy
	score  job.Score
	leaves map[[8]byte]standing // by the leaf's root
	// staked are the newest leaves that brought credit, oldest first: at most
	// Policy.Unvested.
	staked [][8]byte
	owners ban // by this machine's owner
	caught ban // by what was found here
	times  int // that it was caught
	words  []heard
	// disputed holds, for the newest judged results, whether they were disputed.
	disputed []bool
	// judged are the newest leaves whose rulings speak about the peer, oldest
	// first: at most Policy.Doubt.
	judged [][8]byte
	// pardons are when members took back what they had said.
	pardons map[peer.ID]time.Time
}

// ban keeps a peer from work.
type ban struct {
	reason string // empty: none
	until  time.Time
}

func (b ban) holds(now time.Time) bool {
	return b.reason != "" && (b.until.IsZero() || now.Before(b.until))
}

// standing is what the newest verdict on a leaf said.
type standing struct {
	ruling    uint8
	confirmed bool
	strike    bool
	odd       bool // unsure by what was measured of this peer's own frame
	credit    float64
	vested    bool
}

// recent is how many judged results count for Score.Disputes.
const recent = 50

const (
	stTrusted = iota
	stAccepted
	stRejected
	stUnsure
)

// NewAccount returns the account of a peer of which nothing is known.
func NewAccount(p *Policy) *Account {
	return &Account{policy: p, leaves: map[[8]byte]standing{}}
}

// Count puts an entry into the sums, in the place of an earlier one on the same
// leaf.
func (a *Account) Count(e Entry) {
	k := [8]byte(e.Root[:8])
	old, again := a.leaves[k]
	if again {
		a.add(old, -1)
	}
	s := standing{vested: old.vested, strike: e.Verdict.Strike}
	switch {
	case e.Verdict.Ruling == job.Rejected:
		s.ruling, s.confirmed = stRejected, e.Verdict.Confirmed
	case e.Verdict.Ruling == job.Unsure:
		// Without numbers it was the checker that failed; where checkers disagree it
		// may be one of them, and where machines or texts never agree, the task.
		s.ruling, s.odd = stUnsure, len(e.Verdict.Numbers) > 0 && e.Verdict.Method == job.MethodSampling && !e.Verdict.Strike
	case e.Verdict.Method != job.MethodTrusted:
		s.ruling, s.credit = stAccepted, e.Credit
	}
	a.leaves[k] = s
	a.add(s, 1)
	if a.policy.Doubt > 0 && (s.ruling == stAccepted || s.ruling == stRejected || s.odd) && !slices.Contains(a.judged, k) {
		a.judged = append(a.judged, k)
		a.judged = a.judged[max(0, len(a.judged)-a.policy.Doubt):]
	}
	if e.Verdict.Method != job.MethodTrusted {
		a.disputed = append(a.disputed, s.strike)
		a.disputed = a.disputed[max(0, len(a.disputed)-recent):]
	}
	switch {
	case s.ruling == stAccepted && !again:
		a.score.Since++
		a.stake(k)
	case s.ruling == stAccepted && old.ruling != stAccepted:
		a.stake(k)
	case s.strike && !old.strike:
		a.score.Since = 0
	}
	if s.ruling == stRejected || s.strike {
		a.score.Against = e.Verdict.Reason
	}
	if s.confirmed && !old.confirmed {
		a.forfeit(e)
	}
}

func (a *Account) add(s standing, n int) {
	switch s.ruling {
	case stAccepted:
		a.score.Checked += n
		a.score.Accepted += n
		if s.vested {
			a.score.Credit += float64(n) * s.credit
		} else {
			a.score.Stake += float64(n) * s.credit
		}
	case stRejected:
		a.score.Checked += n
		a.score.Rejected += n
	case stUnsure:
		a.score.Unsure += n
	}
	if s.confirmed {
		a.score.Confirmed += n
	}
	if s.strike {
		a.score.Strikes += n
	}
}

// stake puts a leaf's credit behind those that can be lost; the oldest of them
// is the peer's for good then.
func (a *Account) stake(k [8]byte) {
	if s := a.leaves[k]; s.vested || slices.Contains(a.staked, k) {
		return
	}
	a.staked = append(a.staked, k)
	for len(a.staked) > a.policy.Unvested {
		first := a.staked[0]
		a.staked = a.staked[1:]
		s := a.leaves[first]
		a.add(s, -1)
		s.vested = true
		a.add(s, 1)
		a.leaves[first] = s
	}
}

// forfeit is what a confirmed rejection costs.
func (a *Account) forfeit(e Entry) {
	for _, k := range a.staked {
		s := a.leaves[k]
		a.add(s, -1)
		a.score.Lost += s.credit
		s.credit, s.vested = 0, true
		a.add(s, 1)
		a.leaves[k] = s
	}
	a.staked = nil
	if a.policy.Ban == nil || a.caught.holds(e.At) {
		return // what was under way when it was caught is no second time
	}
	a.times++
	a.caught = ban{"caught: " + e.Verdict.Reason, e.At.Add(a.policy.Ban(a.times))}
}

// Score says how the peer stands at now.
func (a *Account) Score(now time.Time) job.Score {
	s := a.score
	s.Rate = min(1, max(0, a.policy.Rate(s.Checked, s.Rejected)))
	if a.policy.AfterStrike != nil {
		s.Rate = a.policy.AfterStrike(s.Rate, s.Strikes, s.Since)
	}
	if a.policy.Doubted != nil {
		var rate float64
		rate, s.Evidence = a.policy.Doubted(s.Rate, a.history())
		if s.Rate > 0 {
			s.Rate = rate
		}
	}
	for _, d := range a.disputed {
		if d {
			s.Disputes++
		}
	}
	b := a.caught
	switch {
	case a.owners.holds(now):
		b = a.owners
	case !b.holds(now):
		b = ban{}
	}
	if said, n := a.said(now); n > 0 {
		s.Warned = n
		if s.Rate > 0 {
			s.Rate = 1
		}
		if s.Against == "" {
			s.Against = said.reason
		}
		if b.reason == "" && !said.until.IsZero() {
			b = said
		}
	}
	s.Banned, s.Until = b.reason, b.until.UTC()
	return s
}

// history is how the newest judged results are ruled now.
func (a *Account) history() []job.Ruling {
	var out []job.Ruling
	for _, k := range a.judged {
		switch s := a.leaves[k]; {
		case s.ruling == stAccepted:
			out = append(out, job.Accepted)
		case s.ruling == stRejected:
			out = append(out, job.Rejected)
		case s.odd:
			out = append(out, job.Unsure)
		}
	}
	return out
}

// said is what the words of members come to: how many are heeded, and the ban
// that follows where they weigh enough.
func (a *Account) said(now time.Time) (b ban, heeded int) {
	if a.policy.Trust == nil || a.policy.Ban == nil {
		return ban{}, 0
	}
	weight := 0
	for _, w := range a.words {
		end := w.At.Add(a.policy.Ban(1))
		n := a.policy.Trust(w.author)
		if n <= 0 || !now.Before(end) {
			continue
		}
		heeded++
		b.reason = fmt.Sprintf("a member caught it: %s", w.Reason)
		weight += n
		if weight >= 2 {
			b.until = end
		}
	}
	if weight >= 2 && heeded > 1 {
		b.reason = fmt.Sprintf("%d members caught it: %s", heeded, a.words[len(a.words)-1].Reason)
	}
	return b, heeded
}
