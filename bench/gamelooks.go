package main

import (
	"fmt"
	"slices"

	cheats "idlewild/bench/verify"
	"idlewild/job"
)

// recordedLooks are what looks at renders found, scene by scene.
type recordedLooks struct {
	scenes []recordedScene
}

// recordedScene has the rulings on each claim, one for each draw of crops.
type recordedScene struct {
	name   string
	honest [][]job.Ruling          // one for each honest machine
	claims map[string][]job.Ruling // by the claim's name
}

// keptLooks are those of the record that is kept with the program.
func keptLooks() (*recordedLooks, error) {
	r, err := cheats.Kept()
	if err != nil {
		return nil, err
	}
	out := &recordedLooks{}
	at := map[string]int{}
	for _, c := range r.Claims {
		i, ok := at[c.Scene]
		if !ok {
			i = len(out.scenes)
			at[c.Scene] = i
			out.scenes = append(out.scenes, recordedScene{name: c.Scene, claims: map[string][]job.Ruling{}})
		}
		looks := c.Looks()
		if len(looks) == 0 {
			return nil, fmt.Errorf("the record has no checks of %s, %s: make it again with `bench verify --record`", c.Scene, c.Claim)
		}
		s := &out.scenes[i]
		s.claims[c.Claim] = looks
		if c.Honest() {
			s.honest = append(s.honest, looks)
		}
	}
	out.scenes = slices.DeleteFunc(out.scenes, func(s recordedScene) bool { return len(s.honest) == 0 })
	if len(out.scenes) == 0 {
		return nil, fmt.Errorf("the record has no honest frames: make it again with `bench verify --record`")
	}
	return out, nil
}

// glance is what looks at a frame of the peer find: another draw finds what
// another draw of the record found, and a look at the same place always the same.
// nil without a record, or where it has no such frame.
func (s *played) glance(like []string, cheats bool) func(draw int) job.Ruling {
	if s.scene == nil {
		return nil
	}
	looks := s.scene.honest[s.machine%len(s.scene.honest)]
	if cheats {
		i := slices.IndexFunc(like, func(name string) bool { return s.scene.claims[name] != nil })
		if i < 0 {
			return nil
		}
		looks = s.scene.claims[like[i]]
	}
	at := map[int]int{}
	return func(draw int) job.Ruling {
		i, ok := at[draw]
		if !ok {
			i = s.r.IntN(len(looks))
			at[draw] = i
		}
		return looks[i]
	}
}
