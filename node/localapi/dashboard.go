package localapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Records is what this machine remembers and how it is set.
type Records interface {
	// History is what it did, by day, newest first; days bounds how many.
	History(days int) HistoryView
	// Settings are all settings, in the order of their keys.
	Settings() SettingsView
	// Change puts values into the file that settings come from, by dotted key;
	// nil takes one out of it, so that its default counts. All fit or none is
	// written.
	Change(values map[string]any) (SettingsView, error)
	// Restart ends the daemon and starts it again, with all settings.
	Restart() error
	// Lines are the newest lines of the daemon's log, oldest first.
	Lines() []string
}

// HistoryView is what this machine did and what it got.
type HistoryView struct {
	Days  []HistoryDay `json:"days"`
	Total HistoryDay   `json:"total"` // of all days that are remembered; Day is the first of them
}

// HistoryDay is one day of this machine, in its time zone.
type HistoryDay struct {
	Day           string  `json:"day"`            // 2026-11-25
	OthersTasks   int     `json:"others_tasks"`   // done for other members
	OthersFailed  int     `json:"others_failed"`  // begun for them, and not done
	OthersSeconds float64 `json:"others_s"`       // of device time, of those that were done
	GPUWattHours  float64 `json:"gpu_wh"`         // that GPUs drew meanwhile; what the rest of the machine draws is not known
	OwnDelivered  int     `json:"own_delivered"`  // tasks of this machine's jobs whose files were delivered
	OwnHere       int     `json:"own_here_tasks"` // tasks of its own jobs that this machine did itself
	OwnSeconds    float64 `json:"own_here_s"`     // of device time, of those
}

// SettingsView is every setting, and where it can be changed.
type SettingsView struct {
	File     string    `json:"file"`             // that they are read from
	Broken   string    `json:"broken,omitempty"` // why the file cannot be read now; what counts is what it said before
	Pending  bool      `json:"pending"`          // something in it counts only once the daemon is started again
	Settings []Setting `json:"settings"`
}

// Setting is one of them.
type Setting struct {
	Key   string `json:"key"` // dotted, as in the file
	Value any    `json:"value"`
	From  string `json:"from"`  // "default", "file PATH", "environment NAME" or "flag"
	About string `json:"about"` // what it is for, in a sentence

	Type    string   `json:"type" enum:"text,switch,whole,number,list"`
	Choices []string `json:"choices,omitempty"` // values that it may have, or a list may hold
	Default any      `json:"default"`
	Live    bool     `json:"live"`              // a change counts at once
	Fixed   string   `json:"fixed,omitempty"`   // why it cannot be changed here
	Pending any      `json:"pending,omitempty"` // what counts once the daemon is started again
	Secret  bool     `json:"secret,omitempty"`  // the value is not shown
}

// ChangeBody is what a change of settings asks for.
type ChangeBody struct {
	Values map[string]any `json:"values" doc:"By dotted key; null takes a setting out of the file, so that its default counts"`
}

// Restarting says that the daemon is about to be started again.
type Restarting struct {
	Restarting bool `json:"restarting"`
}

// LoginCode opens the dashboard in a browser, once.
type LoginCode struct {
	Code         string  `json:"code"`
	ValidSeconds float64 `json:"valid_s"`
}

// LogText is the newest lines of the daemon's log.
type LogText struct {
	Lines []string `json:"lines"`
}

type (
	loginBody struct {
		Code string `json:"code"`
	}
	loginAnswer struct {
		Token string `json:"token"`
	}
)

// codeValid is how long a login code can be used: a browser starts meanwhile.
const codeValid = time.Minute

// logins are codes that were given out and not used. A browser cannot read
// the file that the token is in, a URL is no place for the token, and a code
// that works once is worth nothing in a history.
type logins struct {
	now func() time.Time

	mu    sync.Mutex
	codes map[string]time.Time // until when
}

// draw makes a code. Old ones are forgotten.
func (l *logins) draw() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for c, until := range l.codes {
		if now.After(until) {
			delete(l.codes, c)
		}
	}
	c := rand.Text()
	l.codes[c] = now.Add(codeValid)
	return c
}

// take reports whether a code may come in, and makes it worthless.
func (l *logins) take(code string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.codes[code]
	delete(l.codes, code)
	return ok && l.now().Before(until)
}

//go:embed dashboard
var dashboardFiles embed.FS

