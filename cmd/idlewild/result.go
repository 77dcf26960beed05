package main

import (
	"fmt"
	"strings"

	"idlewild/job"
)

// printResult tells people how a job ended.
func (p *program) printResult(s job.Status) {
	if p.json {
		return
	}
	p.say("%s", resultText(s))
	if len(s.Workers) > 0 {
		p.say("")
		p.table(p.workerRows(s)...)
	}
}

func resultText(s job.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d delivered", s.State, s.Delivered+s.Skipped, s.Tasks)
	if s.Output != "" {
		fmt.Fprintf(&b, " in %s", clean(s.Output))
	}
	if s.ReusedFrom != "" {
		b.WriteString("\n" + reuseText(s))
	}
	fmt.Fprintf(&b, "\ntook %s, rendering %s", secondsText(s.WallSeconds), secondsText(s.RenderSeconds))
	if s.RenderSeconds > 0 {
		fmt.Fprintf(&b, ", efficiency %.2f", s.Efficiency)
	}
	fmt.Fprintf(&b, "\ncontent %s (new %s), sent %s, results %s", bytesText(s.ContentBytes), bytesText(s.NewBytes), bytesText(s.UploadedBytes), bytesText(s.ResultBytes))
	b.WriteString("\n" + verdictText(s))
	if s.FailedN > 0 {
		fmt.Fprintf(&b, "\nfailed %d:", s.FailedN)
		n := 0
		for _, f := range s.Frames {
			if f.State != "failed" {
				continue
			}
			if n++; n > 5 {
				fmt.Fprintf(&b, "\n  ... see: idlewild status %s", s.Job)
				break
			}
			fmt.Fprintf(&b, "\n  %s: %s", clean(f.Label), oneLine(f.Reason))
		}
	}
	return b.String()
}

// verdictText says what became of the results, and how many of them were looked
// at a second time: the others were accepted or are unsure unseen.
func verdictText(s job.Status) string {
	checked := "none of them checked"
	switch {
	case s.Accepted+s.Rejected+s.Unsure == 0:
		return "results: none"
	case s.Rechecked > 0:
		checked = fmt.Sprintf("%d of them checked", s.Rechecked)
	}
	return fmt.Sprintf("results: %d accepted, %d rejected, %d unsure; %s", s.Accepted, s.Rejected, s.Unsure, checked)
}

// reuseText says what was taken over from an earlier job.
func reuseText(s job.Status) string {
	t := fmt.Sprintf("%d of %d reused from job %s, %d rendered", s.Reused, s.Tasks, s.ReusedFrom, s.Tasks-s.Skipped)
	if s.ReuseChecked > 0 {
		t += fmt.Sprintf(", of them %d to compare: they are the same", s.ReuseChecked)
	}
	return t
}

func (p *program) workerRows(s job.Status) [][]string {
	rows := [][]string{{"WORKER", "DEVICE", "TASKS", "REJECTED", "RENDERING", "JOINED", "RESTING"}}
	for _, w := range s.Workers {
		rows = append(rows, []string{
			p.who(w.Peer), w.Device, fmt.Sprint(w.Tasks), fmt.Sprint(w.Rejected),
			secondsText(w.RenderSeconds), secondsText(w.JoinedSeconds), w.Resting,
		})
	}
	return rows
}

func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }
