package dispatch

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"idlewild/internal/ondisk"
	"idlewild/internal/recordlog"
	"idlewild/job"
)

// journalOptions name the format of a job's journal; see docs/formats.md.
var journalOptions = recordlog.Options{Magic: "jobs", Version: 2, MaxRecord: maxRecordBytes}

// journal keeps the facts of all jobs of this machine, one log per job:
//
//	lock, epoch
//	jobs/<id>/journal/       records
//	jobs/<id>/staging/       results that were not delivered yet, by fence
//	jobs/<id>/evidence/      outputs of checks, by fence of what they check
//	jobs/<id>/logs/          what tasks said that did not succeed, by index
//
// It is used by one goroutine at a time.
type journal struct {
	dir   string
	o     recordlog.Options
	lock  io.Closer
	log   *slog.Logger
	logs  map[job.ID]*recordlog.Log
	dirty []job.ID         // written and not synced
	due   map[job.ID]int64 // bytes at which a journal is rewritten
	// epoch of this opening: higher than all before.
	epoch uint64
}

// openJournal takes the folder, counts one epoch on, and reads every job in
// the order of submission. A job whose journal cannot be understood is left
// alone and said.
func openJournal(dir string, disk recordlog.Disk, log *slog.Logger) (*journal, []*jobState, error) {
	lock, err := ondisk.Lock(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	n := &journal{dir: dir, o: journalOptions, lock: lock, log: log, logs: map[job.ID]*recordlog.Log{}, due: map[job.ID]int64{}}
	if n.o.Disk = disk; disk == nil {
		n.o.Disk = recordlog.System{}
	}
	jobs, err := n.read()
	if err == nil {
		err = n.count(jobs)
	}
	if err != nil {
		n.close()
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	return n, jobs, nil
}

func (n *journal) jobDir(id job.ID) string { return filepath.Join(n.dir, "jobs", string(id)) }

func (n *journal) read() ([]*jobState, error) {
	root := filepath.Join(n.dir, "jobs")
	if err := n.o.Disk.MkdirAll(root); err != nil {
		return nil, err
	}
	names, err := n.o.Disk.List(root) // sorted: ULIDs sort by time
	if err != nil {
		return nil, err
	}
	var jobs []*jobState
	for _, name := range names {
		id, err := job.ParseID(name)
		if err != nil {
			continue
		}
		j, err := n.open(id)
		switch {
		case err != nil:
			n.log.Error("job cannot be read, left as it is", "job", id, "err", err)
		case j.submitted.IsZero():
			// It was never acknowledged.
			n.drop(id)
			if err := n.o.Disk.RemoveAll(n.jobDir(id)); err != nil {
				return nil, err
			}
		default:
			if j.cleaned {
				n.drop(id) // opened again if need be
			} else if err := n.lasting(id); err != nil {
				return nil, err
			}
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// open replays one job.
func (n *journal) open(id job.ID) (*jobState, error) {
	j := newJobState(id)
	l, err := recordlog.Open(filepath.Join(n.jobDir(id), "journal"), n.o, j.replay)
	if err != nil {
		return nil, err
	}
	if l.Torn != "" {
		n.log.Warn("journal repaired", "job", id, "bytes", l.Cut, "reason", l.Torn)
	}
	n.logs[id] = l
	if l.Upgraded && j.state.Ended() {
		// Old ones are read at every start.
		err = n.shorten(id, l, true)
		return j, err
	}
	return j, nil
}

// lasting has the folders of a job survive a power cut, whoever made them.
func (n *journal) lasting(id job.ID) error {
	if err := n.o.Disk.SyncDir(filepath.Join(n.dir, "jobs")); err != nil {
		return err
	}
	return n.o.Disk.SyncDir(n.jobDir(id))
}

// replay makes the next records of a journal true.
func (j *jobState) replay(b []byte) error {
	return j.decoder.frame(b, func(r record) error {
		if _, first := r.(*jobRecord); first != j.submitted.IsZero() {
			return fmt.Errorf("the journal does not begin with the job")
		}
		j.records++
		return j.apply(r)
	}, j.decoder.record)
}

// drop closes a log until it is written again.
func (n *journal) drop(id job.ID) {
	if l := n.logs[id]; l != nil {
		if err := l.Close(); err != nil {
			n.log.Warn("journal close", "job", id, "err", err)
		}
		delete(n.logs, id)
	}
}

// count begins an epoch: the number is on disk before anything is granted.
func (n *journal) count(jobs []*jobState) error {
	path := filepath.Join(n.dir, "epoch")
	b, err := n.o.Disk.Read(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s := strings.TrimSpace(string(b)); s != "" {
		if n.epoch, err = strconv.ParseUint(s, 10, 32); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, j := range jobs {
		n.epoch = max(n.epoch, j.maxFence>>32, j.epoch)
	}
	n.epoch++
	return recordlog.WriteFileOn(n.o.Disk, path, fmt.Appendf(nil, "%d\n", n.epoch))
}

// write puts records on disk in their order. Where it returns nil, those that
// are not lazy survive a power cut; else left are those that are not written.
func (n *journal) write(ws []Write) (left []Write, err error) {
	if left, err = n.append(ws); err != nil {
		return left, err
	}
	for len(n.dirty) > 0 {
		if err := n.logs[n.dirty[0]].Sync(); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		n.dirty = n.dirty[1:]
	}
	return nil, nil
}

// append writes records without waiting for the disk.
func (n *journal) append(ws []Write) (left []Write, err error) {
	for len(ws) > 0 {
		// Runs of one job are one write.
		id, w, must, over, run := ws[0].ID, rewriter{}, false, false, 0
		for run < len(ws) && ws[run].ID == id {
			if w.add(ws[run].Record); w.err != nil {
				return ws, fmt.Errorf("journal: %w: %w", recordlog.ErrInDoubt, w.err)
			}
			must = must || !lazy(ws[run].Record)
			if s, ok := ws[run].Record.(*stateRecord); ok {
				over = s.State.Ended()
			}
			run++
		}
		l := n.logs[id]
		if l == nil {
			if l, err = recordlog.Open(filepath.Join(n.jobDir(id), "journal"), n.o, func([]byte) error { return nil }); err != nil {
				return ws, fmt.Errorf("journal: %w", err)
			}
			if err := n.lasting(id); err != nil {
				l.Close()
				return ws, fmt.Errorf("journal: %w", err)
			}
			n.logs[id] = l
		}
		if err := l.Append(w.frames...); err != nil {
			return ws, fmt.Errorf("journal: %w", err)
		}
		ws = ws[run:]
		if must && !slices.Contains(n.dirty, id) {
			n.dirty = append(n.dirty, id)
		}
		if err := n.shorten(id, l, over); err != nil {
			return ws, fmt.Errorf("journal: %w", err)
		}
	}
	return nil, nil
}

func (n *journal) close() error {
	var first error
	for id, l := range n.logs {
		if err := l.Close(); err != nil && first == nil {
			first = fmt.Errorf("journal of job %s: %w", id, err)
		}
	}
	n.logs = map[job.ID]*recordlog.Log{}
	if err := n.lock.Close(); err != nil && first == nil {
		first = err
	}
	return first
}
