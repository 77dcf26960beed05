package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

// hall is a job of frames and machines with GPUs and CPUs, which are asked by
// name. What a device does is told by hand.
type hall struct {
	*table
	devices map[string][]job.Device
	want    map[string]bool // devices by worker/name that do not bid
}

func newHall(t *testing.T, frames int) *hall {
	h := &hall{table: newTable(t), devices: map[string][]job.Device{}, want: map[string]bool{}}
	h.submit("J", fakeParams{Frames: frames, Check: job.CheckExact}, job.Policy{})
	return h
}

// check has this machine check every result from now on.
func (h *hall) check() {
	h.checks = true
	h.join("self", job.Device{Name: job.HomeDevice, Type: "cpu"})
}

func card(gb float64) job.Device {
	return job.Device{Name: "GPU-1", Type: "gpu", Model: fmt.Sprintf("Card %g", gb), MemoryBytes: int64(gb * (1 << 30))}
}

func ram(gb float64) job.Device {
	return job.Device{Name: "cpu", Type: "cpu", MemoryBytes: int64(gb * (1 << 30))}
}

// join connects a machine with these devices.
func (h *hall) join(name string, devices ...job.Device) {
	h.devices[name] = devices
	h.open(name)
	h.bid(name)
}

// bid has a machine ask for work with all of its devices that hold nothing.
func (h *hall) bid(name string, done ...OpenedReceipt) {
	r := job.Report{Session: "s", Machine: &job.Machine{Facts: map[string][]string{"fake": {"1"}}, Devices: h.devices[name]}}
	for _, l := range h.b.worker(h.id(name)).leases {
		if !slices.ContainsFunc(done, func(o OpenedReceipt) bool { return o.Receipt.Lease == l.id && len(o.Receipt.Leaves) == len(l.grants) }) {
			r.Progress = append(r.Progress, job.Progress{Lease: l.id, Task: 0, Phase: "rendering"})
		}
	}
	for _, d := range h.devices[name] {
		if !h.want[name+"/"+d.Name] {
			r.Bids = append(r.Bids, job.Bid{Device: d.Name, Want: 1})
		}
	}
	h.step(Reported{Peer: h.id(name), Stream: h.streams[name], Report: r, Receipts: done})
	h.answer(true)
}

// on is the newest lease that a device holds, "" if it holds none.
func (h *hall) on(name, device string) string {
	for i := len(h.short); i > 0; i-- {
		s := fmt.Sprint("L", i)
		if l := h.leases[s]; h.holder[s] == name && l.Device == device && h.b.leases[l.ID] != nil && !h.b.leases[l.ID].closed {
			return s
		}
	}
	return ""
}

// end has a device end the first task that it holds.
func (h *hall) end(name, device string, o job.Outcome, m job.Meter) {
	h.t.Helper()
	lease := h.on(name, device)
	if lease == "" {
		h.t.Fatalf("%s on %s holds nothing:\n%s", name, device, h.log.String())
	}
	all := map[int]job.Outcome{}
	for i := range h.leases[lease].Tasks {
		all[i] = o
	}
	m.Wall = max(m.Wall, time.Second)
	m.Render = m.Wall
	r := h.receipt(name, lease, m.Wall, all)
	for i := range r.Receipt.Leaves {
		r.Receipt.Leaves[i].Meter = m
	}
	r.Signed.Body, _ = job.Encode(r.Receipt)
	h.now = h.now.Add(m.Wall)
	h.bid(name, r)
	for name != "self" && h.checks && h.on("self", job.HomeDevice) != "" {
		h.end("self", job.HomeDevice, job.Succeeded, job.Meter{})
	}
}

func (h *hall) reason() string {
	s, _ := h.b.Status(h.now, h.jobs["J"], 0, false)
	return s.Reason
}

// sound holds the board against one that is made of its journal, as it was
// written and rewritten.
func (h *hall) sound() {
	h.t.Helper()
	want := durable(h.b)
	if got := durable(h.replayed(2)); got != want {
		h.t.Errorf("read again:\n%s\nit was\n%s", got, want)
	}
	j := h.b.byID[h.jobs["J"]]
	frames, err := j.rewritten()
	if err != nil {
		h.t.Fatal(err)
	}
	again := newJobState(j.id)
	for _, f := range frames {
		if err := again.replay(f); err != nil {
			h.t.Fatal(err)
		}
	}
	b := NewBoard(h.ids["self"], 2, Options{Name: h.called})
	b.add(again)
	again.touched = nil
	if got := durable(b); got != want {
		h.t.Errorf("rewritten:\n%s\nit was\n%s", got, want)
	}
}

