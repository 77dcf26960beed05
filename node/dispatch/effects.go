package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/ondisk"
	"idlewild/job"
)

// carryOut does one effect, whose records are on disk. It does not wait for
// anything slow.
func (d *Dispatcher) carryOut(e Effect) {
	switch e := e.(type) {
	case Write:
	case Send:
		if s := d.stream(e.Peer, e.Stream); s != nil {
			d.sign(e.Peer, &e.Order)
			s.send(e.Order)
		}
	case Hangup:
		if s := d.stream(e.Peer, e.Stream); s != nil {
			s.end()
		}
	case Announce:
		d.announcing.do(func() {
			ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
			defer cancel()
			if err := d.deps.Market.Announce(ctx, e.Offer); err != nil && d.ctx.Err() == nil {
				d.log.Warn("offer not announced", "job", e.Offer.Job, "err", err)
			}
		})
	case Prepare:
		d.in(d.preparing, e.ID, func(ctx context.Context) Event { return d.prepare(ctx, e) })
	case Fetch:
		d.in(d.fetching, e.ID, func(ctx context.Context) Event { return d.fetch(ctx, e) })
	case Challenge:
		d.in(d.quick, e.ID, func(ctx context.Context) Event { return d.challenge(e) })
	case Compare:
		d.in(d.judging, e.ID, func(ctx context.Context) Event { return d.compare(ctx, e) })
	case Vouch:
		d.deps.Judge.Learn(e.Task, e.Vouched)
	case Enter:
		d.in(d.booking, e.ID, func(context.Context) Event {
			err := d.deps.Book.Record(e.Worker, e.Signed, e.Leaf, e.Verdict)
			return Booked{ID: e.ID, Fence: e.Fence, Worker: e.Worker, Strike: e.Strike, Score: d.deps.Book.Score(e.Worker), Err: err}
		})
	case Deliver:
		d.in(d.delivering, e.ID, func(ctx context.Context) Event { return d.deliver(ctx, e) })
	case Adopt:
		d.in(d.fetching, e.ID, func(ctx context.Context) Event { return d.adopt(ctx, e) })
	case Discard:
		d.in(d.saving, e.ID, func(context.Context) Event {
			for _, dir := range []string{d.staging(e.ID, e.Fence), d.evidence(e.ID, e.Fence)} {
				if err := os.RemoveAll(dir); err != nil {
					d.log.Warn("staging not removed", "job", e.ID, "err", err)
				}
			}
			return nil
		})
	case SaveLog:
		d.in(d.saving, e.ID, func(ctx context.Context) Event { d.saveLog(ctx, e); return nil })
	case Clean:
		d.clean(e.ID)
	case Forget:
		d.forget(e.ID)
	case Emit:
		d.ring.add(e.Event)
	case Ack:
		if ack, ok := e.Token.(chan error); ok {
			ack <- e.Err
		}
	case Note:
		d.log.Info(e.Text, e.Args...)
	}
}

func (d *Dispatcher) staging(id job.ID, fence uint64) string {
	return filepath.Join(d.journal.jobDir(id), "staging", fmt.Sprintf("%016x", fence))
}

func (d *Dispatcher) evidence(id job.ID, fence uint64) string {
	return filepath.Join(d.journal.jobDir(id), "evidence", fmt.Sprintf("%016x", fence))
}

// in runs f in a pool as a part of a job, and posts what comes of it.
func (d *Dispatcher) in(p *pool, id job.ID, f func(ctx context.Context) Event) {
	r := d.runs[id]
	if r == nil {
		r = &jobRun{}
		r.ctx, r.cancel = context.WithCancel(d.ctx)
		d.runs[id] = r
	}
	r.wg.Add(1)
	p.do(func() {
		defer r.wg.Done()
		if r.ready != nil {
			select {
			case <-r.ready:
			case <-d.ctx.Done():
				return
			}
		}
		if r.ctx.Err() != nil {
			return
		}
		if e := f(r.ctx); e != nil && r.ctx.Err() == nil {
			d.post(e)
		}
	})
}

