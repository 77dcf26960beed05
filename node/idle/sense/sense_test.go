package sense

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/node/idle"
	"idlewild/render/gpu"
)

func TestPrograms(t *testing.T) {
	list := []running{
		{1, "systemd", "/usr/lib/systemd/systemd"},
		{2, "hades2", "/home/ada/.local/share/Steam/steamapps/common/Hades II/hades2"},
		{3, "wineserver", "/home/ada/.steam/steam/steamapps/common/Proton 9.0/files/bin/wineserver"},
		{4, "Game.exe", winePath(`Z:\mnt\games\SteamLibrary\steamapps\common\Game\Game.exe`)},
		{5, "blender", "/usr/bin/blender"},
		{6, "blender", "/usr/bin/blender"}, // ours
		{7, "vrcompositor", "/home/ada/.steam/steam/steamapps/common/SteamVR/bin/vrcompositor"},
		{8, "vrserver", "/home/ada/.steam/steam/steamapps/common/SteamVR/bin/vrserver"},
		{9, "wallpaper64.exe", "c:/steam/steamapps/common/wallpaper_engine/wallpaper64.exe"},
		{10, "gogdl", "/home/ada/Games/Some Game/start"},
		{11, "launcher", "/home/ada/Games/launcher"},
	}
	asked := 0
	p := &programs{
		list: func(known func(int) bool) (out []running, _ error) {
			for _, r := range list {
				if !known(r.pid) {
					out = append(out, r)
					asked++
				}
			}
			return out, nil
		},
		ours: func() map[int]bool { return map[int]bool{6: true} }, steam: true, folders: []string{"/home/ada/Games"},
		yes: []string{"blender"}, no: []string{"LAUNCHER"},
	}
	sense := func() []idle.Program {
		apply, err := p.Sense(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var s idle.Signals
		apply(&s)
		return s.Programs
	}
	want := []idle.Program{
		{Name: "Game.exe", Why: "a game in Steam's library"}, {Name: "blender", Why: "on its owner's list"}, {Name: "gogdl", Why: "in Games"},
		{Name: "hades2", Why: "a game in Steam's library"}, {Name: "vrcompositor", Why: "VR"},
	}
	if got := sense(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	list = list[:5]
	if got := sense(); !reflect.DeepEqual(got, []idle.Program{want[0], want[1], want[3]}) {
		t.Errorf("%+v", got)
	}
	if asked != 11 {
		t.Errorf("%d processes were looked at, 11 are new", asked)
	}
	for range fresh {
		sense()
	}
	if asked != 11+5 {
		t.Errorf("%d processes were looked at after a while", asked)
	}
}

func TestThisMachinesPrograms(t *testing.T) {
	list, err := listPrograms(func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.pid == os.Getpid() {
			if r.name == "" || r.path == "" {
				t.Errorf("%+v", r)
			}
			return
		}
	}
	t.Error("this process is not in the list")
}

type prober struct {
	devices []gpu.Device
	err     error
	held    []bool
}

func (p *prober) Devices(context.Context) ([]gpu.Device, error) { return p.devices, p.err }
func (p *prober) Hold(open bool)                                { p.held = append(p.held, open) }

func TestGPUs(t *testing.T) {
	const stranger = 1 // is always there
	us := os.Getpid()
	p := &prober{devices: []gpu.Device{{
		UUID: "a", MemoryBytes: 100, UsedBytes: 60, Busy: 1, SharesTold: true, TempC: 70, PowerW: 200,
		Processes: []gpu.Process{{PID: us, MemoryBytes: 40, Busy: 0.9}, {PID: stranger, MemoryBytes: 10, Busy: 0.1, Graphics: true}},
	}}}
	runs, watts := true, 0.0
	g := &gpus{
		o: Options{
			GPUs: p, GPUNames: []string{"a", "b"}, OursRuns: func(d string) bool { return d == "a" && runs },
			GPUEnergy: func(w float64, _ time.Duration, _ string) { watts = w },
		},
		ours: func() map[int]bool { return map[int]bool{us: true} },
	}
	sense := func() (s idle.Signals) {
		apply, err := g.Sense(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		apply(&s)
		return s
	}
	s := sense()
	a := s.GPUs["a"]
	if *a.OthersBusy != 0.1 || *a.OthersBytes != 20 || *a.OursBytes != 40 || !a.OursRuns || *a.TempC != 70 || watts != 200 || len(a.Others) != 1 {
		t.Errorf("%+v, %v W", a, watts)
	}
	if s.GPUs["b"].Lost == "" {
		t.Error("one that is gone is not missed")
	}
	// A driver that does not tell shares: nothing is known of others while we run.
	p.devices[0].SharesTold = false
	if a = sense().GPUs["a"]; a.OthersBusy != nil || *a.OthersBytes != 20 {
		t.Errorf("%+v", a)
	}
	// In a container nothing tells which processes are ours.
	p.devices[0].SharesTold = true
	p.devices[0].Processes = []gpu.Process{{PID: 1 << 30, MemoryBytes: 40, Busy: 1}}
	if a = sense().GPUs["a"]; a.OthersBusy != nil || a.OthersBytes != nil || len(a.Others) > 0 {
		t.Errorf("our own load counts as others': %+v", a)
	}
	runs, watts = false, 0
	if a = sense().GPUs["a"]; a.OthersBusy == nil || *a.OthersBusy != 1 || watts != 0 {
		t.Errorf("%+v, %v W", a, watts)
	}
	if !reflect.DeepEqual(p.held, []bool{true, true, true, false}) {
		t.Errorf("held %v", p.held)
	}
	p.devices, p.err = nil, errors.New("fell off the bus")
	if a = sense().GPUs["a"]; a.Lost != "fell off the bus" {
		t.Errorf("%+v", a)
	}
}

func TestMacTexts(t *testing.T) {
	if d, ok := parseHIDIdle(`    |   "HIDIdleTime" = 4321000000` + "\n"); !ok || d != 4321*time.Millisecond {
		t.Errorf("%v %v", d, ok)
	}
	if _, ok := parseHIDIdle("nothing"); ok {
		t.Error("idle time from nothing")
	}
	for text, want := range map[string][2]bool{
		"Now drawing from 'AC Power'\n -InternalBattery-0": {false, true},
		"Now drawing from 'Battery Power'\n":               {true, true},
		"":                                                 {false, false},
	} {
		if on, ok := parsePmset(text); on != want[0] || ok != want[1] {
			t.Errorf("%q: %v %v", text, on, ok)
		}
	}
}

// A finding is kept between two questions, and one that fails later is gone.
func TestSensorKeepsFindings(t *testing.T) {
	calls := 0
	s := &Sensor{log: New(Options{}).log, woken: make(chan struct{}, 1)}
	s.add("x", time.Hour, time.Hour, sourceFunc(func() (func(*idle.Signals), error) {
		calls++
		if calls > 1 {
			return nil, errors.New("broken")
		}
		return func(o *idle.Signals) { o.Desktop = true }, nil
	}))
	for range 3 {
		if got := s.Sense(t.Context(), true); !got.Desktop || got.Missing != nil {
			t.Errorf("%+v", got)
		}
	}
	s.Hurry()
	if got := s.Sense(t.Context(), true); got.Desktop || got.Missing["x"] != "broken" || calls != 2 {
		t.Errorf("%+v after %d calls", got, calls)
	}
}

// A look that comes a moment early, because the last one was late, is not one in
// vain.
func TestSensorAsksAtEachBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &Sensor{log: New(Options{}).log, woken: make(chan struct{}, 1)}
		s.add("x", time.Second, 10*time.Second, sourceFunc(func() (func(*idle.Signals), error) {
			calls++
			return func(*idle.Signals) {}, nil
		}))
		for i := range 20 {
			s.Sense(t.Context(), false)
			if calls != i+1 {
				t.Fatalf("%d looks, %d questions", i+1, calls)
			}
			early := time.Duration(i%2) * 3 * time.Millisecond
			time.Sleep(10*time.Second - early)
		}
		s.Sense(t.Context(), false)
		time.Sleep(5 * time.Second)
		if s.Sense(t.Context(), false); calls != 21 {
			t.Errorf("%d questions", calls)
		}
	})
}

type sourceFunc func() (func(*idle.Signals), error)

func (f sourceFunc) Sense(context.Context) (func(*idle.Signals), error) { return f() }

type longIdle time.Duration

func (d longIdle) Sense(context.Context) (func(*idle.Signals), error) {
	return func(s *idle.Signals) { setIdle(s, "ada", "terminal", time.Duration(d)) }, nil
}

// Nobody touched a machine before it was started.
func TestLastInputIsAfterTheStart(t *testing.T) {
	for d, untouched := range map[time.Duration]bool{time.Millisecond: false, 100 * 365 * 24 * time.Hour: true} {
		s := &Sensor{log: slog.New(slog.DiscardHandler)}
		s.add("terminal", time.Second, time.Second, longIdle(d))
		x := s.Sense(t.Context(), false).Sessions[0]
		if up := Now().Mono.Seconds(); *x.IdleSeconds > up || x.Untouched != untouched || !untouched && *x.IdleSeconds != d.Seconds() {
			t.Errorf("idle for %v: %v s, untouched %v; up for %v s", d, *x.IdleSeconds, x.Untouched, up)
		}
	}
}
