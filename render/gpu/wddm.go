package gpu

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Windows counts what each process does on a GPU by itself, where its display
// model (WDDM) hides that from the maker's library: as the performance counters
// "GPU Engine" and "GPU Process Memory". Their instances are named by process,
// adapter and engine:
//
//	pid_4312_luid_0x00000000_0x0000D1F3_phys_0_eng_5_engtype_Compute_0
//	pid_4312_luid_0x00000000_0x0000D1F3_phys_0

// luid is Windows' name for an adapter until the next start.
type luid struct{ high, low uint32 }

// instance is what the name of a counter's instance says.
type instance struct {
	pid     int
	adapter luid
	engine  string // "0 5 Compute_0": physical adapter, number and type; empty: of none
	draws   bool   // the engine is one that draws
}

// parseInstance reads a name; false: it is not of that form.
func parseInstance(name string) (x instance, ok bool) {
	words := strings.Split(name, "_")
	if len(words) < 7 || words[0] != "pid" || words[2] != "luid" || words[5] != "phys" {
		return x, false
	}
	pid, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return x, false
	}
	for i, to := range []*uint32{&x.adapter.high, &x.adapter.low} {
		n, err := strconv.ParseUint(words[3+i], 0, 32)
		if err != nil {
			return x, false
		}
		*to = uint32(n)
	}
	x.pid = int(pid)
	if len(words) == 7 {
		return x, true
	}
	if len(words) < 11 || words[7] != "eng" || words[9] != "engtype" {
		return x, false
	}
	x.engine = strings.Join([]string{words[6], words[8], strings.Join(words[10:], "_")}, " ")
	x.draws = words[10] == "3D"
	return x, true
}

// reading is a counter's instance and its value.
type reading struct {
	name  string
	value float64
}

// wddmProcesses are the processes on each adapter: busy holds percents of
// engines, memory bytes. A process is as busy as the engine that it uses most,
// as in Windows' own Task Manager. Those that do nothing and hold nothing are
// left out.
func wddmProcesses(busy, memory []reading) map[luid][]Process {
	type key struct {
		adapter luid
		pid     int
	}
	of := map[key]*Process{}
	get := func(x instance) *Process {
		k := key{x.adapter, x.pid}
		if of[k] == nil {
			of[k] = &Process{PID: x.pid}
		}
		return of[k]
	}
	for _, r := range busy {
		if x, ok := parseInstance(r.name); ok && x.engine != "" && r.value > 0 {
			p := get(x)
			p.Busy = max(p.Busy, min(r.value/100, 1))
			p.Graphics = p.Graphics || x.draws
		}
	}
	for _, r := range memory {
		if x, ok := parseInstance(r.name); ok && x.engine == "" && r.value > 0 && r.value < 1<<53 {
			get(x).MemoryBytes += int64(r.value)
		}
	}
	out := map[luid][]Process{}
	for _, k := range slices.SortedFunc(maps.Keys(of), func(a, b key) int { return cmp.Compare(a.pid, b.pid) }) {
		out[k.adapter] = append(out[k.adapter], *of[k])
	}
	return out
}

// unexplained is how much more of a device the maker's library may say to be
// busy than all processes together before they are not believed.
const unexplained = 0.25

// tell adds to d what Windows counted of its processes. counted is false where
// Windows has not counted the engines for a while yet.
func (d *Device) tell(processes []Process, counted bool) {
	d.Processes = processes
	sum := 0.0
	for _, p := range processes {
		sum += p.Busy
	}
	// The two are cross-checked: a driver may keep some of its work from Windows.
	d.SharesTold = counted && (d.Busy < 0 || d.Busy <= sum+unexplained)
	if counted && d.Busy < 0 {
		d.Busy = min(sum, 1)
	}
}
