package blender

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"sync"

	"idlewild/render"
)

// maxParts bounds how often one frame may count its samples from the start:
// once for each view layer and eye.
const maxParts = 1000

// Follow implements render.Follower: what Blender says of its samples and tiles
// while it renders becomes progress that only rises.
func (k *Kind) Follow(say func(render.Progress)) render.Listener { return &follower{say: say} }

// follower hears one request, which is one or several shots.
type follower struct {
	say func(render.Progress)

	mu   sync.Mutex
	shot *shot
	told float64
	peak int64 // bytes of the device's memory, as Cycles counts them
}

// Peak implements render.Measurer.
func (f *follower) Peak() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.peak
}

// shot is one render of the request.
type shot struct {
	From  float64 `json:"from"` // of the request
	To    float64 `json:"to"`
	Parts int     `json:"parts"` // that each count from the start
	Log   bool    `json:"log"`   // its words are in the log

	part  int
	last  counts
	stale bool // last.sample was the tile's before
}

// Event implements render.Listener.
func (f *follower) Event(e render.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Name {
	case "progress": // the runner's own word: the shot has not begun, or is over
		f.shot = nil
	case "shot":
		s := new(shot)
		if json.Unmarshal(e.JSON, s) != nil || !(s.From >= 0 && s.From < s.To && s.To <= 1) || s.Parts < 1 || s.Parts > maxParts {
			s = nil
		}
		f.shot = s
	case "stats":
		var x struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(e.JSON, &x) == nil && f.shot != nil && !f.shot.Log {
			f.hear([]byte(x.Text))
		}
	}
}

// Line implements render.Listener.
func (f *follower) Line(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shot != nil && f.shot.Log && bytes.Contains(line, []byte(" | ")) {
		f.hear(line)
	}
}

// hear takes Blender's words. mu is held.
func (f *follower) hear(text []byte) {
	f.peak = max(f.peak, parsePeak(text))
	c, ok := parseCounts(text)
	if !ok {
		return
	}
	s := f.shot
	at := s.at(c)
	at = s.From + (s.To-s.From)*(float64(s.part)+at)/float64(s.Parts)
	if at > f.told {
		f.told = at
		f.say(render.Progress{Phase: "rendering", Fraction: at})
	}
}

// at notes c and returns how far its part is.
func (s *shot) at(c counts) float64 {
	switch {
	case s.last == counts{}:
	case c.again(s.last):
		s.part, s.stale = min(s.part+1, s.Parts-1), false
	case c.tile > s.last.tile:
		// The tile before is counted as done while its sample is still shown.
		s.stale = true
	case c.sample < s.last.sample:
		s.stale = false
	}
	s.last = c
	if s.stale {
		c.sample = 0
	}
	at := 0.0
	if c.samples > 0 {
		at = float64(c.sample) / float64(c.samples)
	}
	if c.tiles > 0 {
		at = min(1, (float64(c.tile)+at)/float64(c.tiles))
	}
	return at
}

// counts are how many samples and tiles were done, and of how many; zero where
// nothing is said of them.
type counts struct{ tile, tiles, sample, samples int }

// again reports whether c is of another part than was, one that came after it.
func (c counts) again(was counts) bool {
	if c.tiles != was.tiles {
		return true
	}
	if c.tiles > 0 {
		return c.tile < was.tile
	}
	return c.samples != was.samples || c.sample < was.sample
}

var (
	// Cycles speaks English whatever language Blender is set to.
	cyclesTiles   = regexp.MustCompile(`^Rendered (\d{1,8})/(\d{1,8}) Tiles(?:, Sample (\d{1,8})/(\d{1,8}))?(?:, .{0,200})?$`)
	cyclesSamples = regexp.MustCompile(`^Sample (\d{1,8})/(\d{1,8})(?:, .{0,200})?$`)
	// "Rendering 26 / 64 samples", in any language.
	eeveeSamples = regexp.MustCompile(`^\D{0,80}\b(\d{1,8}) / (\d{1,8})\b\D{0,80}$`)
	// What is not rendering yet names objects, which may be called anything.
	preparing = regexp.MustCompile(`(?:^| \| )(?:Synchronizing|Syncing|Updating|Loading|Initializing|Reading|Finish)`)
)

// parseCounts reads what Blender says while it renders: fields with " | "
// between them, which are more or fewer with each version. Where that is not
// plain it is nothing.
func parseCounts(text []byte) (counts, bool) {
	if len(text) > 4<<10 || preparing.Match(text) {
		return counts{}, false
	}
	var c counts
	found := 0
	fields := bytes.Split(bytes.TrimSpace(text), []byte(" | "))
	for i, field := range fields {
		if m := cyclesTiles.FindSubmatch(field); m != nil {
			c = counts{tile: number(m[1]), tiles: number(m[2]), sample: number(m[3]), samples: number(m[4])}
			found++
		} else if m := cyclesSamples.FindSubmatch(field); m != nil {
			c = counts{sample: number(m[1]), samples: number(m[2])}
			found++
		} else if m := eeveeSamples.FindSubmatch(field); m != nil && i == len(fields)-1 && found == 0 {
			c = counts{sample: number(m[1]), samples: number(m[2])}
			found++
		}
	}
	ok := found == 1 && c.tile <= c.tiles && c.sample <= c.samples && c.tiles+c.samples > 0
	return c, ok
}

// cyclesMemory is what Cycles took of its device, in the field after Blender's
// own, which has parentheses: "Mem:8.60M (Peak 8.60M) | Time:… | Mem:2.10G, Peak:2.30G".
var cyclesMemory = regexp.MustCompile(`(?:^| \| )Mem:[0-9.]{1,12}[KMG]?, Peak:([0-9]{1,8}(?:\.[0-9]{1,4})?)([KMG]?)(?: \| |$)`)

// parsePeak reads the memory of the device at the highest, in bytes; 0 where
// nothing is said of it.
func parsePeak(text []byte) int64 {
	if len(text) > 4<<10 {
		return 0
	}
	m := cyclesMemory.FindSubmatch(bytes.TrimSpace(text))
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64) // digits that a pattern found
	return int64(n * float64(map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[string(m[2])]))
}

// number reads digits that a pattern found; none are 0.
func number(digits []byte) int {
	n, _ := strconv.Atoi(string(digits))
	return n
}
