package blender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
)

// Difference is what Options.Compare finds between two versions of a .blend;
// diffupload/blendfile says more. Keys are two letters of a type and a name:
// "OBCube".
type Difference interface {
	// Changed are the keys of datablocks that are not the same in both.
	Changed() []string
	// Matter returns those of the objects given through which something that
	// was changed may come into a picture.
	Matter(objects []string) []string
	// Same reports whether nothing that was changed comes into pictures of the
	// scene where these objects are hidden.
	Same(scene string, hiddenWas, hiddenNow map[string]bool) bool
}

// Compare implements dispatch.Comparer. What it says of a frame follows from
// what the frame reads: which files of sequences, and which datablocks of the
// .blend. In doubt a frame is not the same.
func (k *Kind) Compare(ctx context.Context, v job.Versions) (func(job.Task) bool, string, error) {
	if len(v.Changed) == 0 {
		return func(job.Task) bool { return true }, "", nil
	}
	var was, now Facts
	if err := json.Unmarshal(v.Was, &was); err != nil {
		return nil, "", fmt.Errorf("compare: what the earlier inspection found: %w", err)
	}
	if err := json.Unmarshal(v.Now, &now); err != nil {
		return nil, "", fmt.Errorf("compare: what the inspection found: %w", err)
	}
	none := func(why string) (func(job.Task) bool, string, error) {
		return func(t job.Task) bool { return !t.Input.Defined() }, why, nil
	}
	var reads []func(frame int) bool
	edited := false
	for _, c := range v.Changed {
		if c.Name == now.Main && c.Name == was.Main {
			edited = true
			continue
		}
		for _, of := range []struct {
			in    bool
			facts Facts
		}{{c.Was, was}, {c.Now, now}} {
			if !of.in {
				continue
			}
			r, ok := of.facts.readers(c.Name)
			if !ok {
				return none(fmt.Sprintf("%s changed, which every frame may read", c.Name))
			}
			reads = append(reads, r)
		}
	}
	same := func(int) bool { return true }
	why := ""
	if edited {
		var err error
		if same, why, err = k.unaffected(ctx, v, was, now); err != nil {
			return nil, "", err
		}
	}
	known := map[int]bool{}
	return func(t job.Task) bool {
		if !t.Input.Defined() {
			return true // what it is made of decides
		}
		var p Params
		if t.Kind != Name || json.Unmarshal(t.Params, &p) != nil || p.Op == opFilm || p.Film != nil {
			return false
		}
		yes, ok := known[p.Frame]
		if !ok {
			yes = same(p.Frame) && !slices.ContainsFunc(reads, func(r func(int) bool) bool { return r(p.Frame) })
			known[p.Frame] = yes
		}
		return yes
	}, why, nil
}

// unseen is what runner/unseen.py writes.
type unseen struct {
	Opened bool                    `json:"opened"`
	Hidden map[string][][2]float64 `json:"hidden"` // by object: from, and before
	Doubts []string                `json:"doubts"`
	Reach  float64                 `json:"reach"`
}

// at reports whether an object is hidden all the time that a picture of the
// frame looks at.
func (u unseen) at(object string, frame int) bool {
	for _, h := range u.Hidden[object] {
		if h[0] <= float64(frame)-u.Reach && float64(frame)+u.Reach < h[1] {
			return true
		}
	}
	return false
}

