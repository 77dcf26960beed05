package dispatch

import (
	"fmt"
	"slices"
	"time"

	"idlewild/internal/recordlog/faulty"
	"idlewild/job"
)

// cut ends w's stream. If the requester is gone, some of what it had sent
// arrives still.
func (w *rigWorker) cut(x *rig, arrives bool) {
	if arrives && w.up {
		for _, o := range w.in[:x.r.IntN(len(w.in)+1)] {
			w.hear(x, o)
		}
	}
	w.stream, w.in, w.out = 0, nil, nil
}

// die ends w's process: what it holds is gone, its receipts are on its disk.
func (w *rigWorker) die(x *rig, away time.Duration) {
	if w.stream != 0 && x.up {
		x.step(Closed{Peer: w.id, Stream: w.stream})
	}
	w.cut(x, false)
	w.up, w.since, w.away, w.leases = false, x.now, away, nil
	w.lives++
}

// hear takes an order as node/worker does.
func (w *rigWorker) hear(x *rig, o job.Order) {
	for _, s := range o.Stops {
		w.leases = slices.DeleteFunc(w.leases, func(l *rigLease) bool { return l.ID == s.Lease })
		w.news = true
	}
	for _, s := range o.Settled {
		w.receipts = slices.DeleteFunc(w.receipts, func(r OpenedReceipt) bool {
			return r.Receipt.Lease == s.Lease && r.Receipt.Leaves[0].Task == s.Task
		})
	}
	for _, l := range o.Leases {
		w.leases = append(w.leases, &rigLease{Lease: l})
	}
}

// work begins the first task that w holds, or ends it.
func (w *rigWorker) work(x *rig) {
	l := w.leases[0]
	g := l.Tasks[l.at]
	if !l.begun {
		l.begun = true
		if !isCheckLabel(g.Task.Label) {
			w.begun = append(w.begun, rigRun{g.Fence, l.ID})
		}
		return
	}
	const took = 3 * time.Second
	leaf := job.Leaf{Task: g.Task.Key(), Fence: g.Fence, Outcome: job.Succeeded, Device: l.Device, Meter: job.Meter{Wall: took, Render: took}}
	for _, o := range g.Task.Outputs {
		leaf.Outputs = append(leaf.Outputs, job.Output{Name: o.Name, Media: o.Media, File: refOf([]byte(w.name + g.Task.Label)), Bytes: 1})
	}
	r := job.Receipt{Version: 1, Requester: x.ws[0].id.String(), Worker: w.id.String(), Job: l.Job, Lease: l.ID, Epoch: l.Epoch, Leaves: []job.Leaf{leaf}}
	body, err := job.Encode(r)
	if err != nil {
		x.t.Fatal(err)
	}
	o := OpenedReceipt{Signed: job.Signed{Body: body, Sig: []byte(w.name)}, Receipt: r, Peer: w.id}
	w.receipts = append(w.receipts, o)
	if l.at, l.begun = l.at+1, false; l.at == len(l.Tasks) {
		w.leases = w.leases[1:]
	}
	w.report(x, o)
}

func isCheckLabel(s string) bool { return len(s) > 6 && s[:6] == "check " }

// report sends what there is to say, if there is a stream.
func (w *rigWorker) report(x *rig, done ...OpenedReceipt) {
	if w.stream == 0 {
		return
	}
	r := job.Report{Session: fmt.Sprint("s", w.lives)}
	if w.first {
		r.Machine = machine(map[string][]string{"fake": {"1"}}, w.device)
		done = slices.Clone(w.receipts)
	}
	for _, l := range w.leases {
		p := job.Progress{Lease: l.ID, Task: l.at, Phase: "rendering"}
		if !l.begun {
			p.Task = l.at - 1
		}
		r.Progress = append(r.Progress, p)
	}
	if want := 2 - len(w.leases); want > 0 {
		r.Bids = []job.Bid{{Device: w.device, Want: want}}
	}
	w.out = append(w.out, Reported{Peer: w.id, Stream: w.stream, Report: r, Receipts: done})
	w.first, w.news, w.heard = false, false, x.now
}

