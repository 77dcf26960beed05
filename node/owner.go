package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"idlewild/internal/beat"
	"idlewild/job"
	"idlewild/node/idle"
	"idlewild/node/idle/sense"
	"idlewild/node/worker"
	"idlewild/render"
)

// owner keeps the machine its owner's: it senses, decides, and has the worker
// and the warm processes follow.
type owner struct {
	// constant after construction
	dir     string
	log     *slog.Logger
	devices []string
	sensor  *sense.Sensor // nil: the policy is off
	turns   *turns
	work    *yielding
	energy  *energy
	power   *powerCap // nil: not wanted
	now     func() idle.Instant
	look    chan struct{} // holds one: sense now
	metered func(bool)    // is told what the system says; nil: it is not asked
	reread  func()        // takes up changed settings

	// turn is held from a decision until it is applied, so that decisions are
	// applied in their order.
	turn sync.Mutex

	mu        sync.Mutex
	policy    idle.Policy
	leaving   string // why tasks end and none begin, whatever is sensed
	looked    bool   // something was sensed
	signals   idle.Signals
	state     idle.State
	pause     *idle.Pause
	decisions map[string]idle.Decision
	// crowds are told when the owner's programs begin to keep the processor
	// busy, and when they no longer do; with what each was told last.
	crowds map[crowder]bool
}

// crowder makes way for the owner's programs, or needs no longer. It is the
// dispatcher of a farm's jobs.
type crowder interface{ Crowded(bool) }

// newOwner makes the part of a node that keeps the machine its owner's. It
// rests until it has looked around.
func (n *Node) newOwner() (*owner, error) {
	policy, err := n.cfg.policy()
	if err != nil {
		return nil, err
	}
	policy.DeviceBytes = n.kit.memory
	o := &owner{
		dir: n.cfg.DataDir, log: n.log.With("part", "idle"), policy: policy,
		turns: n.turns, work: n.kit.yielding, now: sense.Now, look: make(chan struct{}, 1), reread: n.reread,
		energy: loadEnergy(n.cfg.DataDir, time.Now), crowds: map[crowder]bool{},
	}
	if n.cfg.Network.Metered == "auto" && n.host != nil {
		o.metered = n.host.SetMetered
	}
	n.onClose(o.energy.close)
	if u := n.kit.unmatched; len(u) > 0 {
		o.log.Warn("[[devices]] in the settings is about no device of this machine; idlewild gpus lists them", "match", u)
	}
	o.power = newPowerCap(n.cfg.DataDir, powerLimits(n.cfg.Devices, n.cfg.Limits.GPUPowerWatts, n.kit.machine.Devices), o.log)
	n.onClose(o.power.close)
	var gpus []string
	for _, d := range n.kit.machine.Devices {
		o.devices = append(o.devices, d.Name)
		if d.Type == "gpu" {
			gpus = append(gpus, d.Name)
		}
	}
	if policy.Mode != idle.Off {
		opts := n.cfg.senses()
		opts.Log, opts.GPUNames, opts.OursRuns = o.log, gpus, o.work.runs
		if len(gpus) > 0 {
			opts.GPUs = newProber()
		}
		opts.GPUEnergy, opts.GPUTodayWh = o.energy.add, o.energy.today
		o.sensor = sense.New(opts)
		n.closers = append(n.closers, o.sensor.Close)
		o.work.mu.Lock()
		o.work.begun = o.hurry
		o.work.mu.Unlock()
	}
	pause, ended, err := loadPause(n.cfg.DataDir, sense.Boot(), time.Now())
	if err != nil {
		return nil, err
	}
	if ended != nil {
		n.log.Info("the pause is over", "reason", ended.Text())
		if err := savePause(n.cfg.DataDir, nil); err != nil {
			return nil, err
		}
	}
	if pause != nil {
		n.log.Info("still paused: takes no work from others until: idlewild resume", "reason", pause.Text())
	}
	o.setPause(pause)
	n.kit.attended = o.attended
	return o, nil
}

// How often it looks. While nothing of ours runs nobody waits for us; the
// beginning of a task is a reason to look, and so is an event of the system's.
const (
	lookWorking = 250 * time.Millisecond
	lookResting = 10 * time.Second
)

// yields is done once for all farms of the process. Without it what the daemon
// itself computes, comparing above all, weighs as much as the artist's program.
var yields sync.Once

