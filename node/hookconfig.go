package node

import (
	"context"
	"fmt"
	"time"

	"idlewild/job"
	"idlewild/node/hooks"
	"idlewild/render"
)

// HooksConfig is about programs that are told what happens.
type HooksConfig struct {
	Program string   `toml:"program"` // absolute path of an executable
	URL     string   `toml:"url"`     // that is posted to
	Secret  string   `toml:"secret"`  // signs what is posted
	Events  []string `toml:"events"`  // names of hooks.Names, or patterns
	Timeout float64  `toml:"timeout_s"`
	Tries   int      `toml:"tries"` // attempts for one event
}

func defaultHooks() HooksConfig {
	return HooksConfig{Events: []string{"job.*", hooks.FrameDelivered, hooks.FrameFailed}, Timeout: 30, Tries: 8}
}

func (c HooksConfig) options() hooks.Options {
	return hooks.Options{
		Program: c.Program, URL: c.URL, Secret: c.Secret, Events: c.Events, Timeout: time.Duration(c.Timeout * float64(time.Second)), Tries: c.Tries,
	}
}

func (c HooksConfig) validate() error {
	if key, err := c.options().Validate(); err != nil {
		return fmt.Errorf("hooks.%s: %w", key, err)
	}
	return nil
}

// newHooks are the hooks of the settings; nil: none.
func (n *Node) newHooks() (*hooks.Hooks, error) {
	o := n.cfg.Hooks.options()
	o.Dir, o.Log = n.cfg.DataDir, n.log
	h, err := hooks.New(o)
	if err != nil {
		return nil, fmt.Errorf("hooks.%w", err)
	}
	return h, nil
}

// eventNames are the names under which hooks hear of events of tasks.
var eventNames = map[job.EventType]string{
	job.EventLeased: hooks.FrameStarted, job.EventReturned: hooks.FrameReturned, job.EventJudged: hooks.FrameChecked,
	job.EventDelivered: hooks.FrameDelivered, job.EventBroken: hooks.FrameAgain, job.EventFailed: hooks.FrameFailed,
	job.EventWarning: hooks.JobWarning,
}

// tellHooks hands events of own jobs to the hooks until ctx ends.
func (n *Node) tellHooks(ctx context.Context) error {
	if n.hooks == nil {
		<-ctx.Done()
		return nil
	}
	known := map[job.ID]hooks.Job{} // of open jobs: asking for every frame would take longer the more there are
	for e := range n.jobs.Watch(ctx, "", 0) {
		name := eventNames[e.Type]
		if e.Type == job.EventState {
			name = "job." + e.Text
		}
		if name == "" || !n.hooks.Wants(name) {
			if e.Type == job.EventState && job.State(e.Text).Ended() {
				delete(known, e.Job)
			}
			continue
		}
		d := hooks.Document{Event: name, Time: e.Time, Machine: n.hookMachine()}
		j, ok := known[e.Job]
		if !ok || e.Type == job.EventState {
			if s, err := n.jobs.Status(e.Job); err == nil {
				d.Job = hooks.Job{
					ID: string(e.Job), Title: s.Title, Kind: string(s.Kind), State: string(s.State), Reason: s.Reason,
					File: s.File, Output: s.Output, Frames: s.Tasks, Delivered: s.Delivered, Failed: s.FailedN,
				}
				j = d.Job
				j.State, j.Reason, j.Frames, j.Delivered, j.Failed = "", "", 0, 0, 0
				known[e.Job] = j
			}
		}
		if e.Type == job.EventState {
			d.Job.State = e.Text // it may have gone on meanwhile
			if job.State(e.Text).Ended() {
				delete(known, e.Job)
			}
		} else {
			d.Job = j
		}
		d.Job.ID = string(e.Job)
		if e.Type == job.EventWarning {
			d.Job.Reason = e.Text
		}
		if e.Task != "" {
			d.Frame = &hooks.Frame{Label: e.Task, Worker: e.Worker, Files: e.Files, Reason: e.Text}
			if v := e.Verdict; v != nil {
				d.Frame.Verdict, d.Frame.Reason = string(v.Ruling), v.Reason
			}
		}
		n.hooks.Put(d)
	}
	return nil
}

func (n *Node) hookMachine() hooks.Machine {
	return hooks.Machine{Peer: n.self.String(), Name: n.cfg.Name}
}

// hooked tells hooks of work for other members. What that is about is theirs:
// no name of it is told.
type hooked struct {
	render.Executor
	n *Node
}

// Execute implements render.Executor.
func (h hooked) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	n := h.n
	if t.Requester == n.self.String() {
		return h.Executor.Execute(ctx, t, dirs, progress)
	}
	tell := func(event string, w hooks.Work) {
		n.hooks.Put(hooks.Document{Event: event, Time: time.Now(), Machine: n.hookMachine(), Work: &w})
	}
	w := hooks.Work{Requester: t.Requester, Device: t.Device.Name}
	tell(hooks.WorkStarted, w)
	x := h.Executor.Execute(ctx, t, dirs, progress)
	w.Outcome, w.Seconds = string(x.Outcome), x.Meter.Render.Seconds()
	tell(hooks.WorkEnded, w)
	return x
}
