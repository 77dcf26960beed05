package main

// This file is the program's manners. The rules:
//
//   - What was asked for goes to stdout, what went wrong to stderr. The
//     daemon's log is stderr too.
//   - An error is one line: "idlewild: " and what is wrong, lower case, no final
//     period, ending in what to do about it where there is something to do. A
//     refusal has one such line per problem.
//   - With --json stdout gets exactly one JSON document, or one per line where
//     the command streams, and nothing else; an error is a document as well.
//   - Bars and tables that redraw themselves appear only where stdout is a
//     terminal. Elsewhere the same facts come as lines, each written once.
//   - Words are those of the glossary, sizes are decimal (kB, MB), and an id is
//     printed whole, so that it can be pasted.
//   - Nothing is asked but a passphrase, and what setup is for. What cannot be
//     known is a flag.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"idlewild/job"
)

// program is one run of the command line.
type program struct {
	in       io.Reader
	out, err io.Writer
	tty      bool // out is a terminal
	json     bool

	// names of members by peer id, as far as known; set before views run.
	names map[string]string

	mu      sync.Mutex
	printed bool // a document
}

// who is a peer for people: its name, or the end of its id, which is what
// tells ids apart.
func (p *program) who(peer string) string {
	if n := p.names[peer]; n != "" {
		return n
	}
	if r := []rune(peer); len(r) > 20 {
		return "…" + string(r[len(r)-8:])
	}
	return peer
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	return cwriter.IsTerminal(int(f.Fd()))
}

// doc prints v as one JSON document on one line.
func (p *program) doc(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printed = true
	_, err = p.out.Write(append(b, '\n'))
	return err
}

// say prints a line for people; with --json it prints nothing.
func (p *program) say(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// answer prints v with --json, and calls people otherwise.
func (p *program) answer(v any, people func()) error {
	if p.json {
		return p.doc(v)
	}
	people()
	return nil
}

// fail says what went wrong.
func (p *program) fail(err error) {
	var refused *job.RefusedError
	if errors.As(err, &refused) {
		for _, pr := range refused.Problems {
			p.complain("%s", pr)
		}
	} else {
		p.complain("%s", err)
	}
	if p.json && !p.printed {
		_ = p.doc(failureOf(err)) // stderr has it anyway
	}
}

// complain prints one line on stderr.
func (p *program) complain(format string, args ...any) {
	s := strings.TrimSpace(fmt.Sprintf(format, args...))
	fmt.Fprintf(p.err, "idlewild: %s\n", strings.ReplaceAll(clean(s), "\n", "; "))
}

// clean takes out what would command a terminal: names of members, reasons
// and logs come from others.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '\ufffd'
		}
		return r
	}, s)
}

// table prints rows of cells in columns.
func (p *program) table(rows ...[]string) {
	fmt.Fprint(p.out, tableText(rows))
}

