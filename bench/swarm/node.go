package swarm

import (
	"math"
	"math/rand/v2"
	"sort"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// node is a machine, with one device.
type node struct {
	w     *world
	no    int
	peer  peer.ID
	home  bool // the requester's own: joins frames, renders nothing
	speed float64
	up    float64 // Mbit/s
	down  float64
	lie   float64
	life  *rand.Rand
	noise *rand.Rand

	on     bool
	able   bool   // could work, see comes
	gone   int    // sessions that ended: what belongs to an older one is void
	stream uint64 // 0: not connected
	beat   time.Duration
	beats  int // counts reports: a beat that was planned before one is void
	hello  bool

	have    []float64 // of each job's scene, Mbit
	loading int       // the job whose scene is on its way; -1: none
	loaded  int       // the job of the session that is warm; -1: none
	frame   int       // that it rendered last
	queue   []*held
	run     *held
}

// held is a lease at a node.
type held struct {
	lease job.Lease
	task  int // that runs; -1: none yet
	start when
	takes time.Duration
	load  time.Duration // of it
	run   int           // counts tasks begun, so that an end of another is void
	over  bool
}

func (w *world) newNode(no int, name string) *node {
	// A peer ID is the hash of a key; this one is an identity hash of a name.
	b := append([]byte{0, 36, 8, 1, 18, 32}, make([]byte, 32)...)
	copy(b[6:], name)
	n := &node{w: w, no: no, peer: peer.ID(b), loading: -1, loaded: -1, frame: -1, beat: 20 * time.Second}
	w.nodes = append(w.nodes, n)
	w.byPeer[string(n.peer)] = n
	return n
}

// Self is the requester's own machine.
func Self() peer.ID {
	return (&world{byPeer: map[string]*node{}}).newNode(0, "self").peer
}

// live plans when the machine comes or goes next.
func (n *node) live() {
	if n.w.p.Churn == 0 {
		return
	}
	mean := 3600 / n.w.p.Churn
	if !n.on {
		n.w.at(seconds(n.life.ExpFloat64()*mean*3/7), func() {
			n.on = true
			n.w.speedChanged(n.speed)
			n.join()
			n.live()
		})
		return
	}
	n.w.at(seconds(n.life.ExpFloat64()*mean), func() {
		n.w.speedChanged(-n.speed)
		n.leave(n.life.Float64() >= n.w.p.Crash)
		n.on = false
		n.live()
	})
}

func (n *node) device() string {
	if n.home {
		return job.HomeDevice
	}
	return "gpu"
}

func (n *node) join() {
	n.w.streams++
	n.stream, n.hello = n.w.streams, true
	n.w.message()
	if !n.home {
		n.w.comes(n)
	}
	n.w.step(dispatch.Opened{Peer: n.peer, Stream: n.stream})
	n.report(nil)
}

// leave ends a session: politely, or by falling silent, which is noticed when
// the connection times out.
func (n *node) leave(politely bool) {
	w := n.w
	w.goes(n)
	stream := n.stream
	if n.run != nil && n.run.task >= 0 {
		w.wasted(n, n.run, "its machine left")
	}
	if politely {
		e := dispatch.Reported{Peer: n.peer, Stream: stream, Report: job.Report{Session: "s", Leaving: "its owner is back"}}
		for _, h := range n.holds() {
			var leaves []job.Leaf
			for i := max(h.task, 0); i < len(h.lease.Tasks); i++ {
				leaves = append(leaves, job.Leaf{Task: h.lease.Tasks[i].Task.Key(), Fence: h.lease.Tasks[i].Fence, Outcome: job.Cancelled, Reason: "its owner is back", Device: n.device()})
			}
			e.Receipts = append(e.Receipts, n.receipt(h, leaves))
		}
		w.at(w.p.Delay, func() {
			w.message()
			w.step(e)
			w.step(dispatch.Closed{Peer: n.peer, Stream: stream})
		})
	} else {
		w.at(30*time.Second, func() { w.step(dispatch.Closed{Peer: n.peer, Stream: stream}) })
	}
	n.stream, n.run, n.queue = 0, nil, nil
	n.loading, n.loaded, n.frame = -1, -1, -1
	n.gone++
}

func (n *node) holds() []*held {
	if n.run == nil {
		return n.queue
	}
	return append([]*held{n.run}, n.queue...)
}

// report says everything that is to be known now, with receipts or none.
func (n *node) report(receipts []dispatch.OpenedReceipt) {
	if n.stream == 0 {
		return
	}
	e := dispatch.Reported{Peer: n.peer, Stream: n.stream, Receipts: receipts, Report: job.Report{Session: "s"}}
	if n.hello {
		n.hello = false
		e.Report.Machine = &job.Machine{Facts: map[string][]string{"simulated": {"1"}}, Devices: []job.Device{{Name: n.device(), Type: "gpu", MemoryBytes: 8 << 30}}}
	}
	hs := n.holds()
	if want := 2 - len(hs); want > 0 {
		b := job.Bid{Device: n.device(), Want: want}
		for i, j := range n.w.jobs {
			if n.have[i] >= j.bits && j.end == 0 && !n.home {
				b.Jobs = append(b.Jobs, j.id)
			}
		}
		e.Report.Bids = []job.Bid{b}
	}
	for _, h := range hs {
		p := job.Progress{Lease: h.lease.ID, Task: h.task, Phase: "rendering"}
		if h.task >= 0 && h.takes > 0 {
			p.Fraction = min(1, float64(n.w.now-h.start)/float64(h.takes))
		}
		e.Report.Progress = append(e.Report.Progress, p)
	}
	n.beats++
	beats, stream := n.beats, n.stream
	// As in node/worker: how far a task is is told every three seconds, by many
	// only with their beats.
	again := n.beat
	if again <= 20*time.Second && n.run != nil && n.run.task >= 0 && !n.home {
		again = 3 * time.Second
	}
	n.w.at(again, func() {
		if n.beats == beats && n.stream == stream {
			n.report(nil)
		}
	})
	n.w.at(n.w.p.Delay, func() {
		n.w.message()
		n.w.step(e)
	})
}

// hear takes an order.
func (n *node) hear(stream uint64, o job.Order) {
	if n.stream != stream {
		return
	}
	if o.BeatEvery > 0 {
		n.beat = o.BeatEvery
	}
	again := false
	for _, s := range o.Stops {
		for _, h := range n.holds() {
			if h.lease.ID == s.Lease {
				n.drop(h, s.Reason)
				again = true
			}
		}
	}
	for _, l := range o.Leases {
		n.queue = append(n.queue, &held{lease: l, task: -1})
	}
	if again {
		n.report(nil)
	}
	n.next()
}

// drop ends a lease before its time.
func (n *node) drop(h *held, why string) {
	h.over = true
	if n.run == h {
		if h.task >= 0 {
			n.w.wasted(n, h, why)
		}
		n.run = nil
	}
	for i, x := range n.queue {
		if x == h {
			n.queue = append(n.queue[:i], n.queue[i+1:]...)
			break
		}
	}
}

// wasted counts the time of a task that does not end here.
func (w *world) wasted(n *node, h *held, why string) {
	d := (w.now - h.start).Seconds() * n.speed
	w.r.used += d
	w.r.waste(d, why)
}

func (r *Result) waste(d float64, why string) {
	if n := len(r.Minutes); n > 0 && why != "its machine left" {
		r.Minutes[n-1].Wasted += d
	}
	r.wasted += d
	if r.Wasted == nil {
		r.Wasted = map[string]float64{}
	}
	r.Wasted[why] += d
}

// next goes on with what is held: content first, then the tasks in order.
func (n *node) next() {
	if n.run == nil && len(n.queue) > 0 {
		n.run, n.queue = n.queue[0], n.queue[1:]
	}
	for _, h := range n.holds() {
		if j := n.w.byID[h.lease.Job]; n.have[j.no] < j.bits {
			if n.loading < 0 {
				n.loading = j.no
				n.w.fetchScenes()
			}
			break
		}
	}
	h := n.run
	if h == nil || h.task >= 0 {
		return
	}
	j := n.w.byID[h.lease.Job]
	if n.have[j.no] < j.bits {
		return // goes on when it is here
	}
	n.begin(h, 0)
}

// begin runs one task of a lease.
func (n *node) begin(h *held, i int) {
	w := n.w
	t := h.lease.Tasks[i].Task
	no, join := number(t)
	j := w.byID[h.lease.Job]
	d, load := .5, false
	if !join {
		f := no / w.p.Parts
		d = j.cost[f] / float64(w.p.Parts) / n.speed * math.Exp(n.noise.NormFloat64()*w.p.Jitter)
		d0 := d
		switch {
		case n.loaded != j.no:
			d += w.p.Load
			load = true
		case n.frame != f:
			d += w.p.Begin
		default:
			d += w.p.Tile
		}
		w.r.lost += (d - d0) * n.speed
		n.loaded, n.frame = j.no, f
	}
	h.task, h.start, h.takes, h.load = i, w.now, seconds(d), 0
	if load {
		h.load = seconds(w.p.Load)
	}
	h.run++
	run, gone := h.run, n.gone
	w.at(h.takes, func() {
		if n.gone == gone && !h.over && h.run == run {
			n.done(h)
		}
	})
}

// done reports a task and begins the one behind it.
func (n *node) done(h *held) {
	w := n.w
	g := h.lease.Tasks[h.task]
	no, join := number(g.Task)
	j := w.byID[h.lease.Job]
	took := w.now - h.start
	if !join {
		d := took.Seconds() * n.speed
		w.r.used += d
		if j.finished[no] {
			w.r.waste(d, "done a second time")
		}
	}
	said, load := took, h.load
	if n.lie > 1 {
		said, load = time.Duration(float64(took)/n.lie), time.Duration(float64(load)/n.lie)
	}
	file := ref(g.Task.Params)
	leaf := job.Leaf{
		Task: g.Task.Key(), Fence: g.Fence, Outcome: job.Succeeded, Device: n.device(), DeviceClass: "simulated",
		Outputs: []job.Output{{Name: "frame.exr", Media: job.MediaEXR, File: file, Bytes: 4 << 20, Pixels: file.Hash()[2:]}},
		Log:     ref(append(g.Task.Params, 'l')), Runner: "runner", Build: "build",
		Meter: job.Meter{Wall: said, Render: said - load, Load: load, CPU: said * 7, Peak: 1 << 30},
	}
	r := n.receipt(h, []job.Leaf{leaf})
	i := h.task + 1
	if i < len(h.lease.Tasks) {
		n.begin(h, i)
	} else {
		h.over = true
		n.run = nil
	}
	n.report([]dispatch.OpenedReceipt{r})
	n.next()
}

// receipt signs nothing: who makes it up and who reads it are the same.
func (n *node) receipt(h *held, leaves []job.Leaf) dispatch.OpenedReceipt {
	r := job.Receipt{Version: 1, Requester: n.w.nodes[0].peer.String(), Worker: n.peer.String(), Job: h.lease.Job, Lease: h.lease.ID, Epoch: h.lease.Epoch, Leaves: leaves}
	body, err := job.Encode(r)
	if err != nil {
		panic(err) // its fields always encode
	}
	sig := make([]byte, 64)
	for i := range sig {
		sig[i] = byte(n.noiseByte())
	}
	return dispatch.OpenedReceipt{Signed: job.Signed{Body: body, Sig: sig}, Receipt: r, Peer: n.peer}
}

func (n *node) noiseByte() uint64 {
	if n.noise == nil {
		n.noise = rand.New(rand.NewPCG(n.w.p.Seed, 3))
	}
	return n.noise.Uint64()
}

// fetchScenes moves scenes while anybody waits for one: the requester gives
// out each byte once if it can, and who has some gives it on.
func (w *world) fetchScenes() {
	if w.moving {
		return
	}
	w.moving = true
	dt := max(1, float64(w.p.Nodes)/2000)
	var tick func()
	tick = func() {
		waiting := make([][]*node, len(w.jobs))
		supply := make([]float64, len(w.jobs))
		for i := range supply {
			supply[i] = w.p.Uplink
		}
		any := false
		for _, n := range w.nodes[1:] {
			if !n.on {
				continue
			}
			if !w.p.Star && !w.p.Warm {
				// What a machine has it gives to one job's readers at a time.
				for i, j := range w.jobs {
					if n.have[i] > 0 && j.end == 0 && (n.loaded == i || n.loading == i || len(w.jobs) == 1) {
						supply[i] += n.up * .7 * min(1, 10*n.have[i]/j.bits)
						j.injected = max(j.injected, n.have[i])
					}
				}
			}
			if n.loading >= 0 {
				waiting[n.loading] = append(waiting[n.loading], n)
				any = true
			}
		}
		for i, ns := range waiting {
			if len(ns) == 0 {
				continue
			}
			j := w.jobs[i]
			j.injected = min(j.bits, j.injected+w.p.Uplink*dt)
			sort.Slice(ns, func(a, b int) bool { return ns[a].down < ns[b].down })
			for k, n := range ns {
				rate := min(n.down, supply[i]/float64(len(ns)-k))
				supply[i] -= rate
				got := max(0, min(rate*dt, j.injected-n.have[i]))
				if w.p.Star {
					got = min(n.down, w.p.Uplink/float64(len(ns))) * dt
				}
				n.have[i] += got
				w.r.Traffic += got
				if n.have[i] >= j.bits {
					n.have[i], n.loading = j.bits, -1
					n.next()
					n.report(nil)
				}
			}
		}
		if w.moving = any; any {
			w.at(seconds(dt), tick)
		}
	}
	w.at(seconds(dt), tick)
}
