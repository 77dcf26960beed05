package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"idlewild/job"
)

func TestWithID(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                  `{"id":7}` + "\n",
		"{ \"a\": \n 1 }":     `{"id":7,"a":1}` + "\n",
		`{"s":"a\nb","t":{}}`: `{"id":7,"s":"a\nb","t":{}}` + "\n",
	} {
		if got, err := withID([]byte(in), 7); err != nil || string(got) != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for _, in := range []string{``, `[]`, `null`, `{`, `{} {}`, `"x"`, strings.Repeat(" ", maxRequestBytes) + "{}"} {
		if got, err := withID([]byte(in), 7); err == nil {
			t.Errorf("%.20s: %s", in, got)
		}
	}
}

func TestReadEventsIgnoresATornLastLine(t *testing.T) {
	var names []string
	err := readEvents(strings.NewReader("{\"event\":\"a\"}\n\n  \n{\"event\":\"b\"}\r\n{\"event\":\"c\"}\n{\"event\":\"to"), func(e event) bool {
		names = append(names, e.Event)
		return true
	})
	if err != nil || fmt.Sprint(names) != "[a b c]" {
		t.Errorf("%v %v", names, err)
	}
}

func TestLogBufferKeepsBothEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(logMarkerBytes+8, logMarkerBytes+200).Draw(t, "limit")
		l := newLogBuffer(limit)
		var all []byte
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, 150), 0, 12).Draw(t, "writes") {
			p := bytes.Repeat([]byte{byte('a' + i)}, n)
			l.Write(p)
			all = append(all, p...)
		}
		got := l.Take()
		keep := limit - logMarkerBytes
		if len(all) <= keep {
			if !bytes.Equal(got, all) {
				t.Fatalf("%q, want %q", got, all)
			}
			return
		}
		head, tail := all[:keep/4], all[len(all)-(keep-keep/4):]
		if len(got) > limit || !bytes.HasPrefix(got, head) || !bytes.HasSuffix(got, tail) ||
			!bytes.Contains(got, fmt.Appendf(nil, " %d bytes", len(all)-keep)) {
			t.Fatalf("%q of %q", got, all)
		}
		if len(l.Take()) != 0 {
			t.Fatal("taken twice")
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{
		`{"event":"ready"}`,
		`{"event":"progress","id":1,"phase":"rendering","fraction":0.5}`,
		`{"event":"done","id":1,"outcome":"succeeded","device":"cpu","build":"3.4.1","render_s":1.2,"load_s":0}`,
		`{"event":"error","outcome":"failed","reason":"no camera"}`,
		`{"event":"done","render_s":-1e308}`, `{"event":1}`, `[]`, ``, "{\"event\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvent(b)
		if err != nil {
			return
		}
		if p := e.progress(); !(p.Fraction >= 0 && p.Fraction <= 1) || len(p.Phase) > maxPhaseBytes {
			t.Errorf("%+v", p)
		}
		o, reason := e.outcome()
		if !o.Valid() || (o == job.Succeeded) != (reason == "") || len(reason) > job.MaxReasonBytes || !utf8.ValidString(reason) {
			t.Errorf("%s %q", o, reason)
		}
		if d := seconds(e.RenderS, time.Hour); d < 0 || d > time.Hour {
			t.Errorf("%v", d)
		}
	})
}

func FuzzWithID(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte("{\n}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		line, err := withID(b, 3)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(line, &m) != nil || bytes.Count(line, []byte("\n")) != 1 || !bytes.HasPrefix(line, []byte(`{"id":3`)) {
			t.Errorf("%q", line)
		}
	})
}
