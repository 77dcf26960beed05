package job

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Offer announces open tasks to a farm: at most 1 kB, no file names.
type Offer struct {
	Job        ID
	Requester  peer.ID
	Kind       Kind
	Needs      Needs
	InputBytes int64   // size of the job's content
	Open       int     // tasks not yet leased
	MaxPrice   float64 // highest price per device-second that is paid
	Expires    time.Time
	// Strangers says that peers which are no members may work on it, and so
	// whether they are told of it. It does not travel.
	Strangers bool
}

// Machine is what a worker says of itself. Claims are only hints: speed is
// learnt from verified work, and the device is asserted after each task.
type Machine struct {
	// Facts are abilities by name, each with the values it has here, for
	// example "blender" -> {"3.4.1", "4.2.1"}. Under a name that ends in "@cpu"
	// or "@gpu" are those that only devices of this type have.
	Facts   map[string][]string
	Devices []Device
}

// HomeDevice is the name of a slot, of type "cpu", that a machine offers to
// its own requester alone. It takes tasks whose Place is AtRequester and
// nothing else, so that checking and finishing never wait behind a long render.
const HomeDevice = "home"

// Device is one slot for work: a GPU, or the CPU.
type Device struct {
	Name  string // unique on the machine: "cpu", "GPU-<uuid>"
	Type  string // "cpu" or "gpu"
	Model string // for people
	Class string // device class: results are comparable within one
	// MemoryBytes that work may use: of a GPU's own memory, or for the CPU of the
	// machine's; 0: it does not say.
	MemoryBytes int64
}

// Has reports whether the machine meets n on device d.
func (m Machine) Has(n Needs, d Device) bool {
	if n.Device != "" && n.Device != d.Type {
		return false
	}
	if m.small(n, d) != "" {
		return false
	}
	for name, want := range n.Require {
		if !slices.Contains(m.facts(name, d), want) {
			return false
		}
	}
	return true
}

// facts are the values of a fact on d.
func (m Machine) facts(name string, d Device) []string {
	everywhere, there := m.Facts[name], m.Facts[name+"@"+d.Type]
	if len(everywhere) == 0 {
		return there
	}
	return append(slices.Clip(everywhere), there...)
}

// Lacks says in words why Has is false, or "" if it is true.
func (m Machine) Lacks(n Needs, d Device) string {
	if m.Has(n, d) {
		return ""
	}
	for name, want := range n.Require {
		if !(Machine{Facts: m.Facts}).Has(Needs{Require: map[string]string{name: want}}, d) {
			have := m.facts(name, d)
			if len(have) == 0 {
				return fmt.Sprintf("needs %s %s, which is not here", name, want)
			}
			return fmt.Sprintf("needs %s %s, here is %v", name, want, have)
		}
	}
	if n.Device != "" && n.Device != d.Type {
		return fmt.Sprintf("needs a %s", n.Device)
	}
	return m.small(n, d)
}

// small says in words which memory of n is more than there is, or "". What a
// machine does not say it is taken to have: the task will tell.
func (m Machine) small(n Needs, d Device) string {
	if d.Type == "gpu" && d.MemoryBytes > 0 && d.MemoryBytes < n.VRAMBytes {
		need, have := sizes(n.VRAMBytes, d.MemoryBytes)
		return fmt.Sprintf("needs %s of GPU memory, %s has %s", need, d.called(), have)
	}
	if have := m.Memory(d); have > 0 && have < n.MemoryBytes {
		need, most := sizes(n.MemoryBytes, have)
		return fmt.Sprintf("needs %s of memory, here work may use %s", need, most)
	}
	return ""
}

// Memory is how much of the machine's own work on d may use; 0: it does not say.
func (m Machine) Memory(d Device) int64 {
	if d.Type != "gpu" {
		return d.MemoryBytes
	}
	for _, x := range m.Devices {
		if x.Type == "cpu" {
			return x.MemoryBytes
		}
	}
	return 0
}

// called is what people call d.
func (d Device) called() string {
	if d.Model != "" {
		return d.Model
	}
	return d.Name
}

// sizes are two sizes for people, such that they differ.
func sizes(need, have int64) (string, string) {
	if a, b := Gigabytes(need), Gigabytes(have); a != b {
		return a, b
	}
	return fmt.Sprintf("%d MB", (need+1<<20-1)>>20), fmt.Sprintf("%d MB", have>>20)
}

// Gigabytes is a size of memory for people, as makers of GPUs count: 8 GB are
// 8 GiB.
func Gigabytes(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MB", (bytes+1<<20-1)>>20)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/(1<<30))
}

// Validate checks the bounds of a machine that a peer described.
func (m Machine) Validate() error {
	n := 0
	for k, v := range m.Facts {
		n += 1 + len(v)
		if len(k) > MaxNameBytes || n > MaxFacts {
			return fmt.Errorf("machine: too many facts")
		}
		for _, s := range v {
			if len(s) > MaxNameBytes {
				return fmt.Errorf("machine: fact %s of %d bytes", k, len(s))
			}
		}
	}
	if len(m.Devices) > MaxDevices {
		return fmt.Errorf("machine: %d devices", len(m.Devices))
	}
	for _, d := range m.Devices {
		if len(d.Name)+len(d.Type)+len(d.Model)+len(d.Class) > 4*MaxNameBytes || d.MemoryBytes < 0 || d.MemoryBytes > MaxMemoryBytes {
			return fmt.Errorf("machine: bad device")
		}
	}
	return nil
}
