//go:build linux && cgo && !nonvml

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
)

// fakeLib is NVML with these devices; nil stands for one that is lost.
func fakeLib(devices ...*mock.Device) *mock.Interface {
	return &mock.Interface{
		InitFunc:                   func() nvml.Return { return nvml.SUCCESS },
		ShutdownFunc:               func() nvml.Return { return nvml.SUCCESS },
		SystemGetDriverVersionFunc: func() (string, nvml.Return) { return "550.54.15", nvml.SUCCESS },
		DeviceGetCountFunc:         func() (int, nvml.Return) { return len(devices), nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			if devices[i] == nil {
				return nil, nvml.ERROR_GPU_IS_LOST
			}
			return devices[i], nvml.SUCCESS
		},
	}
}

// fakeDevice answers everything; a bare one only what it must.
func fakeDevice(uuid string, bare bool) *mock.Device {
	ret := nvml.SUCCESS
	if bare {
		ret = nvml.ERROR_NOT_SUPPORTED
	}
	return &mock.Device{
		GetUUIDFunc:                  func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetNameFunc:                  func() (string, nvml.Return) { return "NVIDIA GeForce RTX 4090", ret },
		GetMemoryInfoFunc:            func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 24 << 30, Used: 1 << 30}, ret },
		GetCudaComputeCapabilityFunc: func() (int, int, nvml.Return) { return 8, 9, ret },
		GetUtilizationRatesFunc:      func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 40}, ret },
		GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 7, UsedGpuMemory: ^uint64(0)}}, ret
		},
		GetGraphicsRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 8, UsedGpuMemory: 5 << 20}}, ret
		},
		GetTemperatureFunc: func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, ret },
		GetPowerUsageFunc:  func() (uint32, nvml.Return) { return 215500, ret },
		GetProcessUtilizationFunc: func(since uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
			return []nvml.ProcessUtilizationSample{
				{Pid: 8, TimeStamp: since + 1, SmUtil: 99}, {Pid: 8, TimeStamp: since + 2, SmUtil: 30},
				{Pid: 9, TimeStamp: since + 2, SmUtil: 10},
			}, ret
		},
	}
}

func TestDevices(t *testing.T) {
	lib := fakeLib(fakeDevice("GPU-1", false), nil, fakeDevice("GPU-3", true))
	got, err := (&nvmlProber{lib: lib}).Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{
			UUID: "GPU-1", Name: "NVIDIA GeForce RTX 4090", Model: "sm_89", Type: "gpu", Driver: "550.54.15",
			MemoryBytes: 24 << 30, UsedBytes: 1 << 30, Busy: 0.4,
			Processes:  []Process{{PID: 7}, {PID: 8, MemoryBytes: 5 << 20, Graphics: true, Busy: 0.3}, {PID: 9, Busy: 0.1}},
			SharesTold: true, TempC: 61, PowerW: 215.5,
		},
		{UUID: "GPU-3", Name: "GPU-3", Type: "gpu", Driver: "550.54.15", Busy: -1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(lib.InitCalls()) != len(lib.ShutdownCalls()) {
		t.Error("the library was not closed")
	}
}

// While tasks run the library stays open, until a question fails.
func TestTheLibraryIsHeld(t *testing.T) {
	lib := fakeLib(fakeDevice("GPU-1", false))
	p := &nvmlProber{lib: lib}
	p.Hold(true)
	for range 3 {
		if _, err := p.Devices(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(lib.InitCalls()) != 1 || len(lib.ShutdownCalls()) != 0 {
		t.Errorf("opened %d times, closed %d times", len(lib.InitCalls()), len(lib.ShutdownCalls()))
	}
	lib.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_GPU_IS_LOST }
	if _, err := p.Devices(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if len(lib.ShutdownCalls()) != 1 {
		t.Error("it is still open after an error")
	}
	p.Hold(false)
	if len(lib.ShutdownCalls()) != 1 {
		t.Error("closed twice")
	}
}

func TestNoDevicesHaveAReason(t *testing.T) {
	missing := fakeLib()
	missing.InitFunc = func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }
	mismatch := fakeLib()
	mismatch.InitFunc = func() nvml.Return { return nvml.ERROR_LIB_RM_VERSION_MISMATCH }
	uncounted := fakeLib()
	uncounted.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	for words, lib := range map[string]*mock.Interface{
		"not installed":     missing,
		"differ in version": mismatch,
		"NVML error 999":    uncounted,
		"has no device":     fakeLib(),
		"fell off the bus":  fakeLib(nil),
	} {
		got, err := (&nvmlProber{lib: lib}).Devices(t.Context())
		if err == nil || len(got) != 0 || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v %v", words, got, err)
		}
		if errors.Is(err, ErrNoDriver) != (lib == missing) {
			t.Errorf("%s: is it the missing driver? %v", words, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&nvmlProber{lib: fakeLib()}).Devices(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The real library, where it is; where it is not, the reason.
func TestThisMachine(t *testing.T) {
	got, err := NewProber().Devices(t.Context())
	if _, serr := os.Stat("/proc/driver/nvidia/version"); serr != nil {
		libs, _ := filepath.Glob("/usr/lib/*/libnvidia-ml.so.1")
		if err == nil || len(got) != 0 || (len(libs) == 0 && !errors.Is(err, ErrNoDriver)) {
			t.Fatalf("%v %v", got, err)
		}
		t.Skipf("NOT RUN: with a GPU: %v", err)
	}
	if err != nil || len(got) == 0 {
		t.Fatalf("there is a driver, but: %v", err)
	}
	for _, d := range got {
		t.Logf("%+v", d)
		if !strings.HasPrefix(d.UUID, "GPU-") || d.MemoryBytes <= 0 || d.Driver == "" {
			t.Errorf("%+v", d)
		}
	}
}
