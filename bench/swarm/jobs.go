package swarm

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/oklog/ulid/v2"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// submitAll makes the jobs and lets them be submitted one after the other.
func (w *world) submitAll() error {
	r := rand.New(rand.NewPCG(w.p.Seed, 2))
	for i := range w.p.Jobs {
		j := &simJob{no: i, frames: w.p.Frames, tasks: w.p.Frames * w.p.Parts, finished: map[int]bool{}, keys: map[job.TaskKey]int{}, bits: w.p.SceneGB * 8000}
		var id ulid.ULID // the same in every run
		binary.BigEndian.PutUint64(id[:], uint64(epoch.UnixMilli()+int64(i))<<16)
		binary.BigEndian.PutUint64(id[8:], w.p.Seed)
		j.id = job.ID(id.String())
		if w.p.Spread {
			j.bits *= math.Pow(10, r.Float64()*1.4-.7)
		}
		level := 0.0
		for f := range w.p.Frames {
			if f%100 == 0 {
				level = r.NormFloat64() * .35 // another shot
			}
			c := w.p.Base * math.Exp(level+r.NormFloat64()*.12)
			if w.p.Trace != nil {
				c = w.p.Trace.Frames[f]
			}
			j.cost = append(j.cost, c)
			j.total += c
			j.left = append(j.left, w.p.Parts)
			if f%10 == 0 {
				j.preview++
			}
		}
		for _, n := range w.nodes {
			n.have = append(n.have, 0)
			if w.p.Warm || n.home {
				n.have[i] = j.bits
			}
		}
		w.jobs = append(w.jobs, j)
		w.byID[j.id] = j
		w.open++
		tasks := w.plan(j)
		w.at(time.Duration(i)*w.p.Gap, func() {
			j.submitted = w.now
			w.step(dispatch.Submitted{ID: j.id, Spec: job.Spec{Kind: "simulated", Title: fmt.Sprint("job ", i), Output: "/out"}, Secret: make([]byte, 32)})
			w.step(dispatch.Planned{ID: j.id, Tasks: tasks, Snapshot: dispatch.Snapshot{Bytes: int64(j.bits * 125_000)}})
		})
	}
	return nil
}

func ref(b []byte) job.Ref {
	h, err := mh.Sum(b, mh.SHA2_256, -1)
	if err != nil {
		panic(err) // of a known function
	}
	return job.RefOf(cid.NewCidV1(cid.Raw, h))
}

// plan gives a job's tasks as a kind would: every tenth frame first; a frame in
// parts is joined at the requester.
func (w *world) plan(j *simJob) []job.Task {
	var out []job.Task
	input := ref([]byte("scene of " + string(j.id)))
	ranks := previewOrder(len(j.cost))
	for f := range j.cost {
		final := fmt.Sprintf("%04d.exr", f+1)
		join := job.Task{
			Kind: "simulated", Params: params(f*w.p.Parts, true), Label: strconv.Itoa(f + 1), Place: job.AtRequester, Rank: ranks[f],
			Outputs: []job.OutputRule{{Name: "frame.exr", Media: job.MediaEXR, Final: final}},
		}
		for part := range w.p.Parts {
			t := job.Task{
				Kind: "simulated", Params: params(f*w.p.Parts+part, false), Input: input, Label: strconv.Itoa(f + 1), Rank: ranks[f],
				Outputs: []job.OutputRule{{Name: "frame.exr", Media: job.MediaEXR}},
				Check:   job.Check{Method: job.CheckCrop, Output: "frame.exr"},
			}
			if w.p.Parts == 1 {
				t.Outputs[0].Final = final
			} else {
				t.Label = fmt.Sprintf("%d part %d of %d", f+1, part+1, w.p.Parts)
				join.After = append(join.After, t.Key())
			}
			out = append(out, t)
			j.keys[t.Key()] = f*w.p.Parts + part
		}
		if w.p.Parts > 1 {
			out = append(out, join)
		}
	}
	return out
}

// params of a task are its number, and whether it joins what the frame's tasks made.
func params(no int, join bool) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(no))
	if join {
		b = append(b, 1)
	}
	return b
}

func number(t job.Task) (no int, join bool) {
	return int(binary.BigEndian.Uint32(t.Params)), len(t.Params) > 4
}

// previewOrder is that of render/blender: every tenth frame, coarse to fine,
// then the rest.
func previewOrder(n int) []int {
	ranks := make([]int, n)
	next, sparse, step := 0, (n+9)/10, 1
	for step < sparse {
		step *= 2
	}
	for first := true; step > 0; first, step = false, step/2 {
		for i := 0; i < sparse; i += step {
			if first || i%(2*step) != 0 {
				ranks[10*i] = next
				next++
			}
		}
	}
	for i := range n {
		if i%10 != 0 {
			ranks[i] = job.RestRank + next
			next++
		}
	}
	return ranks
}
