package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

const day = 24 * time.Hour

// farmBook is a book in a farm, with a clock that the test moves.
type farmBook struct {
	*Book
	dir string
	o   Options
	now time.Time
}

func newFarmBook(t *testing.T, key crypto.PrivKey, trust func(peer.ID) int) *farmBook {
	t.Helper()
	f := &farmBook{dir: t.TempDir(), now: time.Unix(1_700_000_000, 0)}
	f.o = options(t, key)
	f.o.Farm, f.o.Now = func() string { return "farm" }, func() time.Time { return f.now }
	f.o.Policy.Ban = func(n int) time.Duration { return time.Duration(n) * 7 * day }
	f.o.Policy.Unvested, f.o.Policy.Trust = 3, trust
	f.o.Policy.AfterStrike = func(rate float64, strikes, since int) float64 {
		if strikes > 0 && since < 2 {
			return 1
		}
		return rate
	}
	f.open(t)
	return f
}

func (f *farmBook) open(t *testing.T) {
	t.Helper()
	b, err := Open(f.dir, f.o)
	if err != nil {
		t.Fatal(err)
	}
	f.Book = b
	t.Cleanup(func() { b.Close() })
}

// again closes and opens it: everything must follow from what is on disk.
func (f *farmBook) again(t *testing.T) {
	t.Helper()
	f.Book.Close()
	f.open(t)
}

