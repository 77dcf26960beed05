package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

func TestDeadlines(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 30, 10, 5, time.UTC)
	for s, want := range map[string]string{
		"8h":                   "2026-05-01T20:30:10Z",
		"2026-05-02T09:00":     "2026-05-02T09:00:00Z",
		"2026-05-02 09:00":     "2026-05-02T09:00:00Z",
		"2026-05-02T09:00:00Z": "2026-05-02T09:00:00Z",
		"13:00":                "2026-05-01T13:00:00Z",
		"09:00":                "2026-05-02T09:00:00Z",
	} {
		d, err := deadline(s, now)
		if err != nil || d.Format(time.RFC3339) != want {
			t.Errorf("%q is %v, %v; want %s", s, d, err, want)
		}
	}
	for _, s := range []string{"soon", "-1h", "2026-05-01T12:30", "25:00"} {
		if d, err := deadline(s, now); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
}

func TestFactsAreReadable(t *testing.T) {
	got := factRows([]byte(`{"vram_bytes": 935155712, "ocio": "", "keyed": null, "layers": [], "version": "3.4.1", "adaptive": false, "gap": 0.5}`))
	want := [][]string{{"adaptive", "false"}, {"gap", "0.5"}, {"version", "3.4.1"}, {"vram bytes", "935155712"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNothingIsSaidOfNothing(t *testing.T) {
	s := job.Status{State: job.StatePlanned, Tasks: 1, Skipped: 1, LeftDevice: &job.Span{}, LeftResults: &job.Span{}}
	if got := (&program{}).detail(s, 0); strings.Contains(got, "efficiency") || strings.Contains(got, "the rest takes") {
		t.Errorf("of a job that rendered nothing and has nothing left:\n%s", got)
	}
	if got := plannedText(s); !strings.HasPrefix(got, "planned 1 task (1 is there already)") {
		t.Error(got)
	}
}
