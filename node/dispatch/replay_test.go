package dispatch

import (
	"fmt"
	"testing"
	"time"

	"idlewild/job"
)

// journalOf plays a job of so many frames in two workers' hands and returns
// its records.
func journalOf(t tester, frames int) [][]byte {
	x := newTable(t)
	x.silent = true
	for _, w := range []string{"a", "b"} {
		x.play([]string{"open", w})
		x.play([]string{"report", w, "want=2"})
	}
	x.submit("J", fakeParams{Frames: frames}, job.Policy{})
	id := x.jobs["J"]
	for n := 1; x.b.byID[id].state != job.StateFinished; n++ {
		l := fmt.Sprint("L", n)
		w := x.holder[l]
		if w == "" {
			t.Fatalf("no lease %s", l)
		}
		for i := range x.leases[l].Tasks {
			x.now = x.now.Add(100 * time.Millisecond)
			x.step(Reported{Peer: x.id(w), Stream: x.streams[w], Report: job.Report{Session: "s", Bids: []job.Bid{{Device: "cpu", Want: 1}}},
				Receipts: []OpenedReceipt{x.receipt(w, l, 10*time.Second, map[int]job.Outcome{i: job.Succeeded})}})
			x.answer(true)
		}
	}
	return x.records[id]
}

// BenchmarkReplay is what a start pays for a job that is in the journal.
func BenchmarkReplay(b *testing.B) {
	recs := journalOf(b, 2000)
	size := 0
	for _, r := range recs {
		size += len(r) + 8
	}
	j := newJobState("")
	if r, err := decodeRecord(recs[0]); err != nil {
		b.Fatal(err)
	} else {
		j.id = r.(*jobRecord).ID
	}
	id := j.id
	for b.Loop() {
		j = newJobState(id)
		for _, r := range recs {
			if err := j.replay(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())*200_000/float64(len(recs)*b.N), "ms/200k-records")
	b.ReportMetric(float64(size)/2000, "B/task")
}