func (w *rigWorker) connect(x *rig) {
	x.stream++
	w.stream, w.first = x.stream, true
	x.step(Opened{Peer: w.id, Stream: w.stream})
	w.report(x)
}

// run plays until the job has ended and nothing is left to do, with the kills of
// the plan. It is false if that does not come about.
func (x *rig) run(plan []kill) bool {
	x.plan = plan
	x.aim()
	defer func() {
		if x.n != nil {
			x.n.lock.Close()
		}
	}()
	x.begin()
	for n := 0; ; n++ {
		if n > 200_000 || x.now.Sub(time.Unix(1_000_000_000, 0)) > 48*time.Hour {
			return false
		}
		if x.struck() {
			continue
		}
		if x.over() {
			return true
		}
		x.one()
	}
}

// aim has the disk go off at the next kill of the requester.
func (x *rig) aim() {
	x.disk.Left = faulty.Never
	if len(x.plan) > 0 && x.plan[0].who < 0 {
		x.disk.Left = max(0, x.plan[0].at-x.ops())
	}
}

// struck carries out a kill that is due.
func (x *rig) struck() bool {
	if len(x.plan) == 0 || x.ops() < x.plan[0].at {
		return false
	}
	k := x.plan[0]
	x.plan = x.plan[1:]
	switch {
	case k.who < 0 && x.alive:
		if x.kills++; k.power {
			x.power++
		}
		x.die(k)
	case k.who >= 0 && x.ws[k.who].up:
		x.kills++
		x.ws[k.who].die(x, k.away)
	}
	x.aim()
	return true
}

func (x *rig) over() bool {
	if !x.up || len(x.pending) > 0 || len(x.answers) > 0 {
		return false
	}
	j := x.b.byID[x.id]
	return j != nil && j.state.Ended() && j.cleaned && len(x.plan) == 0 && !slices.ContainsFunc(x.ws, func(w *rigWorker) bool {
		return !w.up || w.stream == 0 || len(w.in)+len(w.out)+len(w.receipts) > 0
	})
}

// one does one thing of those that could happen now. What cannot be done since
// the disk is off is not.
func (x *rig) one() {
	var can []func() bool
	if !x.up {
		if x.now.Sub(x.since) >= x.away {
			can = append(can, x.revive)
		}
	} else {
		if len(x.pending) > 0 {
			can = append(can, x.commit, x.commit)
		}
		if len(x.answers) > 0 {
			can = append(can, func() bool {
				i := x.r.IntN(len(x.answers))
				f := x.answers[i]
				x.answers = slices.Delete(x.answers, i, i+1)
				if !x.op() {
					return false
				}
				if e := f(); e != nil {
					x.step(e)
				}
				return true
			})
		}
	}
	for i, w := range x.ws {
		switch {
		case !w.up && x.now.Sub(w.since) >= w.away && (i > 0 || x.up):
			can = append(can, func() bool { w.up = true; return true })
		case w.up && x.up && w.stream == 0:
			can = append(can, func() bool { w.connect(x); return true })
		}
		if len(w.in) > 0 {
			can = append(can, func() bool {
				o := w.in[0]
				w.in = w.in[1:]
				w.hear(x, o)
				return x.op()
			})
		}
		if len(w.out) > 0 && x.up {
			can = append(can, func() bool {
				if !x.op() {
					return false
				}
				e := w.out[0]
				w.out = w.out[1:]
				x.step(e)
				return true
			})
		}
		if w.up && len(w.leases) > 0 {
			can = append(can, func() bool { w.work(x); return x.op() })
		}
		if w.up && w.stream != 0 && (w.news || x.now.Sub(w.heard) > 20*time.Second) {
			can = append(can, func() bool { w.report(x); return true })
		}
	}
	if x.up {
		if at := x.b.Deadline(); !at.IsZero() && !at.After(x.now) {
			can = append(can, func() bool { x.step(Tick{}); return true })
		}
	}
	if len(can) == 0 {
		x.now = x.now.Add(time.Second)
		return
	}
	x.now = x.now.Add(time.Duration(x.r.IntN(300)) * time.Millisecond)
	can[x.r.IntN(len(can))]()
}
