package main

import (
	"strings"
	"testing"
	"time"
)

// The page names what is missed, what became worse and what did not run, and a
// failed try leaves the figures that were there.
func TestResultsPage(t *testing.T) {
	r, other := rounds[0], rounds[1]
	was := run{Round: r.String(), When: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Figures: []Figure{
		atMost("a task", 10, "ms", 20), plain("  frames", 3, ""), atLeast("share", .9, "", .8), atMost("bytes", 100, "B", 200),
	}}
	is := was
	is.When = is.When.Add(24 * time.Hour)
	is.Figures = []Figure{
		atMost("a task", 25, "ms", 20, Peer{"another | program", 5000}), plain("  frames", 4, ""), atLeast("share", .6, "", .5), atMost("bytes", 110, "B", 200),
	}
	before := []run{was}
	now := put([]run{was}, is)
	page := string(results(now, before))
	for _, want := range []string{
		"1 goals are missed", "2 figures with a goal are worse",
		"| `overhead` | a task | 25 ms | <= 20 |", // missed
		"| `overhead` | a task | 10 ms | 25 ms |", // and worse
		"| `overhead` | share | 0.9 | 0.6 |",      // worse, though it holds
		"| a task: frames | 4 | 3 |  |  |",
		"| a task | 25 ms | 10 ms | <= 20, **missed** | another \\| program 5000 |",
		"| `" + other.String() + "` | not run yet |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("not there: %q", want)
		}
	}
	if strings.Contains(page, "| `overhead` | bytes |") {
		t.Error("bytes moved by a tenth, which is nothing")
	}
	failed := put(now, run{Round: r.String(), When: is.When.Add(time.Hour), Error: "no Blender"})
	if x, _ := of(failed, r); len(x.Figures) != 4 || x.Error != "2026-01-03: no Blender" || !x.When.Equal(is.When) {
		t.Errorf("after a try that failed: %+v", x)
	}
	if page := string(results(failed, before)); !strings.Contains(page, "did not run to its end | 2026-01-03: no Blender") {
		t.Error("the page does not say that the newest try failed")
	}
}

func TestRoundsAreBenchmarks(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rounds {
		if benchmarks[r.Bench].run == nil || seen[r.String()] {
			t.Errorf("%s", r)
		}
		seen[r.String()] = true
	}
	if x, err := chosen("diff,game", "diff"); err != nil || len(x) != 1 || x[0].Bench != "game" {
		t.Errorf("%v, %v", x, err)
	}
	for _, s := range []string{"nothing", "diff,nothing"} {
		if _, err := chosen(s, ""); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
