package job

// Score of a peer: what everything recorded about it comes to.
type Score struct {
	Checked  int // results checked with an answer: accepted or rejected
	Accepted int // of the checked ones
	Rejected int
	Unsure   int // that could not be verified
	// Rate is the share of this peer's results to check now, 0 to 1.
	Rate float64
	// Banned is not empty where the peer gets no work, and says why.
	Banned string
}
