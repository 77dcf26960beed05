package main

import (
	"fmt"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// loading shows how far something is that has a size: as a bar on a terminal,
// elsewhere as a line for each phase.
type loading struct {
	p        *program
	what     string
	phase    string
	progress *mpb.Progress
	bar      *mpb.Bar
}

func (p *program) newLoading(what string) *loading { return &loading{p: p, what: what} }

// show is an install.Progress.
func (l *loading) show(phase string, done, total int64) {
	if phase != l.phase {
		l.close()
		l.phase = phase
		if !l.p.tty || l.p.json {
			l.p.say("%s %s", phase, l.what)
			return
		}
		l.progress = mpb.New(mpb.WithOutput(l.p.out), mpb.WithWidth(40))
		l.bar = l.progress.AddBar(0, mpb.PrependDecorators(decor.Name(fmt.Sprintf("%s %s ", phase, l.what))),
			mpb.AppendDecorators(decor.Percentage()))
	}
	if l.bar != nil {
		l.bar.SetTotal(max(total, done+1), false)
		l.bar.SetCurrent(done)
	}
}

// close ends the bar that is shown.
func (l *loading) close() {
	if l.bar != nil {
		l.bar.Abort(false)
		l.progress.Wait()
		l.bar = nil
	}
}
