package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	got, unknown := powerLimits([]DeviceConfig{{Match: "gpu-b", PowerWatts: 180}, {Match: "*rtx 3090*", PowerWatts: 220}, {Match: "GPU-gone", PowerWatts: 90}}, 300, devices)
	if len(got) != 3 || got["GPU-a"] != 220 || got["GPU-b"] != 180 || got["GPU-c"] != 300 {
		t.Errorf("limits %v", got)
	}
	if len(unknown) != 1 || unknown[0] != "GPU-gone" {
		t.Errorf("unknown %v", unknown)
	}
	for _, bad := range []DeviceConfig{{PowerWatts: 1}, {Match: "["}, {Match: "a", PowerWatts: -1}} {
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
	c, origins, err := LoadConfig(file, nil)
	if err != nil || len(c.Devices) != 1 || c.Devices[0] != (DeviceConfig{Match: "GPU-a", PowerWatts: 220}) {
		t.Errorf("%+v, %v", c.Devices, err)
	}
	for _, o := range origins {
		if o.Key == "devices" && (fmt.Sprint(o.Value) != "[GPU-a: power_watts 220]" || o.From != "file "+file) {
			t.Errorf("%+v", o)
		}
	}
	t.Setenv("IDLEWILD_DEVICES", "x")
	if _, _, err := LoadConfig(file, nil); err == nil || !strings.Contains(err.Error(), "only the file can have") {
		t.Errorf("tables in the environment: %v", err)
	}
}

// Saving another setting in the dashboard, or with setup, keeps the tables; a
// change of them by hand waits for a start.
func TestDevicesStayWhenSettingsAreSaved(t *testing.T) {
	x := startNode(t, "desk", nil)
	file := filepath.Join(x.cfg.DataDir, configFile)
	put := func(watts string) {
		t.Helper()
		text := "[[devices]]\nmatch = \"GPU-a\"\npower_watts = " + watts + "\n[[devices]]\nmatch = \"*RTX*\"\npower_watts = 300.5\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("220")
	v, err := x.client.Settings(t.Context())
	if s := setting(t, v, "devices"); err != nil || fmt.Sprint(s.Pending) != "[GPU-a: power_watts 220 *RTX*: power_watts 300.5]" || s.Fixed == "" || s.Type != "list" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := x.client.Change(t.Context(), map[string]any{"devices": []any{"x"}}); err == nil {
		t.Error("tables are changed over the local API")
	}
	want := []DeviceConfig{{Match: "GPU-a", PowerWatts: 220}, {Match: "*RTX*", PowerWatts: 300.5}}
	same := func(who string) {
		t.Helper()
		c, _, err := LoadConfig(file, nil)
		if err != nil || !slices.Equal(c.Devices, want) {
			t.Errorf("after %s: %+v, %v", who, c.Devices, err)
		}
	}
	if _, err := x.client.Change(t.Context(), map[string]any{"idle.after_s": 77.0, "log.level": "debug"}); err != nil {
		t.Fatal(err)
	}
	same("the dashboard")
	if err := WriteSettings(x.cfg.DataDir, map[string]string{"name": "other"}); err != nil {
		t.Fatal(err)
	}
	same("setup")
}
