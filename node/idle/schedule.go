package idle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule is when work may be done, in the owner's time zone. The zero value
// is always.
type Schedule []Hours

// Hours is a part of some days of the week.
type Hours struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes of the day; to may be on the next
	text     string
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseSchedule reads lines such as "22:00-07:00", "mon-fri 22:00-07:00" or
// "sat,sun 00:00-24:00". Hours that go past midnight belong to the day they
// begin on.
func ParseSchedule(lines []string) (Schedule, error) {
	var s Schedule
	for _, line := range lines {
		h, err := parseHours(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w; write for example: mon-fri 22:00-07:00", line, err)
		}
		s = append(s, h)
	}
	return s, nil
}

func parseHours(line string) (Hours, error) {
	h := Hours{text: strings.TrimSpace(line)}
	f := strings.Fields(strings.ToLower(line))
	days, clock := "", ""
	switch len(f) {
	case 1:
		clock = f[0]
	case 2:
		days, clock = f[0], f[1]
	default:
		return h, fmt.Errorf("no hours")
	}
	from, to, ok := strings.Cut(clock, "-")
	if !ok {
		return h, fmt.Errorf("%q is no time from and to", clock)
	}
	var err error
	if h.from, err = parseClock(from); err != nil {
		return h, err
	}
	if h.to, err = parseClock(to); err != nil {
		return h, err
	}
	if h.to <= h.from {
		h.to += 24 * 60
	}
	if days == "" {
		h.days = [7]bool{true, true, true, true, true, true, true}
		return h, nil
	}
	for part := range strings.SplitSeq(days, ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		a, b := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if a < 0 || b < 0 {
			return h, fmt.Errorf("%q is no day", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			h.days[d] = true
			if d == b {
				break
			}
		}
	}
	return h, nil
}

func parseClock(s string) (minutes int, err error) {
	hh, mm, ok := strings.Cut(s, ":")
	h, err1 := strconv.Atoi(hh)
	m, err2 := strconv.Atoi(mm)
	if !ok || err1 != nil || err2 != nil || len(mm) != 2 || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
		return 0, fmt.Errorf("%q is no time of the day", s)
	}
	return h*60 + m, nil
}

// Open reports whether t lies within the hours.
func (s Schedule) Open(t time.Time) bool {
	if len(s) == 0 {
		return true
	}
	m, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	for _, h := range s {
		if h.days[day] && m >= h.from && m < h.to || h.days[(day+6)%7] && m+24*60 < h.to {
			return true
		}
	}
	return false
}

// left is how long it takes until work may be done, at most a week.
func (s Schedule) left(t time.Time) time.Duration {
	for m := range 7 * 24 * 60 {
		if at := t.Add(time.Duration(m) * time.Minute).Truncate(time.Minute); s.Open(at) && at.After(t) {
			return at.Sub(t)
		}
	}
	return 0
}

func (s Schedule) String() string {
	var t []string
	for _, h := range s {
		t = append(t, h.text)
	}
	return strings.Join(t, ", ")
}
