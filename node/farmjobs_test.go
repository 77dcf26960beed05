package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"idlewild/job"
	"idlewild/node/localapi"
)

// The farm's owner sees the jobs of all members, not what they are called, and
// cancels one in the browser; a member cannot.
func TestFarmJobs(t *testing.T) {
	x := startNode(t, "desk", func(c *Config) { c.Worker.Enabled = false })
	y := startNode(t, "tower", func(c *Config) { c.Worker.Enabled = false })
	join(t, x, y)
	input := filepath.Join(t.TempDir(), "secret-scene.txt")
	if err := os.WriteFile(input, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	submit := func(n *testNode, policy job.Policy) job.ID {
		id, err := n.client.Submit(t.Context(), job.Spec{
			Kind: "echo", Title: "secret-title", Input: input, Output: t.TempDir(), Params: []byte(`{"text":"x","count":4}`), Policy: policy,
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	due := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	mine := submit(x, job.Policy{Priority: 1})
	theirs := submit(y, job.Policy{
		Priority: 7, Only: []string{"desk"}, Not: []string{y.self.String(), "12D3KooWGksErQBxmxXtPPygEn9HZLkT3iJsGEUq2yCo1sHfbJvs"},
		Limits: job.Limits{MaxWorkers: 2, Budget: 7200, Deadline: due, Interactive: true},
	})
	var v localapi.FarmJobsView
	find := func(id job.ID) *localapi.FarmJob {
		for i := range v.Jobs {
			if v.Jobs[i].Job == id {
				return &v.Jobs[i]
			}
		}
		return nil
	}
	eventually(t, "the owner sees both", func() (err error) {
		if v, err = x.client.FarmJobs(t.Context()); err != nil {
			return err
		}
		if j := find(theirs); j == nil || j.State != job.StatePlanned || find(mine) == nil {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	if j := find(theirs); !v.Owner || j.Self || j.Name != "tower" || j.Priority != 7 || j.Tasks != 4 || !find(mine).Self {
		t.Errorf("%+v", v)
	}
	if j := find(theirs); j.MaxWorkers != 2 || j.BudgetSeconds != 7200 || !j.Deadline.Equal(due) || !j.Interactive ||
		!reflect.DeepEqual(j.Only, localapi.Pool{Count: 1, Names: []string{"desk"}}) || j.Not.Count != 2 || j.Not.Names[0] != "tower" {
		t.Errorf("limits: %+v", j)
	}
	if j := find(mine); j.MaxWorkers != 0 || j.BudgetSeconds != 0 || !j.Deadline.IsZero() || j.Interactive || j.Only.Count+j.Not.Count != 0 {
		t.Errorf("no limits: %+v", j)
	}
	if b, _ := json.Marshal(v); strings.Contains(string(b), "secret") {
		t.Errorf("names are told: %s", b)
	}
	v, err := y.client.FarmJobs(t.Context())
	if err != nil || v.Owner || find(mine) != nil || find(theirs) == nil {
		t.Errorf("a member sees %+v %v", v, err)
	}
	if _, err := y.client.CancelFarmJob(t.Context(), x.self.String(), mine); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "farm's owner") {
		t.Errorf("a member cancels the owner's job: %v", err)
	}
	if _, err := x.client.CancelFarmJob(t.Context(), y.self.String(), mine); !errors.Is(err, job.ErrRefused) {
		t.Errorf("a job that the member has not: %v", err)
	}
	cancelled := func() error {
		s, err := y.client.Job(t.Context(), theirs)
		if err == nil && s.State != job.StateCancelled {
			err = fmt.Errorf("it is %s", s.State)
		}
		return err
	}

	ctx := browser(t)
	code, err := x.client.LoginCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wide int
	if err := chromedp.Run(ctx,
		chromedp.Navigate("http://"+x.client.Endpoint().Address+"/#"+code.Code), chromedp.WaitVisible(".tiles"),
		chromedp.Evaluate(`location.hash = "farm"`, nil),
		chromedp.WaitVisible(`//td[contains(., "at most 2 machines") and contains(., "of 2 h 0 min of devices") and contains(., "only desk") and contains(., "not tower")]`),
		chromedp.EmulateViewport(390, 844), chromedp.Evaluate(`document.documentElement.scrollWidth`, &wide), chromedp.EmulateViewport(1200, 900),
		chromedp.Click(`button[aria-label="Cancel job `+string(theirs)+`"]`), chromedp.WaitVisible("dialog"),
		chromedp.Click(`//dialog//button[text()="Cancel it"]`),
	); err != nil {
		t.Fatal(err)
	}
	if wide > 390 {
		t.Errorf("on a phone of 390 pixels the page is %d wide", wide)
	}
	eventually(t, "the member's job is cancelled", cancelled)
	if s, err := x.client.Job(t.Context(), mine); err != nil || s.State.Ended() {
		t.Errorf("the owner's own job is %s %v", s.State, err)
	}
	y.end(t)
	eventually(t, "a member that is away is named", func() (err error) {
		if v, err = x.client.FarmJobs(t.Context()); err == nil && (len(v.Silent) != 1 || v.Silent[0].Name != "tower") {
			err = fmt.Errorf("%+v", v.Silent)
		}
		return err
	})
}
