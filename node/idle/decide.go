package idle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Names of what may decide.
const (
	SignalPause       = "pause"
	SignalSuspend     = "suspend"
	SignalWake        = "wake"
	SignalDevice      = "device"
	SignalProgram     = "program"
	SignalFullscreen  = "fullscreen"
	SignalInput       = "input"
	SignalInhibitor   = "inhibitor"
	SignalGPULoad     = "gpu load"
	SignalGPUMemory   = "gpu memory"
	SignalVRAM        = "vram limit"
	SignalCPULoad     = "cpu load"
	SignalBattery     = "battery"
	SignalTemperature = "temperature"
	SignalDisk        = "disk"
	SignalHours       = "hours"
	SignalMetered     = "metered network"
	SignalHook        = "hook"
	SignalEnergy      = "energy"
)

// rule is one reason not to work. judge returns Free where it has none.
type rule struct {
	signal string
	// settles: after it ended, nothing begins for Policy.Settle. The others'
	// end is somebody's word, or has its own waiting time.
	settles bool
	judge   func(c *asking) verdict
}

type verdict struct {
	level  Level
	reason string
	left   time.Duration
}

var ok = verdict{level: Free}

func stop(format string, a ...any) verdict {
	return verdict{level: Stop, reason: fmt.Sprintf(format, a...)}
}
func leave(format string, a ...any) verdict {
	return verdict{level: Leave, reason: fmt.Sprintf(format, a...)}
}

// rules in the order in which they are named where several say the same.
var rules = []rule{
	{SignalPause, false, pauseRule},
	{SignalSuspend, true, suspendRule},
	{SignalDevice, true, deviceRule},
	{SignalProgram, true, programRule},
	{SignalFullscreen, true, fullscreenRule},
	{SignalInput, false, inputRule},
	{SignalWake, false, wakeRule},
	{SignalInhibitor, true, inhibitorRule},
	{SignalGPULoad, true, gpuLoadRule},
	{SignalGPUMemory, true, gpuMemoryRule},
	{SignalVRAM, true, vramRule},
	{SignalCPULoad, true, cpuLoadRule},
	{SignalBattery, true, batteryRule},
	{SignalTemperature, true, temperatureRule},
	{SignalDisk, true, diskRule},
	{SignalHours, false, hoursRule},
	{SignalMetered, true, meteredRule},
	{SignalHook, false, hookRule},
	{SignalEnergy, false, energyRule},
}

// asking is one device's turn.
type asking struct {
	device string
	s      *Signals
	p      *Policy
	now    Instant
	state  *State
	desk   bool // its owner sits at it, or may
	was    memory
	next   memory
}

// Decide says what each device may do now, and what to remember for the next
// call. It changes none of its arguments.
func Decide(devices []string, s Signals, p Policy, prev State, now Instant) (map[string]Decision, State) {
	next := State{devices: map[string]memory{}, woke: prev.woke, awoken: prev.awoken, slept: now.Slept, known: true}
	if prev.known && now.Slept-prev.slept > time.Second {
		next.woke, next.awoken = now.Mono, true
	}
	out := map[string]Decision{}
	for _, d := range devices {
		c := asking{
			device: d, s: &s, p: &p, now: now, state: &next,
			desk: p.Mode == Owner || p.Mode == Auto && s.Desktop,
			was:  prev.devices[d],
			next: memory{holds: map[string]hold{}, since: map[string]time.Duration{}},
		}
		out[d] = c.decide()
		next.devices[d] = c.next
	}
	return out, next
}

func (c *asking) decide() Decision {
	best := Decision{Level: Free}
	var also []Decision
	for _, r := range rules {
		if c.p.Mode == Off && r.signal != SignalPause && r.signal != SignalSuspend && r.signal != SignalDevice {
			continue
		}
		v := r.judge(c)
		if v.level == Free {
			v = c.settling(r)
		} else if r.settles {
			c.next.holds[r.signal] = hold{reason: v.reason}
		}
		if v.level == Free {
			continue
		}
		d := Decision{Level: v.level, Signal: r.signal, Reason: v.reason, Left: v.left}
		if d.Level < best.Level {
			if best.Level < Free {
				also = append(also, best)
			}
			best = d
		} else {
			also = append(also, d)
		}
	}
	for _, d := range also {
		best.Also = append(best.Also, d.Signal+": "+d.Reason)
		best.Left = max(best.Left, d.Left)
	}
	return best
}

