package dispatch

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"idlewild/job"
)

// lasting is durable, and everything else that a rewritten journal must still say.
func lasting(t tester, x *table, j *jobState) string {
	b := NewBoard(x.ids["self"], 7, Options{})
	b.now = x.now
	b.add(j)
	var s strings.Builder
	s.WriteString(durable(b))
	fmt.Fprintf(&s, "%v %v %d %d %d fence %x paused %v\n", j.spec, j.snapshot, j.messages, j.results, j.served, j.maxFence, j.paused)
	for _, k := range j.tasks {
		fmt.Fprintf(&s, "  %d granted %d active %v", k.index, k.granted, k.active != nil)
		for _, r := range k.rets {
			if r.state != retSafe && r.state != retJudged {
				continue
			}
			fmt.Fprintf(&s, " ret %x lease %s peer %s moved %d taken %v %v %v %v %s %v", r.fence, j.leaseOf(r), r.peer, r.moved, r.taken, r.wall, r.render, r.load, r.device, j.logOf(r))
			if !j.over(r) {
				l, sig := j.leaf(r), j.signed(r)
				fmt.Fprintf(&s, " %v %x %x", l, sig.Body, sig.Sig)
			}
		}
		s.WriteString("\n")
	}
	var fences []uint64
	for f, g := range j.grants {
		if !g.t.where().final() && !j.state.Ended() && f > g.t.also().floor { // the others are void
			fences = append(fences, f)
		}
	}
	slices.Sort(fences)
	for _, f := range fences {
		g := j.grants[f]
		fmt.Fprintf(&s, " grant %x lease %s peer %s of %d\n", f, g.lease.id, g.lease.peer, g.t.index)
	}
	fmt.Fprint(&s, j.peers, j.texts, len(j.receipts), len(j.leaseIDs))
	for _, a := range j.joins {
		if a.total > 0 {
			fmt.Fprintf(&s, " %s %s %d", a.peer, a.device, a.total.Milliseconds())
		}
	}
	return s.String()
}

func replayedFrom(t tester, id job.ID, frames [][]byte) *jobState {
	j := newJobState(id)
	for _, f := range frames {
		if err := j.replay(f); err != nil {
			t.Fatalf("replay: %v", err)
		}
	}
	return j
}

// sameRewritten holds every prefix of a journal against what it is rewritten to.
func sameRewritten(t tester, x *table, id job.ID) {
	t.Helper()
	recs := x.records[id]
	for n := 1; n <= len(recs); n++ {
		was := replayedFrom(t, id, recs[:n])
		frames, err := was.rewritten()
		if err != nil {
			t.Fatal(err)
		}
		is := replayedFrom(t, id, frames)
		if d := cmp.Diff(lasting(t, x, was), lasting(t, x, is)); d != "" {
			t.Fatalf("after %d of %d records: -before +after rewriting\n%s", n, len(recs), d)
		}
		// What follows is told to it as to the one that was not rewritten.
		for _, rec := range recs[n:] {
			if err := is.replay(rec); err != nil {
				t.Fatalf("record after rewriting %d of %d: %v", n, len(recs), err)
			}
		}
		whole := replayedFrom(t, id, recs)
		if d := cmp.Diff(lasting(t, x, whole), lasting(t, x, is)); d != "" {
			t.Fatalf("rewritten after %d of %d records and gone on: -want +got\n%s", n, len(recs), d)
		}
	}
}

func TestARewrittenJournalSaysTheSame(t *testing.T) {
	x, id := recorded(t)
	sameRewritten(t, x, id)
	was := replayedFrom(t, id, x.records[id])
	frames, err := was.rewritten()
	if err != nil {
		t.Fatal(err)
	}
	before, after := 0, 0
	for _, r := range x.records[id] {
		before += len(r)
	}
	for _, f := range frames {
		after += len(f)
	}
	if after >= before {
		t.Errorf("%d bytes, %d before", after, before)
	}
}

// TestTranscriptsRewritten does so with every transcript there is: results that
// are rejected, tasks that run again, jobs that are begun anew.
func TestTranscriptsRewritten(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			x := newTable(t)
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(line, "  ") && f[0] != "#" && f[0] != "restart" { // with a restart there are two boards
					x.play(f)
				}
			}
			for _, id := range x.jobs {
				sameRewritten(t, x, id)
			}
		})
	}
}

// TestAJournalIsRewrittenAtItsEnd reads it again.
func TestAJournalIsRewrittenAtItsEnd(t *testing.T) {
	x, id := recorded(t)
	dir := t.TempDir()
	n, _, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range x.records[id] {
		r, err := decodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.write([]Write{{id, r}}); err != nil {
			t.Fatal(err)
		}
	}
	size := n.logs[id].Bytes()
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, r := range x.records[id] {
		whole += len(r) + 8
	}
	if size >= int64(whole) {
		t.Errorf("%d bytes of %d", size, whole)
	}
	n, jobs, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	defer n.close()
	if d := cmp.Diff(lasting(t, x, replayedFrom(t, id, x.records[id])), lasting(t, x, jobs[0])); d != "" {
		t.Error(d)
	}
}

