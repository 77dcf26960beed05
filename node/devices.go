package node

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"

	"idlewild/job"
	"idlewild/node/localapi"
)

// maxDeviceConfigs bounds the entries of devices in the configuration.
const maxDeviceConfigs = 256

// DeviceConfig is what the owner wants of one device, or of all that match.
type DeviceConfig struct {
	Match      string  `toml:"match"`       // as `idlewild gpus` lists it: its DEVICE, its TYPE, or a pattern of its MODEL such as "*RTX 3090*"
	Enable     *bool   `toml:"enable"`      // false: it has no slot for work
	PowerWatts float64 `toml:"power_watts"` // limit of a GPU while it works for others; 0: limits.gpu_power_watts
	// MemoryBytes that work may use: of a GPU's own memory, or for the CPU of the
	// machine's; 0: limits.vram_bytes, or worker.memory_bytes.
	MemoryBytes int64 `toml:"memory_bytes"`
}

// noSlash has path.Match take a model's slashes as it takes other letters.
var noSlash = strings.NewReplacer("/", "|")

// matches ignores case in names, as people do.
func (c DeviceConfig) matches(d job.Device) bool {
	if strings.EqualFold(c.Match, d.Name) || strings.EqualFold(c.Match, d.Type) {
		return true
	}
	ok, err := path.Match(noSlash.Replace(strings.ToLower(c.Match)), noSlash.Replace(strings.ToLower(d.Model)))
	return err == nil && ok
}

// forDevice is what counts for d: of each setting what the first entry says that
// matches and has it. Its Match is empty.
func forDevice(list []DeviceConfig, d job.Device) (out DeviceConfig) {
	for _, c := range list {
		if c.matches(d) {
			out.Enable = cmp.Or(out.Enable, c.Enable)
			out.PowerWatts = cmp.Or(out.PowerWatts, c.PowerWatts)
			out.MemoryBytes = cmp.Or(out.MemoryBytes, c.MemoryBytes)
		}
	}
	return out
}

// unmatched are the entries that are about none of these devices.
func unmatched(list []DeviceConfig, devices []job.Device) (out []string) {
	for _, c := range list {
		used := false
		for _, d := range devices {
			used = used || c.matches(d)
		}
		if !used {
			out = append(out, c.Match)
		}
	}
	return out
}

// disabledText is what a device does that the settings give no slot.
const disabledText = "disabled in the settings"

// takeDevices has the found devices work, but for those that the settings
// disable. One has no more memory than work may use; vram is that of a GPU
// without a setting of its own, 0: all.
func (k *kit) takeDevices(found []job.Device, list []DeviceConfig, vram int64) {
	k.memory = map[string]int64{}
	for _, d := range found {
		c := forDevice(list, d)
		if c.MemoryBytes > 0 {
			k.memory[d.Name] = c.MemoryBytes
		} else if d.Type == "gpu" {
			c.MemoryBytes = vram
		}
		if c.MemoryBytes > 0 {
			d.MemoryBytes = min(d.MemoryBytes, c.MemoryBytes)
		}
		if c.Enable != nil && !*c.Enable {
			k.disabled = append(k.disabled, d)
		} else {
			k.machine.Devices = append(k.machine.Devices, d)
		}
	}
	k.unmatched = unmatched(list, found)
}

// disabledViews are the devices without a slot.
func (k *kit) disabledViews() (out []localapi.DeviceView) {
	for _, d := range k.disabled {
		out = append(out, deviceView(d, disabledText))
	}
	return out
}

// deviceFindings are what is not as it should be with the settings of devices.
func (k *kit) deviceFindings() (out []localapi.Finding) {
	for _, match := range k.unmatched {
		out = append(out, localapi.Finding{
			Severity: "warning", What: fmt.Sprintf("[[devices]] in the settings has match = %q, and no device of this machine is called that", match),
			Remedy: "idlewild gpus lists the devices: match takes a DEVICE, a TYPE, or a pattern of MODEL",
		})
	}
	if len(k.machine.Devices) == 0 {
		out = append(out, localapi.Finding{
			Severity: "note", What: "every device is disabled in the settings: this machine does no work but finishing and checking its own jobs",
			Remedy: "take enable = false out of [[devices]]",
		})
	}
	return out
}

// deviceTexts are the entries in words.
func deviceTexts(list []DeviceConfig) (out []string) {
	for _, c := range list {
		text := c.Match + ":"
		if c.Enable != nil {
			text += fmt.Sprintf(" enable %t", *c.Enable)
		}
		if c.PowerWatts > 0 {
			text += fmt.Sprintf(" power_watts %g", c.PowerWatts)
		}
		if c.MemoryBytes > 0 {
			text += fmt.Sprintf(" memory_bytes %d", c.MemoryBytes)
		}
		out = append(out, strings.TrimSuffix(text, ":"))
	}
	return out
}

func validateDevices(list []DeviceConfig) error {
	if len(list) > maxDeviceConfigs {
		return fmt.Errorf("devices has %d entries; there may be %d", len(list), maxDeviceConfigs)
	}
	for _, c := range list {
		if c.Match == "" {
			return errors.New("an entry of devices has no match; idlewild gpus lists what it may name")
		}
		if _, err := path.Match(c.Match, ""); err != nil {
			return fmt.Errorf("devices: match %q is no pattern: %w", c.Match, err)
		}
		if !(c.PowerWatts >= 0 && c.PowerWatts <= 1e5) {
			return fmt.Errorf("devices: power_watts of %q is %v; it may be 0 to 100000", c.Match, c.PowerWatts)
		}
		if c.MemoryBytes < 0 {
			return fmt.Errorf("devices: memory_bytes of %q is %d; it must not be negative", c.Match, c.MemoryBytes)
		}
	}
	return nil
}

// powerLimits are the limits in watts by device: its own, else the machine's.
func powerLimits(list []DeviceConfig, machine float64, devices []job.Device) map[string]float64 {
	limits := map[string]float64{}
	for _, d := range devices {
		if d.Type == "gpu" {
			limits[d.Name] = cmp.Or(forDevice(list, d).PowerWatts, machine)
		}
	}
	return limits
}