// settling says that a rule spoke a moment ago.
func (c *asking) settling(r rule) verdict {
	h, held := c.was.holds[r.signal]
	if !held {
		return ok
	}
	if !h.ended {
		h.ended, h.at = true, c.now.Mono
	}
	left := c.p.Settle - (c.now.Mono - h.at)
	if left <= 0 {
		return ok
	}
	c.next.holds[r.signal] = h
	return verdict{level: Leave, left: left, reason: fmt.Sprintf("until a moment ago: %s; it waits for %v of rest", h.reason, c.p.Settle)}
}

// lasts reports whether something has been so for d. It is called in each turn
// in which it is.
func (c *asking) lasts(what string, d time.Duration) bool {
	since, was := c.was.since[what]
	if !was {
		since = c.now.Mono
	}
	c.next.since[what] = since
	return c.now.Mono-since >= d
}

// beside is what a device may do while somebody is at the machine.
func (c *asking) beside() Level {
	if c.p.OnReturn == Share && c.device != CPU {
		return Stop // a GPU cannot be shared without being noticed
	}
	return min(c.p.OnReturn, Share)
}

func pauseRule(c *asking) verdict {
	if p := c.s.Pause; p != nil && !p.Over(c.now) {
		return verdict{level: Stop, reason: p.Text(), left: p.left(c.now)}
	}
	return ok
}

func suspendRule(c *asking) verdict {
	if c.s.Suspending {
		return stop("it is about to be suspended")
	}
	return ok
}

func wakeRule(c *asking) verdict {
	if left := c.p.After - (c.now.Mono - c.state.woke); c.desk && c.state.awoken && left > 0 {
		return verdict{level: c.beside(), reason: "it woke up from suspend a moment ago", left: left}
	}
	return ok
}

func deviceRule(c *asking) verdict {
	if g, is := c.s.GPUs[c.device]; is && g.Lost != "" {
		return stop("the device does not answer: %s", g.Lost)
	}
	return ok
}

func programRule(c *asking) verdict {
	if len(c.s.Programs) == 0 {
		return ok
	}
	p := c.s.Programs[0]
	return stop("%s runs (%s)", p.Name, p.Why)
}

func fullscreenRule(c *asking) verdict {
	if !c.desk || c.s.Fullscreen == nil || c.locked() {
		return ok
	}
	return stop("%s fills the screen", *c.s.Fullscreen)
}

// locked reports whether a lock screen is what is seen.
func (c *asking) locked() bool {
	seen := false
	for _, s := range c.s.Sessions {
		if s.Graphical && s.Active && !s.Remote {
			if !s.Locked {
				return false
			}
			seen = true
		}
	}
	return seen
}

func inputRule(c *asking) verdict {
	if !c.desk {
		return ok
	}
	best := ok
	for _, s := range c.s.Sessions {
		v := ok
		switch after := c.after(s); {
		case !s.Graphical && (c.p.Mode != Owner || s.Remote): // a shell does not mind
		case s.Graphical && !s.Active && !s.Remote: // switched away from
		case s.IdleSeconds == nil && s.Locked:
		case s.IdleSeconds == nil:
			v = verdict{level: c.beside(), reason: fmt.Sprintf("%s is logged in, and nothing tells when they used it last", s.User)}
		default:
			if left := after - time.Duration(*s.IdleSeconds*float64(time.Second)); left > 0 {
				where := ""
				if s.Remote {
					where = " from afar"
				}
				// A clock that was set back must not keep it from work for long.
				v = verdict{level: c.beside(), left: min(left, after), reason: fmt.Sprintf("%s uses it%s (%s)", s.User, where, s.Source)}
			}
		}
		if v.level < best.level || v.level == best.level && v.left > best.left {
			best = v
		}
	}
	return best
}

func (c *asking) after(s Session) time.Duration {
	if s.Locked {
		return c.p.LockedAfter
	}
	return c.p.After
}

func inhibitorRule(c *asking) verdict {
	if c.desk && c.s.Inhibitor != nil && !c.locked() {
		return verdict{level: c.beside(), reason: *c.s.Inhibitor + " keeps the screen on"}
	}
	return ok
}

// How long load of others has to last before it counts: a desktop that draws
// one window is no game.
const (
	gpuLasts = 4 * time.Second
	cpuLasts = 8 * time.Second
)

func gpuLoadRule(c *asking) verdict {
	g, is := c.s.GPUs[c.device]
	load := g.OthersBusy
	if load == nil && !g.OursRuns {
		load = g.Busy
	}
	if !is || load == nil || c.p.GPULoad <= 0 || *load <= c.p.GPULoad {
		return ok
	}
	if !c.lasts(SignalGPULoad, gpuLasts) {
		if _, held := c.was.holds[SignalGPULoad]; !held {
			return ok
		}
	}
	return stop("other programs use it%s", names(g.Others))
}