// TestFramesOfAReelStayKnown: what was put together is put together again after
// one frame was made again, and the journal was rewritten in between.
func TestFramesOfAReelStayKnown(t *testing.T) {
	x := newTable(t)
	x.submit("J", fakeParams{Frames: 4, Film: true, Reels: 2}, job.Policy{})
	play := func(lines string) {
		for line := range strings.Lines(lines) {
			x.play(strings.Fields(line))
		}
	}
	play("open self home\nopen a\nreport a want=2\nreport a want=2 done=L1:0\nanswer\nreport a want=1 done=L2:0\nanswer\nreport self want=2 device=home\n")
	reel := ""
	for l, h := range x.holder {
		if h == "self" {
			reel = l
		}
	}
	if reel == "" {
		t.Fatal("no reel is made yet:\n", x.log.String())
	}
	play("report self want=2 device=home done=" + reel + ":0\nanswer\n")
	id := x.jobs["J"]
	for _, k := range x.b.byID[id].tasks {
		if k.Label == "reel 1" && k.phase != done {
			t.Fatalf("%s is %s", k.Label, k.phase)
		}
	}
	frames, err := replayedFrom(t, id, x.records[id]).rewritten()
	if err != nil {
		t.Fatal(err)
	}
	x.records[id] = frames
	x.log.Reset()
	play("restart\nopen self home\nopen a\nrequeue J 1\n")
	for range 20 {
		for l, h := range x.holder {
			delete(x.holder, l)
			play("report " + h + " want=2 done=" + l + ":0" + map[bool]string{true: " device=home"}[h == "self"] + "\nanswer\n")
		}
		play("report self want=2 device=home\nreport a want=2\nanswer\npass 1s\n")
	}
	ran := map[string]int{}
	for line := range strings.Lines(x.log.String()) {
		if _, labels, ok := strings.Cut(line, " on cpu: "); ok {
			for _, l := range strings.Fields(labels) {
				ran[l]++
			}
		}
	}
	if s := x.b.byID[id].State(); s != job.StateFinished || ran["1"] != 1 || ran["2"] != 0 {
		t.Errorf("the job is %s, frames were made %v:\n%s", s, ran, x.log.String())
	}
}

// TestReceiptsComeBackBitForBit packs receipts of all forms.
func TestReceiptsComeBackBitForBit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newTable(rt)
		x.silent = true
		x.play([]string{"open", "a"})
		x.submit("J", fakeParams{Frames: 3}, job.Policy{})
		x.play([]string{"report", "a", "want=2"})
		l := x.leases["L1"]
		o := x.receipt("a", "L1", 1, map[int]job.Outcome{0: rapid.SampledFrom(outcomes).Draw(rt, "outcome")})
		leaf := &o.Receipt.Leaves[0]
		leaf.Device = rapid.String().Draw(rt, "device")
		leaf.Build = rapid.String().Draw(rt, "build")
		leaf.LogTail = rapid.String().Draw(rt, "tail")
		leaf.Meter = job.Meter{Wall: 5, CPU: 1 << 40, Peak: rapid.Int64Range(0, 1<<60).Draw(rt, "peak")}
		if rapid.Bool().Draw(rt, "other task") {
			leaf.Task = refOf([]byte("no task here"))
		}
		if rapid.Bool().Draw(rt, "other lease") {
			o.Receipt.Lease = job.LeaseID(strings.Repeat("0", 25) + "7")
		}
		leaf.Fence = rapid.SampledFrom([]uint64{l.Tasks[0].Fence, 0, 1<<64 - 1}).Draw(rt, "fence")
		for i := range leaf.Outputs {
			leaf.Outputs[i].Name = rapid.SampledFrom([]string{leaf.Outputs[i].Name, "other"}).Draw(rt, "name")
			leaf.Outputs[i].Pixels = rapid.SampledFrom([][]byte{nil, make([]byte, 32)}).Draw(rt, "pixels")
		}
		var err error
		if o.Signed.Body, err = job.Encode(o.Receipt); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "not as we encode") {
			o.Signed.Body = append(o.Signed.Body, 0)
		}
		j := x.b.byID[x.jobs["J"]]
		k := kept{peer: int32(x.b.peerNo(j, o.Peer)), packed: j.pack(naming{x.b, j}, o)}
		if k.packed[0] == keptRaw {
			k.packed = k.packed[1:]
			u := unpacker{s: k.packed}
			if string(u.bytes()) != string(o.Signed.Body) || string(u.bytes()) != string(o.Signed.Sig) {
				rt.Error("raw, and not the same")
			}
			return
		}
		s, r, err := j.unpack(k)
		if err != nil || string(s.Body) != string(o.Signed.Body) || string(s.Sig) != string(o.Signed.Sig) {
			rt.Errorf("packed, and not the same: %v", err)
		}
		if d := cmp.Diff(o.Receipt, r, cmp.Comparer(func(a, b job.Ref) bool { return a.Equals(b.Cid) })); d != "" {
			rt.Error(d)
		}
	})
}
