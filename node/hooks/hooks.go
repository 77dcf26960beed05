// Package hooks tells programs of a pipeline what happens: it runs an
// executable of the owner's, or posts to a web address, once for each event.
//
// What calls Put never waits. Events wait in a bounded queue for each of the
// two, are told in their order, one at a time, and again if that failed. The
// signature of what is posted follows the Standard Webhooks specification.
package hooks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names of events. A frame is any task that ends in a delivered file, a film
// too.
const (
	JobAccepted    = "job.accepted" // and the other states of a job: planned, paused, finished, failed, cancelled
	JobWarning     = "job.warning"
	FrameStarted   = "frame.started"
	FrameReturned  = "frame.returned"
	FrameChecked   = "frame.checked"
	FrameDelivered = "frame.delivered"
	FrameAgain     = "frame.again" // an attempt ended and the frame goes elsewhere
	FrameFailed    = "frame.failed"
	WorkStarted    = "work.started" // this machine works for another member
	WorkEnded      = "work.ended"
)

// Names are all events.
var Names = []string{
	JobAccepted, "job.planned", "job.paused", "job.finished", "job.failed", "job.cancelled", JobWarning,
	FrameStarted, FrameReturned, FrameChecked, FrameDelivered, FrameAgain, FrameFailed, WorkStarted, WorkEnded,
}

// Document is what is told of one event: on standard input of the executable,
// and as the body of what is posted.
type Document struct {
	Version int       `json:"version"` // of this form: 1
	ID      string    `json:"id"`      // of the event; the same when it is told again
	Event   string    `json:"event"`
	Time    time.Time `json:"time"`
	Lost    int       `json:"lost,omitempty"` // events since the daemon started for which there was no room
	Machine Machine   `json:"machine"`
	Job     Job       `json:"job,omitzero"`
	Frame   *Frame    `json:"frame,omitempty"`
	Work    *Work     `json:"work,omitempty"`
}

// Machine is where the event was seen.
type Machine struct {
	Peer string `json:"peer"`
	Name string `json:"name"`
}

// Job is the event's job, one of this machine's own. Nothing is told of the
// jobs of other members.
type Job struct {
	ID        string `json:"id"`
	Title     string `json:"title,omitempty"`
	Kind      string `json:"kind,omitempty"`
	State     string `json:"state,omitempty"`
	Reason    string `json:"reason,omitempty"`
	File      string `json:"file,omitempty"`   // absolute path
	Output    string `json:"output,omitempty"` // absolute path of the folder
	Frames    int    `json:"frames,omitempty"` // how many there are; as the next two with events of the job
	Delivered int    `json:"delivered,omitempty"`
	Failed    int    `json:"failed,omitempty"`
}

// Frame is the frame that the event is about.
type Frame struct {
	Label   string   `json:"label"`            // its number, as a rule
	Worker  string   `json:"worker,omitempty"` // peer id
	Files   []string `json:"files,omitempty"`  // that were delivered, at most MaxFiles
	Verdict string   `json:"verdict,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// Work is what this machine does for another member.
type Work struct {
	Requester string  `json:"requester"` // peer id
	Device    string  `json:"device"`
	Outcome   string  `json:"outcome,omitempty"` // of work that ended: succeeded, failed, broken or cancelled
	Seconds   float64 `json:"render_s,omitempty"`
}

// Bounds.
const (
	MaxFiles   = 256
	maxText    = 4 << 10 // of a reason
	maxPending = 1024    // events that wait, for each of the two
)

// Options say who is told of what.
type Options struct {
	Program string        // absolute path of an executable; empty: none
	URL     string        // that is posted to; empty: none
	Secret  string        // signs what is posted; empty: nothing does
	Events  []string      // names or patterns of them (path.Match)
	Timeout time.Duration // of one attempt
	Tries   int           // attempts for one event
	Dir     string        // where what was not told yet is kept between two starts; empty: nowhere
	Log     *slog.Logger  // nil: silent
}

// Validate says what is wrong with the options, or nil; key is the name of the
// setting that is.
func (o Options) Validate() (key string, err error) {
	if o.Program != "" && !filepath.IsAbs(o.Program) {
		return "program", fmt.Errorf("%q is not an absolute path", o.Program)
	}
	if err := checkURL(o.URL); err != nil {
		return "url", err
	}
	if _, err := secretBytes(o.Secret); err != nil {
		return "secret", err
	}
	for _, p := range o.Events {
		if !slices.ContainsFunc(Names, func(n string) bool { ok, err := path.Match(p, n); return ok && err == nil }) {
			return "events", fmt.Errorf("%q matches no event; there are %v, and patterns such as job.*", p, Names)
		}
	}
	if o.Timeout < time.Second || o.Timeout > 10*time.Minute {
		return "timeout_s", fmt.Errorf("it must lie between 1 and 600, and is %v", o.Timeout.Seconds())
	}
	if o.Tries < 1 || o.Tries > 20 {
		return "tries", fmt.Errorf("it must lie between 1 and 20, and is %d", o.Tries)
	}
	return "", nil
}

// message is an event on its way.
type message struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Job   string          `json:"job"`
	Frame string          `json:"frame,omitempty"`
	Body  json.RawMessage `json:"body"`
}

// Hooks tells of events. A nil *Hooks tells nobody.
type Hooks struct {
	o     Options
	lines []*line
}

// New returns the hooks that o asks for, nil where it asks for none.
func New(o Options) (*Hooks, error) {
	if key, err := o.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hooks{o: o}
	if o.Program != "" {
		h.lines = append(h.lines, newLine("program", o, program{o.Program, o.Timeout}))
	}
	if o.URL != "" {
		key, _ := secretBytes(o.Secret) // Validate has seen it
		h.lines = append(h.lines, newLine("webhook", o, newWebhook(o.URL, key, o.Timeout, http.DefaultTransport)))
	}
	if len(h.lines) == 0 {
		return nil, nil
	}
	return h, nil
}

// Wants reports whether anybody is told of such events.
func (h *Hooks) Wants(event string) bool {
	return h != nil && slices.ContainsFunc(h.o.Events, func(p string) bool { ok, err := path.Match(p, event); return ok && err == nil })
}

// Put has everybody told of an event, later. Version and ID are filled in, and
// what is too long is cut.
func (h *Hooks) Put(d Document) {
	if !h.Wants(d.Event) {
		return
	}
	d.Version, d.ID = 1, "evt_"+rand.Text()
	d.Job.Reason = cut(d.Job.Reason)
	if d.Frame != nil {
		f := *d.Frame
		f.Reason, f.Files = cut(f.Reason), f.Files[:min(len(f.Files), MaxFiles)]
		d.Frame = &f
	}
	for _, l := range h.lines {
		l.put(d)
	}
}

func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// Run tells until ctx ends. What is not told by then is kept for the next
// start, where there is a folder for it.
func (h *Hooks) Run(ctx context.Context) error {
	if h == nil {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	for _, l := range h.lines {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
	return nil
}
