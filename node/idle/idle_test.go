package idle

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSchedule(t *testing.T) {
	for _, bad := range []string{"", "22:00", "mon", "foo 22:00-23:00", "25:00-26:00", "1:2-3:4", "mon 22:00-23:00 x", "22:00-24:01", "-1:00-02:00", "mon- 1:00-2:00"} {
		if s, err := ParseSchedule([]string{bad}); err == nil || !strings.Contains(err.Error(), "for example") {
			t.Errorf("%q: %v, %v", bad, s, err)
		}
	}
	s, err := ParseSchedule([]string{"sat,sun 00:00-24:00", "fri-mon 22:30-06:00"})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) // a Monday
	for at, want := range map[time.Duration]bool{
		5 * time.Hour:              true, // Sunday's night
		6 * time.Hour:              false,
		22*time.Hour + 30*60e9:     true,
		22*time.Hour + 29*60e9:     false,
		24*time.Hour + 3*time.Hour: true, // Monday's night
		48*time.Hour + 3*time.Hour: false,
		5*24*time.Hour + 12*60e9:   true,
	} {
		if got := s.Open(day.Add(at)); got != want {
			t.Errorf("%s: %v", day.Add(at).Format("Mon 15:04"), got)
		}
	}
	if left := s.left(day.Add(20 * time.Hour)); left != 150*time.Minute {
		t.Errorf("left %v", left)
	}
}

func TestSignalsAreTheirJSON(t *testing.T) {
	name, sec := "Doom", 1.5
	s := Signals{Desktop: true, Fullscreen: &name, Sessions: []Session{{User: "ada", IdleSeconds: &sec}}, GPUs: map[string]GPU{"g": {Busy: &sec}}}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Signals
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(s, back) {
		t.Errorf("%s: %v %v", b, back, err)
	}
}

// Whatever is sensed: a decision below free has a reason, a pause stops
// everything, and the same call gives the same answer again.
func TestDecideAlwaysHasAReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := func(name string) *float64 {
			if !rapid.Bool().Draw(t, name+"?") {
				return nil
			}
			v := rapid.Float64Range(-10, 1e6).Draw(t, name)
			return &v
		}
		p := DefaultPolicy()
		p.Mode = rapid.SampledFrom([]Mode{Auto, Owner, Server, Off}).Draw(t, "mode")
		p.OnReturn = Level(rapid.IntRange(0, 2).Draw(t, "on return"))
		var state State
		now := Instant{Wall: time.Unix(1e9, 0)}
		for range 4 {
			now.Mono += time.Duration(rapid.IntRange(0, 1e12).Draw(t, "step"))
			now.Wall = now.Wall.Add(time.Duration(rapid.Int64Range(-1e15, 1e15).Draw(t, "jump")))
			s := Signals{
				Desktop:  rapid.Bool().Draw(t, "desk"),
				Sessions: []Session{{User: "ada", Graphical: true, Active: rapid.Bool().Draw(t, "active"), IdleSeconds: f("idle")}},
				GPUs:     map[string]GPU{"gpu": {Busy: f("busy"), OthersBusy: f("others"), OursRuns: rapid.Bool().Draw(t, "ours"), TempC: f("temp")}},
				CPUTemp:  f("cpu temp"), CPUOthers: f("cpu"), GPUTodayWh: f("wh"),
			}
			if rapid.Bool().Draw(t, "pause") {
				s.Pause = &Pause{Reason: "p"}
			}
			got, next := Decide([]string{CPU, "gpu"}, s, p, state, now)
			again, _ := Decide([]string{CPU, "gpu"}, s, p, state, now)
			if !reflect.DeepEqual(got, again) {
				t.Fatalf("%v, then %v", got, again)
			}
			for d, x := range got {
				if x.Level < Free && (x.Reason == "" || x.Signal == "" || x.Public() == "") || x.Level == Free && x.Reason != "" {
					t.Fatalf("%s: %+v", d, x)
				}
				if s.Pause != nil && x.Level != Stop {
					t.Fatalf("%s works while paused: %+v", d, x)
				}
				if x.Left < 0 {
					t.Fatalf("%s: %v left", d, x.Left)
				}
			}
			state = next
		}
	})
}
