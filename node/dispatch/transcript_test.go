package dispatch

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
)

var update = flag.Bool("update", false, "write transcripts anew")

// TestTranscripts runs testdata/*.txt: lines that begin with a verb are played,
// indented lines below are what the board did about it, as recorded. Verbs:
//
//	submit JOB frames=N [parts=N] [check] [film] [larger] [needs=FACT:VALUE] [recheck=R]
//	       [priority=N] [max-workers=N] [budget=DURATION] [deadline=DURATION] [interactive=yes]
//	       [there=LABEL,…]         delivered files that are there already
//	open PEER [DEVICE...] [class=CLASS] [fact=FACT:VALUE]  a stream opens; its first report says what it is
//	report PEER [want=N] [has=L1,L2] [run=L1:TASK:FRACTION] [jobs=JOB] [leaving=WHY]
//	       [done=L1:TASK:OUTCOME,…] [wall=DURATION]
//	close PEER
//	pass DURATION                  time passes, tick by tick
//	answer [N]                     what the board wanted done is done (N effects)
//	steer JOB ACTION · requeue JOB LABEL
//	set checks=on|off ruling=R deliver=ERROR|ok banned=WHY disputes=N gone=LABEL,…
//	crowd yes|no                   the owner's programs keep this machine busy
//	disk-full                      the next thing wanted done is a fetch: there is no room here
//	fetch-fails                    the next thing wanted done is a fetch: it fails
//	status JOB                     what a person sees
//	restart                        a new board is made from the journal
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			x := newTable(t)
			var out bytes.Buffer
			for line := range strings.Lines(string(in)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "  ") {
					continue
				}
				fmt.Fprintln(&out, line)
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				x.log.Reset()
				x.play(strings.Fields(line))
				out.WriteString(x.log.String())
			}
			if d := cmp.Diff(durable(x.b), durable(x.replayed(9))); d != "" {
				t.Errorf("a board made from the journal differs: %s", d)
			}
			for _, f := range x.h.Faults() {
				t.Error(f)
			}
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(in), out.String()); d != "" {
				t.Errorf("the board did something else (-recorded +now); if that is right, run with -update and read the diff:\n%s", d)
			}
		})
	}
}

