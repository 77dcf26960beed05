package idle

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A situation is played step by step: what changes, then what each device must
// decide, with the words that the reason must hold. testdata/situations.txt
// begins with how it is written.

type player struct {
	s       Signals
	p       Policy
	state   State
	now     Instant
	devices []string
	got     map[string]Decision
}

func newPlayer() *player {
	p := &player{p: DefaultPolicy(), devices: []string{CPU, "gpu"}}
	p.now = Instant{Wall: time.Date(2026, 3, 4, 20, 0, 0, 0, time.UTC), Mono: time.Hour} // a Wednesday
	p.s.GPUs = map[string]GPU{"gpu": {MemoryBytes: 24 << 30}}
	return p
}

func TestSituations(t *testing.T) {
	b, err := os.ReadFile("testdata/situations.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, part := range strings.Split(string(b), "\n## ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		count++
		t.Run(name, func(t *testing.T) {
			p, expected := newPlayer(), 0
			for i, line := range strings.Split(body, "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				if want, ok := strings.CutPrefix(line, "-> "); ok {
					expected++
					if err := p.expect(want); err != nil {
						t.Errorf("line %d after the name: %v", i+1, err)
					}
					continue
				}
				if err := p.change(line); err != nil {
					t.Fatalf("line %d after the name: %q: %v", i+1, line, err)
				}
			}
			if expected == 0 {
				t.Error("nothing is expected")
			}
		})
	}
	if count < 40 {
		t.Errorf("there are %d situations, at least 40 are promised", count)
	}
}

// expect decides once for this instant and compares.
func (p *player) expect(want string) error {
	if p.got == nil {
		p.got, p.state = Decide(p.devices, p.s, p.p, p.state, p.now)
	}
	head, words, _ := strings.Cut(want, ": ")
	f := strings.SplitN(head, " ", 3)
	devices := []string{f[0]}
	if f[0] == "*" {
		devices = p.devices
	}
	for _, d := range devices {
		got := p.got[d]
		signal := ""
		if len(f) > 2 {
			signal = f[2]
		}
		if got.Level.String() != f[1] || got.Signal != signal || !strings.Contains(got.Reason, words) {
			return fmt.Errorf("%s: %s %s: %s, want %s", d, got.Level, got.Signal, got.Reason, want)
		}
		if got.Level < Free && (got.Reason == "" || got.Public() == "") {
			return fmt.Errorf("%s: %s without a reason", d, got.Level)
		}
	}
	return nil
}

// change applies one line.
func (p *player) change(line string) error {
	p.got = nil
	words, err := split(line)
	if err != nil {
		return err
	}
	if words[0] == "session" {
		return p.session(words[1], words[2:])
	}
	for _, w := range words {
		if d, ok := strings.CutPrefix(w, "+"); ok {
			step, err := time.ParseDuration(d)
			if err != nil {
				return err
			}
			p.now.Mono += step
			p.now.Wall = p.now.Wall.Add(step)
			continue
		}
		key, value, _ := strings.Cut(w, "=")
		if err := p.set(key, value); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

// split cuts at spaces outside of quotes, which it removes.
func split(line string) (words []string, err error) {
	quoted, word := false, ""
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if word != "" {
				words = append(words, word)
			}
			word = ""
		default:
			word += string(r)
		}
	}
	if quoted || len(words) == 0 {
		return nil, fmt.Errorf("quotes that do not end")
	}
	return words, nil
}

func (p *player) session(user string, words []string) error {
	s := Session{User: user, Graphical: true, Active: true, Source: "XScreenSaver"}
	kept := p.s.Sessions[:0:0]
	for _, old := range p.s.Sessions {
		if old.User != user {
			kept = append(kept, old)
		}
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "gone":
			p.s.Sessions = kept
			return nil
		case "idle":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			sec := d.Seconds()
			s.IdleSeconds = &sec
		case "locked":
			s.Locked = true
		case "remote":
			s.Remote, s.Active = true, false
		case "inactive":
			s.Active = false
		case "tty":
			s.Graphical = false
		case "by":
			s.Source = value
		default:
			return fmt.Errorf("no such word: %s", w)
		}
	}
	p.s.Sessions = append(kept, s)
	return nil
}

func text(v string) *string {
	if v == "" {
		return nil
	}
	return &v
}

func (p *player) set(key, value string) (err error) {
	num := func() *float64 {
		if value == "" {
			return nil
		}
		f, e := strconv.ParseFloat(value, 64)
		if e != nil {
			err = e
		}
		return &f
	}
	gb := func() *int64 {
		f := num()
		if f == nil {
			return nil
		}
		n := int64(*f * (1 << 30))
		return &n
	}
	yes := func() *bool {
		if value == "" {
			return nil
		}
		b := value == "yes"
		return &b
	}
	dur := func() time.Duration {
		d, e := time.ParseDuration(value)
		if e != nil {
			err = e
		}
		return d
	}
	g := p.s.GPUs["gpu"]
	switch key {
	case "desk":
		p.s.Desktop = true
	case "wall":
		p.now.Wall, err = time.ParseInLocation("2006-01-02T15:04", value, time.UTC)
	case "slept":
		d := dur()
		p.now.Slept += d
		p.now.Mono += d
		p.now.Wall = p.now.Wall.Add(d)
	case "fullscreen":
		p.s.Fullscreen = text(value)
	case "inhibitor":
		p.s.Inhibitor = text(value)
	case "program":
		p.s.Programs = nil
		if name, why, ok := strings.Cut(value, "|"); ok {
			p.s.Programs = []Program{{name, why}}
		}
	case "gpu.busy":
		g.Busy = num()
	case "gpu.others":
		g.OthersBusy = num()
	case "gpu.ours":
		g.OursRuns = value == "yes"
	case "gpu.othersGB":
		g.OthersBytes = gb()
	case "gpu.oursGB":
		g.OursBytes = gb()
	case "gpu.temp":
		g.TempC = num()
	case "gpu.lost":
		g.Lost = value
	case "gpu.who":
		g.Others = strings.Split(value, ",")
	case "cpu.others":
		p.s.CPUOthers = num()
	case "cpu.temp":
		p.s.CPUTemp = num()
	case "battery":
		p.s.OnBattery = yes()
	case "metered":
		p.s.Metered = yes()
	case "suspending":
		p.s.Suspending = value == "yes"
	case "hook":
		answer, text, _ := strings.Cut(value, " ")
		p.s.Hook = &Hook{Yes: answer == "yes", Text: text}
	case "pause":
		p.s.Pause = nil
		if value != "" {
			p.s.Pause = &Pause{Reason: value, Since: p.now.Wall}
		}
	case "pause.for":
		d := dur()
		p.s.Pause.Until, p.s.Pause.UntilMono = p.now.Wall.Add(d), p.now.Mono+d
	case "pause.restart":
		p.s.Pause.UntilRestart = true
	case "wh":
		p.s.GPUTodayWh = num()
	case "diskGB":
		p.s.DiskFree = gb()
	case "mode":
		p.p.Mode = Mode(value)
	case "on_return":
		err = p.p.OnReturn.UnmarshalText([]byte(value))
	case "hours":
		p.p.Hours, err = ParseSchedule([]string{value})
	case "works_on_battery":
		p.p.OnBattery = true
	case "kwh":
		p.p.KWhPerDay = *num()
	case "vramGB":
		p.p.VRAMBytes = *gb()
	default:
		return fmt.Errorf("no such word")
	}
	p.s.GPUs["gpu"] = g
	return err
}
