//go:build linux && cgo && !nonvml

package gpu

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// handle opens the library and a device; done closes the library.
func (p *nvmlProber) handle(uuid string) (h nvml.Device, done func(), err error) {
	p.mu.Lock()
	if !p.open {
		if ret := p.lib.Init(); ret != nvml.SUCCESS {
			p.mu.Unlock()
			return nil, nil, fmt.Errorf("NVIDIA driver: %s", explain(ret))
		}
		p.open = true
	}
	done = func() {
		if !p.hold {
			p.shut()
		}
		p.mu.Unlock()
	}
	h, ret := p.lib.DeviceGetHandleByUUID(uuid)
	if ret != nvml.SUCCESS {
		done()
		return nil, nil, fmt.Errorf("NVIDIA device %s: %s", uuid, explain(ret))
	}
	return h, done, nil
}

// PowerLimit implements PowerLimiter.
func (p *nvmlProber) PowerLimit(uuid string) (now, least float64, err error) {
	h, done, err := p.handle(uuid)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	mw, ret := h.GetPowerManagementLimit()
	if ret != nvml.SUCCESS {
		return 0, 0, fmt.Errorf("power limit of %s: %s", uuid, explain(ret))
	}
	low, _, ret := h.GetPowerManagementLimitConstraints()
	if ret != nvml.SUCCESS {
		return 0, 0, fmt.Errorf("power limit of %s: %s", uuid, explain(ret))
	}
	return float64(mw) / 1000, float64(low) / 1000, nil
}

// SetPowerLimit implements PowerLimiter.
func (p *nvmlProber) SetPowerLimit(uuid string, watts float64) error {
	h, done, err := p.handle(uuid)
	if err != nil {
		return err
	}
	defer done()
	if ret := h.SetPowerManagementLimit(uint32(watts * 1000)); ret != nvml.SUCCESS {
		return fmt.Errorf("set the power limit of %s: %s", uuid, explain(ret))
	}
	return nil
}
