package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render/echo"
	"idlewild/render/gpu"
)

// fakeGPUs are what a driver tells of.
type fakeGPUs []gpu.Device

func (f fakeGPUs) Devices(context.Context) ([]gpu.Device, error) { return f, nil }

// twoGPUs has this machine find two graphics cards of one model.
func twoGPUs(t *testing.T) {
	t.Helper()
	newProber = func() gpu.Prober {
		return fakeGPUs{
			{UUID: "GPU-a", Name: "Maker's RTX 3090 w/ fan", Model: "sm_86", Driver: "550.54", MemoryBytes: 24 << 30},
			{UUID: "GPU-b", Name: "Maker's RTX 3090 w/ fan", Model: "sm_86", Driver: "550.54", MemoryBytes: 24 << 30},
		}
	}
	t.Cleanup(func() { newProber = gpu.NewProber })
}

func off(match string) DeviceConfig {
	no := false
	return DeviceConfig{Match: match, Enable: &no}
}

func on(match string) DeviceConfig {
	yes := true
	return DeviceConfig{Match: match, Enable: &yes}
}

func TestDisabledDevicesAreNotOffered(t *testing.T) {
	twoGPUs(t)
	for name, x := range map[string]struct {
		list      []DeviceConfig
		here      []string
		unmatched []string
	}{
		"nothing":          {nil, []string{"GPU-a", "GPU-b", "cpu"}, nil},
		"cpu":              {[]DeviceConfig{off("CPU")}, []string{"GPU-a", "GPU-b"}, nil},
		"a UUID":           {[]DeviceConfig{off("gpu-b")}, []string{"GPU-a", "cpu"}, nil},
		"a type":           {[]DeviceConfig{off("gpu")}, []string{"cpu"}, nil},
		"a pattern":        {[]DeviceConfig{off("*rtx 3090*")}, []string{"cpu"}, nil},
		"the first counts": {[]DeviceConfig{on("GPU-a"), off("gpu")}, []string{"GPU-a", "cpu"}, nil},
		"another has none": {[]DeviceConfig{{Match: "GPU-a", PowerWatts: 1}, off("gpu")}, []string{"cpu"}, nil},
		"all":              {[]DeviceConfig{off("*")}, nil, nil},
		"nobody":           {[]DeviceConfig{off("*A100*"), off("cpu"), off("GPU-c")}, []string{"GPU-a", "GPU-b"}, []string{"*A100*", "GPU-c"}},
	} {
		var k kit
		k.devices(t.Context(), Config{Devices: x.list})
		var here []string
		for _, d := range k.machine.Devices {
			here = append(here, d.Name)
		}
		if !slices.Equal(here, x.here) || len(here)+len(k.disabled) != 3 || k.cpu.Class == "" {
			t.Errorf("%s: %q work, %v do not", name, here, k.disabled)
		}
		if !slices.Equal(k.unmatched, x.unmatched) {
			t.Errorf("%s: %q match nothing", name, k.unmatched)
		}
	}
	list, _, err := Gpus(t.Context(), Config{Devices: []DeviceConfig{off("GPU-a")}})
	if err != nil || len(list) != 3 || list[2].Name != "GPU-a" || list[2].Doing != "disabled in the settings" || list[0].Doing != "" {
		t.Errorf("%+v, %v", list, err)
	}
}

// A device says it has what work may use, so that what needs more goes elsewhere.
func TestMemoryByDevice(t *testing.T) {
	twoGPUs(t)
	cfg := Config{Devices: []DeviceConfig{{Match: "GPU-a", MemoryBytes: 16 << 30}, {Match: "cpu", MemoryBytes: 1 << 20}}}
	cfg.Limits.VRAMBytes = 8 << 30
	var k kit
	k.devices(t.Context(), cfg)
	for i, want := range []int64{16 << 30, 8 << 30, 1 << 20} {
		if d := k.machine.Devices[i]; d.MemoryBytes != want {
			t.Errorf("%+v, want %d", d, want)
		}
	}
	needs := job.Needs{VRAMBytes: 12 << 30}
	if !k.machine.Has(needs, k.machine.Devices[0]) || k.machine.Has(needs, k.machine.Devices[1]) {
		t.Error("12 GiB fit the wrong one")
	}
	if validateDevices([]DeviceConfig{{Match: "a", MemoryBytes: -1}}) == nil {
		t.Error("a negative size passes")
	}
}

