package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// table is a Board with everything around it played by hand: the clock, the
// workers, and what effects come to. It also keeps the journal, to hold a board
// made from it against the one that wrote it.
type table struct {
	t       tester
	b       *Board
	now     time.Time
	stream  uint64
	names   map[peer.ID]string
	ids     map[string]peer.ID
	streams map[string]uint64
	leases  map[string]*job.Lease // by short name
	short   map[job.LeaseID]string
	holder  map[string]string
	records map[job.ID][][]byte
	todo    []Effect
	jobs    map[string]job.ID
	names2  map[job.ID]string

	checks   bool       // every result is challenged
	denoised bool       // with checks that read the claim, one after the other
	read     bool       // with a check that reads the claim in place of the other
	ruling   job.Ruling // of checks
	broken   string     // what delivering fails with
	score    Score      // of everybody
	log      strings.Builder
	deliver  map[string]int // by job and label
	taken    map[string]int
	written  int
	silent   bool
	h        History         // of everything that happens at this table
	gone     map[string]bool // labels of tasks whose delivered files are not there any more
}

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Error(args ...any)
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

func newTable(t tester) *table {
	_, self := testPeer(t, "self")
	x := &table{t: t, b: NewBoard(self, 1, Options{}), now: time.Unix(1_000_000_000, 0), names: map[peer.ID]string{self: "self"}, ids: map[string]peer.ID{"self": self},
		streams: map[string]uint64{}, leases: map[string]*job.Lease{}, short: map[job.LeaseID]string{}, holder: map[string]string{}, records: map[job.ID][][]byte{},
		jobs: map[string]job.ID{}, names2: map[job.ID]string{}, ruling: job.Accepted, deliver: map[string]int{}, taken: map[string]int{}}
	x.b.o.Name = x.called
	return x
}

func (x *table) called(p peer.ID) string { return x.names[p] }

func (x *table) id(name string) peer.ID {
	if id, ok := x.ids[name]; ok {
		return id
	}
	_, id := testPeer(x.t, name)
	x.ids[name], x.names[id] = id, name
	return id
}

func (x *table) step(e Event) {
	for _, e := range x.b.Step(x.now, e) {
		x.see(e)
	}
}

func (x *table) say(format string, args ...any) {
	if !x.silent {
		fmt.Fprintf(&x.log, format+"\n", args...)
	}
}

// see writes an effect down, in words, and keeps what needs an answer.
func (x *table) see(e Effect) {
	x.h.Did(e)
	switch e := e.(type) {
	case Write:
		b, err := encodeRecord(e.Record)
		if err != nil {
			x.t.Fatal(err)
		}
		x.records[e.ID] = append(x.records[e.ID], b)
		x.written += len(b)
		if !lazy(e.Record) {
			x.say("  write %s", strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", e.Record), "*dispatch."), "Record"))
		}
	case Send:
		x.sent(e)
	case Hangup:
		x.say("  hang up on %s", x.names[e.Peer])
	case Announce:
		x.say("  announce %s, %d open", x.names2[e.Offer.Job], e.Offer.Open)
	case Deliver:
		x.say("  deliver %s", e.Task.Label)
		x.todo = append(x.todo, e)
	case Fetch:
		what := "result"
		if e.For != 0 {
			what = "evidence"
		}
		x.say("  fetch %s from %s", what, x.names[e.Worker])
		x.todo = append(x.todo, e)
	case Challenge:
		x.say("  challenge %s of %s%s", e.Task.Label, x.names[e.Worker], map[bool]string{true: ", for sure"}[e.Rate != nil])
		x.todo = append(x.todo, e)
	case Compare:
		x.say("  judge %s by %d", e.Task.Label, len(e.Evidence))
		x.todo = append(x.todo, e)
	case Enter:
		what := string(e.Verdict.Ruling)
		if e.Verdict.Confirmed {
			what += ", confirmed,"
		}
		if e.Verdict.Strike {
			what += ", a strike,"
		}
		x.say("  book %s for %s: %s", what, x.names[e.Worker], e.Verdict.Reason)
		x.todo = append(x.todo, e)
	case Adopt:
		x.say("  take the files of %s again", e.Task.Label)
		x.todo = append(x.todo, e)
	case Prepare, Clean:
		x.say("  %s", strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "dispatch.")))
		x.todo = append(x.todo, e)
	case Emit:
		switch e.Event.Type {
		case job.EventFailed, job.EventBroken, job.EventWarning, job.EventState:
			x.say("  event %s %s%s", e.Event.Type, map[bool]string{true: e.Event.Task + ": "}[e.Event.Task != ""], e.Event.Text)
		case job.EventDelivered:
			x.deliver[e.Event.Task]++
		}
	case Ack:
		if e.Err != nil {
			x.say("  refuse: %v", e.Err)
		}
	case Vouch:
		x.say("  learn that what %s made on %s is right, as %s found, and not what %s says", x.names[e.Worker], e.Class, x.names[e.By], e.Against)
	case Note:
		x.say("  note %s", e.Text)
	}
}

