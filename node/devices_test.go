package node

import (
	"os"
	"path/filepath"
	"testing"

	"idlewild/job"
)

func TestPowerLimitsByDevice(t *testing.T) {
	devices := []job.Device{
		{Name: "GPU-a", Type: "gpu", Model: "NVIDIA GeForce RTX 3090"},
		{Name: "GPU-b", Type: "gpu", Model: "NVIDIA GeForce RTX 3090"},
		{Name: "GPU-c", Type: "gpu", Model: "NVIDIA A100"},
		{Name: "cpu", Type: "cpu"},
	}
	got, unknown := powerLimits([]DeviceConfig{{"gpu-b", 180}, {"*rtx 3090*", 220}, {"GPU-gone", 90}}, 300, devices)
	if len(got) != 3 || got["GPU-a"] != 220 || got["GPU-b"] != 180 || got["GPU-c"] != 300 {
		t.Errorf("limits %v", got)
	}
	if len(unknown) != 1 || unknown[0] != "GPU-gone" {
		t.Errorf("unknown %v", unknown)
	}
	for _, bad := range []DeviceConfig{{"", 1}, {"[", 1}, {"a", -1}} {
		if validateDevices([]DeviceConfig{bad}) == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestDevicesInTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("[[devices]]\nmatch = \"GPU-a\"\npower_watts = 220\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := LoadConfig(file, nil)
	if err != nil || len(c.Devices) != 1 || c.Devices[0] != (DeviceConfig{"GPU-a", 220}) {
		t.Errorf("%+v, %v", c.Devices, err)
	}
}
