package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/render"
)

// asked is a task that was asked directly and runs. It stands beside the queue of
// its device: who waits for a word does not wait for frames.
type asked struct {
	device string
	end    context.CancelCauseFunc
}

// Answer runs a task that requester waits for: at once, or not here, which is a
// *job.NotHere. tell is called with what is known of the output while it runs. It
// returns the signed receipt and the file that the task left; a task that did
// not succeed has a receipt and no file.
func (w *Worker) Answer(ctx context.Context, requester peer.ID, a job.Ask, tell func(data []byte)) (job.Signed, []byte, error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	x := &asked{end: end}
	d, n, err := w.admit(requester, a, x)
	if err != nil {
		return job.Signed{}, nil, err
	}
	defer w.devs.Done()
	defer func() {
		w.mu.Lock()
		delete(w.asked, x.device)
		w.jobs[a.Job] = time.Now()
		w.mu.Unlock()
	}()
	defer context.AfterFunc(w.work, func() { end(errShutdown) })()

	leaf, file, err := w.answer(ctx, requester, a, d, n, tell)
	if ctx.Err() != nil {
		return job.Signed{}, nil, &job.NotHere{Reason: clip(context.Cause(ctx).Error(), job.MaxReasonBytes), Busy: true}
	}
	if err != nil {
		return job.Signed{}, nil, err
	}
	receipt, err := job.SignReceipt(w.deps.Key, job.Receipt{
		Version: 1, Requester: requester.String(), Worker: w.deps.Self.String(), Job: a.Job, Lease: a.Lease, Leaves: []job.Leaf{leaf},
	})
	return receipt, file, err
}

// admit finds a device for a task and takes its place for it.
func (w *Worker) admit(requester peer.ID, a job.Ask, x *asked) (d job.Device, n int, err error) {
	if err := a.Validate(); err != nil {
		return d, 0, &job.NotHere{Reason: err.Error()}
	}
	if w.opts.Accept != nil && requester != w.opts.Home {
		if err := w.opts.Accept(requester); err != nil {
			return d, 0, &job.NotHere{Reason: err.Error()}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	no := &job.NotHere{Reason: "there is no device here"}
	switch {
	case w.deps.Sum == nil || w.opts.NoWork:
		return d, 0, &job.NotHere{Reason: "this machine works for nobody"}
	case w.closing || w.store == nil:
		return d, 0, &job.NotHere{Reason: errShutdown.Error()}
	}
	for _, d := range w.machine.Devices {
		why := w.machine.Lacks(a.Task.Needs, d)
		busy := false
		if why == "" {
			why = w.resting(d.Name) // for who knows how long
		}
		if why == "" && w.asked[d.Name] != nil {
			why, busy = "its device answers somebody else", true
		}
		if why == "" {
			x.device = d.Name
			w.asked[d.Name] = x
			w.devs.Add(1)
			w.serial++
			w.jobs[a.Job] = time.Now()
			return d, w.serial, nil
		}
		if busy || !no.Busy {
			no = &job.NotHere{Reason: why, Busy: busy}
		}
	}
	return d, 0, no
}

// answer runs a task to its leaf and the file that it left.
func (w *Worker) answer(ctx context.Context, requester peer.ID, a job.Ask, d job.Device, n int, tell func([]byte)) (leaf job.Leaf, file []byte, err error) {
	t := a.Task
	leaf = job.Leaf{Task: t.Key(), Device: d.Name, DeviceClass: d.Class}
	broken := func(err error) (job.Leaf, []byte, error) {
		return leaf, nil, &job.NotHere{Reason: clip(err.Error(), job.MaxReasonBytes)}
	}
	base := filepath.Join(w.taskDir(), fmt.Sprintf("asked-%d", n))
	// Who waits for the answer does not wait for this.
	defer w.devs.Go(func() {
		if err := os.RemoveAll(base); err != nil {
			w.log.Warn("folder of a task stays", "dir", base, "err", err)
		}
	})
	dirs := render.Dirs{In: w.emptyDir(), Given: map[string][]byte{a.Name: a.Given}, Out: filepath.Join(base, "out")}
	if err := os.MkdirAll(dirs.Out, 0o700); err != nil {
		return broken(err)
	}
	if t.Input.Defined() {
		lease := job.Lease{ID: a.Lease, Job: a.Job, Read: a.Read, Tasks: []job.Granted{{Task: t}}}
		tr, err := w.fetch(ctx, requester, lease, t.Input, nil)
		if err != nil {
			return broken(fmt.Errorf("fetch the task's files: %w", err))
		}
		defer w.trees.release(tr)
		dirs.In = tr.dir
	}
	start := time.Now()
	content := ""
	if t.Input.Defined() {
		content = t.Input.String()
	}
	res := w.deps.Exec.Execute(ctx, render.Task{Task: t, Requester: requester.String(), Content: content, Device: d}, dirs, func(p render.Progress) {
		if len(p.Data) > 0 && ctx.Err() == nil {
			tell(p.Data)
		}
	})
	leaf.Outcome, leaf.Reason, leaf.Meter = res.Outcome, clip(res.Reason, job.MaxReasonBytes), sane(res.Meter, time.Since(start))
	leaf = job.Lease{}.Readable(leaf)
	leaf.Runner, leaf.Build = clip(res.Runner, job.MaxNameBytes), clip(res.Build, job.MaxNameBytes)
	unsound := w.deps.Assets.Sound(dirs.In)
	switch {
	case ctx.Err() != nil:
		return leaf, nil, nil
	case unsound != nil:
		return broken(unsound)
	case leaf.Outcome == job.Cancelled || !leaf.Outcome.Valid():
		return broken(errors.New(leaf.Reason))
	case leaf.Outcome != job.Succeeded:
		leaf.LogTail = tail(string(res.Log), job.MaxLogTailBytes)
		return leaf, nil, nil
	}
	rule := t.Outputs[0]
	if file, err = readBounded(filepath.Join(dirs.Out, filepath.FromSlash(rule.Name))); err != nil {
		return broken(err)
	}
	ref, err := w.deps.Sum(file)
	if err != nil {
		return broken(err)
	}
	leaf.Outputs = []job.Output{{Name: rule.Name, Media: rule.Media, File: ref, Bytes: int64(len(file))}}
	return leaf, file, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, job.MaxAnswerBytes+1))
	if err == nil && len(b) > job.MaxAnswerBytes {
		err = fmt.Errorf("an answer of more than %d bytes", job.MaxAnswerBytes)
	}
	return b, err
}

// stopAsked ends what was asked of devices that rest says rest. mu is held.
func (w *Worker) stopAsked(rest func(device string) string) {
	for name, x := range w.asked {
		if why := rest(name); why != "" {
			x.end(errors.New(why))
		}
	}
}
