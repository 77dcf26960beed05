package blender

import (
	"math"
	"strconv"
	"strings"
)

// Sequence is files that are numbered, and read by certain frames only.
type Sequence struct {
	Head    string         `json:"head"` // of their names in the input tree, before the number
	Tail    string         `json:"tail"`
	Numbers [][2]int       `json:"numbers"` // first and last of each run
	Users   []SequenceUser `json:"users"`
	// Named are numbers of files that the .blend itself names. Blender may look
	// at these whatever the frame, so every worker gets them.
	Named []int `json:"named,omitempty"`
}

// SequenceUser says how one user of a sequence counts, as Blender names it.
type SequenceUser struct {
	Start  int    `json:"start"`
	Length int    `json:"length"`
	Offset int    `json:"offset"`
	Mode   string `json:"mode"` // CLIP, EXTEND, REPEAT or PING_PONG
}

// number is that of the file which the user shows at a frame. Before and behind
// a clip there is none, which is none of ours.
func (u SequenceUser) number(frame int) int {
	at, n := frame-u.Start+1, u.Length
	if n <= 0 {
		return u.Offset
	}
	around := func(at, n int) int { return ((at-1)%n+n)%n + 1 }
	switch u.Mode {
	case "REPEAT":
		at = around(at, n)
	case "PING_PONG":
		if n == 1 {
			at = 1
		} else if at = around(at, 2*n-2); at > n {
			at = 2*n - at
		}
	case "CLIP":
		if at < 1 || at > n {
			return math.MinInt
		}
	default:
		at = min(max(at, 1), n)
	}
	return at + u.Offset
}

// has returns the number of a file, where it is of the sequence.
func (s Sequence) has(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, s.Head)
	if !ok {
		return 0, false
	}
	if digits, ok = strings.CutSuffix(digits, s.Tail); !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, false
	}
	for _, r := range s.Numbers {
		if r[0] <= n && n <= r[1] {
			return n, true
		}
	}
	return 0, false
}

// shows reports whether a picture of the frame, which looks so far around it,
// may show a file of that number.
func (s Sequence) shows(n, frame, reach int) bool {
	for _, u := range s.Users {
		for f := frame - reach; f <= frame+reach; f++ {
			if u.number(f) == n {
				return true
			}
		}
	}
	return false
}

// maxReach bounds how far around a frame is looked for files.
const maxReach = 64

// readers tells which frames read a file of the input tree. Not ok: it is not
// known, so all do.
func (f Facts) readers(name string) (reads func(frame int) bool, ok bool) {
	if !(f.Reach >= 0 && f.Reach <= maxReach) {
		return nil, false
	}
	for _, s := range f.Sequences {
		if n, ok := s.has(name); ok {
			reach := int(math.Ceil(f.Reach))
			return func(frame int) bool { return s.shows(n, frame, reach) }, true
		}
	}
	return nil, false
}
