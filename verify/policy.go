package verify

import (
	"math"
	"strings"
	"time"
)

// The policy: how many results of a peer are checked, what its work is worth,
// and what it loses when others agree that it delivered something else. It is
// arithmetic over what the ledger counted; `go run ./bench game` plays it
// against cheats.
const (
	// newcomer is how many results of a peer are all checked before the rate
	// falls, and how many after a strike.
	newcomer = 10
	// Unvested is how many of a peer's newest verified results it can still lose
	// the credit of: its stake.
	Unvested = 50
)

// Rate is the share of a peer's results to check, by what was found before:
// checked results so far, of them rejected. The first ten are all checked, then
// 10/n with base as its floor, so it never reaches 0 unless base is 0 (a
// private farm that says so). With base 0 nothing at all is checked of a peer
// that was never rejected. Whoever was ever rejected is checked like a newcomer
// again: the results that still speak for it are those since, which only a book
// knows, so the rate stays 1 until checked is ten times as many per rejection.
func Rate(checked, rejected int, base float64) float64 {
	base = min(max(base, 0), 1)
	if base != base {
		base = 1
	}
	if rejected > 0 {
		credit := checked - newcomer*newcomer*rejected
		if credit < newcomer {
			return 1
		}
		return max(base, float64(newcomer)/float64(credit))
	}
	if base == 0 {
		return 0
	}
	if checked < newcomer {
		return 1
	}
	return max(base, float64(newcomer)/float64(checked))
}

// AfterStrike is Rate for a peer with strikes: results that it withheld or
// changed after it had signed for them, or about which checkers disagreed. A
// strike never means wrong, but the next results are all checked. since is the
// number of results that were accepted after the last strike.
func AfterStrike(rate float64, strikes, since int) float64 {
	if strikes > 0 && since < newcomer {
		return 1
	}
	return rate
}

// ClassRate is what a second of a device of that class is worth, in credit. It
// is a convention that all members share, not a measurement: a second of a CPU
// is one, a second of a GPU ten.
func ClassRate(class string) float64 {
	if strings.HasPrefix(class, "gpu/") {
		return 10
	}
	return 1
}

// Precedence is what credit buys: how many times as much of this machine as
// somebody without any its owner gets beside other requesters, for what it earned
// with this machine's jobs. Twice for ten hours of a CPU or one of a GPU, four
// times at the most. It is a standing and is not spent.
func Precedence(credit float64) float64 {
	if !(credit > 0) {
		return 1
	}
	return min(4, 1+math.Log2(1+credit/36000))
}

// Ban is how long a peer gets no work after it was caught for the nth time, from
// 1. The owner of a machine may pardon it earlier.
func Ban(nth int) time.Duration {
	const day = 24 * time.Hour
	switch {
	case nth <= 1:
		return 7 * day
	case nth == 2:
		return 30 * day
	}
	return 365 * day
}

// Selected says whether a result is checked at that rate. It is drawn from the
// secret that was fixed before the work and the root that was fixed after it,
// so that neither side can choose.
func Selected(secret []byte, root [32]byte, rate float64) bool {
	if rate >= 1 || rate != rate {
		return true
	}
	return newStream("idlewild select 1", secret, root).float() < rate
}
