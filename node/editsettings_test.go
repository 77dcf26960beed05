package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"idlewild/job"
	"idlewild/node/localapi"
)

func setting(t *testing.T, v localapi.SettingsView, key string) localapi.Setting {
	t.Helper()
	for _, s := range v.Settings {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("no %s", key)
	return localapi.Setting{}
}

func TestSettingsAreChanged(t *testing.T) {
	x := startNode(t, "desk", func(c *Config) {
		c.Name = "desk"
		c.from = map[string]string{"worker.threads": "flag", "store.quota_bytes": "environment IDLEWILD_STORE_QUOTA_BYTES"}
		c.Hooks.Secret = "a secret of sixteen"
	})
	file := filepath.Join(x.cfg.DataDir, configFile)
	if err := os.WriteFile(file, []byte("# mine\n[worker]\ntree_bytes = 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := x.client.Change(t.Context(), map[string]any{
		"idle.after_s": 77.0, "idle.hours": []any{"mon-fri 22:00-07:00"}, "worker.never_from": "mallory, eve", "network.mdns": true, "log.level": "debug",
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := setting(t, v, "idle.after_s"); s.Value != 77.0 || !strings.HasPrefix(s.From, "file ") || s.Pending != nil {
		t.Errorf("a live setting: %+v", s)
	}
	if s := setting(t, v, "log.level"); s.Value != "info" || s.Pending != "debug" || !v.Pending {
		t.Errorf("one that waits for a start: %+v", s)
	}
	x.owner.mu.Lock()
	after := x.owner.policy.After
	x.owner.mu.Unlock()
	if got := after.Seconds(); got != 77 {
		t.Errorf("the policy waits %v s", got)
	}
	if err := x.accept(x.self); err != nil {
		t.Error(err)
	}
	if got := x.settings().Worker.NeverFrom; fmt.Sprint(got) != "[mallory eve]" {
		t.Error(got)
	}
	if b, _ := os.ReadFile(file + ".before"); !strings.HasPrefix(string(b), "# mine") {
		t.Errorf("the file before: %q", b)
	}
	// It is what a start reads.
	c, _, err := LoadConfig("", map[string]string{"data_dir": x.cfg.DataDir})
	if err != nil || c.Idle.AfterSeconds != 77 || c.Worker.TreeBytes != 1000 || c.Log.Level != "debug" {
		t.Errorf("a start reads %+v %v", c.Idle, err)
	}
	// Back to the default.
	v, err = x.client.Change(t.Context(), map[string]any{"log.level": nil, "idle.after_s": nil})
	if s := setting(t, v, "idle.after_s"); err != nil || s.Value != 300.0 || s.From != "default" {
		t.Errorf("%+v %v", s, err)
	}

	before, _ := os.ReadFile(file)
	for name, x2 := range map[string]struct {
		values map[string]any
		want   []string // in the refusal: the key, what is wrong, what helps
	}{
		"nothing":          {map[string]any{}, []string{"nothing is to be changed"}},
		"unknown":          {map[string]any{"idle.afters": 1.0}, []string{"idle.afters", "no such setting", "idlewild config show"}},
		"no number":        {map[string]any{"idle.after_s": "soon"}, []string{"idle.after_s", "not a number", "Seconds without input"}},
		"no list":          {map[string]any{"idle.hours": []any{1.0}}, []string{"idle.hours", "not a list of texts"}},
		"an object":        {map[string]any{"idle.after_s": map[string]any{}}, []string{"idle.after_s", "not a number"}},
		"half a thread":    {map[string]any{"worker.home_threads": 0.5}, []string{"worker.home_threads", "whole number"}},
		"out of range":     {map[string]any{"idle.gpu_load": 7.0}, []string{"idle.gpu_load", "must lie between 0 and 1"}},
		"no choice":        {map[string]any{"idle.on_return": "later"}, []string{"idle.on_return", "it may be stop, leave or share"}},
		"no hours":         {map[string]any{"idle.hours": []any{"someday"}}, []string{"idle.hours"}},
		"one of two":       {map[string]any{"idle.after_s": 5.0, "check.rate": 2.0}, []string{"check.rate"}},
		"a program":        {map[string]any{"idle.hook": "/bin/sh"}, []string{"idle.hook", "names a program", "in the file"}},
		"no sandbox":       {map[string]any{"sandbox.mode": "off"}, []string{"sandbox.mode", "in the file"}},
		"of a flag":        {map[string]any{"worker.threads": 1.0}, []string{"worker.threads", "a flag of idlewild up"}},
		"of a variable":    {map[string]any{"store.quota_bytes": 1.0}, []string{"store.quota_bytes", "IDLEWILD_STORE_QUOTA_BYTES"}},
		"plain to outside": {map[string]any{"hooks.url": "http://example.com"}, []string{"hooks.url", "use https"}},
		"the hidden value": {map[string]any{"hooks.secret": hiddenValue}, []string{"hooks.secret", "not shown"}},
	} {
		_, err := x.client.Change(t.Context(), x2.values)
		if !errors.Is(err, job.ErrRefused) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range x2.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: no %q in %v", name, w, err)
			}
		}
		if after, _ := os.ReadFile(file); string(after) != string(before) {
			t.Fatalf("%s: it was written: %s", name, after)
		}
	}
	if v, err := x.client.Settings(t.Context()); err != nil || setting(t, v, "hooks.secret").Value != hiddenValue {
		t.Errorf("a secret is shown: %v", err)
	}
}

// What is edited on disk is taken up, or said not to count.
func TestSettingsEditedOnDisk(t *testing.T) {
	x := startNode(t, "desk", nil)
	file := filepath.Join(x.cfg.DataDir, configFile)
	put := func(text string) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := x.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(v.Machine.Warnings, "\n")
	}
	if w := put("[idle]\nsettle_s = 7\n"); strings.Contains(w, configFile) || x.settings().Idle.SettleSeconds != 7 {
		t.Errorf("not taken up: %q", w)
	}
	if w := put("[idle]\nsettle_s = 8\n[worker]\nthreads = 3\n"); !strings.Contains(w, "worker.threads") || strings.Contains(w, "settle") {
		t.Errorf("not said: %q", w)
	}
	w := put("[idle]\nsettle_s = 9\nnonsense = 1\n")
	if !strings.Contains(w, "line 3") || !strings.Contains(w, "nonsense") || x.settings().Idle.SettleSeconds != 8 {
		t.Errorf("a broken file: %q", w)
	}
	if _, err := x.client.Change(t.Context(), map[string]any{"idle.settle_s": 1.0}); err == nil || !strings.Contains(err.Error(), "mend it by hand") {
		t.Errorf("a change of a broken file: %v", err)
	}
	if err := x.client.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "would not start") {
		t.Errorf("a start with a broken file: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if v, err := x.client.Status(t.Context()); err != nil || strings.Contains(strings.Join(v.Machine.Warnings, "\n"), configFile) || x.settings().Idle.SettleSeconds != 60 {
		t.Errorf("without a file: %v %v", v.Machine.Warnings, err)
	}
	if err := x.client.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-x.done; !errors.Is(err, ErrRestart) {
		t.Errorf("it ended with %v", err)
	}
	x.done <- nil
}

