// Package swarm is the second world of the board: machines, links, frames and
// faults as parameters and seeds, in simulated time. The board that decides is
// dispatch.Board itself, by its one door Step; what it decides for is made up.
//
// A *world* holds nodes and jobs. A *node* is a machine with one device, a
// link and a life of coming and going, and behaves as node/worker does: it
// fetches a job's content while it works on another, runs leases task by task,
// reports what is done at once and beats otherwise.
package swarm

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// Coordinator decides: dispatch.Board, or what it is compared with.
type Coordinator interface {
	Step(now time.Time, e dispatch.Event) []dispatch.Effect
	Deadline() time.Time
}

// Params describe a world. Work is in seconds of a device of speed 1.
type Params struct {
	Seed  uint64
	Nodes int
	// Churn is how often a machine leaves, per hour that it is there; it is
	// away for 3/7 of its sessions, so 70 % are there. 0: all stay.
	Churn float64
	// Crash is the share of leavings that say nothing.
	Crash float64

	Jobs   int
	Frames int           // of each job
	Parts  int           // tasks that a frame is cut into; 1: whole
	Base   float64       // median work of a frame
	Gap    time.Duration // between submissions

	SceneGB float64
	Spread  bool    // scenes between a fifth and five times that
	Uplink  float64 // of the machine that has a job's scene, Mbit/s; each job has one
	Warm    bool    // everybody has every scene
	Star    bool    // content comes from the requester alone

	Begin  float64 // seconds that a new frame costs a warm device
	Tile   float64 // seconds that another part of the same frame costs
	Load   float64 // seconds that starting on another job costs
	Delay  time.Duration
	Jitter float64 // sigma of what a task takes against what it should

	// Liars say that they are Lie times as fast as they are: the speed of
	// their device, and the time that a task took by their clock.
	Liars int
	Lie   float64

	// Trace, if there is one, says who is there and what frames cost.
	Trace *Trace
}

// Defaults are those of the first table of strategies.
func Defaults() Params {
	return Params{
		Seed: 1, Nodes: 100, Churn: .2, Crash: .2, Jobs: 1, Frames: 1000, Parts: 16, Base: 1800, SceneGB: .5, Uplink: 100,
		Begin: 3, Tile: .1, Load: 15, Delay: 50 * time.Millisecond, Jitter: .05, Lie: 10,
	}
}

// gpus are relative speeds of graphics cards and how common they are.
var gpus = [][2]float64{{1, .06}, {2, .10}, {5, .15}, {6, .20}, {8, .17}, {9, .10}, {12.5, .07}, {14, .08}, {20, .04}, {27, .02}, {37, .01}}

// when is simulated time since the beginning.
type when = time.Duration

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

type occasion struct {
	at when
	no uint64
	do func()
}

type occasions []occasion

func (h occasions) Len() int { return len(h) }
func (h occasions) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].no < h[j].no
}
func (h occasions) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *occasions) Push(x any)   { *h = append(*h, x.(occasion)) }
func (h *occasions) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = occasion{}
	*h = old[:len(old)-1]
	return x
}

// world is one run.
type world struct {
	p     Params
	c     Coordinator
	now   when
	no    uint64
	queue occasions
	tick  when // the earliest Tick that is on its way; negative: none

	nodes   []*node // the requester's own is the first
	byPeer  map[string]*node
	jobs    []*simJob
	byID    map[job.ID]*simJob
	open    int // jobs that have not ended
	moving  bool
	streams uint64

	speed float64      // of all that are there
	steps [][2]float64 // when it changed, and to what
	able  []able       // the same of those that could work
	r     Result
	watch func(w *world, at when)
}

