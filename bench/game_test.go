package main

import "testing"

// The policy must hold at a glance: nobody honest is punished, cheats lose, and
// the same seed is the same game. The whole table is `go run ./bench game`.
func TestGameHoldsAndRepeats(t *testing.T) {
	g := gameRules{cost: .5, hours: 5, frame: 60, jobFrames: 250, look: .02, falsely: .0011, freshly: .01, samely: .5, seed: 7}
	for _, f := range g.honestFigures(40) {
		if f.Goal != "" && !f.Holds {
			t.Errorf("%s: %v %s, want %s", f.Name, f.Value, f.Unit, f.Goal)
		}
	}
	earns := func(o outcome) float64 { return o.gain }
	honest := mean(g.play(strategies()[0], 1), func(o outcome) float64 { return float64(o.identities) })
	if honest != 1 {
		t.Errorf("%g identities without a new one", honest)
	}
	for _, s := range strategies() {
		if s.fresh {
			continue // many names, much time
		}
		a, b := g.play(s, 4), g.play(s, 4)
		if mean(a, earns) != mean(b, earns) {
			t.Errorf("%s: another game with the same seed", s.name)
		}
		if s.name == "at once, half the samples" && (mean(a, earns) >= 0 || a[0].bans == 0) {
			t.Errorf("%s: earns %g, %+v", s.name, mean(a, earns), a[0])
		}
	}
}

// With what looks at real renders found, nothing is assumed of looks: nobody
// honest is punished in 20 000 frames, and what cheats loses.
func TestGameWithRecordedLooks(t *testing.T) {
	record, err := keptLooks()
	if err != nil {
		t.Fatal(err)
	}
	g := gameRules{cost: .5, hours: 5, frame: 60, jobFrames: 250, look: .02, seed: 7, record: record}
	for _, f := range g.honestFigures(40) {
		if f.Goal != "" && !f.Holds {
			t.Errorf("%s: %v %s, want %s", f.Name, f.Value, f.Unit, f.Goal)
		}
	}
	half := strategies()[0]
	for _, o := range g.play(half, 4) {
		if o.gain >= 0 || o.bans == 0 || o.caughtAt != 1 {
			t.Errorf("%s: earns %g, %d bans, caught at frame %d", half.name, o.gain, o.bans, o.caughtAt)
		}
	}
}
