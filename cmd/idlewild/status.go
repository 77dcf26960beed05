package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8/cwriter"

	"idlewild/job"
	"idlewild/node/localapi"
)

func statusCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "status",
		Usage:       "this machine, its farm and its jobs; or one job",
		ArgsUsage:   "[JOB]",
		Description: "With --watch it follows the job to its end and exits as submit --wait would.",
		Flags: []cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "watch", Aliases: []string{"w"}, Usage: "follow the job until it ends"},
		},
	}, 0, 1, status)
}

// overview is the document of status without a job.
type overview struct {
	localapi.StatusView
	Jobs []job.Status `json:"jobs"`
}

func status(k *call) error {
	if k.NArg() == 0 {
		if k.Bool("watch") {
			return usagef("--watch follows one job; name it")
		}
		return statusOverview(k)
	}
	id, err := k.jobArg(0)
	if err != nil {
		return err
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	ctx := k.Context.Context
	if client, err := localapi.Dial(cfg.DataDir); err == nil {
		k.learnNames(client)
		client.Close()
	}
	if k.Bool("watch") {
		v := k.newWatch()
		s, err := follow(ctx, cfg.DataDir, id, v, func(s job.Status) bool { return s.State.Ended() })
		v.close()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return err
		}
		k.printResult(s)
		return outcome(s)
	}
	client, err := localapi.Dial(cfg.DataDir)
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Job(ctx, id)
	if err != nil {
		return err
	}
	return k.answer(s, func() { fmt.Fprint(k.out, k.detail(s, len(s.Frames))) })
}

func statusOverview(k *call) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := k.Context.Context
	v, err := client.Status(ctx)
	if err != nil {
		return err
	}
	list, err := client.Jobs(ctx)
	if err != nil {
		return err
	}
	return k.answer(overview{v, list}, func() {
		m := v.Machine
		k.say("%s, peer %s, idlewild %s, up since %s", clean(m.Name), m.Peer, m.Version, m.Started.Local().Format(time.DateTime))
		if v.Farm.ID == "" {
			k.say("in no farm; make one with: idlewild farm create, or join one with: idlewild farm join TICKET")
		} else {
			n := 0
			for _, p := range v.Farm.Members {
				if p.Connected && !p.Self {
					n++
				}
			}
			k.say("farm %s, %s, %d connected", clean(v.Farm.Name), plural(len(v.Farm.Members), "member", "members"), n)
		}
		if m.Paused != "" {
			k.say("takes no work from others: %s", clean(m.Paused))
		}
		k.say("sandbox: %s", clean(m.Sandbox))
		for _, w := range m.Warnings {
			k.say("warning: %s", clean(w))
		}
		for _, d := range m.Devices {
			k.say("device %s (%s): %s", clean(d.Name), clean(d.Model), clean(d.Doing))
		}
		if len(list) == 0 {
			return
		}
		k.say("")
		rows := [][]string{{"JOB", "TITLE", "STATE", "DELIVERED", "RUNNING", "REJECTED", "TOOK", ""}}
		for _, s := range list {
			rows = append(rows, []string{
				string(s.Job), s.Title, string(s.State), fmt.Sprintf("%d/%d", s.Delivered+s.Skipped, s.Tasks),
				runningText(s), fmt.Sprint(s.Rejected), secondsText(s.WallSeconds), s.Reason,
			})
		}
		k.table(rows...)
	})
}

// runningText is how many tasks run, and how far they are on average.
func runningText(s job.Status) string {
	if s.Running == 0 || s.UnderWay <= 0 {
		return fmt.Sprint(s.Running)
	}
	return fmt.Sprintf("%d (%.0f%%)", s.Running, 100*min(s.UnderWay/float64(s.Running), 1))
}

