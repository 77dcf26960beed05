package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render"
)

const (
	historyFile = "history.json"
	// historyDays is how many days are remembered.
	historyDays = 400
	// historyEvery is how long a change waits for others before all are written:
	// a crash forgets that much.
	historyEvery = time.Minute
)

// history adds up, by day, what this machine did and got.
type history struct {
	path   string
	self   string
	energy func() *float64 // of today
	now    func() time.Time
	log    *slog.Logger

	mu    sync.Mutex
	days  []localapi.HistoryDay // oldest first
	timer *time.Timer           // runs while something is not written
}

// loadHistory reads what was remembered. A file that cannot be read is put
// aside: it is only a memory.
func loadHistory(dir, self string, energy func() *float64, log *slog.Logger) *history {
	h := &history{path: filepath.Join(dir, historyFile), self: self, energy: energy, now: time.Now, log: log}
	b, err := os.ReadFile(h.path)
	if os.IsNotExist(err) {
		return h
	}
	if err == nil {
		err = json.Unmarshal(b, &h.days)
	}
	if err != nil {
		h.days = nil
		log.Warn("the history begins anew", "file", h.path, "reason", err)
		_ = os.Rename(h.path, h.path+".damaged") // if it stays it is overwritten
	}
	h.days = slices.DeleteFunc(h.days, func(d localapi.HistoryDay) bool {
		_, err := time.Parse(time.DateOnly, d.Day)
		return err != nil
	})
	slices.SortStableFunc(h.days, func(a, b localapi.HistoryDay) int { return compareDays(a.Day, b.Day) })
	h.trim()
	return h
}

func compareDays(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (h *history) trim() {
	if n := len(h.days); n > historyDays {
		h.days = slices.Clone(h.days[n-historyDays:])
	}
}

// change applies f to today. A clock that was set back goes on in the last day.
func (h *history) change(f func(*localapi.HistoryDay)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	today := h.now().Format(time.DateOnly)
	if n := len(h.days); n == 0 || h.days[n-1].Day < today {
		h.days = append(h.days, localapi.HistoryDay{Day: today})
		h.trim()
	}
	d := &h.days[len(h.days)-1]
	f(d)
	if wh := h.energy(); wh != nil && d.Day == today {
		d.GPUWattHours = *wh
	}
	if h.timer == nil {
		h.timer = time.AfterFunc(historyEvery, h.flush)
	}
}

func (h *history) flush() {
	if err := h.write(); err != nil {
		h.log.Warn("the history is not kept", "reason", err)
	}
}

// write puts what changed on disk.
func (h *history) write() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer == nil {
		return nil
	}
	h.timer.Stop()
	h.timer = nil
	b, err := json.Marshal(h.days)
	if err != nil {
		return err
	}
	tmp := h.path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.path)
}

// view implements part of localapi.Records.
func (h *history) view(days int) localapi.HistoryView {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := localapi.HistoryView{Days: []localapi.HistoryDay{}}
	for i, d := range h.days {
		if i == 0 {
			v.Total.Day = d.Day
		}
		t := &v.Total
		t.OthersTasks += d.OthersTasks
		t.OthersFailed += d.OthersFailed
		t.OthersSeconds += d.OthersSeconds
		t.GPUWattHours += d.GPUWattHours
		t.OwnDelivered += d.OwnDelivered
		t.OwnHere += d.OwnHere
		t.OwnSeconds += d.OwnSeconds
	}
	for _, d := range slices.Backward(h.days) {
		if len(v.Days) == days {
			break
		}
		v.Days = append(v.Days, d)
	}
	return v
}

// watch counts deliveries of own jobs until ctx ends.
func (h *history) watch(ctx context.Context, jobs localapi.Views) error {
	for e := range jobs.Watch(ctx, "", 0) {
		if e.Type == job.EventDelivered {
			h.change(func(d *localapi.HistoryDay) { d.OwnDelivered++ })
		}
	}
	return nil
}

// remembered counts what an Executor does.
type remembered struct {
	render.Executor
	history *history
}

// Execute implements render.Executor.
func (r remembered) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	x := r.Executor.Execute(ctx, t, dirs, progress)
	own := t.Requester == r.history.self
	if own && (t.Device.Name == job.HomeDevice || x.Outcome != job.Succeeded) {
		return x // finishing and checking are part of the job, not work that somebody lent
	}
	r.history.change(func(d *localapi.HistoryDay) {
		switch {
		case own:
			d.OwnHere++
			d.OwnSeconds += x.Meter.Render.Seconds()
		case x.Outcome == job.Succeeded:
			d.OthersTasks++
			d.OthersSeconds += x.Meter.Render.Seconds()
		default:
			d.OthersFailed++
		}
	})
	return x
}
