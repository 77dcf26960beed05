package gpu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Not run: no Windows machine here; this file is only compiled and vetted.

var (
	pdh   = windows.NewLazySystemDLL("pdh.dll")
	gdi32 = windows.NewLazySystemDLL("gdi32.dll")
)

// From pdh.h and pdhmsg.h.
const (
	pdhFmtDouble    = 0x00000200
	pdhFmtNoCap100  = 0x00008000
	pdhMoreData     = 0x800007D2
	pdhValidData    = 0
	pdhNewData      = 1
	maxCounterBytes = 16 << 20
)

// pdhItem is PDH_FMT_COUNTERVALUE_ITEM_W with a double in it.
type pdhItem struct {
	name   *uint16
	status uint32
	_      uint32
	value  float64
}

// counters asks Windows' performance counters who uses the GPUs. A percentage is
// over the time since the question before.
type counters struct {
	query, engines, memory uintptr
	asked                  bool
	places                 map[luid]place
}

// place is where an adapter is on its bus.
type place struct {
	bus, device uint32
	known       bool
}

// open begins to count.
func (c *counters) open() error {
	if c.query != 0 {
		return nil
	}
	if err := pdh.Load(); err != nil {
		return err
	}
	if r, _, _ := pdh.NewProc("PdhOpenQueryW").Call(0, 0, uintptr(unsafe.Pointer(&c.query))); r != 0 {
		c.query = 0
		return fmt.Errorf("PdhOpenQuery: %#x", r)
	}
	for path, to := range map[string]*uintptr{
		`\GPU Engine(*)\Utilization Percentage`:  &c.engines,
		`\GPU Process Memory(*)\Dedicated Usage`: &c.memory,
	} {
		text, err := windows.UTF16PtrFromString(path)
		if err == nil {
			// By their English names, whatever language Windows speaks.
			if r, _, _ := pdh.NewProc("PdhAddEnglishCounterW").Call(c.query, uintptr(unsafe.Pointer(text)), 0, uintptr(unsafe.Pointer(to))); r != 0 {
				err = fmt.Errorf("%s: %#x", path, r)
			}
		}
		if err != nil {
			c.close()
			return err
		}
	}
	return nil
}

func (c *counters) close() {
	if c.query != 0 {
		pdh.NewProc("PdhCloseQuery").Call(c.query)
	}
	*c = counters{places: c.places}
}

// read returns the processes by adapter. The second result is false the first
// time, when there is no time yet for which percentages could be told.
func (c *counters) read() (map[luid][]Process, bool, error) {
	if err := c.open(); err != nil {
		return nil, false, err
	}
	if r, _, _ := pdh.NewProc("PdhCollectQueryData").Call(c.query); r != 0 {
		c.close()
		return nil, false, fmt.Errorf("PdhCollectQueryData: %#x", r)
	}
	again := c.asked
	c.asked = true
	memory, err := c.values(c.memory)
	if err != nil {
		return nil, false, err
	}
	var busy []reading
	if again {
		if busy, err = c.values(c.engines); err != nil {
			return nil, false, err
		}
	}
	return wddmProcesses(busy, memory), again, nil
}

// values reads all instances of a counter.
func (c *counters) values(counter uintptr) ([]reading, error) {
	get := pdh.NewProc("PdhGetFormattedCounterArrayW")
	var size, count uint32
	var buf []pdhItem
	for range 3 { // there may be more instances by then
		var first unsafe.Pointer
		if len(buf) > 0 {
			first = unsafe.Pointer(&buf[0])
		}
		r, _, _ := get.Call(counter, pdhFmtDouble|pdhFmtNoCap100, uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&count)), uintptr(first))
		switch {
		case r == 0 && len(buf) == 0:
			return nil, nil
		case r == 0:
			var out []reading
			for _, x := range buf[:min(int(count), len(buf))] {
				if x.name != nil && (x.status == pdhValidData || x.status == pdhNewData) {
					out = append(out, reading{windows.UTF16PtrToString(x.name), x.value})
				}
			}
			return out, nil
		case r != pdhMoreData || size > maxCounterBytes:
			return nil, fmt.Errorf("PdhGetFormattedCounterArray: %#x, %d bytes", r, size)
		}
		// Names lie behind the items.
		buf = make([]pdhItem, size/uint32(unsafe.Sizeof(pdhItem{}))+1)
		size = uint32(len(buf)) * uint32(unsafe.Sizeof(pdhItem{}))
	}
	return nil, fmt.Errorf("PdhGetFormattedCounterArray: the counters keep growing")
}

// place asks where an adapter is: D3DKMTOpenAdapterFromLuid, then
// D3DKMTQueryAdapterInfo with KMTQAITYPE_ADAPTERADDRESS (d3dkmthk.h).
func (c *counters) place(l luid) place {
	if p, ok := c.places[l]; ok {
		return p
	}
	var p place
	defer func() {
		if c.places == nil || len(c.places) > maxDevices {
			c.places = map[luid]place{}
		}
		c.places[l] = p
	}()
	open, ask, done := gdi32.NewProc("D3DKMTOpenAdapterFromLuid"), gdi32.NewProc("D3DKMTQueryAdapterInfo"), gdi32.NewProc("D3DKMTCloseAdapter")
	if open.Find() != nil || ask.Find() != nil || done.Find() != nil {
		return p
	}
	adapter := struct {
		low, high uint32
		handle    uint32
	}{low: l.low, high: l.high}
	if r, _, _ := open.Call(uintptr(unsafe.Pointer(&adapter))); r != 0 {
		return p
	}
	defer done.Call(uintptr(unsafe.Pointer(&adapter.handle)))
	const address = 6
	var at struct{ bus, device, function uint32 }
	question := struct {
		handle, what uint32
		data         unsafe.Pointer
		size         uint32
	}{handle: adapter.handle, what: address, data: unsafe.Pointer(&at), size: uint32(unsafe.Sizeof(at))}
	if r, _, _ := ask.Call(uintptr(unsafe.Pointer(&question))); r == 0 {
		p = place{at.bus, at.device, true}
	}
	return p
}

// on returns the processes on the device at a place of the bus, and those that
// may be there because nobody says where the adapter is, or the device.
func (c *counters) on(all map[luid][]Process, at place) []Process {
	var out []Process
	for l, ps := range all {
		if p := c.place(l); !p.known || !at.known || p == at {
			out = append(out, ps...)
		}
	}
	return out
}
