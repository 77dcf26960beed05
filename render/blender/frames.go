package blender

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"idlewild/job"
)

// MaxFrames is how many frames one job may have.
const MaxFrames = 100_000

// maxFrame is Blender's own bound of frame numbers.
const maxFrame = 1048574

// parseFrames reads a list of frames as people write them: "1-250x5,300" is
// every fifth of 1 to 250, and 300. Numbers may be negative ("-5-10"). Frames
// come back ascending, each once.
func parseFrames(s string) ([]int, error) {
	if strings.TrimSpace(s) == "" {
		return nil, fmt.Errorf("frames: none given")
	}
	seen := map[int]bool{}
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, step, err := parseRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if (last-first)/step+1 > MaxFrames {
			return nil, tooMany(s)
		}
		for f := first; f <= last; f += step {
			if !seen[f] {
				seen[f] = true
				out = append(out, f)
			}
		}
		if len(out) > MaxFrames {
			return nil, tooMany(s)
		}
	}
	slices.Sort(out)
	return out, nil
}

func tooMany(s string) error {
	return fmt.Errorf("frames: %q is more than %d frames; split the job", clip(s), MaxFrames)
}

// parseRange reads "7", "1-250" or "1-250x5".
func parseRange(s string) (first, last, step int, err error) {
	bad := fmt.Errorf("frames: %q is no frame or range; write for example 12, 1-250, 1-250x5 or 1-10,20", clip(s))
	body, stepText, stepped := strings.Cut(s, "x")
	step = 1
	if stepped {
		if step, err = strconv.Atoi(stepText); err != nil || stepText[0] == '+' || stepText[0] == '-' && step >= 0 {
			return 0, 0, 0, bad
		}
		if step < 1 {
			return 0, 0, 0, fmt.Errorf("frames: the step of %q is not above zero", clip(s))
		}
	}
	// The dash of a range is the first one that is not a sign.
	lead := 0
	if strings.HasPrefix(body, "-") {
		lead = 1
	}
	a, b := body, body
	if i := strings.Index(body[lead:], "-"); i >= 0 {
		a, b = body[:lead+i], body[lead+i+1:]
	} else if stepped {
		return 0, 0, 0, bad
	}
	if first, err = parseFrame(a); err == nil {
		last, err = parseFrame(b)
	}
	if err != nil {
		return 0, 0, 0, bad
	}
	for _, f := range []int{first, last} {
		if f < -maxFrame || f > maxFrame {
			return 0, 0, 0, fmt.Errorf("frames: %d is beyond what Blender can count (±%d)", f, maxFrame)
		}
	}
	if last < first {
		return 0, 0, 0, fmt.Errorf("frames: %q runs backwards; write %s", clip(s), forwards(last, first, step))
	}
	return first, last, step, nil
}

// forwards is a range as parseRange reads it.
func forwards(first, last, step int) string {
	text := fmt.Sprintf("%d-%d", first, last)
	if step > 1 {
		text += fmt.Sprintf("x%d", step)
	}
	return text
}

func parseFrame(s string) (int, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "+") {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(s)
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// previewOrder returns the ranks of n frames: a sparse preview first, every
// tenth frame, then the rest in order. The preview itself goes from coarse to
// fine: it shows the whole range as early as can be, and what frames cost
// there is known early.
func previewOrder(n int) []int {
	ranks := make([]int, n)
	next := 0
	sparse := (n + 9) / 10
	step := 1
	for step < sparse {
		step *= 2
	}
	for first := true; step > 0; first, step = false, step/2 {
		for i := 0; i < sparse; i += step {
			if first || i%(2*step) != 0 {
				ranks[10*i] = next
				next++
			}
		}
	}
	for i := range n {
		if i%10 != 0 {
			ranks[i] = job.RestRank + next
			next++
		}
	}
	return ranks
}

// frameName fills the run of # in pattern with the frame number, as Blender
// names files: four digits where the pattern has none.
func frameName(pattern string, frame int) string {
	i := strings.LastIndex(pattern, "#")
	if i < 0 {
		return pattern + padded(frame, 4)
	}
	j := i
	for j > 0 && pattern[j-1] == '#' {
		j--
	}
	return pattern[:j] + padded(frame, i-j+1) + pattern[i+1:]
}

func padded(frame, digits int) string {
	if frame < 0 {
		return fmt.Sprintf("-%0*d", digits, -frame)
	}
	return fmt.Sprintf("%0*d", digits, frame)
}
