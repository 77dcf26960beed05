package main

import (
	"math"
	"testing"
	"time"
)

// What is worse together than alone is found in both directions, and two runs
// that differ a little are the same.
func TestWorseTogether(t *testing.T) {
	for _, c := range []struct {
		is, was float64
		less    bool
		want    float64
	}{
		{is: 20, was: 10, less: true, want: 2},
		{is: 11, was: 10, less: true},
		{is: 5, was: 10, less: true},
		{is: .4, was: .8, want: 2},
		{is: .8, was: .75},
		{is: .75, was: .8},
		{is: 0, was: 0, less: true},
		{is: 3, was: 0, less: true, want: math.Inf(1)},
	} {
		f := eveningFigure{Figure: plain("x", c.is, ""), alone: alone{c.was, "bench x", c.less}}
		if got := f.worse(); got != c.want {
			t.Errorf("%v, alone %v, less is better %v: %v, want %v", c.is, c.was, c.less, got, c.want)
		}
	}
	if got := (eveningFigure{Figure: plain("x", 5, "")}).worse(); got != 0 {
		t.Errorf("without anything to compare with: %v", got)
	}
}

// A figure stands beside the newest run of its benchmark, and beside what is
// noted where there was none.
func TestNotedFigures(t *testing.T) {
	e := &evening{runs: []run{{Round: "door", When: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), Figures: []Figure{plain("a member", 1, ""), plain("  errors", 7, "")}}}}
	if a := e.noted("door", "a member: errors", 0, true); a.value != 7 || a.from != "bench door, 2026-05-01" || !a.less {
		t.Errorf("%+v", a)
	}
	for _, name := range []string{"errors", "a member: warnings"} {
		if a := e.noted("door", name, 3, false); a.value != 3 || a.from != "bench door, NOTES.md" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestEveningPhases(t *testing.T) {
	names := func(only string) (out []string) {
		all, err := eveningWanted(only)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			out = append(out, p.name)
		}
		return out
	}
	if got := names(""); len(got) != len(eveningPhases) {
		t.Errorf("all of them: %v", got)
	}
	// The farm is there in any case, and what was begun is brought to its end.
	if got := names("still,project"); len(got) != 4 || got[0] != "house" || got[1] != "project" || got[2] != "still" || got[3] != "delivery" {
		t.Errorf("%v", got)
	}
	if _, err := eveningWanted("still,sleep"); err == nil {
		t.Error("a phase that is not there was taken")
	}
}
