package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
)

// TestTheBetterOfTwoStewardsIsHeeded: of several that go on with a job the one
// with the higher epoch, then the better rank, for as long as its word lasts; and
// nobody while the requester is heard.
func TestTheBetterOfTwoStewardsIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.start(Options{})
		_, r := newPeer(t)
		_, first := newPeer(t)
		_, second := newPeer(t)
		id := job.NewID(time.Now())
		claim := func(of Claim) Stand {
			of.Requester, of.Job, of.Quiet, of.For = r, id, 20*time.Second, time.Minute
			return b.w.Claim(of)
		}
		for i, c := range []struct {
			claim Claim
			want  Stand
		}{
			{Claim{Steward: first, Rank: 1, Epoch: 7}, ""},
			{Claim{Steward: second, Rank: 0, Epoch: 6}, StandBetter},
			{Claim{Steward: second, Rank: 2, Epoch: 7}, StandBetter},
			{Claim{Steward: first, Rank: 1, Epoch: 7}, ""}, // it says so again
			{Claim{Steward: second, Rank: 0, Epoch: 7}, ""},
			{Claim{Steward: first, Rank: 1, Epoch: 7}, StandBetter},
			{Claim{Steward: first, Rank: 1, Epoch: 8}, ""},
		} {
			if got := claim(c.claim); got != c.want {
				t.Errorf("claim %d: %q, want %q", i, got, c.want)
			}
		}
		time.Sleep(59 * time.Second)
		if got := claim(Claim{Steward: second, Epoch: 7}); got != StandBetter {
			t.Errorf("the better one's word still lasts: %q", got)
		}
		time.Sleep(time.Second)
		if got := claim(Claim{Steward: second, Epoch: 7}); got != "" {
			t.Errorf("the better one is silent: %q", got)
		}
		b.offer(r)
		b.joined()
		if got := claim(Claim{Steward: first, Epoch: 9}); got != StandHeard {
			t.Errorf("the requester is heard: %q", got)
		}
	})
}

// TestSharesFade: what a requester was given an hour ago counts half.
func TestSharesFade(t *testing.T) {
	at := time.Unix(1e9, 0)
	s := share{given: 100, at: at}
	for past, want := range map[time.Duration]float64{-time.Hour: 100, 0: 100, shareHalfLife: 50, 2 * shareHalfLife: 25} {
		if got := s.now(at.Add(past)); got != want {
			t.Errorf("after %v: %g, want %g", past, got, want)
		}
	}
	if got := (share{}).now(at); got != 0 {
		t.Errorf("nothing was given: %g", got)
	}
}