// A frame that does not fit goes to a larger card, and the small one gets no more
// of them; nobody rests, and the attempt does not count against the frame.
func TestOutOfVRAMGoesToALargerCard(t *testing.T) {
	h := newHall(t, 8)
	h.join("small", card(8))
	for range 3 { // it is no fault, however often it happens
		if h.on("small", "GPU-1") == "" {
			break
		}
		h.end("small", "GPU-1", job.OutOfVRAM, job.Meter{})
	}
	if l := h.on("small", "GPU-1"); l != "" {
		t.Errorf("the small card holds %s", l)
	}
	why := h.reason()
	for _, want := range []string{"needs more GPU memory than Card 8 (8.0 GB) has, as was tried", "more than 8.0 GB of GPU memory", "the largest device here is Card 8 (8.0 GB)", "let a machine with more join"} {
		if !strings.Contains(why, want) {
			t.Errorf("nobody else is there: %q, want %q", why, want)
		}
	}
	if !strings.Contains(h.log.String(), "event warning its tasks need more than 8.0 GB") {
		t.Errorf("nobody is warned:\n%s", h.log.String())
	}
	if w := h.b.byPeer[h.id("small")]; !w.rested(h.b.byID[h.jobs["J"]], h.now) || !strings.Contains(w.resting, ": it needs more GPU memory than Card 8 (8.0 GB) has") {
		t.Errorf("the small one rests %v, and is told %q", !w.rested(h.b.byID[h.jobs["J"]], h.now), w.resting)
	}
	h.sound()
	h.join("equal", card(8)) // one peer's word, and nobody larger: it may try
	if h.on("equal", "GPU-1") == "" {
		t.Error("another card of the size gets nothing while there is no larger one")
	}
	h.join("large", card(24))
	for i := 0; i < 20 && !h.b.byID[h.jobs["J"]].state.Ended(); i++ {
		if h.on("equal", "GPU-1") != "" {
			h.end("equal", "GPU-1", job.OutOfVRAM, job.Meter{})
		}
		if h.on("large", "GPU-1") != "" {
			h.end("large", "GPU-1", job.Succeeded, job.Meter{VRAM: 10 << 30})
		} else {
			h.bid("large")
		}
	}
	if s := h.b.byID[h.jobs["J"]].state; s != job.StateFinished {
		t.Errorf("%s\n%s", s, h.log.String())
	}
	h.sound()
}

// What does not fit into a GPU goes to a CPU, and the measured need keeps cards
// that have less away before they try.
func TestMeasuredNeedKeepsSmallCardsAway(t *testing.T) {
	h := newHall(t, 40)
	h.check()
	h.join("large", card(24))
	h.end("large", "GPU-1", job.Succeeded, job.Meter{VRAM: 93 << 30 / 10, Peak: 4 << 30})
	h.join("small", card(8), ram(16))
	if h.on("small", "GPU-1") != "" {
		t.Errorf("a card with 8 GB has a frame that takes 9.3:\n%s", h.log.String())
	}
	if h.on("small", "cpu") == "" {
		t.Error("its CPU has none")
	}
	n := h.b.offered(h.b.byID[h.jobs["J"]].classes[0])
	if n.VRAMBytes != 93<<30/10 || n.MemoryBytes != 0 {
		t.Errorf("offered as %+v", n)
	}
	h.want["small/cpu"] = true
	h.devices["small"] = h.devices["small"][:1]
	h.bid("small")
	if w := h.b.byPeer[h.id("small")]; !strings.Contains(w.resting, ": it needs 9.3 GB of GPU memory, Card 8 has 8.0 GB") {
		t.Errorf("it is told %q", w.resting)
	}
	h.sound()
	// Its owner lets work use more.
	h.devices["small"][0].MemoryBytes = 10 << 30
	h.bid("small")
	if h.on("small", "GPU-1") == "" {
		t.Error("with 10 GB it has none")
	}
}

