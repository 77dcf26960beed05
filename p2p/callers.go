package p2p

import (
	"sync/atomic"

	"idlewild/p2p/wire"
)

// Callers is what became of strangers who came, since this program began. One that
// comes again counts again.
type Callers struct {
	LetIn  int64
	Full   int64 // refused: as many were here as are taken, or they came too often
	Closed int64 // the farm was not open, their opening was outdated, or this machine takes none
	Banned int64 // by the farm's owner, or by this machine's book
	Wrong  int64 // without the work, or by what they showed
}

// Refused is how many were not let in.
func (c Callers) Refused() int64 { return c.Full + c.Closed + c.Banned + c.Wrong }

type callers struct{ letIn, full, closed, banned, wrong atomic.Int64 }

// refused counts a refusal; nil is none.
func (c *callers) refused(r *wire.Refusal) {
	if r == nil {
		return // letIn counts those, once
	}
	switch r.GetCode() {
	case wire.Refusal_BUSY:
		c.full.Add(1)
	case wire.Refusal_CLOSED:
		c.closed.Add(1)
	case wire.Refusal_REVOKED:
		c.banned.Add(1)
	default:
		c.wrong.Add(1)
	}
}

// Callers says what became of strangers so far.
func (h *Host) Callers() Callers {
	c := &h.callers
	return Callers{LetIn: c.letIn.Load(), Full: c.full.Load(), Closed: c.closed.Load(), Banned: c.banned.Load(), Wrong: c.wrong.Load()}
}
