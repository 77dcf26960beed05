package gpu

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInstancesOfWindowsCounters(t *testing.T) {
	card := luid{0, 0xd1f3}
	for name, want := range map[string]instance{
		"pid_4312_luid_0x00000000_0x0000D1F3_phys_0_eng_5_engtype_Compute_0": {4312, card, "0 5 Compute_0", false},
		"pid_4312_luid_0x00000000_0x0000D1F3_phys_0_eng_0_engtype_3D":        {4312, card, "0 0 3D", true},
		"pid_8_luid_0x00000001_0x0000D1F3_phys_1_eng_11_engtype_VideoDecode": {8, luid{1, 0xd1f3}, "1 11 VideoDecode", false},
		"pid_0_luid_0x00000000_0x0000D1F3_phys_0":                            {0, card, "", false},
		"pid_4312_luid_0x00000000_0x0000D1F3_phys_0_eng_12_engtype_":         {4312, card, "0 12 ", false},
		"pid_4312_luid_0x00000000_0x0000D1F3_phys_0_eng_6_engtype_Cuda":      {4312, card, "0 6 Cuda", false},
		"pid_4312_luid_0xFFFFFFFF_0xFFFFFFFF_phys_0_eng_0_engtype_High_Prio": {4312, luid{1<<32 - 1, 1<<32 - 1}, "0 0 High_Prio", false},
	} {
		if got, ok := parseInstance(name); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "_Total", "pid_4312", "pid_x_luid_0x0_0x1_phys_0", "pid_-1_luid_0x0_0x1_phys_0", "pid_1_luid_0x0_0x100000000_phys_0",
		"pid_1_luid_0x0_0x1_phys_0_eng_5", "pid_1_luid_0x0_0x1_phys_0_engtype_3D_eng_0", "luid_0x00000000_0x0000D1F3_phys_0_eng_0_engtype_3D",
	} {
		if got, ok := parseInstance(name); ok {
			t.Errorf("%q was read as %+v", name, got)
		}
	}
}

func TestProcessesOfWindowsCounters(t *testing.T) {
	card, board := luid{0, 0xd1f3}, luid{0, 0xc0de}
	const pre, onBoard = "_luid_0x00000000_0x0000D1F3_phys_0", "_luid_0x00000000_0x0000C0DE_phys_0"
	got := wddmProcesses([]reading{
		{"pid_100" + pre + "_eng_0_engtype_3D", 40},
		{"pid_100" + pre + "_eng_3_engtype_Copy", 10},
		{"pid_200" + pre + "_eng_5_engtype_Compute_0", 120}, // over one moment it may be more than all
		{"pid_300" + pre + "_eng_0_engtype_3D", 0},
		{"pid_400" + onBoard + "_eng_0_engtype_3D", 5},
		{"_Total", 55},
	}, []reading{
		{"pid_100" + pre, 3 << 30},
		{"pid_200" + pre, 1 << 30},
		{"pid_500" + pre, 1 << 20},
		{"pid_600" + pre, -1},
	})
	want := map[luid][]Process{
		card: {
			{PID: 100, MemoryBytes: 3 << 30, Graphics: true, Busy: 0.4},
			{PID: 200, MemoryBytes: 1 << 30, Busy: 1},
			{PID: 500, MemoryBytes: 1 << 20},
		},
		board: {{PID: 400, Graphics: true, Busy: 0.05}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Whoever cannot be accounted for is somebody else: in doubt a node yields.
func TestWindowsCountersAreCheckedAgainstTheDriver(t *testing.T) {
	ours := []Process{{PID: 1, Busy: 0.5}}
	for _, c := range []struct {
		name     string
		busy     float64
		counted  bool
		told     bool
		busyThen float64
	}{
		{"both agree", 0.6, true, true, 0.6},
		{"the driver says more than all do together", 0.9, true, false, 0.9},
		{"the driver is silent", -1, true, true, 0.5},
		{"nothing was counted yet", 0.5, false, false, 0.5},
		{"nothing was counted and the driver is silent", -1, false, false, -1},
	} {
		d := Device{Busy: c.busy}
		d.tell(ours, c.counted)
		if d.SharesTold != c.told || d.Busy != c.busyThen || len(d.Processes) != 1 {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}