func (x *table) sent(e Send) {
	name := x.names[e.Peer]
	if err := e.Order.Validate(); err != nil {
		x.t.Errorf("order to %s: %v", name, err)
	}
	var parts []string
	for _, l := range e.Order.Leases {
		s := fmt.Sprintf("L%d", len(x.short)+1)
		x.short[l.ID], x.leases[s], x.holder[s] = s, &l, name
		var labels []string
		for _, g := range l.Tasks {
			for _, p := range g.Prior {
				if len(p.Outputs) == 0 {
					x.t.Errorf("%s is handed out without outputs of %s", g.Task.Label, x.label(l.Job, p.Task))
				}
			}
			labels = append(labels, g.Task.Label)
			if len(g.SecretHash) != 32 {
				x.t.Error("grant without a commitment")
			}
		}
		parts = append(parts, fmt.Sprintf("lease %s on %s: %s", s, l.Device, strings.Join(labels, " ")))
	}
	for _, s := range e.Order.Stops {
		parts = append(parts, fmt.Sprintf("stop %s (%s)", x.short[s.Lease], s.Reason))
	}
	for _, s := range e.Order.Settled {
		ruling := string(s.Ruling)
		if ruling == "" {
			ruling = "safe"
		}
		parts = append(parts, fmt.Sprintf("%s %s %s", x.short[s.Lease], x.label(s.Job, s.Task), ruling))
	}
	if e.Order.Resting != "" {
		r, _, _ := strings.Cut(e.Order.Resting, " on job")
		parts = append(parts, "resting: "+r)
	}
	if len(parts) == 0 {
		parts = []string{"hello"}
	}
	for _, p := range parts {
		x.say("  -> %s %s", name, p)
	}
}

func (x *table) label(id job.ID, k job.TaskKey) string {
	if j := x.b.byID[id]; j != nil {
		if t := j.find(k); t != nil {
			return t.Label
		}
	}
	return "?"
}

// answer carries out what the board wanted done, one effect or all of them.
func (x *table) answer(all bool) {
	for len(x.todo) > 0 {
		e := x.todo[0]
		x.todo = x.todo[1:]
		x.carryOut(e)
		if !all {
			return
		}
	}
}

func (x *table) carryOut(e Effect) {
	switch e := e.(type) {
	case Fetch:
		x.step(Fetched{ID: e.ID, Fence: e.Fence, Moved: 7})
	case Challenge:
		var tasks []job.Task
		if x.checks {
			c := e.Task
			c.Label = "check of " + c.Label
			tasks = []job.Task{c}
			if x.denoised {
				tasks = append(tasks, readsClaim(e.Task)...)
			}
			if x.read {
				tasks = append(tasks, instead(e.Task))
			}
		}
		x.step(Challenged{ID: e.ID, Fence: e.Fence, Tasks: tasks})
	case Compare:
		x.step(Judged{ID: e.ID, Fence: e.Fence, Verdict: job.Verdict{Ruling: x.ruling, Method: "exact", Reason: "compared"}})
	case Enter:
		x.step(Booked{ID: e.ID, Fence: e.Fence, Worker: e.Worker, Strike: e.Strike, Score: x.score})
	case Deliver:
		d := Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Files: finalFiles(e.Spec, e.Task)}
		if x.broken != "" {
			d.Err, d.Files = fmt.Errorf("%s", x.broken), nil
		}
		x.step(d)
	case Adopt:
		a := Adopted{ID: e.ID, Task: e.Index}
		if x.gone[e.Task.Label] {
			a.Err = fmt.Errorf("its delivered files are gone")
		} else {
			for _, o := range e.Task.Outputs {
				a.Outputs = append(a.Outputs, job.Output{Name: o.Name, Media: o.Media, File: refOf([]byte("taken again " + e.Task.Label)), Bytes: 2})
			}
		}
		x.step(a)
	case Clean:
		x.step(Cleaned{ID: e.ID, Served: 42})
	}
}

// instead is a check of t that reads the claim and leaves what the other one does.
func instead(t job.Task) job.Task {
	t.Label, t.Params, t.After, t.Check = "reading of "+t.Label, []byte("reading"), []job.TaskKey{t.Key()}, job.Check{}
	return t
}

// readsClaim are two more checks of t: one of its result, one of what that makes.
func readsClaim(t job.Task) []job.Task {
	first := t
	first.Label, first.Params, first.After, first.Check = "guides of "+t.Label, []byte("guides"), []job.TaskKey{t.Key()}, job.Check{}
	first.Outputs = []job.OutputRule{{Name: "other", Media: job.MediaFile}}
	second := first
	second.Label, second.Params, second.After = "denoise of "+t.Label, []byte("denoise"), []job.TaskKey{first.Key()}
	return []job.Task{first, second}
}

func (x *table) submit(name string, p fakeParams, pol job.Policy, there ...string) {
	var raw [16]byte
	raw[0] = byte(len(x.jobs) + 1)
	s := spec(p)
	s.Policy = pol
	id := unpackLease(raw[:])
	x.jobs[name], x.names2[job.ID(id)] = job.ID(id), name
	x.step(Submitted{ID: job.ID(id), Spec: s, Secret: []byte("secret of " + name)})
	x.drop("prepare")
	tasks := fakeTasks(p, job.Ref{})
	x.step(Planned{ID: job.ID(id), Tasks: tasks, Skipped: unneeded(tasks, func(t job.Task) bool { return slices.Contains(there, t.Label) })})
}

