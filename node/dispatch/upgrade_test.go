package dispatch

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// format1 writes a journal as the first version of this program did: a frame
// for each record, tasks and receipts as they are, no table of names.
func format1(t *testing.T, id job.ID, recs [][]byte) [][]byte {
	t.Helper()
	j := newJobState(id)
	var out [][]byte
	for _, rec := range recs {
		r, err := decodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.apply(r); err != nil {
			t.Fatal(err)
		}
		switch x := r.(type) {
		case *textRecord, *leaseRecord:
			continue
		case *blockRecord:
			d := drawing{}
			if err := d.add(x.Zip); err != nil {
				t.Fatal(err)
			}
			half := newJobState(id)
			if err := half.setTasks(d, nil); err != nil {
				t.Fatal(err)
			}
			var tasks []job.Task
			for _, k := range half.tasks {
				tasks = append(tasks, k.Task())
			}
			b, err := job.Encode(tasks)
			if err != nil {
				t.Fatal(err)
			}
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			r = &tasksRecord{From: x.From, Zip: w.EncodeAll(b, nil)}
			w.Close()
		case *receiptRecord:
			s, _, err := j.unpack(j.receipts[len(j.receipts)-1])
			if err != nil {
				t.Fatal(err)
			}
			r = &receiptRecord{Peer: x.Peer, Body: s.Body, Sig: s.Sig}
		}
		b, err := job.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, append([]byte{r.sort()}, b...))
	}
	return out
}

// TestAJournalOfFormat1GoesOn cuts such a journal everywhere, as an upgrade of
// the program does.
func TestAJournalOfFormat1GoesOn(t *testing.T) {
	x, id := recorded(t)
	recs := x.records[id]
	want := durableOf(t, x, replayedFrom(t, id, recs))
	for n := 1; n <= len(recs); n += 3 {
		dir := t.TempDir()
		path := filepath.Join(dir, "jobs", string(id), "journal")
		older := journalOptions
		older.Version = 1
		l, err := recordlog.Open(path, older, func([]byte) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append(format1(t, id, recs[:n])...); err != nil {
			t.Fatal(err)
		}
		l.Close()
		j, jobs, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
		if err != nil || len(jobs) != 1 {
			t.Fatalf("%d jobs, %v", len(jobs), err)
		}
		if d := cmp.Diff(durableOf(t, x, replayedFrom(t, id, recs[:n])), durableOf(t, x, jobs[0])); d != "" {
			t.Fatalf("after %d records: -format 2 +format 1\n%s", n, d)
		}
		j.close()
		if _, err := recordlog.Open(path, older, func([]byte) error { return nil }); err == nil {
			t.Error("the older program reads on after the upgrade")
		}
	}
	j := newJobState(id)
	for _, f := range format1(t, id, recs) {
		if err := j.replay(f); err != nil {
			t.Fatal(err)
		}
	}
	frames, err := j.rewritten()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, durableOf(t, x, replayedFrom(t, id, frames))); d != "" {
		t.Error("rewritten: ", d)
	}
}

func durableOf(t *testing.T, x *table, j *jobState) string {
	b := NewBoard(x.ids["self"], 7, Options{})
	b.now = x.now
	b.add(j)
	return durable(b)
}
