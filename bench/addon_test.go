package main

import (
	"math"
	"os"
	"testing"
)

func TestAddonPhases(t *testing.T) {
	log, err := os.ReadFile("testdata/addon.log")
	if err != nil {
		t.Fatal(err)
	}
	// Clicks, as seconds since 1970.
	runs := []addonTimes{
		{Clicked: 1795636104.8834927, Taken: 1, Looked: 7, Stored: 9, Given: 9.7},
		{Clicked: 1795636189.692545, Taken: 0.75, Looked: 1.03, Stored: 1.69, Given: 1.7},
	}
	if err := addonBegins(string(log), runs); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > 0.01 {
			t.Errorf("%s after %.3f s, want %.3f", what, got, want)
		}
	}
	near("first unpacked", runs[0].Unpacked, 11.589)
	near("first opened", runs[0].Opened, 18.292)
	near("first begun", runs[0].Began, 18.294)
	near("second unpacked", runs[1].Unpacked, 5.566)
	near("second opened", runs[1].Opened, 9.571)
	near("second begun", runs[1].Began, 9.574)
	sum := 0.0
	for _, p := range runs[1].phases() {
		sum += p.Value
	}
	near("all phases", sum, runs[1].Began)

	if err := addonBegins(string(log), make([]addonTimes, 3)); err == nil {
		t.Error("a frame that the log lacks was not missed")
	}
	if err := addonBegins(string(log), make([]addonTimes, 1)); err == nil {
		t.Error("a frame too many was not found")
	}
}