// simJob is one job and what is true about it.
type simJob struct {
	no        int
	id        job.ID
	cost      []float64 // of frames
	total     float64
	bits      float64 // of the scene, Mbit
	injected  float64 // of them, that the requester has given out
	supply    float64 // of those who have some, Mbit/s
	submitted when
	end       when
	state     job.State
	tasks     int // render tasks
	done      int
	frames    int
	left      []int // render tasks of each frame that are not accepted
	preview   int   // frames of the preview that are not ready
	previewAt when
	finished  map[int]bool // tasks, by number, that were accepted
	keys      map[job.TaskKey]int
	estimates []Estimate
}

// Estimate is what was said about the rest of a job and what came.
type Estimate struct {
	Done           float64 // share of the tasks
	Low, Mid, High float64 // seconds
	Rest           float64 // seconds that it took
}

// Result is what a run came to.
type Result struct {
	Makespan float64 // until the last job ended, seconds
	Ideal    float64 // all work over the speed that was there
	Ratio    float64
	Jain     float64 // of the jobs' rates of work
	Waste    float64 // share of the device time in work that was not used, by speed
	Traffic  float64 // of scenes, GB
	Preview  float64 // until every tenth frame is ready, over the earliest that this can be
	Tasks    int
	Messages int
	Peak     float64 // control messages in the busiest ten seconds, per second
	Journal  int64   // bytes of records
	Steps    int
	StepTook []time.Duration            // in no order
	Efforts  []int                      // what each step looked at
	Sorts    map[string][]time.Duration // of steps, by their event
	Unended  int                        // jobs

	Estimates []Estimate

	Begin, Idle float64 // shares of the device time: beginning frames and jobs, doing nothing
	Bound       float64 // a time that can hardly be beaten, see bound; seconds
	Minutes     []Minute
	Wasted      map[string]float64 // shares of the device time, by what became of it

	used, wasted, lost float64
	window             when
	windowMessages     int
}

// at does f after d.
func (w *world) at(d when, f func()) {
	w.no++
	heap.Push(&w.queue, occasion{w.now + max(d, 0), w.no, f})
}

// epoch is when simulated time begins, by the board's clock.
var epoch = time.Unix(1_700_000_000, 0)

func (w *world) clock() time.Time { return epoch.Add(w.now) }

func (w *world) message() {
	w.r.Messages++
	if w.now-w.r.window > 10*time.Second {
		w.r.Peak = max(w.r.Peak, float64(w.r.windowMessages)/10)
		w.r.window, w.r.windowMessages = w.now, 0
	}
	w.r.windowMessages++
}

// slowStep is how long a step of the board should take at most, nearly always.
const slowStep = 50 * time.Microsecond

// Effort is a coordinator that says what its last step cost, on any machine.
type Effort interface{ Effort() int }

// step gives the coordinator an event and carries out what it wants.
func (w *world) step(e dispatch.Event) {
	began := time.Now()
	out := w.c.Step(w.clock(), e)
	took := time.Since(began)
	w.r.StepTook = append(w.r.StepTook, took)
	if x, ok := w.c.(Effort); ok {
		w.r.Efforts = append(w.r.Efforts, x.Effort())
	}
	if w.r.Sorts == nil {
		w.r.Sorts = map[string][]time.Duration{}
	}
	sort := reflect.TypeOf(e).Name()
	w.r.Sorts[sort] = append(w.r.Sorts[sort], took)
	if m := w.minute(); took > slowStep {
		m.Slow++
	}
	for _, x := range out {
		w.carryOut(x)
	}
	if at := w.c.Deadline(); !at.IsZero() {
		due := at.Sub(epoch)
		if w.tick < 0 || due < w.tick {
			w.tick = max(due, w.now)
			tick := w.tick
			w.at(tick-w.now, func() {
				if w.tick == tick {
					w.tick = -1
					w.step(dispatch.Tick{})
				}
			})
		}
	}
}

