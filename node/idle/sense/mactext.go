package sense

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

var hidIdleTime = regexp.MustCompile(`"HIDIdleTime"\s*=\s*(\d+)`)

// parseHIDIdle reads what ioreg tells of IOHIDSystem.
func parseHIDIdle(text string) (time.Duration, bool) {
	m := hidIdleTime.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	ns, err := strconv.ParseInt(m[1], 10, 64)
	return time.Duration(ns), err == nil
}

// parsePmset reads what `pmset -g batt` tells.
func parsePmset(text string) (onBattery, ok bool) {
	line, _, _ := strings.Cut(text, "\n")
	switch {
	case strings.Contains(line, "'Battery Power'"), strings.Contains(line, "'UPS Power'"):
		return true, true
	case strings.Contains(line, "'AC Power'"):
		return false, true
	}
	return false, false
}
