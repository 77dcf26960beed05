package node

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"idlewild/job"
)

// maxDeviceConfigs bounds the entries of devices in the configuration.
const maxDeviceConfigs = 256

// DeviceConfig is what the owner wants of one device, or of all of a name.
type DeviceConfig struct {
	Match      string  `toml:"match" json:"match"`             // its UUID, or a pattern of its name such as "*RTX 3090*"
	PowerWatts float64 `toml:"power_watts" json:"power_watts"` // limit while it works for others; 0: limits.gpu_power_watts
}

// matches ignores case in names, as people do.
func (c DeviceConfig) matches(d job.Device) bool {
	if strings.EqualFold(c.Match, d.Name) {
		return true
	}
	ok, err := path.Match(strings.ToLower(c.Match), strings.ToLower(d.Model))
	return err == nil && ok
}

// deviceTexts are the entries in words.
func deviceTexts(list []DeviceConfig) []string {
	var out []string
	for _, c := range list {
		text := c.Match + ":"
		if c.PowerWatts > 0 {
			text += fmt.Sprintf(" power_watts %g", c.PowerWatts)
		}
		out = append(out, text)
	}
	return out
}

func validateDevices(list []DeviceConfig) error {
	if len(list) > maxDeviceConfigs {
		return fmt.Errorf("devices has %d entries; there may be %d", len(list), maxDeviceConfigs)
	}
	for _, c := range list {
		if c.Match == "" {
			return errors.New("an entry of devices has no match; it needs a device's UUID or a pattern of its name")
		}
		if _, err := path.Match(c.Match, ""); err != nil {
			return fmt.Errorf("devices: match %q is no pattern: %w", c.Match, err)
		}
		if !(c.PowerWatts >= 0 && c.PowerWatts <= 1e5) {
			return fmt.Errorf("devices: power_watts of %q is %v; it may be 0 to 100000", c.Match, c.PowerWatts)
		}
	}
	return nil
}

// powerLimits are the limits in watts by device: those of the first entry that
// matches and has one, else the machine's. unknown are entries without a device.
func powerLimits(list []DeviceConfig, machine float64, devices []job.Device) (limits map[string]float64, unknown []string) {
	limits = map[string]float64{}
	used := make([]bool, len(list))
	for _, d := range devices {
		if d.Type != "gpu" {
			continue
		}
		limits[d.Name] = machine
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].matches(d) {
				used[i] = true
				if list[i].PowerWatts > 0 {
					limits[d.Name] = list[i].PowerWatts
				}
			}
		}
	}
	for i, c := range list {
		if !used[i] {
			unknown = append(unknown, c.Match)
		}
	}
	return limits, unknown
}
