// Package beat has what looks around at intervals look at the same moments, so
// that a machine with nothing to do wakes up once for all of it.
//
// Beats are counted from the start of this process: daemons that were started
// at different times do not all speak at the same moment.
package beat

import (
	"sync/atomic"
	"time"
)

var start atomic.Pointer[time.Time]

func init() { From(time.Now()) }

// From has beats counted from t: the start of something that ticks by itself
// and cannot be moved.
func From(t time.Time) { start.Store(&t) }

// Until is how long it is until the next beat of those that come every so
// often: never more than every, and never 0. Beats of an interval are beats of
// every interval that divides it.
func Until(every time.Duration) time.Duration {
	now := time.Now()
	return Last(now, every).Add(every).Sub(now)
}

// Last is the last beat of those that come every so often that is not later
// than t.
func Last(t time.Time, every time.Duration) time.Time {
	past := t.Sub(*start.Load()) % every
	if past < 0 {
		past += every
	}
	return t.Add(-past)
}
