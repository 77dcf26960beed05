package job

import "time"

// Score of a peer: what everything recorded about it comes to.
type Score struct {
	Checked  int // results checked with an answer: accepted or rejected
	Accepted int // of the checked ones
	Rejected int
	Unsure   int // that could not be verified
	// Confirmed counts the rejections that a third peer agreed with.
	Confirmed int
	Strikes   int // see Verdict.Strike
	Since     int // results that were checked and accepted after the last strike
	// Disputes counts those of the last 50 judged results about which checkers
	// did not agree.
	Disputes int
	// Evidence is the logarithm of how much likelier the newest judged results
	// are of a cheat than of an honest peer; 0 where nothing was judged.
	Evidence float64
	// Warned counts the members that say they caught it.
	Warned int
	// Rate is the share of this peer's results to check now, 0 to 1.
	Rate float64
	// Credit is what it earned for good; Stake is what it can still lose, and
	// Lost what it lost. In seconds of a CPU.
	Credit, Stake, Lost float64
	// Banned is not empty where the peer gets no work, and says why.
	Banned string
	Until  time.Time // when the ban ends; zero: not before a pardon
	// Against is the newest reason that speaks against it, or empty.
	Against string
}