// detail is everything about one job, with at most so many frames.
func (p *program) detail(s job.Status, frames int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s, %s\n", s.Job, oneLine(s.Title))
	b.WriteString(resultText(s) + "\n")
	if s.Reason != "" {
		fmt.Fprintf(&b, "why: %s\n", oneLine(s.Reason))
	}
	if s.LeftSeconds > 0 {
		fmt.Fprintf(&b, "about %s left", secondsText(s.LeftSeconds))
		if s.LeftHigh > 0 {
			fmt.Fprintf(&b, ", between %s and %s", secondsText(s.LeftLow), secondsText(s.LeftHigh))
		}
		b.WriteString("\n")
	}
	b.WriteString(p.holderText(s))
	if s.BudgetSeconds > 0 {
		fmt.Fprintf(&b, "budget: %s of %s of device time are used\n", secondsText(s.DeviceSeconds), secondsText(s.BudgetSeconds))
	}
	if s.NeedMemoryBytes > 0 {
		need := job.Gigabytes(s.NeedMemoryBytes)
		if s.NeedVRAMBytes > 0 {
			need += ", and " + job.Gigabytes(s.NeedVRAMBytes) + " of a GPU's"
		}
		fmt.Fprintf(&b, "memory: a task needs up to %s\n", need)
	}
	if r := s.LeftDevice; r != nil && r.High > 0 {
		fmt.Fprintf(&b, "the rest takes about %s of devices, between %s and %s", secondsText(r.Likely), secondsText(r.Low), secondsText(r.High))
		if r := s.LeftResults; r != nil {
			fmt.Fprintf(&b, ", and brings %s", bytesText(int64(r.Likely)))
		}
		b.WriteString("\n")
	}
	switch {
	case s.LateSeconds > 0 && s.State.Ended():
		fmt.Fprintf(&b, "ended %s after its deadline\n", secondsText(s.LateSeconds))
	case s.LateSeconds > 0:
		fmt.Fprintf(&b, "expected %s after its deadline of %s\n", secondsText(s.LateSeconds), s.Deadline.Local().Format(time.DateTime))
	case !s.Deadline.IsZero() && !s.State.Ended():
		fmt.Fprintf(&b, "due at %s\n", s.Deadline.Local().Format(time.DateTime))
	}
	for _, pr := range s.Problems {
		fmt.Fprintf(&b, "%s: %s\n", pr.Severity, oneLine(pr.String()))
	}
	if len(s.Workers) > 0 {
		b.WriteString("\n" + tableText(p.workerRows(s)))
	}
	if len(s.Frames) > 0 && frames > 0 {
		rows := [][]string{{"TASK", "STATE", "TRIES", "DONE", "VERDICT", "WORKER", ""}}
		for _, f := range s.Frames {
			if len(rows) > frames {
				rows = append(rows, []string{fmt.Sprintf("and %d more", len(s.Frames)-frames)})
				break
			}
			done, verdict := "", ""
			if f.State == "leased" {
				done = fmt.Sprintf("%.0f%%", 100*f.Fraction)
			}
			if f.Verdict != nil {
				verdict = string(f.Verdict.Ruling)
				if f.Verdict.Ruling == job.Accepted {
					verdict = f.Verdict.Basis()
				}
			}
			rows = append(rows, []string{f.Label, f.State, fmt.Sprint(f.Attempts), done, verdict, p.who(f.Worker), f.Reason})
		}
		b.WriteString("\n" + tableText(rows))
	}
	return b.String()
}

// holderText says who grants the job's tasks, where that is of interest.
func (p *program) holderText(s job.Status) string {
	var b strings.Builder
	if s.Origin != "" {
		fmt.Fprintf(&b, "for %s, which is silent; this machine goes on with its job\n", p.who(s.Origin))
	} else if s.Holder != "" {
		fmt.Fprintf(&b, "held by %s\n", p.who(s.Holder))
	}
	for i, st := range s.Stewards {
		fmt.Fprintf(&b, "steward %d, %s: %s", i+1, p.who(st.Peer), clean(st.State))
		if st.Reason != "" {
			fmt.Fprintf(&b, ", %s", oneLine(st.Reason))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// newWatch returns what status --watch shows: a table that redraws itself on
// a terminal, a line per change elsewhere, a document per change with --json.
func (k *call) newWatch() view {
	switch {
	case k.json:
		return &documents{p: k.program}
	case k.tty:
		return &live{p: k.program, w: cwriter.New(k.out)}
	}
	return &lines{p: k.program, out: k.out}
}

// documents prints each change of a job's status.
type documents struct {
	p    *program
	last job.Status
}

func (d *documents) event(job.Event) {}

func (d *documents) status(s job.Status) {
	still := s
	still.WallSeconds, still.LeftSeconds, still.Efficiency = 0, 0, 0
	still.LeftLow, still.LeftHigh, still.LateSeconds = 0, 0, 0
	still.LeftDevice, still.LeftResults = nil, nil
	for i := range still.Workers {
		still.Workers = append([]job.WorkerStatus(nil), still.Workers...)
		still.Workers[i].JoinedSeconds = 0
	}
	if fmt.Sprintf("%+v", still) == fmt.Sprintf("%+v", d.last) {
		return
	}
	d.last = still
	_ = d.p.doc(s) // whoever closed stdout does not want it
}

func (d *documents) close() {}

// live redraws one screen.
type live struct {
	p   *program
	w   *cwriter.Writer
	odd []string // the newest lines about something odd
}

func (l *live) event(e job.Event) {
	odd := e.Type == job.EventBroken || e.Type == job.EventFailed || e.Type == job.EventWarning ||
		e.Type == job.EventJudged && e.Verdict != nil && e.Verdict.Ruling != job.Accepted
	if odd {
		l.odd = append(l.odd, l.p.eventText(e))
		l.odd = l.odd[max(0, len(l.odd)-5):]
	}
}

func (l *live) status(s job.Status) {
	width, height, err := l.w.GetTermSize()
	if err != nil || width < 20 || height < 10 {
		width, height = 80, 24
	}
	// What is being worked on is worth the few lines there are.
	var busy []job.TaskStatus
	for _, f := range s.Frames {
		switch f.State {
		case "leased", "returned", "checked", "failed":
			busy = append(busy, f)
		}
	}
	s.Frames = busy
	text := strings.Split(strings.TrimRight(l.p.detail(s, max(1, height-16-len(s.Workers)-len(l.odd))), "\n"), "\n")
	text = append(text, l.odd...)
	text = text[:min(len(text), height-1)]
	for _, line := range text {
		if r := []rune(line); len(r) >= width {
			line = string(r[:width-1])
		}
		fmt.Fprintln(l.w, line)
	}
	_ = l.w.Flush(len(text)) // a terminal that is gone shows nothing
}

func (l *live) close() { fmt.Fprintln(l.p.out) }
