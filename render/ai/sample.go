package ai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"idlewild/job"
	"idlewild/media"
)

// Evidence of a challenge: which crop of the picture an output shows. For
// records there is one, without a rectangle.
type Evidence struct {
	File string
	Rect job.Rect
}

// A check runs one of shareChecked items of a task again, and no more than
// mostChecked.
const (
	shareChecked = 10
	mostChecked  = 2000
)

// Sample returns the task that runs again what the draw chose of t: some of
// its items, or some rectangles of its picture. Of answers with commitments there are two such
// tasks, of which one is enough: the first reads the claim, which is its
// predecessor, and the second does not.
func (k *Kind) Sample(t job.Task, items func(n, k int) []int, crops func(width, height int) []job.Rect) ([]job.Task, error) {
	p, err := decode(t.Params)
	if err != nil {
		return nil, err
	}
	again := job.Task{
		Kind: Name, Input: t.Input, Reads: t.Reads, Label: t.Label + " check", Needs: job.Needs{Require: t.Needs.Require},
		Place: job.AtRequester, Timeout: t.Timeout, Rank: t.Rank,
	}
	switch p.Op {
	case opItems, opRequests:
		for _, i := range items(p.Count, min((p.Count+shareChecked-1)/shareChecked, mostChecked)) {
			p.Only = append(p.Only, p.First+i)
		}
		again.Outputs = []job.OutputRule{{Name: recordsFile, Media: job.MediaFile}}
		if p.Commit && p.Input != "" {
			replay := again
			q := p
			q.Op, q.Draw = opReplay, items(1<<30, drawn)
			replay.Params, replay.After = q.encode(), append(slices.Clone(t.After), t.Key())
			again.Params = p.encode()
			return []job.Task{replay, again}, nil
		}
	case opPicture:
		again.After = t.After
		p.Crops = crops(p.Width, p.Height)
		if len(p.Crops) > maxCrops {
			p.Crops = p.Crops[:maxCrops]
		}
		for i := range p.Crops {
			again.Outputs = append(again.Outputs, job.OutputRule{Name: cropFile(i), Media: job.MediaEXR})
		}
	default:
		return nil, fmt.Errorf("a task of the operation %s is not checked", p.Op)
	}
	again.Params = p.encode()
	if len(again.Params) > job.MaxTaskBytes {
		return nil, fmt.Errorf("the check of %s would be too large a task", t.Label)
	}
	return []job.Task{again}, nil
}

// Reread is the task that reads answers that somebody waited for, in place of
// writing them again: t with other parameters, what it is given, and draw by which
// places are looked at. ok is false where the answers have no commitments. claims
// are all answers to what t was given.
func Reread(t job.Task, given []byte, claims []media.Record, draw func(n int) int) (again job.Task, beside []byte, ok bool, err error) {
	p, err := decode(t.Params)
	if err != nil || p.Op != opRequests || p.Input != "" || !p.Commit {
		return again, nil, false, err
	}
	var b bytes.Buffer
	for line := range bytes.Lines(given) {
		var r Request
		if err := json.Unmarshal(line, &r); err != nil {
			return again, nil, false, err
		}
		if len(claims) == 0 {
			return again, nil, false, errors.New("fewer answers than requests")
		}
		r.Claim, claims = &claims[0], claims[1:]
		one, err := json.Marshal(r)
		if err != nil {
			return again, nil, false, err
		}
		b.Write(append(one, '\n'))
	}
	p.Op = opReplay
	for range drawn {
		p.Draw = append(p.Draw, draw(1<<30))
	}
	again = t
	again.Params, again.After, again.Check = p.encode(), []job.TaskKey{job.GivenKey(b.Bytes())}, job.Check{}
	again.Label += " check"
	return again, b.Bytes(), true, nil
}

// ReadEvidence lists what a task that Sample made leaves, and the numbers of
// the items in it.
func ReadEvidence(challenge job.Task) (files []Evidence, items []int, err error) {
	p, err := decode(challenge.Params)
	if err != nil {
		return nil, nil, err
	}
	if p.Op == opItems || p.Op == opRequests || p.Op == opReplay {
		return []Evidence{{File: recordsFile}}, p.Only, nil
	}
	for i, c := range p.Crops {
		files = append(files, Evidence{File: cropFile(i), Rect: c})
	}
	return files, nil, nil
}

// Replays reports whether a task that Sample made reads answers instead of writing
// them again.
func Replays(challenge job.Task) bool {
	p, err := decode(challenge.Params)
	return err == nil && p.Op == opReplay
}

func cropFile(i int) string { return fmt.Sprintf("crop-%d.exr", i) }
