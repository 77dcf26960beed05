package gpu

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// Not run: no Windows machine here; this file is only compiled and vetted.

func newProber() Prober { return &dllProber{dll: syscall.NewLazyDLL("nvml.dll")} }

// dllProber asks NVML through nvml.dll, which every NVIDIA driver for Windows
// puts into the system's folder, and Windows itself for the processes.
type dllProber struct {
	mu       sync.Mutex
	dll      *syscall.LazyDLL
	counters counters
}

const (
	nvmlSuccess    = 0
	nvmlStringSize = 96 // NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE
	nvmlCelsius    = 0  // NVML_TEMPERATURE_GPU
)

// nvmlMemory is nvmlMemory_t.
type nvmlMemory struct{ Total, Free, Used uint64 }

// nvmlPCI is nvmlPciInfo_t.
type nvmlPCI struct {
	Legacy                             [16]byte
	Domain, Bus, Device, ID, Subsystem uint32
	BusID                              [32]byte
}

// nvmlUtilization is nvmlUtilization_t, in percent.
type nvmlUtilization struct{ GPU, Memory uint32 }

// call calls a function of the library and returns its code; a function that
// an old driver does not have is an error like another. The directive keeps what
// the arguments point to alive and in place, as it does for LazyProc.Call.
//
//go:uintptrescapes
func (p *dllProber) call(name string, args ...uintptr) int {
	proc := p.dll.NewProc(name)
	if proc.Find() != nil {
		return -1
	}
	r, _, _ := proc.Call(args...)
	return int(int32(r))
}

// Devices implements Prober.
func (p *dllProber) Devices(ctx context.Context) ([]Device, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.dll.Load(); err != nil {
		return nil, fmt.Errorf("%w on this machine: nvml.dll is not installed", ErrNoDriver)
	}
	if code := p.call("nvmlInit_v2"); code != nvmlSuccess {
		return nil, fmt.Errorf("%w on this machine: NVML error %d", ErrNoDriver, code)
	}
	defer p.call("nvmlShutdown")

	var version [nvmlStringSize]byte
	driver := ""
	if p.call("nvmlSystemGetDriverVersion", uintptr(unsafe.Pointer(&version[0])), nvmlStringSize) == nvmlSuccess {
		driver = cString(version[:])
	}
	var count uint32
	if code := p.call("nvmlDeviceGetCount_v2", uintptr(unsafe.Pointer(&count))); code != nvmlSuccess {
		return nil, fmt.Errorf("NVIDIA driver: count devices: NVML error %d", code)
	}
	// Without the counters a device's processes are unknown.
	processes, counted, uncounted := p.counters.read()
	var devices []Device
	for i := range min(count, maxDevices) {
		if d, at, ok := p.device(i); ok {
			d.Driver = driver
			if uncounted == nil {
				d.tell(p.counters.on(processes, at), counted)
			}
			devices = append(devices, d)
		}
	}
	if len(devices) == 0 {
		return nil, fmt.Errorf("the NVIDIA driver %s has no device", driver)
	}
	return devices, nil
}

// device asks for one, and where it is. Which processes use it NVML is not
// asked: Windows' own display model hides it from there.
func (p *dllProber) device(i uint32) (d Device, at place, ok bool) {
	var h uintptr
	if p.call("nvmlDeviceGetHandleByIndex_v2", uintptr(i), uintptr(unsafe.Pointer(&h))) != nvmlSuccess {
		return Device{}, at, false
	}
	d = Device{Type: "gpu", Busy: -1}
	var text [nvmlStringSize]byte
	if p.call("nvmlDeviceGetUUID", h, uintptr(unsafe.Pointer(&text[0])), nvmlStringSize) != nvmlSuccess {
		return Device{}, at, false
	}
	var pci nvmlPCI
	if p.call("nvmlDeviceGetPciInfo_v3", h, uintptr(unsafe.Pointer(&pci))) == nvmlSuccess {
		at = place{pci.Bus, pci.Device, true}
	}
	d.UUID, d.Name = cString(text[:]), cString(text[:])
	if p.call("nvmlDeviceGetName", h, uintptr(unsafe.Pointer(&text[0])), nvmlStringSize) == nvmlSuccess {
		d.Name = cString(text[:])
	}
	var m nvmlMemory
	if p.call("nvmlDeviceGetMemoryInfo", h, uintptr(unsafe.Pointer(&m))) == nvmlSuccess {
		d.MemoryBytes, d.UsedBytes = int64(m.Total), int64(m.Used)
	}
	var major, minor int32
	if p.call("nvmlDeviceGetCudaComputeCapability", h, uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor))) == nvmlSuccess {
		d.Model = smName(int(major), int(minor))
	}
	var u nvmlUtilization
	if p.call("nvmlDeviceGetUtilizationRates", h, uintptr(unsafe.Pointer(&u))) == nvmlSuccess {
		d.Busy = min(float64(u.GPU)/100, 1)
	}
	var n uint32
	if p.call("nvmlDeviceGetTemperature", h, nvmlCelsius, uintptr(unsafe.Pointer(&n))) == nvmlSuccess {
		d.TempC = float64(n)
	}
	if p.call("nvmlDeviceGetPowerUsage", h, uintptr(unsafe.Pointer(&n))) == nvmlSuccess {
		d.PowerW = float64(n) / 1000
	}
	return d, at, true
}

// cString is the text up to the first zero.
func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