// clean lets go of a job: what runs for it ends first.
func (d *Dispatcher) clean(id job.ID) {
	old := d.runs[id]
	cleaned := make(chan struct{})
	next := &jobRun{ready: cleaned}
	next.ctx, next.cancel = context.WithCancel(d.ctx)
	d.runs[id] = next
	if old != nil {
		old.cancel()
	}
	d.cleaning.do(func() {
		defer close(cleaned)
		if old != nil {
			if old.ready != nil {
				select {
				case <-old.ready:
				case <-d.ctx.Done():
					return
				}
			}
			old.wg.Wait()
		}
		if d.ctx.Err() != nil {
			return
		}
		served := d.deps.Content.Served(id)
		if err := d.deps.Content.Release(d.ctx, id); err != nil {
			d.log.Warn("content not released", "job", id, "err", err)
		}
		d.mu.Lock()
		keep := map[string]bool{}
		if j := d.board.byID[id]; j != nil {
			for _, t := range j.tasks {
				if t.isFailed {
					keep[filepath.Base(d.logPath(id, int(t.index)))] = true
				}
			}
		}
		d.mu.Unlock()
		dir := d.journal.jobDir(id)
		var errs error
		for _, sub := range []string{"staging", "evidence"} {
			errs = errors.Join(errs, os.RemoveAll(filepath.Join(dir, sub)))
		}
		logs, _ := os.ReadDir(filepath.Join(dir, "logs"))
		for _, l := range logs {
			if !keep[l.Name()] {
				errs = errors.Join(errs, os.Remove(filepath.Join(dir, "logs", l.Name())))
			}
		}
		if errs != nil {
			d.log.Warn("folders of job not removed", "job", id, "err", errs)
			return // tried again at the next start
		}
		d.post(Cleaned{ID: id, Served: served})
	})
}

// readGrantTime is how long a read grant is valid; it is made anew in the
// second half of that.
const readGrantTime = 24 * time.Hour

// sign adds to each lease the right to read the job's content.
func (d *Dispatcher) sign(reader peer.ID, o *job.Order) {
	for i := range o.Leases {
		l := &o.Leases[i]
		d.mu.Lock()
		if j := d.board.byID[l.Job]; j != nil {
			if !d.board.stranger(reader) { // it has none of them, and need not know of them
				l.Disks = j.disks
			}
		}
		d.mu.Unlock()
		k := grantKey{l.Job, reader}
		g, ok := d.grants[k]
		now := time.Now()
		if !ok || g.expires.Sub(now) < readGrantTime/2 {
			d.mu.Lock()
			var root cid.Cid
			if j := d.board.byID[l.Job]; j != nil {
				root = j.snapshot.Root
			}
			d.mu.Unlock()
			g.expires = now.Add(readGrantTime)
			var err error
			g.signed, err = job.Sign(d.deps.Key, job.ContextRead, job.ReadGrant{Version: 1, Job: l.Job, Root: job.RefOf(root), Reader: reader.String(), Expires: g.expires})
			if err != nil {
				d.log.Error("read grant not signed", "job", l.Job, "err", err)
				continue
			}
			if !d.note(Given{At: now, Peer: reader, Job: l.Job, Root: root, Expires: g.expires}) {
				continue
			}
			d.forgetGrants(now)
			d.grants[k] = g
		}
		l.Read = g.signed
	}
}

// note has it written down that another machine is given content. Nothing is
// given before: it waits for room on the disk. It is false if the Dispatcher
// ends first.
func (d *Dispatcher) note(g Given) bool {
	if d.deps.Audit == nil || g.Peer == d.deps.Self {
		return true
	}
	for told := false; ; {
		err := d.deps.Audit.Given(g)
		if err == nil {
			if told {
				d.log.Info("the audit log is written again")
				d.disk.Store(nil)
			}
			return true
		}
		if !told {
			told = true
			d.log.Error("the audit log cannot be written: no work is given out", "err", err)
			why := "nothing is given out, because it cannot be written down: " + err.Error()
			d.disk.Store(&why)
		}
		select {
		case <-time.After(time.Second):
		case <-d.ctx.Done():
			return false
		}
	}
}

// fetch brings outputs into their folder; those of a result are on disk then.
func (d *Dispatcher) fetch(ctx context.Context, e Fetch) Event {
	out := Fetched{ID: e.ID, Fence: e.Fence}
	dir := d.staging(e.ID, e.Fence)
	if e.For != 0 {
		dir = filepath.Join(d.evidence(e.ID, e.For), fmt.Sprintf("%016x", e.Fence))
	}
	out.Err = os.RemoveAll(dir)
	if out.Err == nil {
		out.Err = os.MkdirAll(dir, 0o700)
	}
	if out.Err != nil {
		out.Local = true
		d.log.Warn("no room for a result", "job", e.ID, "err", out.Err)
		return out
	}
	out.Moved, out.Err = d.deps.Results.Fetch(ctx, Returned{Worker: e.Worker, Job: e.ID, Leaf: e.Leaf, Inline: e.Inline, Keep: e.Keep, Origin: e.Origin, Delegation: e.Delegation}, dir)
	if out.Err == nil && e.For == 0 {
		out.Err = ondisk.SyncDir(filepath.Dir(dir))
	}
	if out.Err != nil {
		out.Local = ours(out.Err)
		d.log.Warn("result not fetched", "job", e.ID, "peer", e.Worker, "err", out.Err)
	}
	return out
}

