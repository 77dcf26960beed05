package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// alone is what a benchmark that runs by itself found for the same figure.
type alone struct {
	value float64
	from  string // which one, and where that stands
	less  bool   // whether less is better
}

// eveningFigure is one of the evening, beside the same alone.
type eveningFigure struct {
	Figure
	phase string
	alone alone
	why   string // what being together with everything else does to it
}

// noted is what stands in bench/NOTES.md, or in the newest run of the benchmark
// where figures.json has one.
func (e *evening) noted(round, figure string, value float64, less bool) alone {
	for _, x := range e.runs {
		if x.Round != round {
			continue
		}
		if f, ok := figureOf(x, figure); ok {
			return alone{f.Value, "bench " + round + ", " + x.When.Format("2006-01-02"), less}
		}
	}
	return alone{value, "bench " + round + ", NOTES.md", less}
}

// add takes a figure of the phase that runs.
func (e *evening) add(f Figure, a alone, why string) {
	if a.from != "" {
		f = besides(f, Peer{a.from, a.value})
	}
	name := strings.TrimSpace(f.Name)
	f.Name = e.phase + ": " + name
	e.figures = append(e.figures, eveningFigure{Figure: f, phase: e.phase, alone: a, why: why})
	verdict := ""
	if f.Goal != "" {
		verdict = ", goal " + f.Goal
		if !f.Holds {
			verdict += ", MISSED"
		}
	}
	e.say("%s: %s %s%s", name, number(f.Value), f.Unit, verdict)
}

// worse is how many times as bad it is together as alone, where it is worse by
// more than two runs differ; 0: it is not.
func (f eveningFigure) worse() float64 {
	if f.alone.from == "" || f.alone.value == 0 && f.Value == 0 {
		return 0
	}
	was, is := f.alone.value, f.Value
	if !f.alone.less {
		was, is = is, was
	}
	if is <= was*(1+moved) {
		return 0
	}
	return is / was // of nothing: infinite
}

// table prints every figure beside what it is alone.
func (e *evening) table() {
	fmt.Fprintf(os.Stderr, "\nAn evening of %.0f s on %s, %d cores; load at the end %.1f.\n", time.Since(e.began).Seconds(), thisMachine().CPU, thisMachine().Cores, loadNow())
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tis\tgoal\talone\tby\tremark")
	for _, f := range e.figures {
		goal, by, single, remark := f.Goal, "", "", ""
		if goal != "" && !f.Holds {
			goal += " MISSED"
		}
		if f.alone.from != "" {
			single, by = number(f.alone.value)+" "+f.Unit, f.alone.from
		}
		if n := f.worse(); n > 0 {
			remark = "worse"
			if !math.IsInf(n, 0) {
				remark = fmt.Sprintf("%.1f x worse", n)
			}
			if f.why != "" {
				remark += ": " + f.why
			}
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, goal, single, by, remark)
	}
	w.Flush()
}
