package idle

import "time"

// Pause is what the owner asked for in words. It ends when it is resumed; with
// Until also when that time has come, and with UntilRestart when the machine
// starts again. What ends it is always said.
type Pause struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// UntilMono is Until on the clock that does not jump, while this process
	// lives: a clock that is set forward does not end a pause.
	UntilMono    time.Duration `json:"-"`
	UntilRestart bool          `json:"until_restart,omitempty"`
	Boot         string        `json:"boot,omitempty"` // which start of the machine, with UntilRestart
}

// Over reports whether a timed pause has ended.
func (p Pause) Over(now Instant) bool {
	return !p.Until.IsZero() && !now.Wall.Before(p.Until) && now.Mono >= p.UntilMono
}

// left is how long a timed pause lasts.
func (p Pause) left(now Instant) time.Duration {
	if p.Until.IsZero() {
		return 0
	}
	return max(p.Until.Sub(now.Wall), p.UntilMono-now.Mono)
}

// Text is the pause in words.
func (p Pause) Text() string {
	switch {
	case !p.Until.IsZero():
		return p.Reason + ", until " + p.Until.Format("2006-01-02 15:04")
	case p.UntilRestart:
		return p.Reason + ", until this machine starts again"
	}
	return p.Reason
}
