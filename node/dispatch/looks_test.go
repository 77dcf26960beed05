package dispatch

import (
	"testing"

	"idlewild/job"
)

func TestNextLook(t *testing.T) {
	ruling := map[byte]job.Ruling{'A': job.Accepted, 'R': job.Rejected, 'U': job.Unsure}
	for _, c := range []struct {
		looks      string
		third, own bool
		disputes   int
		want       Step
	}{
		{"A", true, true, 0, Settle},
		{"U", true, true, 9, Settle},
		{"R", false, true, 9, LookAgain},
		{"RR", false, true, 0, Reject},
		{"RR", true, true, 0, LookThird},
		{"RA", true, true, 0, LookSame},
		{"RA", false, true, 9, Dispute},
		{"RU", true, true, 9, Dispute},
		{"RRR", true, true, 0, Confirm},
		{"RRR", true, false, 9, Reject}, // only strangers looked
		{"RRU", true, true, 0, Reject},
		{"RRA", true, true, 1, Dispute},
		{"RRA", true, true, 2, Reject},
		{"RRA", true, false, 2, Dispute},
		{"RAR", true, true, 1, Dispute},
		{"RAR", true, true, 2, Confirm},
		{"RAR", true, false, 2, Dispute},
		{"RAA", true, true, 9, Accept},
		{"RAU", true, true, 9, Dispute},
		// In small letters what another device class made.
		{"rr", true, true, 0, LookSame},
		{"rr", false, true, 0, Reject},
		{"rrA", true, true, 9, Dispute},
		{"rrR", true, true, 0, Confirm},
	} {
		var looks []Look
		for _, l := range []byte(c.looks) {
			foreign := l >= 'a'
			if foreign {
				l -= 'a' - 'A'
			}
			looks = append(looks, Look{Ruling: ruling[l], Foreign: foreign})
		}
		if got := NextLook(looks, c.third, c.own, c.disputes); got != c.want {
			t.Errorf("%s, third %v, own %v, %d disputes: %d, want %d", c.looks, c.third, c.own, c.disputes, got, c.want)
		}
	}
	// Whatever is found, at most three looks are taken.
	for _, a := range "AUR" {
		for _, b := range "AUR" {
			for _, c := range "AUR" {
				looks := []Look{{Ruling: ruling[byte(a)]}, {Ruling: ruling[byte(b)]}, {Ruling: ruling[byte(c)]}}
				if s := NextLook(looks, true, true, 0); s == LookAgain || s == LookSame || s == LookThird {
					t.Errorf("%c%c%c asks for a fourth look", a, b, c)
				}
			}
		}
	}
}
