package node

import (
	"fmt"
	"path/filepath"
	"time"

	"idlewild/node/idle"
	"idlewild/node/idle/sense"
	"idlewild/render"
)

// IdleConfig is about when this machine works for others. docs/owner.md
// explains it to owners.
type IdleConfig struct {
	// Mode is "auto" (a desk where there is a display server, else a server),
	// "owner" (a desk), "server" (input and screen do not count) or "off" (only
	// a pause counts).
	Mode string `toml:"mode"`
	// OnReturn is what happens while somebody is at a desk: "stop" (at once),
	// "leave" (a task that runs may end) or "share" (the CPU works on at the
	// lowest priority, GPUs stop).
	OnReturn       string   `toml:"on_return"`
	AfterSeconds   float64  `toml:"after_s"`         // without input, until work begins
	LockedSeconds  float64  `toml:"after_locked_s"`  // the same behind a locked screen
	SettleSeconds  float64  `toml:"settle_s"`        // after any other reason ended
	Hours          []string `toml:"hours"`           // "mon-fri 22:00-07:00"; empty: always
	Screen         bool     `toml:"screen"`          // a program that fills the screen, or keeps it on, counts
	Games          bool     `toml:"games"`           // games and VR count, by where they lie
	GameFolders    []string `toml:"game_folders"`    // more of them
	Programs       []string `toml:"programs"`        // names or patterns of programs that count
	IgnorePrograms []string `toml:"ignore_programs"` // and of some that do not
	GPULoad        float64  `toml:"gpu_load"`        // of others, above which a GPU yields; 0: never
	GPUMemory      float64  `toml:"gpu_memory"`      // share in others' hands above which a GPU yields; 0: never
	CPULoad        float64  `toml:"cpu_load"`        // of others, above which the CPU of a desk yields; 0: never
	OnBattery      bool     `toml:"on_battery"`      // works on battery too
	OnMetered      bool     `toml:"on_metered"`      // works on a metered network too
	Hook           string   `toml:"hook"`            // an executable: exit code 0 is yes
}

// LimitsConfig is about how much of the machine work for others may take.
type LimitsConfig struct {
	// Priority of programs that render for others: "low" (a tenth of what
	// another program gets), "idle" (only what nobody else wants, but they are
	// slow to be gone from a busy machine) or "normal".
	Priority  string  `toml:"priority"`
	VRAMBytes int64   `toml:"vram_bytes"`     // of one GPU; 0: all
	UpBytes   int64   `toml:"up_bytes_per_s"` // content sent to others; 0: no limit
	DownBytes int64   `toml:"down_bytes_per_s"`
	KWhPerDay float64 `toml:"kwh_per_day"` // of GPUs at work for others; 0: no limit
	// GPUPowerWatts is a limit that is set while a GPU works for others, and
	// taken back afterwards; it needs an administrator's rights. 0: none.
	GPUPowerWatts float64 `toml:"gpu_power_watts"`
	GPUTemp       float64 `toml:"gpu_temp_max"` // degrees Celsius; 0: no limit
	CPUTemp       float64 `toml:"cpu_temp_max"`
	FreeDiskBytes int64   `toml:"free_disk_bytes"` // that stay free where the data folder is
}

func defaultIdle() IdleConfig {
	p := idle.DefaultPolicy()
	return IdleConfig{
		Mode: string(p.Mode), OnReturn: p.OnReturn.String(), AfterSeconds: p.After.Seconds(), LockedSeconds: p.LockedAfter.Seconds(),
		SettleSeconds: p.Settle.Seconds(), Screen: true, Games: true, GPULoad: p.GPULoad, GPUMemory: p.GPUMemory, CPULoad: p.CPULoad,
	}
}

func defaultLimits() LimitsConfig {
	p := idle.DefaultPolicy()
	return LimitsConfig{Priority: "low", GPUTemp: p.GPUTemp, CPUTemp: p.CPUTemp, FreeDiskBytes: p.FreeDisk}
}

