package dispatch

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

// TestAJobOfVeryManyTasks plans one, writes it, works on it, reads it again at a
// start, and shows it. IDLEWILD_TASKS says how many; see make chaos.
func TestAJobOfVeryManyTasks(t *testing.T) {
	n := amount("IDLEWILD_TASKS", 5000)
	tasks := fakeTasks(fakeParams{Frames: n}, job.Ref{})
	if err := checkPlan(tasks); err != nil {
		t.Fatal(err)
	}
	x := newTable(t)
	x.silent = true
	var raw [16]byte
	raw[0] = 1
	id := job.ID(unpackLease(raw[:]))
	x.jobs["J"], x.names2[id] = id, "J"
	x.step(Submitted{ID: id, Spec: spec(fakeParams{Frames: n}), Secret: []byte("secret")})
	x.drop("prepare")
	began := time.Now()
	x.step(Planned{ID: id, Tasks: tasks})
	planned := time.Since(began)
	x.play([]string{"open", "a"})
	x.play([]string{"report", "a", "want=2"})
	for k := 1; k <= 20 && x.leases[fmt.Sprint("L", k)] != nil; k++ {
		x.play(strings.Fields(fmt.Sprintf("report a want=2 done=L%d:0", k)))
		x.answer(true)
	}
	began = time.Now()
	s, ok := x.b.Status(x.now, id, 0, true)
	shown := time.Since(began)
	if !ok || s.Tasks != n || len(s.Frames) != n || s.Delivered < 3 {
		t.Fatalf("%d tasks, %d shown, %d delivered", s.Tasks, len(s.Frames), s.Delivered)
	}
	dir := t.TempDir()
	writeJournal(t, dir, id, x.records[id])
	size := 0
	for _, r := range x.records[id] {
		size += len(r)
	}
	began = time.Now()
	j, jobs, err := openJournal(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil || len(jobs) != 1 {
		t.Fatal(len(jobs), err)
	}
	defer j.close()
	b := NewBoard(x.ids["self"], 2, Options{})
	b.now = x.now
	b.restore(jobs[0])
	b.Step(x.now, Tick{})
	read := time.Since(began)
	again, _ := b.Status(x.now, id, 0, false)
	if again.Tasks != n || again.Delivered != s.Delivered {
		t.Errorf("read again: %d tasks, %d delivered", again.Tasks, again.Delivered)
	}
	figure(t, "tasks of one job", n, "", true)
	figure(t, "journal of a task that is planned, bytes", fmt.Sprintf("%.1f", float64(size)/float64(n)), "<= 100", size <= 100*n)
	figure(t, "planning them", planned.Round(time.Millisecond), "", true)
	figure(t, "showing all of them", shown.Round(time.Millisecond), "", true)
	figure(t, "reading them at a start", read.Round(time.Millisecond), "", true)
}
