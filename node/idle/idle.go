// Package idle decides whether this machine may work for others now.
//
// Decide is a pure function: Signals (what was sensed), a Policy (what the
// owner wants), the State that it returned before and an Instant give one
// Decision per device, each with the signal that decided and a sentence for
// people. It senses nothing itself; package sense does. A signal that is not
// there is a missing field and no trouble: the others decide, and where a desk
// tells nothing about its owner, the machine yields.
package idle

import (
	"fmt"
	"time"
)

// Level is how much a device may do for others. Lower yields more.
type Level int

// The levels.
const (
	Stop  Level = iota // nothing: what runs is ended at once
	Leave              // what runs may end its task; nothing begins
	Share              // works on beside its owner, at the lowest priority
	Free               // works
)

var levelNames = []string{"stop", "leave", "share", "free"}

func (l Level) String() string {
	if l < Stop || l > Free {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(b []byte) error {
	for i, n := range levelNames {
		if n == string(b) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("no level is called %q; there are stop, leave, share and free", b)
}

// Works reports whether tasks may begin.
func (l Level) Works() bool { return l >= Share }

// Mode says whose machine it is.
type Mode string

// The modes.
const (
	Auto   Mode = "auto"   // a desk where there is a display server, else a server
	Owner  Mode = "owner"  // somebody's desk: it yields to its owner
	Server Mode = "server" // nobody sits at it: input and screen do not count
	Off    Mode = "off"    // only a pause, a suspend and a lost device stop work
)

// Policy is what the owner wants. Zero switches a rule off where nothing else
// is said.
type Policy struct {
	Mode        Mode
	OnReturn    Level         // while somebody is at the machine: Stop, Leave or Share
	After       time.Duration // work begins so long after the last input
	LockedAfter time.Duration // the same while the screen is locked
	Settle      time.Duration // work begins so long after any other reason ended
	Hours       Schedule      // outside of them nothing begins; empty: always
	GPULoad     float64       // of others, 0 to 1, above which a GPU yields
	GPUMemory   float64       // share of a GPU's memory in others' hands above which it yields
	CPULoad     float64       // of others, 0 to 1 of all cores, above which the CPU yields; not for a server
	OnBattery   bool          // works on battery too
	OnMetered   bool          // works on a metered network too
	GPUTemp     float64       // degrees Celsius
	CPUTemp     float64
	VRAMBytes   int64 // that our tasks may use of one GPU
	// DeviceBytes are the same by device, where one has a limit of its own.
	DeviceBytes map[string]int64
	KWhPerDay   float64 // of GPUs at work for others
	FreeDisk    int64   // bytes that stay free where the data folder is
}

// DefaultPolicy yields to whoever is there and works where nobody is.
func DefaultPolicy() Policy {
	return Policy{
		Mode: Auto, OnReturn: Stop,
		After: 5 * time.Minute, LockedAfter: 30 * time.Second, Settle: time.Minute,
		GPULoad: 0.10, GPUMemory: 0.25, CPULoad: 0.25,
		GPUTemp: 84, CPUTemp: 95, FreeDisk: 1 << 30,
	}
}

// Instant is a moment on three clocks.
type Instant struct {
	Wall  time.Time     // in the owner's time zone; it may jump
	Mono  time.Duration // since some beginning; it never jumps, and runs on while the machine is suspended
	Slept time.Duration // how much of Mono the machine was suspended
}

// Signals is what was sensed. Pointers are nil where nothing told. It is JSON
// so that `idlewild why --json` can be put into testdata as it is.
type Signals struct {
	// Desktop: there is a display server, or a graphical session.
	Desktop  bool      `json:"desktop,omitempty"`
	Sessions []Session `json:"sessions,omitempty"`
	// Fullscreen names what fills the screen of the owner's session.
	Fullscreen *string `json:"fullscreen,omitempty"`
	// Inhibitor names who keeps the screen from going dark: a video, a talk.
	Inhibitor *string `json:"inhibitor,omitempty"`
	// Programs of the owner that work makes way for: games, VR, their own list.
	Programs []Program      `json:"programs,omitempty"`
	GPUs     map[string]GPU `json:"gpus,omitempty"`
	// CPUOthers is the share of all cores that others than us and than
	// low-priority programs use.
	CPUOthers  *float64 `json:"cpu_others,omitempty"`
	CPUTemp    *float64 `json:"cpu_temp_c,omitempty"`
	OnBattery  *bool    `json:"on_battery,omitempty"`
	Metered    *bool    `json:"metered,omitempty"`
	Suspending bool     `json:"suspending,omitempty"` // about to
	Hook       *Hook    `json:"hook,omitempty"`
	Pause      *Pause   `json:"pause,omitempty"`
	GPUTodayWh *float64 `json:"gpu_today_wh,omitempty"` // of GPUs at work for others, since midnight
	DiskFree   *int64   `json:"disk_free_bytes,omitempty"`
	// Missing says which source told nothing and why, by its name.
	Missing map[string]string `json:"missing,omitempty"`
}

// Session is one person's time at this machine.
type Session struct {
	User      string `json:"user"`
	Graphical bool   `json:"graphical,omitempty"`
	Remote    bool   `json:"remote,omitempty"`
	Active    bool   `json:"active,omitempty"` // in the foreground of its seat
	Locked    bool   `json:"locked,omitempty"`
	// IdleSeconds since the last input, as Source tells.
	IdleSeconds *float64 `json:"idle_s,omitempty"`
	Source      string   `json:"source,omitempty"`
	// Untouched: Source knows of no input since the machine started, which
	// IdleSeconds counts from then.
	Untouched bool `json:"untouched,omitempty"`
}

// Program is one of the owner's that is running.
type Program struct {
	Name string `json:"name"`
	Why  string `json:"why"` // "a game in Steam's library", "VR", "on the owner's list"
}

// GPU is one device as the driver sees it.
type GPU struct {
	Busy       *float64 `json:"busy,omitempty"`        // by anybody, 0 to 1
	OthersBusy *float64 `json:"others_busy,omitempty"` // by others than us
	// OursRuns: a task of ours is on it, so that Busy says nothing of others.
	OursRuns    bool     `json:"ours_runs,omitempty"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	OthersBytes *int64   `json:"others_bytes,omitempty"`
	OursBytes   *int64   `json:"ours_bytes,omitempty"`
	Others      []string `json:"others,omitempty"` // names of others' programs on it
	TempC       *float64 `json:"temp_c,omitempty"`
	PowerW      *float64 `json:"power_w,omitempty"`
	Lost        string   `json:"lost,omitempty"` // why it does not answer any more
}

// Hook is the answer of the owner's executable.
type Hook struct {
	Yes  bool   `json:"yes"`
	Text string `json:"text,omitempty"`
}

// Decision is what one device may do, and why.
type Decision struct {
	Level Level `json:"level"`
	// Signal is the name of what decides; empty while nothing speaks against
	// work.
	Signal string `json:"signal,omitempty"`
	// Reason stays the same words while the same thing decides.
	Reason string `json:"reason,omitempty"`
	// Left is how long it takes at least until the device is free, where that
	// is known.
	Left time.Duration `json:"left_ns,omitempty"`
	// Also are further reasons, which alone would do.
	Also []string `json:"also,omitempty"`
}

// State is what Decide has to remember. The zero value is the beginning.
type State struct {
	devices map[string]memory
	woke    time.Duration // Mono of the newest wake-up
	awoken  bool
	slept   time.Duration
	known   bool // slept is that of an earlier call
}

// memory of one device.
type memory struct {
	holds map[string]hold          // rules that spoke against work a moment ago
	since map[string]time.Duration // when something that has to last began
}

type hold struct {
	ended  bool          // it does not speak any more
	at     time.Duration // Mono when that was seen first
	reason string
}

// The machine's CPU as a device; GPUs have the driver's names.
const CPU = "cpu"