func (w *world) carryOut(e dispatch.Effect) {
	switch e := e.(type) {
	case dispatch.Write:
		b, err := e.Encode()
		if err != nil {
			panic(err) // the board wrote it
		}
		w.r.Journal += int64(len(b)) + 8 // and its frame in the log
	case dispatch.Send:
		w.message()
		if n := w.byPeer[string(e.Peer)]; n != nil {
			w.at(w.p.Delay, func() { n.hear(e.Stream, e.Order) })
		}
	case dispatch.Fetch:
		w.at(4*w.p.Delay, func() { w.step(dispatch.Fetched{ID: e.ID, Fence: e.Fence, Moved: 1 << 20}) })
	case dispatch.Challenge:
		w.at(0, func() { w.step(dispatch.Challenged{ID: e.ID, Fence: e.Fence}) })
	case dispatch.Enter:
		w.at(5*time.Millisecond, func() {
			w.accepted(e.ID, e.Leaf)
			w.step(dispatch.Booked{ID: e.ID, Fence: e.Fence})
		})
	case dispatch.Deliver:
		w.at(10*time.Millisecond, func() {
			w.step(dispatch.Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Files: []string{"/out/" + e.Task.Outputs[0].Final}})
		})
	case dispatch.Clean:
		w.ended(e.ID)
		w.at(0, func() { w.step(dispatch.Cleaned{ID: e.ID}) })
	}
}

func (j *simJob) taskNo(k job.TaskKey) (int, bool) {
	no, ok := j.keys[k]
	return no, ok
}

func (w *world) accepted(id job.ID, leaf job.Leaf) {
	j := w.byID[id]
	no, ok := j.taskNo(leaf.Task)
	if !ok || j.finished[no] {
		return
	}
	j.finished[no] = true
	j.done++
	f := no / w.p.Parts
	if j.left[f]--; j.left[f] == 0 && f%10 == 0 {
		if j.preview--; j.preview == 0 {
			j.previewAt = w.now
		}
	}
	if w.watch != nil {
		w.watch(w, w.now)
	}
}

func (w *world) ended(id job.ID) {
	if j := w.byID[id]; j.end == 0 {
		j.end = w.now
		w.open--
	}
}

// idealAt is when work would be done if nobody ever lost a second.
func (w *world) idealAt(work float64) float64 {
	for i, x := range w.steps {
		end := math.Inf(1)
		if i+1 < len(w.steps) {
			end = w.steps[i+1][0]
		}
		if d := work / x[1]; x[0]+d <= end {
			return x[0] + d
		}
		work -= x[1] * (end - x[0])
	}
	return math.NaN()
}

func (w *world) speedChanged(d float64) {
	w.speed += d
	w.steps = append(w.steps, [2]float64{w.now.Seconds(), w.speed})
}

// Most is how long a run may take in simulated time.
const most = 40 * 24 * time.Hour

// Run plays a world to its end. half is called when half of the tasks are
// done, to weigh the coordinator, and may be nil.
func Run(ctx context.Context, p Params, c Coordinator, half func()) (Result, error) {
	w := &world{p: p, byPeer: map[string]*node{}, byID: map[job.ID]*simJob{}, tick: -1, c: c}
	w.people()
	if err := w.submitAll(); err != nil {
		return Result{}, err
	}
	w.at(0, w.sample)
	n, done, all := 0, 0, 0
	for _, j := range w.jobs {
		all += j.tasks
	}
	w.watch = func(w *world, at when) {
		if done++; done == all/2 && half != nil {
			half()
		}
		w.estimate()
	}
	for len(w.queue) > 0 && w.open > 0 {
		x := heap.Pop(&w.queue).(occasion)
		if w.now = x.at; w.now > most {
			break
		}
		x.do()
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
	}
	return w.result(), nil
}

// Estimator is a coordinator that says how long a job will take.
type Estimator interface {
	Estimate(now time.Time, id job.ID) (low, mid, high float64)
}

