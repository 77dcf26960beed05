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
	// Except takes datablocks off those that were changed.
	Except(same func(key string) bool)
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
	if len(was.Bakes)+len(now.Bakes) > 0 {
		return none("simulations are baked for it, and what they depend on is not known")
	}
	var reads []func(frame int) bool
	edited, remodelled := false, false
	for _, c := range v.Changed {
		if c.Name == now.Main && c.Name == was.Main {
			edited = true
			continue
		}
		if strings.HasPrefix(c.Name, modelFolder+"/") {
			remodelled = true // of frames, no matter
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
		if t.Kind != Name {
			return !remodelled // the model, which is all that others read
		}
		var p Params
		if json.Unmarshal(t.Params, &p) != nil || p.Op == opFilm || p.Film != nil {
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
	// Settled are those of the datablocks asked for whose animated values are of
	// the frame at which the file was saved. Where there are some, the file was
	// written again, as it is at another frame.
	Settled []string `json:"settled"`
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
			return never("the earlier version of the .blend is not here any more")
		}
	}
	edit, err := k.CompareFiles(ctx, v.Spec, files[0], files[1])
	if err != nil {
		return nil, "", err
	}
	if edit.Doubt != "" {
		return never("the file was edited, and " + edit.Doubt)
	}
	return func(frame int) bool { return edit.Same(now.Scene, frame) }, edit.String(), nil
}

// Edit is what two versions of a .blend differ in, and when that shows.
type Edit struct {
	// Doubt says why nothing can be said of it; "" where something can.
	Doubt string
	// Changed are the datablocks that are not the same, see Difference.
	Changed []string

	diff    Difference
	looks   [2]unseen
	objects []string        // through which something that was changed may be seen
	known   map[string]bool // what was found, by scene and what is hidden
}

// CompareFiles compares two versions of a .blend, and may write to both.
func (k *Kind) CompareFiles(ctx context.Context, s job.Spec, was, now string) (*Edit, error) {
	e := &Edit{known: map[string]bool{}}
	var err error
	if e.diff, err = k.opts.Compare(ctx, was, now); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e.Doubt = "its versions cannot be compared: " + err.Error()
		return e, nil
	}
	if e.Changed = e.diff.Changed(); len(e.Changed) == 0 {
		return e, nil
	}
	looks, err := k.unseen(ctx, s, e.Changed, was, now)
	if err != nil {
		return nil, err
	}
	if err := e.settle(ctx, k, looks, was, now); err != nil {
		return nil, err
	}
	e.Changed = e.diff.Changed()
	var objects []string
	for i, u := range looks {
		switch {
		case !u.Opened:
			e.Doubt = "a version of it cannot be opened alone"
		case len(u.Doubts) > 0:
			e.Doubt = u.Doubts[0]
		case !(u.Reach >= 0 && u.Reach <= math.MaxInt32):
			e.Doubt = "its motion blur has no bounds"
		}
		e.looks[i] = u
		for name := range u.Hidden {
			objects = append(objects, "OB"+name)
		}
	}
	slices.Sort(objects)
	e.objects = e.diff.Matter(slices.Compact(objects))
	return e, nil
}

// settle finds which datablocks differ only in animated values that are of the
// frame at which a version was saved.
func (e *Edit) settle(ctx context.Context, k *Kind, looks [2]unseen, was, now string) error {
	if len(looks[0].Settled) == 0 || len(looks[1].Settled) == 0 {
		return nil
	}
	again, err := k.opts.Compare(ctx, was, now)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil // they stay changed
	}
	differ := map[string]bool{}
	for _, key := range again.Changed() {
		differ[key] = true
	}
	in := func(keys []string) map[string]bool {
		m := map[string]bool{}
		for _, key := range keys {
			m[key] = true
		}
		return m
	}
	a, b := in(looks[0].Settled), in(looks[1].Settled)
	e.diff.Except(func(key string) bool { return a[key] && b[key] && !differ[key] })
	return nil
}

// Same reports whether a frame of the scene is known to come out the same in
// both versions: every object is hidden in it, in either, by which something
// that was changed could come into the picture.
func (e *Edit) Same(scene string, frame int) bool {
	if e.Doubt != "" {
		return false
	}
	hidden := [2]map[string]bool{{}, {}}
	key := append(make([]byte, 0, len(scene)+1+2*len(e.objects)), scene+"\x00"...)
	for i, u := range e.looks {
		for _, o := range e.objects {
			h := u.at(o[2:], frame)
			hidden[i][o] = h
			if h {
				key = append(key, '1')
			} else {
				key = append(key, '0')
			}
		}
	}
	same, ok := e.known[string(key)]
	if !ok {
		same = e.diff.Same("SC"+scene, hidden[0], hidden[1])
		e.known[string(key)] = same
	}
	return same
}

// String says what was changed, for people.
func (e *Edit) String() string {
	var names []string
	for _, k := range e.Changed {
		if len(k) > 2 && (k[:2] == "OB" || len(e.Changed) <= 3) {
			names = append(names, k[2:])
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if n := len(names); n == 0 || n > 5 {
		return fmt.Sprintf("%d datablocks changed", len(e.Changed))
	}
	return "changed: " + strings.Join(names, ", ")
}

// unseen asks a Blender when objects of two files are hidden. It may write them
// again, see unseen.Settled.
func (k *Kind) unseen(ctx context.Context, s job.Spec, changed []string, was, now string) (found [2]unseen, err error) {
	here, _, err := k.ables(ctx)
	if err != nil {
		return found, err
	}
	p, note := choose(s, here)
	if note != nil && note.Severity == job.SeverityError {
		return found, errors.New(note.String())
	}
	work, err := os.MkdirTemp(k.opts.Scratch, "unseen-")
	if err != nil {
		return found, err
	}
	defer os.RemoveAll(work)
	ask, out := filepath.Join(work, "ask.json"), filepath.Join(work, "out.json")
	b, err := json.Marshal(changed)
	if err == nil {
		err = os.WriteFile(ask, b, 0o600)
	}
	if err != nil {
		return found, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inspectTimeout, fmt.Errorf("no answer within %s", inspectTimeout))
	defer cancel()
	log, runErr := k.watched(ctx, p.program, work, nil, io.Discard, "-b", "-Y", "--factory-startup", "--python-exit-code", exitScript,
		"-P", filepath.Join(k.runner, "unseen.py"), "--", ask, out, was, now)
	if b, err = os.ReadFile(out); err != nil {
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
		return found, fmt.Errorf("Blender crashed on a version of %s: %w; the end of its log:\n%s", s.Input, runErr, lastLines(log, 12)) //nolint:staticcheck // a name
	}
	if err := json.Unmarshal(b, &found); err != nil {
		return found, fmt.Errorf("look at a version of %s: %w", s.Input, err)
	}
	return found, nil
}
