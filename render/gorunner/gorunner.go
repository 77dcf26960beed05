// Package gorunner is the contract of a runner (requests on standard input,
// events on the stream that the environment names) for work that needs no
// program but this one: a session starts the running program again, which
// becomes the runner because its environment says so.
package gorunner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"idlewild/job"
	"idlewild/render"
)

// envRunner makes this program a runner instead of what it is otherwise.
const envRunner = "IDLEWILD_RUNNER"

// Request is one line of the standard input.
type Request struct {
	JSON []byte    // all of it
	Log  io.Writer // what people read of the attempt
	id   int64
	say  func(event) error
}

// Progress says how far the request is: fraction is from 0 to 1.
func (r Request) Progress(phase string, fraction float64) {
	r.say(event{Event: "progress", ID: r.id, Phase: phase, Fraction: fraction})
}

// MaxData bounds what Tell passes on at once: an event is a line of bounded
// length.
const MaxData = 48 << 10

// Tell passes on what is known of the outputs, as JSON, to whoever waits for it.
// What is longer than MaxData is not: it is in the outputs at the end.
func (r Request) Tell(data []byte, fraction float64) {
	if len(data) <= MaxData {
		r.say(event{Event: "progress", ID: r.id, Phase: "rendering", Fraction: fraction, Data: data})
	}
}

// Answer is how a request ended.
type Answer struct {
	Outcome job.Outcome // empty: succeeded
	Reason  string      // of anything else: one sentence for people
	Device  string      // that did the work
	Build   string      // of what did it: results compare only within one
}

// event is one line on the events stream.
type event struct {
	Event    string  `json:"event"`
	ID       int64   `json:"id,omitempty"`
	Phase    string  `json:"phase,omitempty"`
	Fraction float64 `json:"fraction,omitempty"`
	Outcome  string  `json:"outcome,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Device   string  `json:"device,omitempty"`
	Build    string  `json:"build,omitempty"`
	RenderS  float64 `json:"render_s,omitempty"`

	Data json.RawMessage `json:"data,omitempty"`
}

// Command starts the runner of that name. exe is the absolute path of a
// program whose main function calls Main first: this one, usually.
func Command(exe, name string) render.Command {
	return render.Command{
		Path:         exe,
		Env:          []string{envRunner + "=" + name},
		ReadOnly:     []string{exe},
		StartTimeout: 30 * time.Second,
	}
}

// Main never returns where the environment says that this process is the
// runner of that name; else it does nothing.
func Main(name string, answer func(Request) Answer) {
	if os.Getenv(envRunner) != name {
		return
	}
	fail := func(err error) {
		fmt.Fprintf(os.Stderr, "runner %s: %v\n", name, err)
		os.Exit(1)
	}
	events, err := os.OpenFile(os.Getenv("IDLEWILD_EVENTS"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		fail(err)
	}
	if err := serve(os.Stdin, events, os.Stderr, answer); err != nil {
		fail(err)
	}
	os.Exit(0)
}

// serve answers requests until in ends.
func serve(in io.Reader, events, log io.Writer, answer func(Request) Answer) error {
	say := func(e event) error {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = events.Write(append(b, '\n'))
		return err
	}
	if err := say(event{Event: "ready"}); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		r := Request{JSON: line, Log: log, say: say}
		var head struct {
			ID int64 `json:"id"`
		}
		if err := json.Unmarshal(line, &head); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		r.id = head.ID
		start := time.Now()
		a := answer(r)
		if a.Outcome == "" {
			a.Outcome = job.Succeeded
		}
		err = say(event{
			Event: "done", ID: r.id, Outcome: string(a.Outcome), Reason: a.Reason,
			Device: a.Device, Build: a.Build, RenderS: time.Since(start).Seconds(),
		})
		if err != nil {
			return err
		}
	}
}
