// Package gpu finds the accelerators of this machine and how busy they are.
//
// A Prober asks the maker's library: NVIDIA's NVML on Linux (through cgo) and
// on Windows (through nvml.dll). Elsewhere, and without a driver, there are no
// devices and an error that says why.
package gpu

import (
	"context"
	"errors"
	"fmt"
)

// Device is one accelerator.
type Device struct {
	UUID        string // the driver's own, as in CUDA_VISIBLE_DEVICES: "GPU-..."
	Name        string // for people: "NVIDIA GeForce RTX 4090"
	Model       string // what makes results comparable: architecture, "sm_89"; empty if unknown
	Type        string // "gpu"
	Driver      string // its version: "550.54.15"
	MemoryBytes int64
	UsedBytes   int64 // of memory, by anybody
	// Busy is the share of the last moment in which it computed, 0 to 1;
	// negative: the driver does not tell.
	Busy float64
	// Processes are those that use it, as far as the driver tells.
	Processes []Process
	// SharesTold: what each process computes is known, so that one that is not
	// listed computes nothing.
	SharesTold bool
	TempC      float64 // degrees Celsius; 0: the driver does not tell
	PowerW     float64 // that it draws; 0: the driver does not tell
}

// Process is one that uses a Device.
type Process struct {
	PID         int
	MemoryBytes int64 // 0: the driver does not tell
	Graphics    bool  // it draws, rather than computes: a game or a desktop
	// Busy is its share of the last moment, 0 to 1, where Device.SharesTold.
	Busy float64
}

// Prober finds accelerators.
type Prober interface {
	// Devices lists them. Where there are none because something is missing,
	// the error says what; errors.Is tells ErrNoDriver.
	Devices(ctx context.Context) ([]Device, error)
}

// Holder is a Prober that can keep the maker's library open between two
// questions. It does so while tasks run and it is asked often; a library that
// is closed lets the GPU sleep.
type Holder interface{ Hold(open bool) }

// ErrNoDriver is matched by the error of a machine without a driver that
// could be asked.
var ErrNoDriver = errors.New("no NVIDIA driver")

// maxDevices bounds what a driver may report.
const maxDevices = 64

// NewProber returns the Prober for this system.
func NewProber() Prober { return newProber() }

// none is a Prober where there is no library to ask.
type none struct{ why string }

// Devices implements Prober.
func (n none) Devices(context.Context) ([]Device, error) {
	return nil, fmt.Errorf("%w on this machine: %s", ErrNoDriver, n.why)
}

// smName names a CUDA architecture.
func smName(major, minor int) string {
	if major <= 0 {
		return ""
	}
	return fmt.Sprintf("sm_%d%d", major, minor)
}

// PowerLimiter sets how much power a device may draw. The system's
// administrator may do that, as a rule.
type PowerLimiter interface {
	// PowerLimit returns the limit that holds now, and the least that can be
	// set, in watts.
	PowerLimit(uuid string) (now, least float64, err error)
	SetPowerLimit(uuid string, watts float64) error
}

// NewPowerLimiter returns the PowerLimiter for this system, or nil.
func NewPowerLimiter() PowerLimiter {
	l, _ := newProber().(PowerLimiter)
	return l
}
