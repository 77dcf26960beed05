package sense

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"idlewild/node/idle"
)

// cpu tells how busy others keep the cores. What low-priority programs use is
// not counted: they make way by themselves, and ours are such. Neither is what
// we do at any priority.
type cpu struct {
	proc string // "/proc"
	ours func() map[int]bool

	at    time.Time
	total uint64
	busy  uint64
	own   uint64
	share *float64
}

// shortest is the least time that a share is told of.
const shortest = 900 * time.Millisecond

// Sense implements Source.
func (c *cpu) Sense(context.Context) (func(*idle.Signals), error) {
	now := time.Now()
	if c.at.IsZero() || now.Sub(c.at) >= shortest {
		total, busy, err := c.machine()
		if err != nil {
			return nil, err
		}
		own := c.own0()
		if !c.at.IsZero() && total > c.total {
			// A child that ended takes what was counted of it away for a moment.
			mine := own - min(own, c.own)
			others := busy - min(busy, c.busy)
			share := float64(others-min(others, mine)) / float64(total-c.total)
			c.share = &share
		}
		c.at, c.total, c.busy, c.own = now, total, busy, max(own, c.own)
		if own < c.own {
			c.own = own
		}
	}
	share := c.share
	return func(s *idle.Signals) { s.CPUOthers = share }, nil
}

// machine sums up the first line of /proc/stat.
func (c *cpu) machine() (total, busy uint64, err error) {
	b, err := os.ReadFile(filepath.Join(c.proc, "stat"))
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, 0, errors.New("/proc/stat is not as it was")
	}
	const user, nice, idleTicks, iowait, guest = 1, 2, 4, 5, 9
	for i, v := range f[1:] {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i+1 >= guest { // in user and nice already
			break
		}
		total += n
		if i+1 != nice && i+1 != idleTicks && i+1 != iowait {
			busy += n
		}
	}
	return total, busy, nil
}

// own0 is what of busy is ours.
func (c *cpu) own0() (ticks uint64) {
	for pid := range c.ours() {
		b, err := os.ReadFile(filepath.Join(c.proc, strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		t, ok := parseTimes(b)
		if !ok {
			continue
		}
		ticks += t.system + t.childSystem
		if t.nice <= 0 {
			ticks += t.user
		}
	}
	return ticks
}

// temperature reads the CPU's sensor.
type temperature struct{ sys string } // "/sys"

// Sense implements Source.
func (t temperature) Sense(context.Context) (func(*idle.Signals), error) {
	chips, _ := filepath.Glob(filepath.Join(t.sys, "class/hwmon/hwmon*"))
	hottest, found := 0.0, false
	for _, chip := range chips {
		name, err := os.ReadFile(filepath.Join(chip, "name"))
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(name)) {
		case "coretemp", "k10temp", "zenpower", "cpu_thermal":
		default:
			continue
		}
		inputs, _ := filepath.Glob(filepath.Join(chip, "temp*_input"))
		for _, in := range inputs {
			b, err := os.ReadFile(in)
			if err != nil {
				continue
			}
			if milli, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64); err == nil && milli > 0 && milli < 150e3 {
				hottest, found = max(hottest, milli/1000), true
			}
		}
	}
	if !found {
		return nil, errors.New("no sensor of the CPU")
	}
	return func(s *idle.Signals) { s.CPUTemp = &hottest }, nil
}

// power tells whether the machine runs on a battery: its own, or that of a UPS.
type power struct{ sys string }

// Sense implements Source.
func (p power) Sense(context.Context) (func(*idle.Signals), error) {
	supplies, _ := filepath.Glob(filepath.Join(p.sys, "class/power_supply/*"))
	read := func(dir, name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(b))
	}
	known, mains, discharging := false, false, false
	for _, dir := range supplies {
		if read(dir, "scope") == "Device" {
			continue // a mouse's or a headset's
		}
		switch read(dir, "type") {
		case "Mains", "USB":
			if online := read(dir, "online"); online != "" {
				known = known || read(dir, "type") == "Mains"
				mains = mains || online != "0"
			}
		case "Battery", "UPS":
			known = true
			discharging = discharging || read(dir, "status") == "Discharging"
		}
	}
	if !known {
		return nil, errors.New("there is no battery")
	}
	// Some batteries discharge a little at the mains.
	on := discharging && !mains
	return func(s *idle.Signals) { s.OnBattery = &on }, nil
}
