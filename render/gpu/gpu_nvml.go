//go:build linux && cgo && !nonvml

package gpu

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

func newProber() Prober { return &nvmlProber{lib: nvml.New()} }

// nvmlProber asks NVML. The library is opened for each question, unless it is
// held: a driver may come, go or be updated while we run, and a closed library
// keeps no GPU awake.
type nvmlProber struct {
	mu   sync.Mutex // the library is opened and closed by one at a time
	lib  nvml.Interface
	hold bool
	open bool
}

// Hold implements Holder.
func (p *nvmlProber) Hold(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold = open; !open {
		p.shut()
	}
}

// shut needs mu.
func (p *nvmlProber) shut() {
	if p.open {
		p.lib.Shutdown()
		p.open = false
	}
}

// Devices implements Prober.
func (p *nvmlProber) Devices(ctx context.Context) ([]Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ret := nvml.SUCCESS
	if !p.open {
		ret = p.lib.Init()
	}
	switch ret {
	case nvml.SUCCESS:
		p.open = true
	case nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED:
		return nil, fmt.Errorf("%w on this machine: %s", ErrNoDriver, explain(ret))
	default:
		return nil, fmt.Errorf("NVIDIA driver: %s", explain(ret))
	}
	devices, err := p.devices()
	if !p.hold || err != nil {
		p.shut()
	}
	return devices, err
}

// devices asks the open library. An error says to open it afresh.
func (p *nvmlProber) devices() ([]Device, error) {
	driver, ret := p.lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		driver = ""
	}
	n, ret := p.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVIDIA driver: count devices: %s", explain(ret))
	}
	var devices []Device
	var broken error
	for i := range min(n, maxDevices) {
		d, err := p.device(i)
		if err != nil {
			// One that fell off the bus does not take the others with it.
			broken = fmt.Errorf("NVIDIA device %d: %w", i, err)
			continue
		}
		d.Driver = driver
		devices = append(devices, d)
	}
	if len(devices) == 0 {
		if broken == nil {
			broken = fmt.Errorf("the NVIDIA driver %s has no device", driver)
		}
		return nil, broken
	}
	return devices, nil
}

// device asks for one. Only what names it and its memory must be known.
func (p *nvmlProber) device(i int) (Device, error) {
	h, ret := p.lib.DeviceGetHandleByIndex(i)
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("open: %s", explain(ret))
	}
	d := Device{Type: "gpu", Busy: -1}
	if d.UUID, ret = h.GetUUID(); ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("uuid: %s", explain(ret))
	}
	if d.Name, ret = h.GetName(); ret != nvml.SUCCESS {
		d.Name = d.UUID
	}
	if m, ret := h.GetMemoryInfo(); ret == nvml.SUCCESS {
		d.MemoryBytes, d.UsedBytes = int64(m.Total), int64(m.Used)
	}
	if major, minor, ret := h.GetCudaComputeCapability(); ret == nvml.SUCCESS {
		d.Model = smName(major, minor)
	}
	if u, ret := h.GetUtilizationRates(); ret == nvml.SUCCESS {
		d.Busy = min(float64(u.Gpu)/100, 1)
	}
	list := func(ps []nvml.ProcessInfo, ret nvml.Return, graphics bool) {
		if ret != nvml.SUCCESS {
			return
		}
		for _, x := range ps {
			q := Process{PID: int(x.Pid), Graphics: graphics}
			if x.UsedGpuMemory != ^uint64(0) { // "not available"
				q.MemoryBytes = int64(x.UsedGpuMemory)
			}
			d.Processes = append(d.Processes, q)
		}
	}
	ps, ret := h.GetComputeRunningProcesses()
	list(ps, ret, false)
	ps, ret = h.GetGraphicsRunningProcesses()
	list(ps, ret, true)
	if t, ret := h.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		d.TempC = float64(t)
	}
	if mw, ret := h.GetPowerUsage(); ret == nvml.SUCCESS {
		d.PowerW = float64(mw) / 1000
	}
	shares(h, &d)
	return d, nil
}

// lately is how far back what a process computed counts.
const lately = 2 * time.Second

// shares notes what each process computes.
func shares(h nvml.Device, d *Device) {
	samples, ret := h.GetProcessUtilization(uint64(time.Now().Add(-lately).UnixMicro()))
	switch ret {
	case nvml.SUCCESS:
	case nvml.ERROR_NOT_FOUND: // nobody computed
		samples = nil
	default:
		return
	}
	d.SharesTold = true
	newest := map[int]nvml.ProcessUtilizationSample{}
	for _, x := range samples {
		if pid := int(x.Pid); pid > 0 && x.TimeStamp >= newest[pid].TimeStamp {
			newest[pid] = x
		}
	}
	for i, p := range d.Processes {
		d.Processes[i].Busy = min(float64(newest[p.PID].SmUtil)/100, 1)
	}
	listed := map[int]bool{}
	for _, p := range d.Processes {
		listed[p.PID] = true
	}
	for pid, x := range newest {
		if !listed[pid] && x.SmUtil > 0 {
			d.Processes = append(d.Processes, Process{PID: pid, Busy: min(float64(x.SmUtil)/100, 1)})
		}
	}
}

// explain puts a return code into words without the library, which is not
// there in the case that matters most.
func explain(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "libnvidia-ml.so.1 is not installed"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "its kernel module is not loaded"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission to ask it"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "library and kernel module differ in version: restart the machine after a driver update"
	case nvml.ERROR_GPU_IS_LOST:
		return "the device fell off the bus"
	}
	return fmt.Sprintf("NVML error %d", int(ret))
}
