package gorunner

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"idlewild/job"
)

// TestServe: what a runner says to requests, line by line.
func TestServe(t *testing.T) {
	var events bytes.Buffer
	quoted := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	in := `{"id":7}` + "\n" + `{"id":8,"what":"fail"}` + "\n" + `{"id":9` // which breaks off
	err := serve(strings.NewReader(in), &events, io.Discard, func(r Request) Answer {
		if strings.Contains(string(r.JSON), "fail") {
			return Answer{Outcome: job.Failed, Reason: "it was asked to"}
		}
		r.Progress("loading", 0.25)
		r.Tell(quoted(MaxData), 0.5)
		r.Tell(quoted(MaxData+1), 0.75) // more than a line may have: left out
		return Answer{Device: "cpu", Build: "1"}
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []event
	for line := range strings.Lines(events.String()) {
		var e event
		if len(line) > 64<<10 || json.Unmarshal([]byte(line), &e) != nil {
			t.Fatalf("%d bytes: %.100s", len(line), line)
		}
		if e.RenderS < 0 {
			t.Errorf("%v seconds", e.RenderS)
		}
		got = append(got, e)
	}
	want := []event{
		{Event: "ready"},
		{Event: "progress", ID: 7, Phase: "loading", Fraction: 0.25},
		{Event: "progress", ID: 7, Phase: "rendering", Fraction: 0.5, Data: quoted(MaxData)},
		{Event: "done", ID: 7, Outcome: string(job.Succeeded), Device: "cpu", Build: "1"},
		{Event: "done", ID: 8, Outcome: string(job.Failed), Reason: "it was asked to"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d events instead of %d", len(got), len(want))
	}
	for i, e := range got {
		e.RenderS = 0
		if a, b := mustJSON(t, e), mustJSON(t, want[i]); a != b {
			t.Errorf("event %d: %.200s instead of %.200s", i, a, b)
		}
	}
	if err := serve(strings.NewReader("{\n"), io.Discard, io.Discard, nil); err == nil {
		t.Error("a request that cannot be read is answered")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