func gpuMemoryRule(c *asking) verdict {
	g, is := c.s.GPUs[c.device]
	if !is || g.OthersBytes == nil || c.p.GPUMemory <= 0 || g.MemoryBytes <= 0 ||
		float64(*g.OthersBytes) <= c.p.GPUMemory*float64(g.MemoryBytes) {
		return ok
	}
	return stop("other programs hold more than %.0f %% of its memory%s", 100*c.p.GPUMemory, names(g.Others))
}

func names(list []string) string {
	if len(list) == 0 {
		return ""
	}
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	if len(list) > 3 {
		list = append(list[:3:3], "and others")
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func vramRule(c *asking) verdict {
	most, says := c.p.VRAMBytes, "limits.vram_bytes"
	if own := c.p.DeviceBytes[c.device]; own > 0 {
		most, says = own, "memory_bytes in [[devices]]"
	}
	if g := c.s.GPUs[c.device]; most > 0 && g.OursBytes != nil && *g.OursBytes > most {
		return stop("a task used more of its memory than %s allows", says)
	}
	return ok
}

func cpuLoadRule(c *asking) verdict {
	if c.device != CPU || !c.desk || c.s.CPUOthers == nil || c.p.CPULoad <= 0 || *c.s.CPUOthers <= c.p.CPULoad {
		return ok
	}
	if !c.lasts(SignalCPULoad, cpuLasts) {
		if _, held := c.was.holds[SignalCPULoad]; !held {
			return ok
		}
	}
	return stop("other programs use more than %.0f %% of the CPU", 100*c.p.CPULoad)
}

func batteryRule(c *asking) verdict {
	if !c.p.OnBattery && c.s.OnBattery != nil && *c.s.OnBattery {
		return stop("it runs on battery")
	}
	return ok
}

// Beyond its limit a device ends the task that it has, well beyond it it stops,
// and it works again once it is well below.
const (
	tooHot = 6
	cooled = 8
)

func temperatureRule(c *asking) verdict {
	t, limit := c.s.GPUs[c.device].TempC, c.p.GPUTemp
	if c.device == CPU {
		t, limit = c.s.CPUTemp, c.p.CPUTemp
	}
	if t == nil || limit <= 0 {
		return ok
	}
	_, hot := c.was.holds[SignalTemperature]
	switch {
	case *t >= limit+tooHot:
		return stop("it is hotter than %.0f °C", limit)
	case *t >= limit, hot && *t > limit-cooled:
		return leave("it is hotter than %.0f °C", limit)
	}
	return ok
}

func diskRule(c *asking) verdict {
	if c.p.FreeDisk > 0 && c.s.DiskFree != nil && *c.s.DiskFree < c.p.FreeDisk {
		return leave("the disk is nearly full: less than %d MB are free", c.p.FreeDisk>>20)
	}
	return ok
}

func hoursRule(c *asking) verdict {
	if c.p.Hours.Open(c.now.Wall) {
		return ok
	}
	return verdict{level: Leave, reason: "it works only at " + c.p.Hours.String(), left: c.p.Hours.left(c.now.Wall)}
}

func meteredRule(c *asking) verdict {
	if !c.p.OnMetered && c.s.Metered != nil && *c.s.Metered {
		return leave("the network is metered")
	}
	return ok
}

func hookRule(c *asking) verdict {
	if h := c.s.Hook; h != nil && !h.Yes {
		if h.Text == "" {
			return leave("the owner's hook says no")
		}
		return leave("the owner's hook says no: %s", h.Text)
	}
	return ok
}

func energyRule(c *asking) verdict {
	if c.device != CPU && c.p.KWhPerDay > 0 && c.s.GPUTodayWh != nil && *c.s.GPUTodayWh >= 1000*c.p.KWhPerDay {
		return leave("today's %g kWh are used up", c.p.KWhPerDay)
	}
	return ok
}

// Public is the reason as other members of the farm may hear it: without names
// of people and of what they run.
func (d Decision) Public() string {
	switch d.Signal {
	case "":
		return ""
	case SignalProgram, SignalFullscreen, SignalInput, SignalInhibitor, SignalWake, SignalGPULoad, SignalGPUMemory, SignalCPULoad:
		return "its owner uses it"
	case SignalHook:
		return "its owner's rules"
	case SignalHours:
		return "outside of its hours"
	}
	return d.Reason
}

// Same reports whether two decisions differ in nothing but how long they last.
func Same(a, b map[string]Decision) bool {
	return maps.EqualFunc(a, b, func(x, y Decision) bool {
		return x.Level == y.Level && x.Signal == y.Signal && x.Reason == y.Reason
	})
}