// Foreign pages and whoever has no token change nothing.
func TestSettingsAreChangedByTheOwnerAlone(t *testing.T) {
	x := startNode(t, "desk", nil)
	base := "http://" + x.client.Endpoint().Address
	for name, change := range map[string]func(*http.Request){
		"no token":     func(r *http.Request) { r.Header.Del("Authorization") },
		"wrong token":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
		"foreign page": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"rebinding":    func(r *http.Request) { r.Host = "evil.example" },
	} {
		for method, path := range map[string]string{"PATCH": "/v1/settings", "POST": "/v1/machine/restart"} {
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(`{"values":{"idle.after_s":5}}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+x.client.Endpoint().Token)
			req.Header.Set("Content-Type", "application/json")
			change(req)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 401 && resp.StatusCode != 403 {
				t.Errorf("%s %s: %s", name, path, resp.Status)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(x.cfg.DataDir, configFile)); err == nil {
		t.Error("settings were written")
	}
}

// The owner changes a setting in a browser, is told what is wrong with it, and
// mends it.
func TestSettingsInABrowser(t *testing.T) {
	ctx := browser(t)
	x := startNode(t, "desk", nil)
	code, err := x.client.LoginCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func(what string, a ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(ctx, a...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	shows := func(text string) {
		t.Helper()
		eventually(t, "the page shows "+text, func() error {
			var all string
			if err := chromedp.Run(ctx, chromedp.Evaluate("document.body.innerText", &all)); err != nil {
				return err
			}
			if !strings.Contains(all, text) {
				return fmt.Errorf("no %q in %q", text, all)
			}
			return nil
		})
	}
	run("open it", chromedp.Navigate("http://"+x.client.Endpoint().Address+"/#"+code.Code), chromedp.WaitVisible(".tiles"), chromedp.Evaluate(`location.hash = "settings"`, nil))
	shows("it names a program that is run: change it in the file")
	open := func(key string) {
		run("change "+key, chromedp.Click(`button[aria-label="Change `+key+`"]`), chromedp.WaitVisible("#edit-value"))
	}
	save := chromedp.Click(`//dialog//button[text()="Save"]`)
	put := func(text string) chromedp.Action {
		return chromedp.ActionFunc(func(ctx context.Context) error {
			return chromedp.Run(ctx, chromedp.Evaluate(fmt.Sprintf(`document.getElementById("edit-value").value = %q`, text), nil))
		})
	}
	open("idle.gpu_load")
	run("a value that does not fit", put("7"), save)
	shows("idle.gpu_load: 7: it must lie between 0 and 1")
	run("one that does", put("0.5"), save, chromedp.WaitNotPresent("dialog"))
	if got := x.settings().Idle.GPULoad; got != 0.5 {
		t.Errorf("gpu_load is %v", got)
	}
	open("idle.hours")
	run("a list", put("mon-fri 22:00-07:00\nsat 00:00-24:00"), save, chromedp.WaitNotPresent("dialog"))
	if got := x.settings().Idle.Hours; len(got) != 2 {
		t.Errorf("hours are %q", got)
	}
	open("idle.on_battery")
	run("a switch", chromedp.Click("#edit-value"), save, chromedp.WaitNotPresent("dialog"))
	open("log.level")
	run("a choice", put("debug"), save, chromedp.WaitNotPresent("dialog"))
	shows("Some changes count only once the daemon is started again.")
	if c, _, err := LoadConfig("", map[string]string{"data_dir": x.cfg.DataDir}); err != nil || !c.Idle.OnBattery || c.Log.Level != "debug" {
		t.Errorf("a start reads %+v %v", c.Idle, err)
	}
	if file := os.Getenv("IDLEWILD_TEST_SCREENSHOT"); file != "" { // for whoever wants to look
		var b []byte
		open("idle.after_s")
		run("look", chromedp.FullScreenshot(&b, 90))
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Error(err)
		}
	}
}