// The same for a machine's own memory.
func TestOutOfMemoryGoesToTheMachineWithMore(t *testing.T) {
	h := newHall(t, 3)
	h.join("small", ram(8))
	h.end("small", "cpu", job.OutOfMemory, job.Meter{Peak: 8 << 30})
	if h.on("small", "cpu") != "" {
		t.Error("it has another one")
	}
	if why := h.reason(); !strings.Contains(why, "more than 8.0 GB of memory") || strings.Contains(why, "CPU may do it") {
		t.Error(why)
	}
	h.join("large", ram(64))
	for range 3 {
		if h.on("large", "cpu") != "" {
			h.end("large", "cpu", job.Succeeded, job.Meter{Peak: 12 << 30})
		}
	}
	if s := h.b.byID[h.jobs["J"]].state; s != job.StateFinished {
		t.Errorf("%s\n%s", s, h.log.String())
	}
}

// A worker that lies about memory keeps nobody else from the job: of what it says
// no more counts than it has, and that not alone.
func TestLiesAboutMemory(t *testing.T) {
	h := newHall(t, 60)
	h.join("liar", card(1<<19), ram(1<<19)) // 2^49 bytes, half of what may be said
	h.end("liar", "GPU-1", job.Succeeded, job.Meter{VRAM: 1 << 62, Peak: 1 << 62})
	c := h.b.byID[h.jobs["J"]].classes[0]
	if most := c.lessons.claims[vram].most(); most != 1<<49 {
		t.Errorf("%d bytes are believed", most)
	}
	h.end("liar", "GPU-1", job.OutOfVRAM, job.Meter{})
	h.end("liar", "cpu", job.OutOfMemory, job.Meter{})
	h.join("honest", card(8), ram(16))
	if h.on("honest", "GPU-1") == "" || h.on("honest", "cpu") == "" {
		t.Errorf("the honest one gets nothing: %s\n%s", h.reason(), h.log.String())
	}
	// Two may say so together: whoever did such a frame goes on.
	h.end("honest", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30})
	h.end("honest", "cpu", job.Succeeded, job.Meter{Peak: 6 << 30})
	h.join("liar 2", card(1<<20), ram(1<<20))
	h.end("liar 2", "GPU-1", job.OutOfVRAM, job.Meter{})
	h.end("liar 2", "cpu", job.OutOfMemory, job.Meter{})
	h.bid("honest")
	if h.on("honest", "GPU-1") == "" || h.on("honest", "cpu") == "" {
		t.Errorf("whoever did one gets nothing: %s", h.reason())
	}
	// It says again and again that it has more now.
	written := 0
	for i := range 30 {
		h.devices["liar"] = []job.Device{card(8)}
		h.devices["liar"][0].MemoryBytes = 1<<49 + 1 + int64(i)
		h.bid("liar")
		if h.on("liar", "GPU-1") != "" {
			written++
			h.end("liar", "GPU-1", job.OutOfVRAM, job.Meter{})
		}
	}
	if written > 6 {
		t.Errorf("it got %d more frames in half a minute", written)
	}
	h.sound()
}

// One frame that does not fit costs a card that did others only this frame.
func TestAHeavyFrameIsOfItself(t *testing.T) {
	h := newHall(t, 60)
	h.join("small", card(8))
	h.end("small", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30})
	heavy := h.leases[h.on("small", "GPU-1")].Tasks[0].Task.Label
	h.end("small", "GPU-1", job.OutOfVRAM, job.Meter{})
	next := h.on("small", "GPU-1")
	if next == "" || h.leases[next].Tasks[0].Task.Label == heavy {
		t.Fatalf("after %s it has %q:\n%s", heavy, next, h.log.String())
	}
	h.sound()
	h.join("large", card(24))
	h.end("large", "GPU-1", job.Succeeded, job.Meter{VRAM: 9 << 30})
	h.bid("small")
	if h.on("small", "GPU-1") == "" {
		t.Error("what the large one took counts against a card that did such frames")
	}
	h.end("small", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30})
	h.end("small", "GPU-1", job.OutOfVRAM, job.Meter{})
	h.end("small", "GPU-1", job.OutOfVRAM, job.Meter{})
	if h.on("small", "GPU-1") != "" {
		t.Errorf("two in a row, and it has %s:\n%s", h.on("small", "GPU-1"), h.log.String())
	}
}