// policy is what the settings say, or an error that names the wrong one.
func (c Config) policy() (idle.Policy, error) {
	i, l := c.Idle, c.Limits
	p := idle.Policy{
		Mode: idle.Mode(i.Mode), After: seconds(i.AfterSeconds), LockedAfter: seconds(i.LockedSeconds), Settle: seconds(i.SettleSeconds),
		GPULoad: i.GPULoad, GPUMemory: i.GPUMemory, CPULoad: i.CPULoad, OnBattery: i.OnBattery, OnMetered: i.OnMetered,
		GPUTemp: l.GPUTemp, CPUTemp: l.CPUTemp, VRAMBytes: l.VRAMBytes, KWhPerDay: l.KWhPerDay, FreeDisk: l.FreeDiskBytes,
	}
	switch p.Mode {
	case idle.Auto, idle.Owner, idle.Server, idle.Off:
	default:
		return p, fmt.Errorf("idle.mode is %q; it may be auto, owner, server or off", i.Mode)
	}
	if err := p.OnReturn.UnmarshalText([]byte(i.OnReturn)); err != nil || p.OnReturn == idle.Free {
		return p, fmt.Errorf("idle.on_return is %q; it may be stop, leave or share", i.OnReturn)
	}
	var err error
	if p.Hours, err = idle.ParseSchedule(i.Hours); err != nil {
		return p, fmt.Errorf("idle.hours: %w", err)
	}
	return p, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (c Config) validateIdle() error {
	const week = 7 * 24 * 3600
	for name, s := range map[string]float64{"after_s": c.Idle.AfterSeconds, "after_locked_s": c.Idle.LockedSeconds, "settle_s": c.Idle.SettleSeconds} {
		if !(s >= 0 && s <= week) {
			return fmt.Errorf("idle.%s is %v; it must lie between 0 and %d", name, s, week)
		}
	}
	// It looks four times a second: a shorter time could pass between two looks.
	if c.Idle.AfterSeconds < 1 || c.Idle.LockedSeconds < 1 {
		return fmt.Errorf("idle.after_s and after_locked_s must be at least 1: input would be missed")
	}
	for name, s := range map[string]float64{"gpu_load": c.Idle.GPULoad, "gpu_memory": c.Idle.GPUMemory, "cpu_load": c.Idle.CPULoad} {
		if !(s >= 0 && s <= 1) {
			return fmt.Errorf("idle.%s is %v; it must lie between 0 and 1", name, s)
		}
	}
	l := c.Limits
	if _, err := render.ParsePriority(l.Priority); err != nil {
		return fmt.Errorf("limits.priority: %w", err)
	}
	for name, v := range map[string]float64{
		"vram_bytes": float64(l.VRAMBytes), "up_bytes_per_s": float64(l.UpBytes), "down_bytes_per_s": float64(l.DownBytes),
		"kwh_per_day": l.KWhPerDay, "gpu_power_watts": l.GPUPowerWatts, "gpu_temp_max": l.GPUTemp, "cpu_temp_max": l.CPUTemp, "free_disk_bytes": float64(l.FreeDiskBytes),
	} {
		if !(v >= 0) {
			return fmt.Errorf("limits.%s is %v; it must not be negative", name, v)
		}
	}
	const leastRate = 64 << 10
	if l.UpBytes > 0 && l.UpBytes < leastRate || l.DownBytes > 0 && l.DownBytes < leastRate {
		return fmt.Errorf("limits.up_bytes_per_s and down_bytes_per_s must be 0 or at least %d: slower, work is given up before it arrives", leastRate)
	}
	for _, p := range append(c.Idle.Programs, c.Idle.IgnorePrograms...) {
		if _, err := filepath.Match(p, "x"); err != nil {
			return fmt.Errorf("idle.programs has %q, which is no pattern", p)
		}
	}
	if c.Idle.Hook != "" && !filepath.IsAbs(c.Idle.Hook) {
		return fmt.Errorf("idle.hook %q is not an absolute path", c.Idle.Hook)
	}
	_, err := c.policy()
	return err
}

// senses is what the settings say of what to look at.
func (c Config) senses() sense.Options {
	return sense.Options{
		Screen: c.Idle.Screen, Steam: c.Idle.Games, GameFolders: c.Idle.GameFolders, Programs: c.Idle.Programs,
		NotPrograms: c.Idle.IgnorePrograms, Hook: c.Idle.Hook, DiskDir: c.DataDir,
	}
}
