package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

// longFrames is a job of a few frames of ten minutes each on two workers that
// say how far they are, with half a minute of loading first.
type longFrames struct {
	*table
	frames   int
	done     int
	at       map[string]int       // serial of the lease that each worker is at
	since    map[string]time.Time // when it began
	progress int                  // events
	leased   int                  // leases that were begun
}

const (
	longLoad  = 30 * time.Second
	longFrame = 600 * time.Second
)

// fraction is how far a frame is that has run for d, as a Cycles on no screen
// tells it: every half minute.
func fraction(d time.Duration) (string, float64) {
	switch d = d.Truncate(30 * time.Second); {
	case d < longLoad:
		return "loading", 0
	default:
		return "rendering", 0.05 + 0.92*float64(d-longLoad)/float64(longFrame-longLoad)
	}
}

func (x *longFrames) report(name string, done ...OpenedReceipt) {
	r := job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, "cpu")}
	if x.at[name] == 0 {
		r.Bids = []job.Bid{{Device: "cpu", Want: 1}}
	} else {
		phase, f := fraction(x.now.Sub(x.since[name]))
		r.Progress = []job.Progress{{Lease: x.leases[fmt.Sprint("L", x.at[name])].ID, Task: 0, Phase: phase, Fraction: f}}
	}
	for _, e := range x.b.Step(x.now, Reported{Peer: x.id(name), Stream: x.streams[name], Report: r, Receipts: done}) {
		if e, ok := e.(Emit); ok && e.Event.Type == job.EventProgress {
			x.progress++
		}
		x.see(e)
	}
	x.answer(true)
}

// tick is what happens in five seconds.
func (x *longFrames) tick() {
	for _, name := range []string{"a", "b"} {
		if n := x.at[name]; n > 0 && x.now.Sub(x.since[name]) >= longFrame {
			x.at[name] = 0
			x.done++
			x.report(name, x.receipt(name, fmt.Sprint("L", n), longFrame, map[int]job.Outcome{0: job.Succeeded}))
		}
		for x.leased < len(x.short) {
			x.leased++
			x.at[x.holder[fmt.Sprint("L", x.leased)]], x.since[x.holder[fmt.Sprint("L", x.leased)]] = x.leased, x.now
		}
		x.report(name)
	}
	x.now = x.now.Add(5 * time.Second)
}

// The time that is left of few long frames is known soon after the first one
// got on, and follows what the workers say.
func TestTimeLeftOfLongFrames(t *testing.T) {
	for _, frames := range []int{1, 2, 4} {
		x := &longFrames{table: newTable(t), frames: frames, at: map[string]int{}, since: map[string]time.Time{}}
		x.silent = true
		x.submit("J", fakeParams{Frames: frames}, job.Policy{})
		x.open("a")
		x.open("b")
		id := x.jobs["J"]
		begin, last := x.now, 0.0
		total := longFrame * time.Duration((frames+1)/2)
		for x.now.Sub(begin) < total-10*time.Second {
			x.tick()
			gone := x.now.Sub(begin)
			s, _ := x.b.Status(x.now, id, 0, true)
			if frames == 1 && s.UnderWay < last {
				t.Errorf("%v: %v of it after %v", gone, s.UnderWay, last)
			}
			last = s.UnderWay
			if gone < total/10+longLoad+30*time.Second {
				continue
			}
			if s.UnderWay == 0 && s.Running > 0 && x.done%2 == 0 && gone%longFrame > time.Minute {
				t.Errorf("%d frames, %v: %d run and nothing is under way", frames, gone, s.Running)
			}
			// A tenth of a frame is never done just because it was said.
			if truth := (total - gone).Seconds(); s.LeftSeconds < 0.8*truth-40 || s.LeftSeconds > 1.2*truth+60 {
				t.Errorf("%d frames, %v: %.0f s are left, said was %.0f", frames, gone, truth, s.LeftSeconds)
			}
		}
		if x.done < frames-2 {
			t.Errorf("%d frames: %d were done", frames, x.done)
		}
		// Watchers hear of steps, the journal of nothing.
		if most := frames * 25; x.progress > most || x.progress < frames*10 {
			t.Errorf("%d frames: %d events of progress", frames, x.progress)
		}
	}
}

func TestProgressIsNotWrittenDown(t *testing.T) {
	x := &longFrames{table: newTable(t), at: map[string]int{}, since: map[string]time.Time{}}
	x.silent = true
	x.submit("J", fakeParams{Frames: 1}, job.Policy{})
	x.open("a")
	x.open("b")
	for range 3 {
		x.tick()
	}
	written := x.written
	for range 100 {
		x.tick()
	}
	if x.written != written || x.progress < 10 {
		t.Errorf("%d bytes were written after %d events of progress", x.written-written, x.progress)
	}
}

