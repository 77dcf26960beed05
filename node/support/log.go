package support

import (
	"regexp"
	"strconv"
	"strings"
)

// attribute is key=value of a line as slog's text handler writes it.
var attribute = regexp.MustCompile(`([\w.-]+)=("(?:[^"\\]|\\.)*"|\S*)`)

// told are attributes whose values are words of ours.
var told = map[string]bool{
	"time": true, "level": true, "part": true, "signal": true, "outcome": true, "kind": true, "state": true, "version": true, "method": true,
	"event": true, "hook": true, "took": true, "addr_type": true, "transport": true,
}

// dropped are attributes that name things or people, whatever they look like.
var dropped = map[string]bool{
	"name": true, "title": true, "file": true, "path": true, "dir": true, "data_dir": true, "output": true, "input": true, "user": true, "program": true,
	"label": true, "scene": true, "image": true, "author": true, "host": true, "url": true, "member": true, "farm": true,
}

var (
	number = regexp.MustCompile(`^[+-]?\d[\d.,:eE+-]*(ns|µs|ms|s|m|h|m\d.*s|h\d.*s|%)?$`)
	logged = regexp.MustCompile(`^time=\S+ level=\w+ `)
)

// line takes names out of a line of the log.
func (s *scrub) line(l string) string {
	if !logged.MatchString(l) {
		return s.text(l) // of a program that was started, or of the Go runtime
	}
	idle := strings.Contains(l, " part=idle")
	return attribute.ReplaceAllStringFunc(l, func(m string) string {
		key, value, _ := strings.Cut(m, "=")
		raw := value
		if strings.HasPrefix(value, `"`) {
			if u, err := strconv.Unquote(value); err == nil {
				raw = u
			}
		}
		switch {
		case told[key] || number.MatchString(raw) || raw == "true" || raw == "false":
			return m
		case dropped[key] || idle && key == "reason": // which game runs, who sits there
			return key + "=…"
		}
		text := s.text(raw)
		if strings.ContainsAny(text, " =\"\n") {
			text = strconv.Quote(text)
		}
		return key + "=" + text
	})
}