func TestTheNewestCreditIsAStakeThatAConfirmedRejectionTakes(t *testing.T) {
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := newFarmBook(t, key, nil)
	s, leaves := work(t, wk, w, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	for _, l := range leaves[:5] {
		record(t, b.Book, w, s, l, job.Accepted, "sampling")
	}
	look := func(when string, want job.Score) {
		t.Helper()
		for range 2 {
			if got := b.Score(w); got != want {
				t.Errorf("%s: %+v, want %+v", when, got, want)
			}
			b.again(t)
		}
	}
	want := job.Score{Checked: 5, Accepted: 5, Since: 5, Rate: .1, Credit: 4, Stake: 6}
	look("five verified", want)

	// Rejected here alone: it is looked at closely, and keeps what it has.
	record(t, b.Book, w, s, leaves[5], job.Rejected, "sampling")
	want.Checked, want.Rejected, want.Rate, want.Against = 6, 1, 1, "because"
	look("rejected", want)

	// A third peer agrees.
	if err := b.Record(w, s, leaves[6], job.Verdict{Ruling: job.Rejected, Method: "sampling", Reason: "half the samples", Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	want.Checked, want.Rejected, want.Confirmed, want.Stake, want.Lost = 7, 2, 1, 0, 6
	want.Against, want.Banned, want.Until = "half the samples", "caught: half the samples", b.now.Add(7*day).UTC()
	look("confirmed", want)
	if ws := b.Words(b.now); len(ws) != 1 {
		t.Errorf("%d words", len(ws))
	}

	// What it had under way is found out as well: it was caught once.
	b.now = b.now.Add(time.Minute)
	confirmed := job.Verdict{Ruling: job.Rejected, Method: "sampling", Reason: "half the samples", Confirmed: true}
	if err := b.Record(w, s, leaves[7], confirmed); err != nil {
		t.Fatal(err)
	}
	want.Checked, want.Rejected, want.Confirmed = 8, 3, 2
	look("another one", want)

	b.now = b.now.Add(7 * day)
	want.Banned, want.Until = "", time.Time{}
	look("expired", want)

	if err := b.Record(w, s, leaves[8], confirmed); err != nil {
		t.Fatal(err)
	}
	want.Checked, want.Rejected, want.Confirmed = 9, 4, 3
	want.Banned, want.Until = "caught: half the samples", b.now.Add(14*day).UTC()
	look("a second time", want)

	// What it did in this farm is nothing to another.
	b.o.Farm = func() string { return "another" }
	b.again(t)
	if got := b.Score(w); got != (job.Score{Rate: 1}) {
		t.Errorf("in another farm: %+v", got)
	}
}

func TestACheckedResultStandsForTheOthers(t *testing.T) {
	p := &Policy{ClassRate: func(class string) float64 { return map[string]float64{"gpu/x": 10}[class] + 1 }}
	for _, c := range []struct {
		v    job.Verdict
		want float64
	}{
		{job.Verdict{Ruling: job.Accepted, Method: "sampling", Share: 1}, 22},
		{job.Verdict{Ruling: job.Accepted, Method: "sampling"}, 22},
		{job.Verdict{Ruling: job.Accepted, Method: "replication", Share: .05}, 440},
		{job.Verdict{Ruling: job.Accepted, Method: "sampling", Share: 1e-9}, 2200},
		{job.Verdict{Ruling: job.Accepted, Method: job.MethodTrusted, Share: .05}, 0},
		{job.Verdict{Ruling: job.Unsure, Method: "sampling", Share: 1}, 0},
		{job.Verdict{Ruling: job.Rejected, Method: "sampling", Share: 1}, 0},
	} {
		if got := p.Worth(Entry{Class: "gpu/x", Work: 2 * time.Second, Verdict: c.v}); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%v at %g: %g, want %g", c.v, c.v.Share, got, c.want)
		}
	}
}

func TestAStrikeHasTheNextResultsCheckedAndNothingElse(t *testing.T) {
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := newFarmBook(t, key, nil)
	s, leaves := work(t, wk, w, 1, 2, 3, 4, 5, 6)
	for _, l := range leaves[:3] {
		record(t, b.Book, w, s, l, job.Accepted, "sampling")
	}
	if err := b.Record(w, s, leaves[3], job.Verdict{Ruling: job.Unsure, Method: job.MethodTrusted, Reason: "withheld", Strike: true}); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if got := b.Score(w); got.Rate != 1 || got.Strikes != 1 || got.Rejected != 0 || got.Banned != "" || got.Stake != 6 {
		t.Errorf("%+v", got)
	}
	for _, l := range leaves[4:] {
		record(t, b.Book, w, s, l, job.Accepted, "sampling")
	}
	b.again(t)
	if got := b.Score(w); got.Rate != .1 || got.Since != 2 {
		t.Errorf("after two good ones: %+v", got)
	}
}

// say makes a word as its author would.
func say(t *testing.T, key crypto.PrivKey, w Word) job.Signed {
	t.Helper()
	s, err := job.Sign(key, job.ContextWord, w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Who stays just below what is rejected is checked at every result, until its
// results speak for it again; a checker's own trouble says nothing.
func TestUnsureByNumbersHasEverythingChecked(t *testing.T) {
	key, _ := newPeer(t)
	wk, w := newPeer(t)
	b := newFarmBook(t, key, nil)
	b.o.Policy.Doubt = 4
	b.o.Policy.Doubted = func(rate float64, history []job.Ruling) (float64, float64) {
		evidence := 0.0
		for _, r := range history {
			switch r {
			case job.Accepted:
				evidence--
			case job.Unsure:
				evidence += 2
			case job.Rejected:
				evidence += 10
			}
		}
		if evidence > 0 {
			return 1, evidence
		}
		return rate, evidence
	}
	b.again(t)
	s, leaves := work(t, wk, w, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	odd := map[string]float64{"z50": .2}
	say := func(r job.Ruling, numbers map[string]float64, leaves ...job.Leaf) {
		t.Helper()
		for _, l := range leaves {
			if err := b.Record(w, s, l, job.Verdict{Ruling: r, Method: "sampling", Reason: "because", Numbers: numbers}); err != nil {
				t.Fatal(err)
			}
		}
	}
	look := func(when string, rate, evidence float64) {
		t.Helper()
		for range 2 {
			if got := b.Score(w); got.Rate != rate || got.Evidence != evidence {
				t.Errorf("%s: rate %g, evidence %g; want %g, %g", when, got.Rate, got.Evidence, rate, evidence)
			}
			b.again(t)
		}
	}
	const usual = .1
	say(job.Accepted, nil, leaves[:3]...)
	look("accepted", usual, -3)
	say(job.Unsure, nil, leaves[3])
	look("the checker failed", usual, -3)
	for _, v := range []job.Verdict{{Method: "replication"}, {Method: "rerun"}, {Method: "sampling", Strike: true}} {
		v.Ruling, v.Reason, v.Numbers = job.Unsure, "because", odd
		if err := b.Record(w, s, leaves[3], v); err != nil {
			t.Fatal(err)
		}
		if got := b.Score(w).Evidence; got != -3 {
			t.Errorf("%s, strike %v: evidence %g", v.Method, v.Strike, got)
		}
	}
	b.o.Policy.AfterStrike = nil
	say(job.Unsure, nil, leaves[3])
	b.again(t)
	say(job.Unsure, odd, leaves[4])
	look("one is odd", usual, -1)
	say(job.Unsure, odd, leaves[5])
	look("two are, the oldest is forgotten", 1, 2)
	say(job.Accepted, nil, leaves[5]) // somebody looked closer
	look("it was not", usual, -1)
	say(job.Unsure, odd, leaves[5])
	look("it was", 1, 2)
	say(job.Accepted, nil, leaves[6:]...)
	look("the newest are good", usual, -4)
}

func TestWordsOfMembers(t *testing.T) {
	key, self := newPeer(t)
	ak, a := newPeer(t)
	ck, c := newPeer(t)
	nk, named := newPeer(t)
	sk, stranger := newPeer(t)
	_, w := newPeer(t)
	weights := map[peer.ID]int{a: 1, c: 1, named: 2}
	b := newFarmBook(t, key, func(p peer.ID) int { return weights[p] })
	at := b.now.Add(-time.Hour).UTC()
	word := func(author, about peer.ID) Word {
		return Word{Version: 1, Farm: "farm", Author: author.String(), Worker: about.String(), Job: "J", Root: make([]byte, 32), Reason: "cheap", At: at}
	}
	good := say(t, ak, word(a, w))
	mutate := func(f func(*Word)) job.Signed { x := word(a, w); f(&x); return say(t, ak, x) }
	flipped := job.Signed{Body: good.Body, Sig: append([]byte{good.Sig[0] ^ 1}, good.Sig[1:]...)}
	for what, bad := range map[string]struct {
		author peer.ID
		s      job.Signed
		is     error
	}{
		"another's":         {c, good, ErrForged},
		"a flipped bit":     {a, flipped, ErrForged},
		"another's name":    {a, mutate(func(x *Word) { x.Author = c.String() }), ErrForged},
		"about its author":  {a, mutate(func(x *Word) { x.Worker = a.String() }), ErrForged},
		"about nobody":      {a, mutate(func(x *Word) { x.Worker = "nobody" }), ErrForged},
		"about this one":    {a, mutate(func(x *Word) { x.Worker = self.String() }), nil},
		"of another farm":   {a, mutate(func(x *Word) { x.Farm = "other" }), nil},
		"of tomorrow":       {a, mutate(func(x *Word) { x.At = b.now.Add(time.Hour) }), ErrStale},
		"of another year":   {a, mutate(func(x *Word) { x.At = b.now.Add(-500 * day) }), ErrStale},
		"a book":            {a, mutate(func(x *Word) { x.Reason = strings.Repeat("x", maxWordReason+1) }), nil},
		"a library":         {a, mutate(func(x *Word) { x.Reason = strings.Repeat("x", MaxWordBytes) }), ErrForged},
		"without a result":  {a, mutate(func(x *Word) { x.Root = nil }), nil},
		"of another format": {a, mutate(func(x *Word) { x.Version = 2 }), nil},
	} {
		if _, err := b.Import(bad.author, bad.s, b.now); err == nil || bad.is != nil && !errors.Is(err, bad.is) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := b.Score(w); got.Warned != 0 {
		t.Fatalf("believed: %+v", got)
	}

	hear := func(author peer.ID, s job.Signed) {
		t.Helper()
		if _, err := b.Import(author, s, b.now); err != nil {
			t.Error(err)
		}
		b.again(t)
	}
	// One member's word makes this one look closely, a stranger's does not.
	hear(stranger, say(t, sk, word(stranger, w)))
	hear(a, good)
	if got := b.Score(w); got.Warned != 1 || got.Rate != 1 || got.Banned != "" {
		t.Errorf("one member: %+v", got)
	}
	if _, err := b.Import(a, good, b.now); !errors.Is(err, ErrStale) {
		t.Errorf("said twice: %v", err)
	}
	// Two are enough, until the first ban has run out.
	hear(c, say(t, ck, word(c, w)))
	if got := b.Score(w); got.Warned != 2 || !strings.Contains(got.Banned, "2 members") || !got.Until.Equal(at.Add(7*day)) {
		t.Errorf("two members: %+v", got)
	}
	// One of them takes it back, and what it said before cannot be played again.
	back := word(c, w)
	back.Pardon, back.Root, back.At = true, nil, at.Add(time.Minute)
	hear(c, say(t, ck, back))
	if got := b.Score(w); got.Warned != 1 || got.Banned != "" {
		t.Errorf("taken back: %+v", got)
	}
	if _, err := b.Import(c, say(t, ck, word(c, w)), b.now); !errors.Is(err, ErrStale) {
		t.Errorf("played again: %v", err)
	}
	// One that the owner named is enough; the owner's pardon beats all of them.
	hear(named, say(t, nk, word(named, w)))
	if got := b.Score(w); got.Banned == "" {
		t.Errorf("named: %+v", got)
	}
	if err := b.Pardon(w, "it was my driver"); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if got := b.Score(w); got.Banned != "" || got.Warned != 0 {
		t.Errorf("pardoned: %+v", got)
	}
	if _, err := b.Import(a, good, b.now); !errors.Is(err, ErrStale) {
		t.Errorf("played again after the pardon: %v", err)
	}
	// This machine has caught nobody: it has nothing to take back.
	if ws := b.Words(b.now); len(ws) != 0 {
		t.Errorf("%d words", len(ws))
	}
}

func TestAPardonIsToldToThoseWhoHeardTheWord(t *testing.T) {
	key, self := newPeer(t)
	otherKey, _ := newPeer(t)
	wk, w := newPeer(t)
	b := newFarmBook(t, key, nil)
	other := newFarmBook(t, otherKey, func(p peer.ID) int { return 2 })
	s, leaves := work(t, wk, w, 1)
	if err := b.Record(w, s, leaves[0], job.Verdict{Ruling: job.Rejected, Method: "sampling", Reason: "cheap", Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	pass := func() {
		t.Helper()
		b.again(t)
		for _, s := range b.Words(b.now) {
			if _, err := other.Import(self, s, b.now); err != nil {
				t.Error(err)
			}
		}
	}
	pass()
	if got := other.Score(w); got.Banned == "" {
		t.Errorf("%+v", got)
	}
	b.now = b.now.Add(time.Minute)
	if err := b.Pardon(w, ""); err != nil {
		t.Fatal(err)
	}
	pass()
	if got := other.Score(w); got.Banned != "" {
		t.Errorf("after the pardon: %+v", got)
	}
}

func TestWordsAreBounded(t *testing.T) {
	key, _ := newPeer(t)
	ak, a := newPeer(t)
	b := newFarmBook(t, key, func(peer.ID) int { return 1 })
	b.heardOf = maxHeard
	_, w := newPeer(t)
	word := Word{Version: 1, Farm: "farm", Author: a.String(), Worker: w.String(), Root: make([]byte, 32), At: b.now}
	if _, err := b.Import(a, say(t, ak, word), b.now); err == nil {
		t.Error("words about any number of peers are kept")
	}
	// Where no more members are heard about a peer, each of those that were can
	// still take back what it said.
	b.mu.Lock()
	b.heardOf = 0
	about := b.account(key2(w))
	about.words = []heard{{Word: word, author: a}}
	for i := 1; i < maxAuthors; i++ {
		about.words = append(about.words, heard{author: peer.ID(fmt.Sprint(i))})
	}
	b.mu.Unlock()
	ck, c := newPeer(t)
	late := word
	late.Author = c.String()
	if _, err := b.Import(c, say(t, ck, late), b.now); err == nil {
		t.Error("any number of members is heard about one peer")
	}
	back := word
	back.Pardon, back.Root, back.At = true, nil, b.now.Add(time.Second)
	if _, err := b.Import(a, say(t, ak, back), b.now); err != nil || len(about.words) != maxAuthors-1 {
		t.Errorf("taken back: %v, %d words are left", err, len(about.words))
	}
	// What is said is bounded as well, and the newest goes first.
	for i := range MaxWords + 10 {
		_, p := newPeer(t)
		b.mu.Lock()
		b.word(key2(p), Word{Root: make([]byte, 32), Reason: fmt.Sprint(i), At: b.now.Add(time.Duration(i) * time.Second)})
		b.mu.Unlock()
	}
	ws := b.Words(b.now)
	var first Word
	if err := ws[0].Open(b.o.Self, job.ContextWord, MaxWordBytes, &first); err != nil || len(ws) != MaxWords || first.Reason != fmt.Sprint(MaxWords+9) {
		t.Errorf("%d words, the first is %+v, %v", len(ws), first, err)
	}
}

func key2(p peer.ID) key { return key{"farm", p} }
