// Package sense finds out what package idle decides on: who uses this machine,
// what runs on it, and how hot, charged and busy it is.
//
// A Source is one way to know something, in a file of its own. One that does
// not exist here, or fails, is a missing signal with a reason, never an error
// of the node. Nothing here reads which keys are pressed: only how long ago
// there was input, and never from /dev/input.
package sense

import (
	"context"
	"log/slog"
	"os"
	"os/user"
	"time"

	"idlewild/node/idle"
	"idlewild/render/gpu"
)

// Source is one way to know something.
type Source interface {
	// Sense returns what puts the finding into signals. It is applied again,
	// after the findings of the sources before, until the next call.
	Sense(ctx context.Context) (apply func(*idle.Signals), err error)
}

// Options of a Sensor. The zero value senses what this system offers.
type Options struct {
	Screen      bool     // full screen and inhibitors count
	Steam       bool     // programs in game libraries count
	GameFolders []string // more of them
	Programs    []string // names or patterns of further programs that count
	NotPrograms []string // and of some that do not
	Hook        string   // an executable that answers yes (exit 0) or no
	DiskDir     string   // whose free space counts
	GPUs        gpu.Prober
	GPUNames    []string                                            // what GPUs had to be there; one that is missing is lost
	GPUEnergy   func(watts float64, d time.Duration, device string) // hears what GPUs draw
	GPUTodayWh  func() *float64                                     // what they have used
	OursRuns    func(device string) bool                            // a task of ours is on it
	SystemBus   string                                              // address; empty: the system's
	SessionBus  string
	Display     string // X; empty: $DISPLAY
	Log         *slog.Logger
}

// timed is a source with how often it is asked.
type timed struct {
	name          string
	source        Source
	busy, resting time.Duration // while we work, and while we do not
	// last is when it was asked last, in this process's time.
	last  time.Time
	apply func(*idle.Signals)
	err   string
}

// Sensor asks every source of this system. One goroutine uses it.
type Sensor struct {
	opts    Options
	log     *slog.Logger
	sources []*timed
	woken   chan struct{}
	closers []func()
	slept   func() // tells that work was stopped before a suspend
}

// askFor bounds one question to one source.
const askFor = 2 * time.Second

// New returns a Sensor; Close it.
func New(o Options) *Sensor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sensor{opts: o, log: o.Log, woken: make(chan struct{}, 1), slept: func() {}}
	s.system() // sessions come first: others put their findings into them
	if o.GPUs != nil {
		s.add("gpu", 2*time.Second, 10*time.Second, &gpus{o: o, ours: ourTree})
	}
	if o.Hook != "" {
		h := &hook{path: o.Hook, wake: s.wake}
		s.add("hook", time.Second, time.Second, h)
		s.closers = append(s.closers, h.close)
	}
	if o.DiskDir != "" {
		s.add("disk", 10*time.Second, time.Minute, disk{o.DiskDir})
	}
	return s
}

func (s *Sensor) add(name string, busy, resting time.Duration, src Source) {
	s.sources = append(s.sources, &timed{name: name, source: src, busy: busy, resting: resting})
}

// Woken says that something changed that Sense should be asked about now.
func (s *Sensor) Woken() <-chan struct{} { return s.woken }

func (s *Sensor) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Sense asks the sources whose time has come. working is whether we work, and
// so have reason to look often.
func (s *Sensor) Sense(ctx context.Context, working bool) idle.Signals {
	var out idle.Signals
	now := time.Now()
	for _, t := range s.sources {
		every := t.resting
		if working {
			every = t.busy
		}
		// Looks come at beats, and a beat may be felt a little late: the next
		// one is not to be missed for that.
		if t.last.IsZero() || now.Sub(t.last) >= every-every/20 {
			t.last = now
			s.ask(ctx, t)
		}
		if t.apply != nil {
			t.apply(&out)
		}
		if t.err != "" {
			if out.Missing == nil {
				out.Missing = map[string]string{}
			}
			out.Missing[t.name] = t.err
		}
	}
	sinceStart(&out, Now().Mono)
	return out
}

// sinceStart keeps the last input from lying before the machine started, up
// ago: a terminal's file may be older, and an X server's count may begin
// anywhere.
func sinceStart(s *idle.Signals, up time.Duration) {
	for i := range s.Sessions {
		if x := &s.Sessions[i]; x.IdleSeconds != nil && up > 0 && *x.IdleSeconds > up.Seconds() {
			sec := up.Seconds()
			x.IdleSeconds, x.Untouched = &sec, true
		}
	}
}

// Hurry has every source asked the next time.
func (s *Sensor) Hurry() {
	for _, t := range s.sources {
		t.last = time.Time{}
	}
}

func (s *Sensor) ask(ctx context.Context, t *timed) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	apply, err := t.source.Sense(ctx)
	was := t.err
	t.apply, t.err = apply, ""
	if err != nil {
		t.err = err.Error()
	}
	if was != t.err {
		s.log.Debug("signal", "source", t.name, "missing", t.err)
	}
}

// Stopped tells that work was stopped for a suspend that Sense reported: the
// system need not wait any longer.
func (s *Sensor) Stopped() { s.slept() }

// Close gives up connections.
func (s *Sensor) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// userName is who runs this process.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// own is the session on the console of whoever runs this process. One is made
// where nothing lists sessions but a display was found.
func own(s *idle.Signals, user string) *idle.Session {
	best := -1
	for i, x := range s.Sessions {
		if x.User == user && x.Graphical && !x.Remote && (best < 0 || x.Active && !s.Sessions[best].Active) {
			best = i
		}
	}
	if best < 0 {
		s.Sessions = append(s.Sessions, idle.Session{User: user, Graphical: true, Active: true})
		best = len(s.Sessions) - 1
	}
	return &s.Sessions[best]
}

// setIdle notes the time since the last input of the owner's session. Several
// sources may tell: the shortest time counts, but a precise one beats the
// word of a session manager that no precise one contradicts.
func setIdle(s *idle.Signals, user, source string, d time.Duration) {
	x, sec := own(s, user), max(d, 0).Seconds()
	if x.IdleSeconds == nil || x.Source == "logind" || *x.IdleSeconds > sec {
		x.IdleSeconds, x.Source = &sec, source
	}
}