// A frame that was rendered and waits to be joined or finished is not at its
// beginning again, and neither is one whose outputs are being stored.
func TestAFrameOnlyGetsFurther(t *testing.T) {
	x := newTable(t)
	x.silent = true
	last := 0.0
	for _, line := range []string{
		"submit J frames=1 parts=2", "open self home", "open a", "report a want=2",
		"report a run=L1:0:0.3", "report a run=L1:0:0.9", "report a run=L1:-1:0", "report a want=2 done=L1:0", "answer",
		"report a run=L2:0:0.5", "report a want=1 done=L2:0", "answer",
		"report self want=2 device=home", "report self run=L3:0:0.1 device=home", "report self run=L3:0:0.7 device=home",
	} {
		x.play(strings.Fields(line))
		s, _ := x.b.Status(x.now, x.jobs["J"], 0, true)
		if s.UnderWay < last || s.UnderWay > 1 {
			t.Errorf("%s: %v of it after %v", line, s.UnderWay, last)
		}
		last = s.UnderWay
	}
	if last < .95 {
		t.Errorf("%v of it where it is nearly finished", last)
	}
}

// A job whose frames are rendered is not done: its checks are part of the time
// that is left.
func TestTimeLeftHasTheChecks(t *testing.T) {
	x := newTable(t)
	for line := range strings.Lines(`set checks=on
submit J frames=3 check
open self home
open a
report a want=1
report self want=1 device=home
report a want=1 done=L1:0 wall=2s
answer
report self want=1 device=home done=L3:0 wall=20s
answer
report a want=1 done=L2:0 wall=2s
answer
report a want=1 done=L4:0 wall=2s
answer`) {
		if words := strings.Fields(line); words[0] == "set" {
			x.checks = true
		} else {
			x.play(words)
		}
	}
	s, _ := x.b.Status(x.now, x.jobs["J"], 0, true)
	// One is here, the other waits for its turn.
	if s.Delivered != 1 || s.LeftSeconds < 39 || s.LeftSeconds > 41 || s.LeftLow >= s.LeftSeconds || s.LeftHigh < s.LeftSeconds {
		t.Errorf("%d delivered, %v s left, %v to %v, two checks of 20 s are open\n%s", s.Delivered, s.LeftSeconds, s.LeftLow, s.LeftHigh, x.log.String())
	}
}

// What is made of a frame by another machine than this one waits until there is
// one: it is not at work because its frame is, and not checked because that is.
func TestWorkAfterAFrameIsToldAsItIs(t *testing.T) {
	x := newTable(t)
	x.b.o.Remedy = func(fact string) string { return "add " + fact }
	told := func(when string, running, waiting int, states ...string) {
		t.Helper()
		s, _ := x.b.Status(x.now, x.jobs["J"], 0, true)
		var have []string
		for _, f := range s.Frames {
			have = append(have, f.State)
			if f.State == "waiting" && (f.Fraction != 0 || f.Attempts != 0 || f.Worker != "") {
				t.Errorf("%s: %+v waits and was begun", when, f)
			}
		}
		if !slices.Equal(have, states) || s.Running != running || s.Waiting != waiting {
			t.Errorf("%s: %v, %d run, %d wait\n%s", when, have, s.Running, s.Waiting, x.log.String())
		}
	}
	for line := range strings.Lines(`submit J frames=1 larger
open self home
report self want=2 device=home
report self want=2 device=home done=L1:0
answer
open a
report a want=1`) {
		x.play(strings.Fields(line))
	}
	told("at the frame", 1, 1, "leased", "waiting")
	for line := range strings.Lines(`report a want=1 done=L2:0
answer`) {
		x.play(strings.Fields(line))
	}
	told("nobody has a model", 0, 1, "delivered", "waiting")
	s, _ := x.b.Status(x.now, x.jobs["J"], 0, false)
	if want := "needs model 1, which is not here; add model"; !strings.Contains(s.Reason, want) {
		t.Errorf("why: %q, want %q", s.Reason, want)
	}
}

// The time left of a job has the work that begins once its frames are there.
func TestTimeLeftHasWhatComesAfterFrames(t *testing.T) {
	x := newTable(t)
	for line := range strings.Lines(`submit J frames=3 larger
open self home
report self want=2 device=home
report self want=2 device=home done=L1:0
answer
open a fact=model:1
report a want=1
report a want=1 done=L2:0 wall=2s
answer
report a want=1 done=L3:0 wall=2s
answer
report a want=1 done=L4:0 wall=20s
answer`) {
		x.play(strings.Fields(line))
	}
	s, _ := x.b.Status(x.now, x.jobs["J"], 0, true)
	// A frame of 2 s, and what is made of two in 20 s each.
	if s.Delivered != 3 || s.LeftSeconds < 40 || s.LeftSeconds > 48 || s.LeftLow > s.LeftSeconds || s.LeftHigh < s.LeftSeconds {
		t.Errorf("%d delivered, %v s left, %v to %v\n%s", s.Delivered, s.LeftSeconds, s.LeftLow, s.LeftHigh, x.log.String())
	}
}