// unaffected tells which frames an edit in the .blend has no bearing on: those
// in which every object is hidden, before and after it, by which something that
// was changed could come into the picture.
func (k *Kind) unaffected(ctx context.Context, v job.Versions, was, now Facts) (func(frame int) bool, string, error) {
	never := func(why string) (func(int) bool, string, error) { return func(int) bool { return false }, why, nil }
	switch {
	case k.opts.Compare == nil:
		return never("versions of a .blend are not compared here")
	case now.Engine != cycles || was.Engine != cycles:
		return never("the file was edited, and only for Cycles is it known what an edit has no bearing on")
	case was.Build != now.Build:
		return never("the file was edited, and another Blender renders it")
	}
	work, err := os.MkdirTemp(k.opts.Scratch, "compare-")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(work)
	var files [2]string
	for i, earlier := range []bool{true, false} {
		files[i] = filepath.Join(work, fmt.Sprint(i), filepath.Base(filepath.FromSlash(now.Main)))
		if err := os.Mkdir(filepath.Dir(files[i]), 0o700); err != nil {
			return nil, "", err
		}
		if err := v.Fetch(ctx, earlier, now.Main, files[i]); err != nil {
			return never("an earlier version of the .blend is not here any more")
		}
	}
	diff, err := k.opts.Compare(ctx, files[0], files[1])
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		return never("the versions of the .blend cannot be compared: " + err.Error())
	}
	changed := diff.Changed()
	scene := "SC" + now.Scene
	if len(changed) == 0 {
		yes := diff.Same(scene, nil, nil)
		return func(int) bool { return yes }, "", nil
	}
	looks := make([]unseen, len(files))
	for i, f := range files {
		if looks[i], err = k.unseen(ctx, v.Spec, f); err != nil {
			return nil, "", err
		}
		switch u := looks[i]; {
		case !u.Opened:
			return never("a version of the .blend cannot be opened alone")
		case len(u.Doubts) > 0:
			return never("the file was edited, and " + u.Doubts[0])
		case !(u.Reach >= 0 && u.Reach <= math.MaxInt32):
			return never("the file was edited, and its motion blur has no bounds")
		}
	}
	all := map[string]bool{}
	var objects []string
	for _, u := range looks {
		for name := range u.Hidden {
			if !all["OB"+name] {
				all["OB"+name] = true
				objects = append(objects, "OB"+name)
			}
		}
	}
	objects = diff.Matter(objects)
	slices.Sort(objects)
	seen := map[string]bool{} // what Same says, by what is hidden
	return func(frame int) bool {
		hidden := [2]map[string]bool{{}, {}}
		key := make([]byte, 0, 2*len(objects))
		for i, u := range looks {
			for _, o := range objects {
				h := u.at(o[2:], frame)
				hidden[i][o] = h
				key = append(key, "01"[btoi(h)])
			}
		}
		same, ok := seen[string(key)]
		if !ok {
			same = diff.Same(scene, hidden[0], hidden[1])
			seen[string(key)] = same
		}
		return same
	}, editedIn(changed), nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// editedIn says what was changed, for people.
func editedIn(keys []string) string {
	var names []string
	for _, k := range keys {
		if len(k) > 2 && (k[:2] == "OB" || len(keys) <= 3) {
			names = append(names, k[2:])
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if n := len(names); n == 0 || n > 5 {
		return fmt.Sprintf("%d datablocks changed", len(keys))
	}
	return "changed: " + strings.Join(names, ", ")
}

// unseen asks a Blender when objects of the file are hidden.
func (k *Kind) unseen(ctx context.Context, s job.Spec, file string) (unseen, error) {
	var u unseen
	here, _, err := k.ables(ctx)
	if err != nil {
		return u, err
	}
	p, note := choose(s, here)
	if note != nil && note.Severity == job.SeverityError {
		return u, errors.New(note.String())
	}
	out := file + ".json"
	ctx, cancel := context.WithTimeoutCause(ctx, inspectTimeout, fmt.Errorf("no answer within %s", inspectTimeout))
	defer cancel()
	log, runErr := k.watched(ctx, p.program, filepath.Dir(file), nil, io.Discard, "-b", "-Y", "--factory-startup", "--python-exit-code", exitScript,
		file, "-P", filepath.Join(k.runner, "unseen.py"), "--", out)
	b, err := os.ReadFile(out)
	if err != nil {
		if ctx.Err() != nil {
			return u, context.Cause(ctx)
		}
		return u, fmt.Errorf("Blender crashed on a version of %s: %w; the end of its log:\n%s", s.Input, runErr, lastLines(log, 12)) //nolint:staticcheck // a name
	}
	if err := json.Unmarshal(b, &u); err != nil {
		return u, fmt.Errorf("look at a version of %s: %w", s.Input, err)
	}
	return u, nil
}