// A machine whose CPU is disabled has others do its work, checks what they
// deliver, and says why it does none.
func TestDisabledCPUTakesNoWork(t *testing.T) {
	x := startNode(t, "desk", func(c *Config) { c.Devices = []DeviceConfig{off("cpu"), off("GPU-gone")} })
	other := startNode(t, "other", nil)
	join(t, x, other)
	id, err := x.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 6, Check: true}))
	if err != nil {
		t.Fatal(err)
	}
	s := x.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 6 || s.Rechecked == 0 || len(s.Frames) != 6 {
		t.Errorf("%+v", s)
	}
	for _, f := range s.Frames {
		if f.Worker != other.self.String() {
			t.Errorf("%s was done by %s", f.Label, f.Worker)
		}
	}
	v, err := x.client.Status(t.Context())
	if err != nil || len(v.Machine.Devices) != 2 || v.Machine.Devices[0].Name != "cpu" || v.Machine.Devices[0].Doing != "disabled in the settings" {
		t.Errorf("%+v, %v", v.Machine.Devices, err)
	}
	why, err := x.client.Why(t.Context())
	if err != nil || len(why.Devices) != 1 || why.Devices[0].Level != "stop" || why.Devices[0].Signal != "settings" || !strings.Contains(why.Devices[0].Reason, "disabled in the settings") {
		t.Errorf("%+v, %v", why.Devices, err)
	}
	d, err := x.client.Doctor(t.Context(), false)
	if err != nil || len(d.Findings) != 2 || d.Findings[0].Severity != "warning" || !strings.Contains(d.Findings[0].What, `"GPU-gone"`) ||
		!strings.Contains(d.Findings[1].What, "every device is disabled") {
		t.Errorf("%+v, %v", d.Findings, err)
	}

	// It takes nothing of others either, and an `idlewild render` of its own would
	// wait for ever.
	if id, err = other.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 6})); err != nil {
		t.Fatal(err)
	}
	if s = other.finish(t, id); len(s.Frames) != 6 {
		t.Errorf("%+v", s)
	}
	for _, f := range s.Frames {
		if f.Worker != other.self.String() {
			t.Errorf("%s was done by %s", f.Label, f.Worker)
		}
	}
	cfg := x.cfg
	cfg.DataDir = t.TempDir()
	_, err = RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 1, Config: cfg, Spec: echoSpec(t, t.TempDir(), echo.Params{Count: 1}), Log: slog.New(slog.DiscardHandler)}, nil)
	if err == nil || !strings.Contains(err.Error(), "disabled in the settings") {
		t.Errorf("alone: %v", err)
	}
}

func TestPowerLimitsByDevice(t *testing.T) {
	twoGPUs(t)
	var k kit
	k.devices(t.Context(), Config{})
	for _, bad := range []DeviceConfig{{PowerWatts: 1}, {Match: "["}, {Match: "a", PowerWatts: -1}} {
		if validateDevices([]DeviceConfig{bad}) == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	limits := powerLimits([]DeviceConfig{{Match: "gpu-b", PowerWatts: 180}, {Match: "*RTX 3090*", PowerWatts: 220}}, 300, k.machine.Devices)
	if len(limits) != 2 || powerLimits(nil, 300, k.machine.Devices)["GPU-a"] != 300 {
		t.Errorf("limits %v", limits)
	}

	// Both are set to their own, and back to what they had.
	driver := t.TempDir()
	t.Setenv(envTestPower, driver)
	newLimiter = func() gpu.PowerLimiter { return filePower{driver} }
	t.Cleanup(func() { newLimiter = gpu.NewPowerLimiter })
	for name, w := range map[string]string{"GPU-a": "350", "GPU-b": "320"} {
		if err := os.WriteFile(filepath.Join(driver, name), []byte(w), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func(a, b string) {
		t.Helper()
		for name, want := range map[string]string{"GPU-a": a, "GPU-b": b} {
			if got, err := os.ReadFile(filepath.Join(driver, name)); err != nil || string(got) != want {
				t.Errorf("%s has %s W, want %s (%v)", name, got, want, err)
			}
		}
	}
	p := newPowerCap(t.TempDir(), limits, slog.New(slog.DiscardHandler))
	p.follow("GPU-a", true)
	p.follow("GPU-b", true)
	has("220", "180")
	p.follow("GPU-a", false)
	has("350", "180")
	p.follow("GPU-a", true)
	p.close()
	has("350", "320")
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
