package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render"
)

// done is an Executor that ends every task in the same way.
type done struct{ render.Result }

func (done) Ready(context.Context) error { return nil }
func (d done) Execute(context.Context, render.Task, render.Dirs, func(render.Progress)) render.Result {
	return d.Result
}

func TestHistory(t *testing.T) {
	wh := 1.5
	synctest.Test(t, func(t *testing.T) { // 2000-01-01
		dir := t.TempDir()
		log := slog.New(slog.DiscardHandler)
		open := func() *history { return loadHistory(dir, "me", func() *float64 { return &wh }, log) }
		h := open()
		run := func(requester, device string, outcome job.Outcome) {
			e := remembered{done{render.Result{Outcome: outcome, Meter: job.Meter{Render: 2 * time.Second}}}, h}
			e.Execute(t.Context(), render.Task{Requester: requester, Device: job.Device{Name: device}}, render.Dirs{}, nil)
		}
		run("her", "cpu", job.Succeeded)
		run("her", "cpu", job.Broken)
		run("me", "cpu", job.Succeeded)
		run("me", job.HomeDevice, job.Succeeded)
		run("me", "cpu", job.Failed)
		day := localapi.HistoryDay{
			Day: time.Now().Format(time.DateOnly), OthersTasks: 1, OthersFailed: 1, OthersSeconds: 2, GPUWattHours: 1.5, OwnHere: 1, OwnSeconds: 2,
		}
		if got := h.view(10); len(got.Days) != 1 || got.Days[0] != day || got.Total != day {
			t.Errorf("the first day: %+v", got)
		}
		if _, err := os.Stat(h.path); err == nil {
			t.Error("written at once")
		}
		time.Sleep(historyEvery + time.Second)
		if got := open().view(10); len(got.Days) != 1 || got.Days[0] != day {
			t.Errorf("a minute later on disk: %+v", got)
		}
		before, err := os.Stat(h.path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if after, err := os.Stat(h.path); err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Error("an idle day was written down")
		}
		run("her", "gpu", job.Succeeded)
		if err := h.write(); err != nil {
			t.Fatal(err)
		}
		h = open()
		got := h.view(1)
		if len(got.Days) != 1 || got.Days[0].Day <= day.Day || got.Total.OthersTasks != 2 || got.Total.Day != day.Day || got.Total.GPUWattHours != 3 {
			t.Errorf("the second day: %+v", got)
		}
		for range historyDays + 5 {
			time.Sleep(24 * time.Hour)
			run("her", "cpu", job.Succeeded)
		}
		if n := len(h.view(9999).Days); n != historyDays {
			t.Errorf("%d days are remembered", n)
		}
		if err := h.write(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDamagedHistoryBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, historyFile)
	if err := os.WriteFile(file, []byte(`[{"day":"2026`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := loadHistory(dir, "me", func() *float64 { return nil }, slog.New(slog.DiscardHandler))
	if v := h.view(5); len(v.Days) != 0 {
		t.Errorf("%+v", v)
	}
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error("what was there is lost")
	}
}

func TestLogRing(t *testing.T) {
	var shown strings.Builder
	r := &logRing{}
	log := r.tee(slog.New(slog.NewTextHandler(&shown, nil)), slog.LevelInfo).With("part", "x")
	log.Debug("hidden")
	log.Info("first", "long", strings.Repeat("y", 2*maxLogLine))
	if l := r.all(); len(l) != 1 || !strings.Contains(l[0], "part=x") || len(l[0]) > maxLogLine || !strings.Contains(shown.String(), "first") {
		t.Errorf("%d lines", len(l))
	}
	for i := range logLines + 10 {
		log.Info("line", "i", i)
	}
	if l := r.all(); len(l) != logLines || !strings.Contains(l[0], "i=10") || !strings.Contains(l[logLines-1], "i=509") {
		t.Errorf("%d lines, %q to %q", len(l), l[0], l[len(l)-1])
	}
}

// Whoever looks at a setting is told what it is for.
func TestEverySettingIsExplained(t *testing.T) {
	c := DefaultConfig()
	keys := leaves(reflect.ValueOf(&c).Elem(), "")
	for k := range keys {
		if about[k] == "" {
			t.Errorf("%s: nobody says what it is for", k)
		}
	}
	for k := range about {
		if _, ok := keys[k]; !ok {
			t.Errorf("%s is explained and is no setting", k)
		}
	}
}