func (x *table) play(words []string) {
	arg := map[string]string{}
	var rest []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			arg[k] = v
		} else {
			rest = append(rest, w)
		}
	}
	num := func(k string) int { n, _ := strconv.Atoi(arg[k]); return n }
	switch words[0] {
	case "submit":
		p := fakeParams{Frames: num("frames"), Parts: num("parts")}
		if k, v, ok := strings.Cut(arg["needs"], ":"); ok {
			p.Needs = map[string]string{k: v}
		}
		var pol job.Policy
		for _, r := range rest[1:] {
			if r == "check" {
				p.Check = job.CheckExact
			}
			p.Film = p.Film || r == "film"
			p.Larger = p.Larger || r == "larger"
		}
		if s, ok := arg["recheck"]; ok {
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				x.t.Fatal(err)
			}
			pol.Recheck = &f
		}
		pol.Priority, pol.MaxWorkers = num("priority"), num("max-workers")
		for name, set := range map[string]func(time.Duration){
			"budget":   func(d time.Duration) { pol.Budget = d.Seconds() },
			"deadline": func(d time.Duration) { pol.Deadline = x.now.Add(d) },
		} {
			if s, ok := arg[name]; ok {
				d, err := time.ParseDuration(s)
				if err != nil {
					x.t.Fatal(err)
				}
				set(d)
			}
		}
		_, pol.Interactive = arg["interactive"]
		x.submit(rest[0], p, pol, strings.FieldsFunc(arg["there"], func(r rune) bool { return r == ',' })...)
	case "open":
		x.open(rest[0])
		devices := rest[1:]
		if len(devices) == 0 {
			devices = []string{"cpu"}
		}
		facts := map[string][]string{"fake": {"1"}}
		if k, v, ok := strings.Cut(arg["fact"], ":"); ok {
			facts[k] = []string{v}
		}
		m := machine(facts, devices...)
		for i := range m.Devices {
			m.Devices[i].Class = arg["class"]
		}
		r := job.Report{Session: "s", Machine: m}
		r.Progress = x.progress(arg)
		x.step(Reported{Peer: x.id(rest[0]), Stream: x.streams[rest[0]], Report: r})
	case "report":
		name := rest[0]
		r := job.Report{Session: "s", Leaving: strings.ReplaceAll(arg["leaving"], "_", " ")}
		if _, ok := arg["want"]; ok {
			dev := arg["device"]
			if dev == "" {
				dev = "cpu"
			}
			r.Bids = []job.Bid{{Device: dev, Want: num("want")}}
			if j := arg["jobs"]; j != "" {
				r.Bids[0].Jobs = []job.ID{x.jobs[j]}
			}
		}
		r.Progress = x.progress(arg)
		wall := time.Second
		if s := arg["wall"]; s != "" {
			d, err := time.ParseDuration(s)
			if err != nil {
				x.t.Fatal(err)
			}
			wall = d
		}
		ev := Reported{Peer: x.id(name), Stream: x.streams[name], Report: r}
		if s := arg["done"]; s != "" {
			for _, d := range strings.Split(s, ",") {
				f := strings.Split(d, ":")
				i, err := strconv.Atoi(f[1])
				if err != nil {
					x.t.Fatal(err)
				}
				o := job.Succeeded
				if len(f) > 2 {
					o = job.Outcome(f[2])
				}
				ev.Receipts = append(ev.Receipts, x.receipt(name, f[0], wall, map[int]job.Outcome{i: o}))
			}
		}
		x.step(ev)
	case "close":
		x.step(Closed{Peer: x.id(rest[0]), Stream: x.streams[rest[0]]})
	case "pass":
		d, err := time.ParseDuration(rest[0])
		if err != nil {
			x.t.Fatal(err)
		}
		x.pass(d)
	case "answer":
		if len(rest) > 0 {
			n, _ := strconv.Atoi(rest[0])
			for range n {
				x.answer(false)
			}
			return
		}
		x.answer(true)
	case "fetch-fails":
		f := x.todo[0].(Fetch)
		x.todo = x.todo[1:]
		x.step(Fetched{ID: f.ID, Fence: f.Fence, Err: fmt.Errorf("bad block")})
	case "disk-full":
		f := x.todo[0].(Fetch)
		x.todo = x.todo[1:]
		x.step(Fetched{ID: f.ID, Fence: f.Fence, Err: fmt.Errorf("no space left"), Local: true})
	case "crowd":
		x.step(Crowded{rest[0] == "yes"})
	case "steer":
		x.step(Steered{ID: x.jobs[rest[0]], Action: job.Action(rest[1])})
	case "requeue":
		x.step(Requeued{ID: x.jobs[rest[0]], Label: rest[1]})
	case "set":
		if v, ok := arg["checks"]; ok {
			x.checks, x.denoised, x.read = v != "off", v == "denoised", v == "read"
		}
		if v, ok := arg["ruling"]; ok {
			x.ruling = job.Ruling(v)
		}
		if v, ok := arg["gone"]; ok {
			x.gone = map[string]bool{}
			for _, l := range strings.Split(v, ",") {
				x.gone[l] = true
			}
		}
		if v, ok := arg["banned"]; ok {
			x.score.Banned = v
		}
		if v, ok := arg["disputes"]; ok {
			x.score.Disputes, _ = strconv.Atoi(v)
		}
		if v, ok := arg["deliver"]; ok {
			x.broken = strings.ReplaceAll(v, "_", " ")
			if v == "ok" {
				x.broken = ""
			}
		}
	case "status":
		s, _ := x.b.Status(x.now, x.jobs[rest[0]], 0, true)
		x.say("  %s, %d of %d delivered, %d running, %d waiting, %d failed, %d skipped; rechecked %d: %d accepted, %d rejected, %d unsure",
			s.State, s.Delivered, s.Tasks, s.Running, s.Waiting, s.FailedN, s.Skipped, s.Rechecked, s.Accepted, s.Rejected, s.Unsure)
		if s.Reason != "" {
			x.say("  because: %s", s.Reason)
		}
	case "restart":
		x.b = x.replayed(x.b.epoch + 1)
		x.todo = nil
		for _, e := range append(drain(&x.b.out), x.b.Step(x.now, Tick{})...) {
			x.see(e)
		}
	default:
		x.t.Fatalf("verb %q", words[0])
	}
}

func (x *table) progress(arg map[string]string) []job.Progress {
	var out []job.Progress
	for _, l := range strings.FieldsFunc(arg["has"], func(r rune) bool { return r == ',' }) {
		out = append(out, job.Progress{Lease: x.lease(l).ID, Task: -1, Phase: "fetching"})
	}
	for _, r := range strings.FieldsFunc(arg["run"], func(r rune) bool { return r == ',' }) {
		f := strings.Split(r, ":")
		n, _ := strconv.Atoi(f[1])
		frac, _ := strconv.ParseFloat(f[2], 64)
		out = append(out, job.Progress{Lease: x.lease(f[0]).ID, Task: n, Fraction: frac, Phase: "rendering"})
	}
	return out
}

// pass lets time go by: the board is woken when it wants to be.
func (x *table) pass(d time.Duration) {
	end := x.now.Add(d)
	for {
		at := x.b.Deadline()
		if at.IsZero() || at.After(end) {
			x.now = end
			return
		}
		if at.After(x.now) {
			x.now = at
		}
		x.step(Tick{})
	}
}

func (x *table) lease(name string) *job.Lease {
	l := x.leases[name]
	if l == nil {
		x.t.Fatalf("no lease %s yet", name)
	}
	return l
}
