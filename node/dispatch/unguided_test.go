package dispatch

import (
	"strings"
	"testing"
	"time"
)

// A claim that cannot be denoised again while another check of it runs for long:
// who looks after the checks finds those that are left.
func TestChecksThatAreLeftAreWatched(t *testing.T) {
	x := newTable(t)
	x.checks, x.denoised = true, true
	for _, line := range []string{
		"submit J frames=1 check", "open self home", "open a", "report self want=2 device=home", "report a want=1",
		"report a want=0 done=L1:0", "answer", "report self want=2 device=home",
		"report self want=2 device=home run=L2:0:0.1 done=L3:0:failed", "answer",
		"report self want=1 device=home run=L2:0:0.2 done=L4:0:failed", "answer",
		"report self want=1 device=home run=L2:0:0.3 done=L5:0:failed", "answer",
	} {
		x.play(strings.Fields(line))
	}
	j := x.b.byID[x.jobs["J"]]
	r := j.tasks[0].active
	if r == nil || len(r.checks) != 1 {
		t.Fatalf("one check was to be left, not %d:\n%s", len(r.checks), x.log.String())
	}
	for range 6 {
		x.pass(time.Minute)
		x.play(strings.Fields("report self want=1 device=home run=L2:0:0.5"))
	}
	if len(r.checks) != 1 {
		t.Errorf("%d checks are left", len(r.checks))
	}
}
