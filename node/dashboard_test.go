package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"idlewild/job"
)

// browser starts a real Chromium that reaches nothing but this machine.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("NOT RUN: the dashboard in a browser: Chromium is not installed")
	}
	profile, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	// Its helpers write for a moment after it has ended.
	t.Cleanup(func() { eventually(t, "its profile is removed", func() error { return os.RemoveAll(profile) }) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(profile),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page threw: %v", e.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError {
				t.Errorf("the page complains: %s", e.Args[0].Value)
			}
		}
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// An owner looks at a machine of a farm of two, pauses it, and follows a job
// whose name is an attack.
func TestDashboard(t *testing.T) {
	ctx := browser(t)
	x := startNode(t, "desk", nil)
	y := startNode(t, "tower <b>", nil)
	join(t, x, y)
	run := func(what string, a ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(ctx, a...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	shows := func(texts ...string) {
		t.Helper()
		eventually(t, "the page shows it", func() error {
			var all string
			if err := chromedp.Run(ctx, chromedp.Evaluate("document.body.innerText", &all)); err != nil {
				return err
			}
			for _, s := range texts {
				if !strings.Contains(all, s) {
					return fmt.Errorf("no %q in %q", s, all)
				}
			}
			return nil
		})
	}
	base := "http://" + x.client.Endpoint().Address + "/"
	run("open it without a token", chromedp.Navigate(base), chromedp.WaitVisible("#token"))
	run("a wrong token", chromedp.SendKeys("#token", "wrong"), chromedp.Click(".login button"))
	shows("That is not the token.")
	code, err := x.client.LoginCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	link := base + "#" + code.Code
	run("open the link", chromedp.Navigate("about:blank"), chromedp.Navigate(link), chromedp.WaitVisible(".tiles"))
	var address string
	run("read the address", chromedp.Location(&address))
	if strings.Contains(address, code.Code) {
		t.Errorf("the code stays in the address: %s", address)
	}
	shows("desk", "works for others", "Sandbox")

	run("pause", chromedp.Click(`//button[text()="Pause"]`))
	shows("Paused:")
	if v, err := x.client.Status(t.Context()); err != nil || v.Machine.Paused == "" {
		t.Errorf("the daemon is not paused: %v", err)
	}
	run("resume", chromedp.Click(`//button[text()="Resume"]`), chromedp.WaitVisible(`//button[text()="Pause"]`))

	dir := filepath.Join(t.TempDir(), `<img src=x onerror=alert(1)>`)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, `<img src=x onerror=boom()>.txt`)
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := x.client.Submit(t.Context(), job.Spec{Kind: "echo", Title: `<script>boom()</script>`, Input: file, Output: t.TempDir(), Params: []byte(`{"text":"x","count":4}`)})
	if err != nil {
		t.Fatal(err)
	}
	x.finish(t, id)
	run("look at jobs", chromedp.Evaluate(`location.hash = "jobs"`, nil))
	shows("<script>boom()</script>", "finished", "4 of 4")
	run("look at the job", chromedp.Evaluate(`location.hash = "jobs/`+string(id)+`"`, nil))
	shows("4 of 4 delivered", "<img src=x onerror=boom()>.txt", "Who works")
	var made int
	run("count what a name made", chromedp.Evaluate(`document.querySelectorAll("main script, main img[onerror]").length`, &made))
	if made != 0 {
		t.Error("a job's name became part of the page")
	}
	run("look at the swarm", chromedp.Evaluate(`location.hash = "swarm"`, nil))
	shows("tower <b>", "same machine", "Take out")
	run("invite", chromedp.Click(`//button[text()="Invite a machine"]`))
	shows("idlewild farm join ")
	run("look at the history", chromedp.Evaluate(`location.hash = "history"`, nil))
	shows("4 frames delivered")
	run("look at the settings", chromedp.Evaluate(`location.hash = "settings"`, nil))
	shows("worker.threads", about["worker.threads"])
	run("look at the log", chromedp.Evaluate(`location.hash = "logs"`, nil))
	shows("msg=starting")

	// The link is worth nothing a second time, in another browser's eyes.
	run("forget", chromedp.Evaluate(`sessionStorage.clear()`, nil), chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	shows("used already")
	run("paste the token", chromedp.SendKeys("#token", x.client.Endpoint().Token), chromedp.Click(".login button"), chromedp.WaitVisible(".tiles"))

	x.end(t)
	shows("The daemon does not answer.")
}