// ours reports whether an error is of this machine's own disk, and so nobody
// else's fault.
func ours(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS)
}

// here reports whether the folder of a result still exists.
func (d *Dispatcher) here(id job.ID, fence uint64) bool {
	fi, err := os.Stat(d.staging(id, fence))
	return err == nil && fi.IsDir()
}

func (d *Dispatcher) challenge(e Challenge) Event {
	if !d.here(e.ID, e.Fence) {
		return Lost{e.ID, e.Fence}
	}
	score := d.deps.Book.Score(e.Worker)
	rate := score.Rate
	if e.Rate != nil {
		rate = *e.Rate
	}
	if e.Stranger {
		rate = max(rate, score.Rate, strangerRate)
	}
	if score.Rejected > 0 {
		rate = 1
	}
	tasks, err := d.deps.Judge.Challenge(e.Task, e.Leaf, e.Secret, rate)
	return Challenged{ID: e.ID, Fence: e.Fence, Tasks: tasks, Share: rate, Err: err}
}

func (d *Dispatcher) compare(ctx context.Context, e Compare) Event {
	if !d.here(e.ID, e.Fence) {
		return Lost{e.ID, e.Fence}
	}
	var ev []Evidence
	for _, x := range e.Evidence {
		ev = append(ev, Evidence{Task: x.task, Leaf: x.leaf, Dir: filepath.Join(d.evidence(e.ID, e.Fence), fmt.Sprintf("%016x", x.fence))})
	}
	v := d.deps.Judge.Judge(ctx, e.Task, e.Leaf, d.staging(e.ID, e.Fence), ev)
	if ctx.Err() != nil {
		return nil // a verdict of a check that was cut short is none
	}
	return Judged{ID: e.ID, Fence: e.Fence, Verdict: v}
}

func (d *Dispatcher) deliver(ctx context.Context, e Deliver) Event {
	if !d.here(e.ID, e.Fence) {
		return Lost{e.ID, e.Fence}
	}
	if h, ok := d.deps.Sink.(Housed); ok && e.Begun {
		if err := h.Housed(e.Spec); err != nil {
			return Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Err: err}
		}
	}
	if e.Compare {
		differs, err := d.deps.Sink.Differs(ctx, e.Spec, e.Task, d.staging(e.ID, e.Fence))
		if err != nil || differs != "" {
			return Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Differs: differs, Err: err}
		}
	}
	files, err := d.deps.Sink.Deliver(ctx, e.Spec, e.Task, d.staging(e.ID, e.Fence))
	return Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Files: files, Err: err}
}

// adopt stores delivered files again.
func (d *Dispatcher) adopt(ctx context.Context, e Adopt) Event {
	out := Adopted{ID: e.ID, Task: e.Index}
	a, ok := d.deps.Results.(Adopter)
	switch {
	case !ok:
		out.Err = errors.New("delivered files cannot be stored again")
	case !d.deps.Sink.Delivered(e.Spec, e.Task):
		out.Err = errors.New("its delivered files are gone")
	default:
		out.Outputs, out.Err = a.Adopt(ctx, e.ID, e.Task, finalFiles(e.Spec, e.Task))
	}
	return out
}

// saveLog keeps the newest account of a task that did not succeed.
func (d *Dispatcher) saveLog(ctx context.Context, e SaveLog) {
	text := []byte(e.Leaf.LogTail)
	if f, ok := d.deps.Results.(LogFetcher); ok && e.Leaf.Log.Defined() {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if whole, err := f.Log(ctx, e.Worker, e.ID, e.Leaf); err == nil && len(whole) > 0 {
			text = whole[:min(len(whole), 1<<20)]
		}
	}
	head := fmt.Appendf(nil, "-- %s on %s: %s\n", e.Leaf.Outcome, e.Worker, e.Leaf.Reason)
	path := d.logPath(e.ID, e.Index)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		err = os.WriteFile(path, append(head, text...), 0o600)
		if err == nil {
			return
		}
	}
	d.log.Warn("log not kept", "job", e.ID)
}

// Encode is the record as it stands in a frame of the journal.
func (w Write) Encode() ([]byte, error) { return encodeRecord(w.Record) }
