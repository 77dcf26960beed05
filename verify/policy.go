package verify

// newcomer is how many results of a peer are all checked before the rate falls.
const newcomer = 10

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

// Selected says whether a result is checked at that rate. It is drawn from the
// secret that was fixed before the work and the root that was fixed after it,
// so that neither side can choose.
func Selected(secret []byte, root [32]byte, rate float64) bool {
	switch {
	case rate >= 1 || rate != rate:
		return true
	case rate <= 0:
		return false
	}
	return newStream("idlewild select 1", secret, root).float() < rate
}
