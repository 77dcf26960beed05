package dispatch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// List implements localapi.Views.
func (d *Dispatcher) List() []job.Status {
	d.mu.Lock()
	now := time.Now()
	out := make([]job.Status, 0, len(d.board.jobs))
	for _, j := range d.board.jobs {
		out = append(out, d.board.status(now, j, 0, false))
	}
	d.mu.Unlock()
	slices.Reverse(out)
	for i := range out {
		if !out[i].State.Ended() {
			out[i].UploadedBytes = d.deps.Content.Served(out[i].Job)
		}
	}
	return out
}

// Facts are what a look at a job's files found; nil where there is no such job
// or it was not looked at yet.
func (d *Dispatcher) Facts(id job.ID) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.board.byID[id]; j != nil {
		return j.facts
	}
	return nil
}

// Status implements localapi.Views.
func (d *Dispatcher) Status(id job.ID) (job.Status, error) {
	served := d.deps.Content.Served(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.board.Status(time.Now(), id, served, true)
	if !ok {
		return job.Status{}, job.ErrUnknownJob
	}
	if why := d.disk.Load(); why != nil && !s.State.Ended() {
		s.Reason = *why
	}
	return s, nil
}

// Log implements localapi.Views.
func (d *Dispatcher) Log(ctx context.Context, id job.ID, label string) ([]byte, error) {
	type entry struct {
		index  int
		label  string
		worker peer.ID
		leaf   job.Leaf
		ran    bool
	}
	var list []entry
	d.mu.Lock()
	j := d.board.byID[id]
	if j != nil {
		for _, t := range j.tasks {
			if label != "" && t.Label != label {
				continue
			}
			e := entry{index: int(t.index), label: t.Label}
			if x := t.accepted; x != nil {
				e.worker, e.leaf, e.ran = x.peer, j.leaf(x), true
			}
			list = append(list, e)
		}
	}
	d.mu.Unlock()
	if j == nil {
		return nil, job.ErrUnknownJob
	}
	if len(list) == 0 && label != "" {
		return nil, fmt.Errorf("job %s has no task %q", id, label)
	}
	var out []byte
	for _, e := range list {
		text, err := os.ReadFile(d.logPath(id, e.index))
		if err != nil && label != "" && e.ran {
			if f, ok := d.deps.Results.(LogFetcher); ok && e.leaf.Log.Defined() {
				if text, err = f.Log(ctx, e.worker, id, e.leaf); err != nil {
					return nil, fmt.Errorf("log of task %s: %w", e.label, err)
				}
			} else {
				text, err = []byte(e.leaf.LogTail), nil
			}
		}
		if err != nil || len(text) == 0 {
			continue
		}
		if len(list) > 1 {
			out = fmt.Appendf(out, "== task %s\n", e.label)
		}
		out = append(out, text...)
		if out[len(out)-1] != '\n' {
			out = append(out, '\n')
		}
		if len(out) > maxLogAnswer {
			break
		}
	}
	return out, nil
}

// maxLogAnswer bounds the logs of a whole job in one answer.
const maxLogAnswer = 16 << 20

func (d *Dispatcher) logPath(id job.ID, index int) string {
	return filepath.Join(d.journal.jobDir(id), "logs", strconv.Itoa(index)+".txt")
}
