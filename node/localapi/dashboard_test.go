package localapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
)

type fakeRecords struct{}

func (fakeRecords) History(days int) HistoryView {
	return HistoryView{Days: make([]HistoryDay, days), Total: HistoryDay{Day: "2026-01-02", OthersTasks: 3}}
}
func (fakeRecords) Settings() SettingsView {
	return SettingsView{File: "/f", Settings: []Setting{{Key: "a.b", Value: 1.0, From: "flag", About: "it"}}}
}
func (fakeRecords) Change(values map[string]any) (SettingsView, error) {
	if len(values) == 0 {
		return SettingsView{}, job.Refuse("a.b", "it is wrong", "mend it")
	}
	return SettingsView{File: fmt.Sprint(values)}, nil
}
func (fakeRecords) Restart() error  { return nil }
func (fakeRecords) Lines() []string { return []string{"one", "two"} }

func TestRecords(t *testing.T) {
	dir, _, _ := door(t, newFake())
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v, err := c.History(t.Context(), 7); err != nil || len(v.Days) != 7 || v.Total.OthersTasks != 3 {
		t.Errorf("history: %+v %v", v, err)
	}
	if _, err := c.History(t.Context(), 401); err == nil {
		t.Error("401 days were given")
	}
	if v, err := c.Settings(t.Context()); err != nil || !reflect.DeepEqual(v, (fakeRecords{}).Settings()) {
		t.Errorf("settings: %+v %v", v, err)
	}
	if v, err := c.Lines(t.Context()); err != nil || strings.Join(v, " ") != "one two" {
		t.Errorf("log: %q %v", v, err)
	}
}

// A code of the daemon's opens the door once; nothing else does.
func TestLogin(t *testing.T) {
	dir, ep, _ := door(t, newFake())
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h, base := over(ep, "tcp")
	login := func(body string, change func(*http.Request)) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/login", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(req)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	draw := func() string {
		t.Helper()
		v, err := c.LoginCode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(loginBody{v.Code})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	refused := map[string]struct {
		body   string
		change func(*http.Request)
		want   int
	}{
		"no code":         {`{}`, nil, 401},
		"empty code":      {`{"code":""}`, nil, 401},
		"guessed":         {`{"code":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`, nil, 401},
		"the token":       {`{"code":"` + testToken + `"}`, nil, 401},
		"no JSON":         {`code`, nil, 400},
		"too large":       {`{"code":"` + strings.Repeat("x", MaxBodyBytes) + `"}`, nil, 413},
		"a foreign page":  {draw(), func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"a page by link":  {draw(), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"a foreign name":  {draw(), func(r *http.Request) { r.Host = "evil.example" }, 403},
		"in the URL":      {draw(), func(r *http.Request) { r.Method, r.URL.RawQuery = "GET", "token="+testToken }, 404},
		"page with token": {"", func(r *http.Request) { r.Method, r.URL.Path, r.URL.RawQuery = "GET", "/", "token="+testToken }, 400},
	}
	for name, r := range refused {
		code, body := login(r.body, r.change)
		if name == "in the URL" && code == 400 {
			continue // refused for the token, which is as good
		}
		if code != r.want || strings.Contains(body, testToken) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	body := draw()
	if code, got := login(body, func(r *http.Request) { r.Header.Set("Origin", base) }); code != 200 || !strings.Contains(got, testToken) {
		t.Errorf("right code: %d %s", code, got)
	}
	if code, got := login(body, nil); code != 401 || strings.Contains(got, testToken) {
		t.Errorf("the same again: %d %s", code, got)
	}
}

func TestLoginCodesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := logins{now: time.Now, codes: map[string]time.Time{}}
		early, late := l.draw(), l.draw()
		time.Sleep(codeValid - time.Second)
		if !l.take(early) || l.take(early) {
			t.Error("a code works once")
		}
		time.Sleep(2 * time.Second)
		if l.take(late) {
			t.Error("a code works for ever")
		}
		for range 3 {
			l.draw()
			time.Sleep(codeValid)
		}
		if len(l.codes) > 2 {
			t.Errorf("%d old codes are kept", len(l.codes))
		}
	})
}

// What the page loads is there, is its own, and runs under a policy that
// allows nothing else.
func TestPageIsWhole(t *testing.T) {
	_, ep, _ := door(t, newFake())
	h, base := over(ep, "tcp")
	var size int
	for path, want := range dashboard {
		resp, err := h.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		size += len(b)
		policy := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || len(b) == 0 || strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: %d, %d bytes, policy %q", path, resp.StatusCode, len(b), policy)
		}
		if kind := resp.Header.Get("Content-Type"); !strings.Contains(kind, "/") {
			t.Errorf("%s is of type %q", path, kind)
		}
		for _, bad := range []string{"https://", "innerHTML", "eval(", "onclick=\"", "<style", "style=\""} {
			if strings.Contains(string(want), bad) {
				t.Errorf("%s has %s in it", path, bad)
			}
		}
	}
	if size == 0 || size > 250<<10 {
		t.Errorf("the page is %d bytes", size)
	}
}