// run looks until ctx ends.
func (o *owner) run(ctx context.Context) error {
	if o.sensor == nil {
		<-ctx.Done()
		return nil
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-o.look:
		case <-o.sensor.Woken():
			o.sensor.Hurry()
		}
		o.reread()
		working := o.work.runs("")
		s := o.sensor.Sense(ctx, working)
		if ctx.Err() != nil {
			return nil
		}
		o.mu.Lock()
		before := o.signals.Suspending
		o.looked, o.signals = true, s
		o.mu.Unlock()
		o.decide()
		if o.attended() {
			yields.Do(render.LowerSession)
		}
		o.energy.keep()
		for _, d := range o.devices {
			if d != idle.CPU {
				o.power.follow(d, o.work.runs(d))
			}
		}
		every := beat.Until(lookResting)
		switch {
		case s.Suspending && before && !o.work.runs(""):
			// One round has passed in which those we work for were told.
			o.sensor.Stopped()
		case s.Suspending || o.work.runs(""):
			every = lookWorking
		case o.timed():
			every = time.Second // a short rest ends in time
		}
		t.Reset(every)
	}
}

// timed reports whether a decision is about to end by itself.
func (o *owner) timed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.decisions {
		if d.Left > 0 && d.Left < lookResting {
			return true
		}
	}
	return false
}

// hurry has it look at once.
func (o *owner) hurry() {
	select {
	case o.look <- struct{}{}:
	default:
	}
}

// setPause begins a pause, or with nil ends it, and applies that before it
// returns, whatever the sensors do.
func (o *owner) setPause(p *idle.Pause) {
	o.mu.Lock()
	o.pause = p
	o.mu.Unlock()
	o.decide()
	if p == nil {
		o.hurry()
	}
}

// decide decides and applies.
func (o *owner) decide() {
	o.turn.Lock()
	defer o.turn.Unlock()
	o.mu.Lock()
	now := o.now()
	var ended *idle.Pause
	if o.pause != nil && o.pause.Over(now) {
		ended, o.pause = o.pause, nil
	}
	s := o.signals
	s.Pause = o.pause
	next, state := idle.Decide(o.devices, s, o.policy, o.state, now)
	o.state = state
	if !o.looked && o.sensor != nil {
		for d, x := range next {
			if x.Level > idle.Stop {
				next[d] = idle.Decision{Level: idle.Stop, Signal: "start", Reason: "it has just started and not looked around yet"}
			}
		}
	}
	o.leave(next)
	before := o.decisions
	o.decisions = next
	crowded := s.Desktop && s.CPUOthers != nil && o.policy.CPULoad > 0 && *s.CPUOthers > o.policy.CPULoad
	var tell []crowder
	for d, told := range o.crowds {
		if told != crowded {
			o.crowds[d] = crowded
			tell = append(tell, d)
		}
	}
	o.mu.Unlock()

	for _, d := range tell {
		d.Crowded(crowded)
	}
	if ended != nil {
		o.log.Info("the pause is over", "reason", ended.Text())
		if err := savePause(o.dir, nil); err != nil {
			o.log.Error("the end of the pause is not kept", "error", err)
		}
	}
	rest, empty := map[string]worker.Rest{}, map[string]bool{job.HomeDevice: s.Pause != nil}
	for d, x := range next {
		empty[d] = !x.Level.Works()
		if !x.Level.Works() {
			rest[d] = worker.Rest{Reason: x.Public(), Finish: x.Level == idle.Leave, Short: x.Signal == idle.SignalVRAM}
		}
	}
	if o.metered != nil && s.Metered != nil {
		o.metered(*s.Metered)
	}
	o.turns.Yield(rest)
	o.work.rest(empty)
	if !idle.Same(before, next) {
		for _, d := range slices.Sorted(maps.Keys(next)) {
			was, known := before[d]
			if !known {
				was.Level = idle.Free
			}
			if x := next[d]; was.Level != x.Level || was.Reason != x.Reason {
				o.log.Info("what a device may do for others", "device", d, "level", x.Level, "signal", x.Signal, "reason", x.Reason)
			}
		}
	}
}

// view is what decides now.
func (o *owner) view() (decisions map[string]idle.Decision, s idle.Signals, desk bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s = o.signals
	s.Pause = o.pause
	return maps.Clone(o.decisions), s, o.policy.Mode == idle.Owner || o.policy.Mode == idle.Auto && s.Desktop
}

// serve has the checks of a farm's jobs make way for the owner's programs. The
// function that comes back ends that.
func (o *owner) serve(d crowder) (end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.crowds[d] = false
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.crowds, d)
	}
}

// attended reports whether the machine is one that somebody sits at.
func (o *owner) attended() bool {
	_, _, desk := o.view()
	return desk
}

// free reports whether all devices may work now.
func (o *owner) free() bool {
	decisions, _, _ := o.view()
	for _, x := range decisions {
		if !x.Level.Works() {
			return false
		}
	}
	return true
}

// mode is how it decides.
func (o *owner) mode() idle.Mode {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.policy.Mode
}

// paused is the pause in words, or "".
func (o *owner) paused() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pause == nil {
		return ""
	}
	return o.pause.Text()
}