// drop forgets effects of a sort that the script plays itself.
func (x *table) drop(string) {
	x.todo = slices.DeleteFunc(x.todo, func(e Effect) bool { _, ok := e.(Prepare); return ok })
}

func (x *table) open(name string) {
	x.stream++
	x.streams[name] = x.stream
	x.step(Opened{Peer: x.id(name), Stream: x.stream, Score: x.score})
}

func machine(facts map[string][]string, devices ...string) *job.Machine {
	m := &job.Machine{Facts: facts}
	for _, d := range devices {
		m.Devices = append(m.Devices, job.Device{Name: d, Type: "cpu"})
	}
	return m
}

// receipt is what name says about tasks of a lease.
func (x *table) receipt(name, lease string, wall time.Duration, outcomes map[int]job.Outcome) OpenedReceipt {
	l := x.leases[lease]
	if l == nil {
		x.t.Fatalf("no lease %s yet:\n%s", lease, x.log.String())
	}
	r := job.Receipt{Version: 1, Requester: x.ids["self"].String(), Worker: x.id(name).String(), Job: l.Job, Lease: l.ID, Epoch: l.Epoch}
	for i, g := range l.Tasks {
		o, ok := outcomes[i]
		if !ok {
			continue
		}
		leaf := job.Leaf{Task: g.Task.Key(), Fence: g.Fence, Outcome: o, Device: l.Device, DeviceClass: x.class(name, l.Device), Meter: job.Meter{Wall: wall, Render: wall}}
		if o == job.Succeeded {
			for _, out := range g.Task.Outputs {
				leaf.Outputs = append(leaf.Outputs, job.Output{Name: out.Name, Media: out.Media, File: refOf([]byte(name + g.Task.Label)), Bytes: 1})
			}
		} else {
			leaf.Reason = "it was " + string(o)
		}
		r.Leaves = append(r.Leaves, leaf)
	}
	body, err := job.Encode(r)
	if err != nil {
		x.t.Fatal(err)
	}
	return OpenedReceipt{Signed: job.Signed{Body: body, Sig: []byte(name)}, Receipt: r, Peer: x.id(name)}
}

// class is that of a worker's device.
func (x *table) class(name, device string) string {
	if w := x.b.byPeer[x.id(name)]; w != nil {
		if d, ok := w.device(device); ok {
			return d.Class
		}
	}
	return ""
}

// replayed makes a board from what was written, as after a crash.
func (x *table) replayed(epoch uint64) *Board {
	there := map[job.ID]bool{}
	for id, recs := range x.records {
		var err error
		if there[id], err = x.h.open(id, func(frame func([]byte) error) error {
			for _, rec := range recs {
				if err := frame(rec); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			x.t.Fatalf("replay: %v", err)
		}
	}
	x.h.compare(there)
	x.h.Began(epoch)
	b := NewBoard(x.ids["self"], epoch, Options{Name: x.called})
	b.now = x.now
	for _, old := range x.b.jobs {
		j := newJobState(old.id)
		for _, rec := range x.records[old.id] {
			if err := j.replay(rec); err != nil {
				x.t.Fatalf("replay: %v", err)
			}
		}
		b.restore(j)
	}
	return b
}

// durable is everything of a board that must survive.
func durable(b *Board) string {
	var s strings.Builder
	for _, j := range b.jobs {
		fmt.Fprintf(&s, "%s %s %q served %d results %d spent %v of %v\n", j.id, j.State(), j.reason, j.served, j.results, j.spent, j.spec.Policy.Budget)
		for _, t := range j.tasks {
			fmt.Fprintf(&s, "  %s", t.Label)
			if t.accepted != nil {
				fmt.Fprintf(&s, " accepted %x of %s as %v", t.accepted.fence, t.accepted.peer, *t.accepted.verdict)
			}
			fmt.Fprintf(&s, " placed %v %v failed %v %q skip %v floor %x ended %v missing %d away %v given %v tight %v", t.placed, t.delivered(j), t.isFailed, t.also().failure, t.skip, t.also().floor, t.also().ended, t.missing, t.away, t.also().given, t.also().tight)
			for _, x := range t.rets {
				if x.state == retSafe || x.state == retJudged {
					fmt.Fprintf(&s, " ret %x %d", x.fence, x.state)
				}
			}
			s.WriteByte('\n')
		}
		for _, c := range j.classes {
			if l := c.lessons; l != nil && (l.claims != [memories]claims{} || len(l.short)+len(l.slow) > 0) {
				fmt.Fprintf(&s, "  memory %v %v %v %v\n", l.claims, l.checked, l.short, l.slow)
			}
		}
		var barred []string
		for p, why := range j.barred {
			barred = append(barred, p.String()+why)
		}
		slices.Sort(barred)
		fmt.Fprintf(&s, "  barred %v rejected %d\n", barred, len(j.rejected))
	}
	return s.String()
}