// The last frame does not fit into the only card: the job says so.
func TestTheLastFrameDoesNotFit(t *testing.T) {
	h := newHall(t, 2)
	h.join("small", card(8))
	h.end("small", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30})
	h.end("small", "GPU-1", job.OutOfVRAM, job.Meter{})
	if l := h.on("small", "GPU-1"); l != "" {
		t.Errorf("it has %s again", l)
	}
	why := h.reason()
	for _, want := range []string{"needs more memory for what is left", "its tasks need more memory than any device here has: let a machine"} {
		if !strings.Contains(why, want) {
			t.Errorf("%q, want %q", why, want)
		}
	}
	h.sound()
	h.join("equal", card(8)) // it may try, whatever the other one says
	if h.on("equal", "GPU-1") == "" {
		t.Error("another card does not get it")
	}
}

// A card whose memory is full and that takes many times as long as it should
// keeps some of the work elsewhere: a larger one goes on, where there is one.
func TestSpilling(t *testing.T) {
	for _, c := range []struct {
		name    string
		vram    int64
		wall    time.Duration
		larger  bool
		spilled bool
	}{
		{"full and slow", 79 << 30 / 10, 50 * time.Second, true, true},
		{"full and slow, and nobody is larger", 79 << 30 / 10, 50 * time.Second, false, false},
		{"full", 79 << 30 / 10, 11 * time.Second, true, false},
		{"slow", 5 << 30, 50 * time.Second, true, false},
	} {
		h := newHall(t, 200)
		h.want["large/GPU-1"] = true // it does something else now
		if c.larger {
			h.join("large", card(24))
		}
		h.join("small", card(8))
		for range 3 {
			h.end("small", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30, Wall: 10 * time.Second})
		}
		pace := h.b.byPeer[h.id("small")].seat("GPU-1").pace()
		h.end("small", "GPU-1", job.Succeeded, job.Meter{VRAM: c.vram, Wall: c.wall})
		h.bid("small")
		if spilled := h.on("small", "GPU-1") == ""; spilled != c.spilled {
			t.Errorf("%s: it gets no more: %v\n%s", c.name, spilled, h.log.String())
		}
		if now := h.b.byPeer[h.id("small")].seat("GPU-1").pace(); c.spilled && now != pace {
			t.Errorf("%s: its pace was %g and is %g, though it was the memory's", c.name, pace, now)
		}
		h.sound()
	}
}

// Who says nothing of memory is as before: it gets work, and again after a frame
// that did not fit elsewhere.
func TestMachinesThatDoNotSayHowMuchMemoryTheyHave(t *testing.T) {
	h := newHall(t, 40)
	h.join("large", ram(64))
	h.end("large", "cpu", job.Succeeded, job.Meter{Peak: 40 << 30})
	h.join("old", job.Device{Name: "cpu", Type: "cpu"}, job.Device{Name: "GPU-1", Type: "gpu"})
	if h.on("old", "cpu") == "" || h.on("old", "GPU-1") == "" {
		t.Errorf("it gets nothing:\n%s", h.log.String())
	}
	h.end("old", "cpu", job.OutOfMemory, job.Meter{})
	if h.on("old", "cpu") != "" {
		t.Error("it ran out, and has another one")
	}
	if l := h.b.byID[h.jobs["J"]].classes[0].lessons; l.claims[cpuMemory].most() != 40<<30 {
		t.Errorf("%+v", l.claims)
	}
	h.sound()
}

// Receipts with what was taken of a GPU are kept packed, bit for bit.
func TestPackedReceiptHasGPUMemory(t *testing.T) {
	h := newHall(t, 2)
	h.join("a", card(8))
	h.end("a", "GPU-1", job.Succeeded, job.Meter{VRAM: 6 << 30, Peak: 7})
	var k kept
	for _, r := range h.b.byID[h.jobs["J"]].receipts {
		k = r
	}
	if k.packed == "" {
		t.Fatal(h.log.String())
	}
	if k.packed[0] != keptVRAM {
		t.Errorf("form %d", k.packed[0])
	}
	_, r, err := h.b.byID[h.jobs["J"]].unpack(k)
	if err != nil || r.Leaves[0].Meter.VRAM != 6<<30 || r.Leaves[0].Meter.Peak != 7 {
		t.Errorf("%+v, %v", r, err)
	}
}
