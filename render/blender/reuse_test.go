package blender

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"idlewild/job"
)

// content is some content that tasks read.
var content = job.Task{Kind: Name}.Key()

func TestSequenceNumbers(t *testing.T) {
	for _, c := range []struct {
		u           SequenceUser
		frame, want int
	}{
		{SequenceUser{1, 100, 0, "EXTEND"}, 5, 5}, {SequenceUser{1, 3, 0, "EXTEND"}, 5, 3}, {SequenceUser{1, 3, 0, "EXTEND"}, -4, 1},
		{SequenceUser{1, 3, 0, "REPEAT"}, 5, 2}, {SequenceUser{1, 3, 0, "REPEAT"}, -1, 2}, {SequenceUser{1, 100, 10, "EXTEND"}, 5, 15},
		{SequenceUser{3, 100, 0, "EXTEND"}, 5, 3}, {SequenceUser{1, 0, 7, "EXTEND"}, 5, 7},
		// As volume_sequence_frame of Blender counts.
		{SequenceUser{1, 4, 0, "PING_PONG"}, 4, 4}, {SequenceUser{1, 4, 0, "PING_PONG"}, 5, 3}, {SequenceUser{1, 4, 0, "PING_PONG"}, 6, 2},
		{SequenceUser{1, 4, 0, "PING_PONG"}, 7, 1}, {SequenceUser{1, 4, 0, "PING_PONG"}, 0, 2}, {SequenceUser{1, 1, 0, "PING_PONG"}, 9, 1},
	} {
		if have := c.u.number(c.frame); have != c.want {
			t.Errorf("%+v at %d: %d, want %d", c.u, c.frame, have, c.want)
		}
	}
	clip := Sequence{Head: "a_", Tail: ".vdb", Numbers: [][2]int{{1, 9}}, Users: []SequenceUser{{1, 3, 0, "CLIP"}}}
	if clip.shows(3, 4, 0) || !clip.shows(3, 3, 0) || !clip.shows(3, 4, 1) {
		t.Error("a clip shows what is behind it")
	}
}

func TestFilesThatFramesRead(t *testing.T) {
	seq := Sequence{Head: "tex/a_", Tail: ".png", Numbers: [][2]int{{1, 50}}, Users: []SequenceUser{{1, 50, 0, "EXTEND"}, {11, 50, 0, "EXTEND"}}}
	facts := Facts{Main: "s.blend", Build: "b", Engine: cycles, Scene: "S", Sequences: []Sequence{seq}}
	k, err := New(Options{Blender: "/no/blender", Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	task := func(frame int) job.Task {
		return job.Task{Kind: Name, Params: Params{Op: opRender, Frame: frame}.encode(), Input: content}
	}
	for _, c := range []struct {
		what    string
		was     func(*Facts)
		changed []job.ChangedFile
		same    map[int]bool
		why     string
	}{
		{"a file of the sequence, with two users", nil, []job.ChangedFile{{Name: "tex/a_0020.png", Was: true, Now: true}}, map[int]bool{20: false, 30: false, 21: true, 1: true}, ""},
		{"one that came", nil, []job.ChangedFile{{Name: "tex/a_0020.png", Now: true}}, map[int]bool{20: false, 21: true}, ""},
		{"one that went", nil, []job.ChangedFile{{Name: "tex/a_0020.png", Was: true}}, map[int]bool{20: false, 21: true}, ""},
		{"the earlier job did not know", func(f *Facts) { f.Sequences = nil }, []job.ChangedFile{{Name: "tex/a_0020.png", Was: true, Now: true}}, map[int]bool{20: false, 21: false}, "every frame may read"},
		{"motion blur", func(f *Facts) { f.Reach = 0.5 }, []job.ChangedFile{{Name: "tex/a_0020.png", Was: true}}, map[int]bool{19: false, 21: false, 22: true}, ""},
		{"a number that is not of it", nil, []job.ChangedFile{{Name: "tex/a_0051.png", Was: true, Now: true}}, map[int]bool{20: false, 21: false}, "every frame may read"},
		{"another file", nil, []job.ChangedFile{{Name: "tex/b.png", Was: true, Now: true}}, map[int]bool{21: false}, "tex/b.png"},
		{"motion blur without bounds", func(f *Facts) { f.Reach = 1e12 }, []job.ChangedFile{{Name: "tex/a_0020.png", Was: true}}, map[int]bool{21: false}, "every frame"},
		{"the .blend, where it cannot be compared", nil, []job.ChangedFile{{Name: "s.blend", Was: true, Now: true}}, map[int]bool{21: false}, "not compared"},
	} {
		was := facts
		if c.was != nil {
			c.was(&was)
		}
		w, _ := json.Marshal(was)
		n, _ := json.Marshal(facts)
		same, why, err := k.Compare(t.Context(), job.Versions{Was: w, Now: n, Changed: c.changed})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		for frame, want := range c.same {
			if have := same(task(frame)); have != want {
				t.Errorf("%s: frame %d is the same: %v", c.what, frame, have)
			}
		}
		if !strings.Contains(why, c.why) {
			t.Errorf("%s: %q", c.what, why)
		}
		film := task(21)
		film.Params = Params{Op: opFilm, Frame: 21}.encode()
		if same(film) {
			t.Errorf("%s: the film is the same", c.what)
		}
	}
	if same, _, err := k.Compare(t.Context(), job.Versions{}); err != nil || !same(task(1)) {
		t.Errorf("nothing changed: %v", err)
	}
}

func TestVersionsThatCannotBeCompared(t *testing.T) {
	k, err := New(Options{Blender: "/no/blender", Scratch: t.TempDir(), Compare: func(context.Context, string, string) (Difference, error) {
		return nil, errors.New("no canonical form")
	}})
	if err != nil {
		t.Fatal(err)
	}
	changed := []job.ChangedFile{{Name: "s.blend", Was: true, Now: true}}
	for want, change := range map[string]func(*Facts){
		"only for Cycles": func(f *Facts) { f.Engine = "BLENDER_EEVEE" }, "another Blender": func(f *Facts) { f.Build = "c" },
		"no canonical form": nil,
	} {
		facts := Facts{Main: "s.blend", Build: "b", Engine: cycles, Scene: "S"}
		n, _ := json.Marshal(facts)
		if change != nil {
			change(&facts)
		}
		w, _ := json.Marshal(facts)
		fetch := func(context.Context, bool, string, string) error { return nil }
		same, why, err := k.Compare(t.Context(), job.Versions{Was: w, Now: n, Changed: changed, Fetch: fetch})
		if err != nil || !strings.Contains(why, want) || same(job.Task{Kind: Name, Params: Params{Op: opRender, Frame: 1}.encode(), Input: content}) {
			t.Errorf("%s: %q, %v", want, why, err)
		}
	}
	gone := errors.New("block not found")
	f, _ := json.Marshal(Facts{Main: "s.blend", Engine: cycles})
	_, why, err := k.Compare(t.Context(), job.Versions{Was: f, Now: f, Changed: changed, Fetch: func(context.Context, bool, string, string) error { return gone }})
	if err != nil || !strings.Contains(why, "not here any more") {
		t.Errorf("%q, %v", why, err)
	}
}