func tableText(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		for i, c := range r {
			r[i] = strings.NewReplacer("\n", " ", "\t", " ").Replace(clean(c))
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1000, 0
	for f >= 999.95 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", f, units[i])
}

func secondsText(s float64) string {
	switch {
	case s <= 0 || math.IsNaN(s) || math.IsInf(s, 0):
		return "0s"
	case s < 10:
		return fmt.Sprintf("%.2fs", s)
	case s < 60:
		return fmt.Sprintf("%.1fs", s)
	}
	return time.Duration(math.Round(s) * 1e9).String()
}

// view shows a job while it is waited for.
type view interface {
	// event tells what happened; status how the job stands.
	event(job.Event)
	status(job.Status)
	// close leaves the terminal in order; nothing is shown after it.
	close()
}

// newView returns bars on a terminal, lines elsewhere, nothing with --json.
func (p *program) newView() view {
	switch {
	case p.json:
		return noView{}
	case p.tty:
		return newBars(p)
	}
	return &lines{p: p, out: p.out}
}

type noView struct{}

func (noView) event(job.Event)   {}
func (noView) status(job.Status) {}
func (noView) close()            {}

// lines writes what happens once, a line each.
type lines struct {
	p     *program
	out   io.Writer
	phase string
	told  bool              // how much there is to do, already
	why   string            // nothing happens, as told
	trust map[string]string // the newest ruling by label
}

func (l *lines) event(e job.Event) {
	switch e.Type {
	case job.EventPhase:
		if e.Text != l.phase {
			l.phase = e.Text
			fmt.Fprintln(l.out, clean(e.Text))
		}
	case job.EventJudged:
		if e.Verdict == nil {
			return
		}
		if l.trust == nil {
			l.trust = map[string]string{}
		}
		l.trust[e.Task] = string(e.Verdict.Ruling)
		if e.Verdict.Ruling != job.Accepted {
			fmt.Fprintln(l.out, l.p.eventText(e))
		}
	case job.EventDelivered:
		s := "delivered " + clean(e.Task)
		if r := l.trust[e.Task]; r != "" {
			s += ", " + r
		}
		delete(l.trust, e.Task)
		fmt.Fprintln(l.out, s)
	case job.EventWarning:
		// Before the plan these are the problems that inspecting found. They
		// stand in the status, and in a refusal's error.
		if l.told {
			fmt.Fprintln(l.out, l.p.eventText(e))
		}
	case job.EventBroken, job.EventFailed:
		fmt.Fprintln(l.out, l.p.eventText(e))
	}
}

func (l *lines) status(s job.Status) {
	if s.Tasks > 0 && !l.told {
		l.told = true
		fmt.Fprintln(l.out, plannedText(s))
		for _, w := range warnings(s) {
			fmt.Fprintln(l.out, w)
		}
	}
	l.waiting(s)
}

func (l *lines) close() {}

// waiting says why nothing happens, once.
func (l *lines) waiting(s job.Status) {
	why := ""
	if l.told && !s.State.Ended() && s.Running == 0 {
		why = oneLine(s.Reason)
	}
	if why != l.why && why != "" {
		fmt.Fprintf(l.out, "waiting: %s\n", why)
	}
	l.why = why
}

func plannedText(s job.Status) string {
	t := "planned " + plural(s.Tasks, "task", "tasks")
	if s.Skipped > 0 {
		t += fmt.Sprintf(" (%s there already)", plural(s.Skipped, "is", "are"))
	}
	if s.ContentBytes > 0 {
		t += fmt.Sprintf(", content %s, of it new %s", bytesText(s.ContentBytes), bytesText(s.NewBytes))
	}
	return t
}

// warnings are the problems that did not keep the job from starting.
func warnings(s job.Status) []string {
	var out []string
	for _, p := range s.Problems {
		if p.Severity == job.SeverityWarning {
			out = append(out, "warning: "+oneLine(p.String()))
		}
	}
	return out
}

// eventText is one line about something odd.
func (p *program) eventText(e job.Event) string {
	var s []string
	switch e.Type {
	case job.EventJudged:
		s = append(s, string(e.Verdict.Ruling), e.Task)
	default:
		s = append(s, string(e.Type))
		if e.Task != "" {
			s = append(s, e.Task)
		}
	}
	if e.Worker != "" {
		s = append(s, "from", p.who(e.Worker))
	}
	t := strings.Join(s, " ")
	if e.Verdict != nil && e.Verdict.Reason != "" {
		t += ": " + e.Verdict.Reason
	} else if e.Text != "" {
		t += ": " + e.Text
	}
	return strings.ReplaceAll(clean(t), "\n", "; ")
}

// bars is one bar for the job, and lines above it for what is odd.
type bars struct {
	p        *program
	progress *mpb.Progress
	bar      *mpb.Bar

	mu    sync.Mutex
	last  job.Status
	phase string
}

func newBars(p *program) *bars {
	b := &bars{p: p, phase: "starting", progress: mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(40))}
	left := func(decor.Statistics) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.last.Tasks == 0 {
			return b.phase + " "
		}
		return fmt.Sprintf("%d/%d ", b.last.Delivered+b.last.Skipped, b.last.Tasks)
	}
	right := func(decor.Statistics) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.last.Tasks == 0 {
			return ""
		}
		s := fmt.Sprintf(" %d running", b.last.Running)
		if b.last.LeftSeconds > 0 {
			s += ", " + time.Duration(math.Ceil(b.last.LeftSeconds)*1e9).String() + " left"
		}
		if b.last.Rejected > 0 {
			s += fmt.Sprintf(", %d rejected", b.last.Rejected)
		}
		if b.last.Reason != "" {
			s += ", " + b.last.Reason
		}
		return clean(s)
	}
	b.bar = b.progress.AddBar(0, mpb.PrependDecorators(decor.Any(left)), mpb.AppendDecorators(decor.Any(right)))
	return b
}

func (b *bars) event(e job.Event) {
	switch e.Type {
	case job.EventPhase:
		b.mu.Lock()
		b.phase = clean(e.Text)
		b.mu.Unlock()
	case job.EventJudged:
		if e.Verdict != nil && e.Verdict.Ruling != job.Accepted {
			fmt.Fprintln(b.progress, b.p.eventText(e))
		}
	case job.EventWarning:
		b.mu.Lock()
		planned := b.last.Tasks > 0
		b.mu.Unlock()
		if planned { // as lines does
			fmt.Fprintln(b.progress, b.p.eventText(e))
		}
	case job.EventBroken, job.EventFailed:
		fmt.Fprintln(b.progress, b.p.eventText(e))
	}
}

func (b *bars) status(s job.Status) {
	b.mu.Lock()
	first := b.last.Tasks == 0 && s.Tasks > 0
	b.last = s
	b.mu.Unlock()
	if s.Tasks == 0 {
		return
	}
	if first {
		for _, w := range warnings(s) {
			fmt.Fprintln(b.progress, w)
		}
	}
	done := float64(s.Delivered + s.Skipped + s.FailedN)
	for _, f := range s.Frames {
		if f.State == "leased" {
			done += min(max(f.Fraction, 0), 1)
		}
	}
	// One more than there is: the bar is ended by close alone.
	b.bar.SetTotal(int64(s.Tasks)*100+1, false)
	b.bar.SetCurrent(int64(done * 100))
}

func (b *bars) close() {
	b.bar.Abort(false)
	b.progress.Wait()
}
