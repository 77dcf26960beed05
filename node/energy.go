package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"idlewild/internal/ondisk"
)

// energyFile is where today's energy is kept.
const energyFile = "energy.json"

// keepEvery is the least time between two writes of it.
const keepEvery = 5 * time.Minute

// energy adds up what GPUs draw while they work for others, by day. What the
// rest of the machine draws is not known.
type energy struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	day   string
	wh    float64
	kept  float64
	wrote time.Time
}

type energyNote struct {
	Day string  `json:"day"`
	Wh  float64 `json:"gpu_wh"`
}

func loadEnergy(dir string, now func() time.Time) *energy {
	e := &energy{path: filepath.Join(dir, energyFile), now: now}
	var n energyNote
	if b, err := os.ReadFile(e.path); err == nil && json.Unmarshal(b, &n) == nil && n.Wh >= 0 {
		e.day, e.wh, e.kept = n.Day, n.Wh, n.Wh
	}
	return e
}

// roll begins a new day. mu is held. A clock that was set back stays in the
// later day, so that nothing is counted anew.
func (e *energy) roll() {
	if d := e.now().Format(time.DateOnly); d > e.day {
		e.day, e.wh, e.kept = d, 0, -1
	}
}

func (e *energy) add(watts float64, d time.Duration, _ string) {
	if watts <= 0 || d <= 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.roll()
	e.wh += watts * d.Hours()
}

// today is what was used since midnight.
func (e *energy) today() *float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.roll()
	wh := e.wh
	return &wh
}

// keep writes it down now and then; an idle machine writes nothing.
func (e *energy) keep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wh > 0 && e.wh != e.kept && e.now().Sub(e.wrote) >= keepEvery {
		e.write()
	}
}

func (e *energy) write() {
	e.wrote = e.now()
	b, err := json.Marshal(energyNote{e.day, e.wh})
	if err == nil && ondisk.WriteFile(e.path, b, 0o600) == nil {
		e.kept = e.wh
	}
}

func (e *energy) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wh > 0 && e.wh != e.kept {
		e.write()
	}
	return nil
}