// estimate writes down what is said about a job at a tenth, a quarter and half.
func (w *world) estimate() {
	e, ok := w.c.(Estimator)
	if !ok {
		return
	}
	for _, j := range w.jobs {
		for _, at := range []float64{.1, .25, .5} {
			if n := int(at * float64(j.tasks)); j.done == n && (len(j.estimates) == 0 || j.estimates[len(j.estimates)-1].Done < at) {
				low, mid, high := e.Estimate(w.clock(), j.id)
				j.estimates = append(j.estimates, Estimate{Done: at, Low: low, Mid: mid, High: high, Rest: w.now.Seconds()})
			}
		}
	}
}

func (w *world) result() Result {
	r := &w.r
	r.Peak = max(r.Peak, float64(r.windowMessages)/10)
	total, sum, squares := 0.0, 0.0, 0.0
	for _, j := range w.jobs {
		total += j.total
		if j.end == 0 {
			j.end = w.now
			r.Unended++
		}
		r.Makespan = max(r.Makespan, j.end.Seconds())
		rate := (j.end - j.submitted).Seconds() / j.total
		sum, squares = sum+rate, squares+rate*rate
		for _, e := range j.estimates {
			e.Rest = j.end.Seconds() - e.Rest
			r.Estimates = append(r.Estimates, e)
		}
		r.Tasks += j.tasks
	}
	r.Ideal, r.Bound = w.idealAt(total), w.bound(total)
	for i := range r.Minutes {
		r.Minutes[i].shares()
	}
	r.Ratio = r.Makespan / r.Ideal
	r.Jain = sum * sum / (float64(len(w.jobs)) * squares)
	if len(w.jobs) == 1 {
		j := w.jobs[0]
		early := 0.0
		for f := 0; f < len(j.cost); f += 10 {
			early += j.cost[f]
		}
		// Nobody renders before its Blender has started.
		r.Preview = j.previewAt.Seconds() / (w.idealAt(early) + w.p.Load)
	}
	if r.used > 0 {
		r.Waste = r.wasted / r.used
		for k := range r.Wasted {
			r.Wasted[k] /= r.used
		}
	}
	r.Traffic /= 8000
	all := 0.0 // what could have been done until the end
	for i, x := range w.steps {
		end := r.Makespan
		if i+1 < len(w.steps) {
			end = min(end, w.steps[i+1][0])
		}
		all += x[1] * max(0, end-x[0])
	}
	r.Begin, r.Idle = r.lost/all, 1-r.used/all
	return *r
}

// lifeOf gives a machine its own dice.
func (w *world) lifeOf(n *node, i uint64) {
	n.life = rand.New(rand.NewPCG(w.p.Seed, i*2+1_000_000))
	n.noise = rand.New(rand.NewPCG(w.p.Seed, i*2+1_000_001))
}

// people makes the machines. The lives of machines do not depend on what is
// decided, so that strategies can be compared.
func (w *world) people() {
	r := rand.New(rand.NewPCG(w.p.Seed, 1))
	self := w.newNode(0, "self")
	self.home, self.on = true, true
	w.at(0, self.join)
	if w.p.Trace != nil {
		w.machines(w.p.Trace.Machines)
		w.steps = append([][2]float64{{0, w.speed}}, w.steps...)
		return
	}
	for i := 1; i <= w.p.Nodes; i++ {
		x, k := r.Float64(), 0
		for k < len(gpus)-1 && x > gpus[k][1] {
			x -= gpus[k][1]
			k++
		}
		n := w.newNode(i, fmt.Sprint("node ", i))
		n.speed = gpus[k][0] * math.Exp(r.NormFloat64()*.1)
		n.up = 10 * math.Pow(100, math.Pow(r.Float64(), 1.7)) // 10 to 1000 Mbit/s
		n.down = min(1000, n.up*4)
		n.lie = 1
		w.lifeOf(n, uint64(i))
		n.on = w.p.Churn == 0 || n.life.Float64() < .7
		if i <= w.p.Liars {
			n.lie = w.p.Lie
		}
		if n.on {
			w.speed += n.speed
			w.at(seconds(2*n.noise.Float64()), n.join)
		}
		n.live()
	}
	w.steps = append(w.steps, [2]float64{0, w.speed})
}