// dashboard are the files of the page, by path.
var dashboard = func() map[string][]byte {
	m := make(map[string][]byte)
	err := fs.WalkDir(dashboardFiles, "dashboard", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := dashboardFiles.ReadFile(p)
		m[p[len("dashboard"):]] = b
		return err
	})
	if err != nil {
		panic(err) // it is in the program
	}
	m["/"] = m["/index.html"]
	delete(m, "/index.html")
	return m
}()

// kinds are the media types of the page's files, the same on every system.
var kinds = map[string]string{
	"":     "text/html; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml",
}

// dashboardPolicy lets the page run its own scripts and show pictures that it
// fetched itself, and nothing else: no inline script, no other host.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// public answers what needs no token, and reports whether it did: the page and
// the add-on, which hold nothing of this machine, and the exchange of a login
// code.
func (h *Handler) public(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPost && r.URL.Path == "/login" {
		h.login(w, r)
		return true
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.RawQuery != "" {
		return false
	}
	if h.AddOn.File != "" && r.URL.Path == "/"+h.AddOn.File {
		w.Header().Set("Content-Type", "application/zip")
		_, _ = w.Write(h.AddOn.Zip) // the caller may be gone
		return true
	}
	b, ok := dashboard[r.URL.Path]
	if !ok {
		return false
	}
	kind := kinds[path.Ext(r.URL.Path)]
	if r.URL.Path == "/" {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("VERSION"), []byte(h.Version)), []byte("ADDON"), []byte(h.AddOn.File))
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Security-Policy", dashboardPolicy)
	w.Header().Set("Referrer-Policy", "same-origin")
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	_, _ = w.Write(b) // the caller may be gone
	return true
}

// login gives the token for a code.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	if why := foreign(r); why != "" {
		writeError(w, newError(http.StatusForbidden, why))
		return
	}
	if err := readBody(w, r); err != nil {
		writeError(w, err)
		return
	}
	var body loginBody
	if err := strictDecode(r.Body, &body); err != nil {
		writeError(w, newError(http.StatusBadRequest, "the body is not a login code"))
		return
	}
	if !h.logins.take(body.Code) {
		writeError(w, newError(http.StatusUnauthorized, "this link was used already or is too old; open a new one with: idlewild dashboard"))
		return
	}
	b, err := json.Marshal(loginAnswer{h.Token})
	if err != nil {
		writeError(w, newError(http.StatusInternalServerError, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the caller may be gone
}

func (h *Handler) dashboardRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	huma.Register(h.api, op("login-code", "POST", "/v1/login/codes", "A code that opens the dashboard in a browser, once and within a minute", 201),
		func(context.Context, *struct{}) (*out[LoginCode], error) {
			return &out[LoginCode]{LoginCode{Code: h.logins.draw(), ValidSeconds: codeValid.Seconds()}}, nil
		})
	huma.Register(h.api, op("history", "GET", "/v1/history", "What this machine did for others and for itself, by day, newest first", 200),
		func(_ context.Context, r *struct {
			Days int `query:"days" default:"31" minimum:"1" maximum:"400" doc:"How many days at most"`
		}) (*out[HistoryView], error) {
			return &out[HistoryView]{h.Records.History(r.Days)}, nil
		})
	huma.Register(h.api, op("settings", "GET", "/v1/settings", "Every setting, where its value comes from, and what it is for", 200),
		func(context.Context, *struct{}) (*out[SettingsView], error) {
			return &out[SettingsView]{h.Records.Settings()}, nil
		})
	huma.Register(h.api, op("change-settings", "PATCH", "/v1/settings", "Put settings into the file; all fit or none is written", 200),
		func(_ context.Context, r *in[ChangeBody]) (*out[SettingsView], error) {
			v, err := h.Records.Change(r.Body.Values)
			if err != nil {
				return nil, answer(err)
			}
			return &out[SettingsView]{v}, nil
		})
	huma.Register(h.api, op("restart", "POST", "/v1/machine/restart", "End the daemon and start it again; work for others is given back", 202),
		func(context.Context, *struct{}) (*out[Restarting], error) {
			if err := h.Records.Restart(); err != nil {
				return nil, answer(err)
			}
			return &out[Restarting]{Restarting{true}}, nil
		})
	huma.Register(h.api, op("machine-log", "GET", "/v1/machine/log", "The newest lines of the daemon's log", 200),
		func(context.Context, *struct{}) (*out[LogText], error) {
			return &out[LogText]{LogText{h.Records.Lines()}}, nil
		})
}
