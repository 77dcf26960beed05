package sense

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"idlewild/node/idle"
)

// need skips, or fails where it is required, without a program.
func need(t *testing.T, program, requirement string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), requirement) {
		t.Fatalf("%s is required and missing", program)
	}
	t.Skipf("NOT RUN: %s is not installed", program)
	return ""
}

// start runs a program until the test ends and returns the first line of what
// it prints on descriptor 3.
func start(t *testing.T, path string, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); r.Close() })
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && err != io.EOF || line == "" {
		t.Fatalf("%s did not start: %v", path, err)
	}
	return strings.TrimSpace(line)
}

// privateBus runs a D-Bus of its own.
func privateBus(t *testing.T) (address string, service *dbus.Conn) {
	t.Helper()
	address = start(t, need(t, "dbus-daemon", "dbus"), "--session", "--nofork", "--print-address=3", "--address=unix:dir="+t.TempDir())
	c, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return address, c
}

func serve(t *testing.T, c *dbus.Conn, name string, path dbus.ObjectPath, iface string, methods map[string]any) {
	t.Helper()
	if err := c.ExportMethodTable(methods, path, iface); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
}

// fakeLogin is logind with one session.
type fakeLogin struct {
	mu      sync.Mutex
	session map[string]dbus.Variant
	idle    string // what inhibitors there are for
	held    *os.File
	pipe    *os.File
}

func (f *fakeLogin) export(t *testing.T, c *dbus.Conn) {
	type row struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	type inhibitor struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	serve(t, c, login1, login1Path, login1Mgr, map[string]any{
		"ListSessions": func() ([]row, *dbus.Error) {
			return []row{{"1", 1000, userName(), "seat0", login1Path + "/session/_31"}}, nil
		},
		"ListInhibitors": func() ([]inhibitor, *dbus.Error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return []inhibitor{{"sleep", "x", "y", "delay", 0, 1}, {f.idle, "Firefox", "Playing video", "block", 1000, 4}}, nil
		},
		"Inhibit": func(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
			r, w, err := os.Pipe()
			if err != nil {
				return 0, dbus.MakeFailedError(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.pipe, f.held = r, w
			return dbus.UnixFD(w.Fd()), nil
		},
	})
	serve(t, c, login1, login1Path+"/session/_31", "org.freedesktop.DBus.Properties", map[string]any{
		"GetAll": func(string) (map[string]dbus.Variant, *dbus.Error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return maps.Clone(f.session), nil
		},
	})
}

func sensed(t *testing.T, src Source) idle.Signals {
	t.Helper()
	var s idle.Signals
	apply, err := src.Sense(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	apply(&s)
	return s
}

// eventually tries until it holds: other processes are at work.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not in time: " + what)
		}
	}
}

func TestLogind(t *testing.T) {
	address, c := privateBus(t)
	f := &fakeLogin{idle: "sleep", session: map[string]dbus.Variant{
		"Type": dbus.MakeVariant("wayland"), "Class": dbus.MakeVariant("user"), "Active": dbus.MakeVariant(true),
		"Remote": dbus.MakeVariant(false), "IdleHint": dbus.MakeVariant(false), "LockedHint": dbus.MakeVariant(true),
		"IdleSinceHintMonotonic": dbus.MakeVariant(uint64(0)),
	}}
	f.export(t, c)
	woken := make(chan struct{}, 16)
	l := newLogind(systemBus(address), true, func() { woken <- struct{}{} })
	defer l.close()

	s := sensed(t, l)
	if len(s.Sessions) != 1 || !s.Desktop || !s.Sessions[0].Graphical || !s.Sessions[0].Active || !s.Sessions[0].Locked {
		t.Fatalf("%+v", s)
	}
	if s.Sessions[0].IdleSeconds != nil {
		t.Error("a desktop that never told logind anything counts as in use")
	}
	if s.Inhibitor != nil || s.Suspending {
		t.Errorf("%+v", s)
	}
	f.mu.Lock()
	f.session["IdleHint"] = dbus.MakeVariant(true)
	f.session["IdleSinceHintMonotonic"] = dbus.MakeVariant(uint64((monotonic() - time.Hour).Microseconds()))
	f.idle = "idle:sleep"
	f.mu.Unlock()
	s = sensed(t, l)
	if got := s.Sessions[0].IdleSeconds; got == nil || *got < 3599 || *got > 3700 {
		t.Errorf("idle for %v, want an hour", got)
	}
	if s.Inhibitor == nil || *s.Inhibitor != "Firefox (Playing video)" {
		t.Errorf("inhibitor %v", s.Inhibitor)
	}

	// A suspend waits for us, until work was stopped.
	eventually(t, "the suspend is delayed", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.delay >= 0 })
	f.mu.Lock()
	f.held.Close() // theirs is a copy; ours is left
	f.mu.Unlock()
	if err := c.Emit(login1Path, login1Mgr+".PrepareForSleep", true); err != nil {
		t.Fatal(err)
	}
	<-woken
	if s = sensed(t, l); !s.Suspending {
		t.Error("the suspend was not heard of")
	}
	l.stopped()
	if n, err := f.pipe.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the suspend still waits: %d, %v", n, err)
	}
	if err := c.Emit(login1Path, login1Mgr+".PrepareForSleep", false); err != nil {
		t.Fatal(err)
	}
	<-woken
	if s = sensed(t, l); s.Suspending {
		t.Error("it woke up")
	}
}

func TestDesktopBuses(t *testing.T) {
	address, c := privateBus(t)
	var ms atomic.Uint64
	var watches atomic.Uint32
	var inhibits atomic.Bool
	ms.Store(90_000)
	inhibits.Store(true)
	serve(t, c, mutter, mutterPath, mutter, map[string]any{
		"GetIdletime":        func() (uint64, *dbus.Error) { return ms.Load(), nil },
		"AddUserActiveWatch": func() (uint32, *dbus.Error) { return watches.Add(1), nil },
	})
	serve(t, c, "org.gnome.SessionManager", "/org/gnome/SessionManager", "org.gnome.SessionManager", map[string]any{
		"IsInhibited": func(flags uint32) (bool, *dbus.Error) { return inhibits.Load() && flags == 8, nil },
	})
	serve(t, c, "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", "org.freedesktop.DBus.Properties", map[string]any{
		"Get": func(iface, name string) (dbus.Variant, *dbus.Error) { return dbus.MakeVariant(uint32(3)), nil },
	})
	woken := make(chan struct{}, 16)
	b := sessionBus(address)
	defer b.close()
	m := newMutter(b, "ada", func() { woken <- struct{}{} })
	s := sensed(t, m)
	if len(s.Sessions) != 1 || *s.Sessions[0].IdleSeconds != 90 || s.Sessions[0].Source != "Mutter" || !s.Desktop {
		t.Fatalf("%+v", s)
	}
	sensed(t, m)
	if watches.Load() != 1 {
		t.Errorf("%d watches for one input", watches.Load())
	}
	if err := c.Emit(mutterPath, mutter+".WatchFired", uint32(1)); err != nil {
		t.Fatal(err)
	}
	<-woken
	ms.Store(0)
	if s = sensed(t, m); *s.Sessions[0].IdleSeconds != 0 {
		t.Errorf("%+v", s)
	}
	if s = sensed(t, inhibited{b}); s.Inhibitor == nil {
		t.Error("no inhibitor")
	}
	inhibits.Store(false)
	if s = sensed(t, inhibited{b}); s.Inhibitor != nil {
		t.Error("an inhibitor")
	}
	if s = sensed(t, network{b}); s.Metered == nil || !*s.Metered {
		t.Errorf("metered: %v", s.Metered)
	}
}

func TestMissingBusIsAMissingSignal(t *testing.T) {
	s := New(Options{
		Screen: true, Steam: true, SystemBus: "unix:path=/nowhere/system", SessionBus: "unix:path=/nowhere/session",
		Display: "/nowhere:0", DiskDir: t.TempDir(),
	})
	defer s.Close()
	got := s.Sense(t.Context(), true)
	for _, name := range []string{"logind", "mutter", "x11", "desktop", "network"} {
		if got.Missing[name] == "" {
			t.Errorf("nothing says why there is no %s: %v", name, got.Missing)
		}
	}
	if got.Desktop || got.DiskFree == nil {
		t.Errorf("%+v", got)
	}
}

// xvfb runs an X server and returns its display.
func xvfb(t *testing.T) string {
	t.Helper()
	return ":" + start(t, need(t, "Xvfb", "xvfb"), "-displayfd", "3", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset")
}

func TestXScreenSaver(t *testing.T) {
	xdotool := need(t, "xdotool", "xvfb")
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("XDG_SESSION_TYPE", "")
	display := xvfb(t)
	x := newX11(display, "ada", true)
	defer x.close()
	idleFor := func() float64 {
		s := sensed(t, x)
		if len(s.Sessions) != 1 || s.Sessions[0].IdleSeconds == nil || s.Sessions[0].Source != "XScreenSaver" || !s.Desktop {
			t.Fatalf("%+v", s)
		}
		if s.Fullscreen != nil {
			t.Errorf("%s fills an empty screen", *s.Fullscreen)
		}
		return *s.Sessions[0].IdleSeconds
	}
	eventually(t, "idle for a while", func() bool { return idleFor() > 0.3 })
	cmd := exec.Command(xdotool, "mousemove_relative", "3", "4")
	cmd.Env = append(os.Environ(), "DISPLAY="+display)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("xdotool: %v %s", err, out)
	}
	if d := idleFor(); d > 0.3 {
		t.Errorf("idle for %v s after the mouse moved", d)
	}
}

func TestFullScreen(t *testing.T) {
	display := xvfb(t)
	c, err := xgb.NewConnDisplay(display)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	screen := xproto.Setup(c).DefaultScreen(c)
	atom := func(name string) xproto.Atom {
		r, err := xproto.InternAtom(c, false, uint16(len(name)), name).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return r.Atom
	}
	put := func(w xproto.Window, property string, kind xproto.Atom, values ...uint32) {
		b := make([]byte, 4*len(values))
		for i, v := range values {
			xgb.Put32(b[4*i:], v)
		}
		if err := xproto.ChangePropertyChecked(c, xproto.PropModeReplace, w, atom(property), kind, 32, uint32(len(values)), b).Check(); err != nil {
			t.Fatal(err)
		}
	}
	window := func(class string, x, y int16, w, h uint16) xproto.Window {
		id, err := xproto.NewWindowId(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := xproto.CreateWindowChecked(c, screen.RootDepth, id, screen.Root, x, y, w, h, 0, xproto.WindowClassInputOutput, screen.RootVisual, 0, nil).Check(); err != nil {
			t.Fatal(err)
		}
		name := "instance\x00" + class + "\x00"
		if err := xproto.ChangePropertyChecked(c, xproto.PropModeReplace, id, xproto.AtomWmClass, xproto.AtomString, 8, uint32(len(name)), []byte(name)).Check(); err != nil {
			t.Fatal(err)
		}
		return id
	}
	// There is no window manager, so the test writes what one would.
	use := func(w xproto.Window) { put(screen.Root, "_NET_ACTIVE_WINDOW", xproto.AtomWindow, uint32(w)) }
	small, borderless := window("Editor", 10, 10, 300, 200), window("Game", 0, 0, 640, 480)
	desktop, said, hidden := window("Desktop", 0, 0, 640, 480), window("Video", 0, 0, 100, 100), window("Hidden", 0, 0, 640, 480)
	put(desktop, "_NET_WM_WINDOW_TYPE", xproto.AtomAtom, uint32(atom("_NET_WM_WINDOW_TYPE_DESKTOP")))
	put(said, "_NET_WM_STATE", xproto.AtomAtom, uint32(atom("_NET_WM_STATE_ABOVE")), uint32(atom("_NET_WM_STATE_FULLSCREEN")))
	put(hidden, "_NET_WM_STATE", xproto.AtomAtom, uint32(atom("_NET_WM_STATE_HIDDEN")), uint32(atom("_NET_WM_STATE_FULLSCREEN")))
	x := newX11(display, "ada", true)
	defer x.close()
	for _, step := range []struct {
		w    xproto.Window
		want string
	}{{small, ""}, {borderless, "Game"}, {desktop, ""}, {said, "Video"}, {hidden, ""}, {xproto.Window(0x7fffff), ""}, {0, ""}, {borderless, "Game"}} {
		use(step.w)
		got := ""
		if s := sensed(t, x); s.Fullscreen != nil {
			got = *s.Fullscreen
		}
		if got != step.want {
			t.Errorf("window %d: %q fills the screen, want %q", step.w, got, step.want)
		}
	}
	xproto.DestroyWindow(c, borderless)
	c.Sync()
	if s := sensed(t, x); s.Fullscreen != nil {
		t.Errorf("%s is gone", *s.Fullscreen)
	}
}

func TestAnXServerThatDiesIsAMissingSignal(t *testing.T) {
	display := xvfb(t)
	x := newX11(display, "ada", true)
	defer x.close()
	sensed(t, x)
	x.link.conn.Close()
	if _, err := x.Sense(t.Context()); err == nil {
		t.Error("no error from a connection that is closed")
	}
	if _, err := x.Sense(t.Context()); err == nil {
		t.Error("it is asked again at once")
	}
	x.tried = time.Time{}
	sensed(t, x)
}

// compositor is the other side of ext-idle-notify.
type compositor struct {
	l       net.Listener
	version uint32
	asked   chan []byte   // the request for a notification
	conn    chan net.Conn // then
}

func newCompositor(t *testing.T, version uint32) *compositor {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "wl"))
	if err != nil {
		t.Fatal(err)
	}
	c := &compositor{l: l, version: version, asked: make(chan []byte, 1), conn: make(chan net.Conn, 1)}
	t.Cleanup(func() { l.Close() })
	go c.serve()
	return c
}

func (c *compositor) serve() {
	conn, err := c.l.Accept()
	if err != nil {
		return
	}
	for {
		object, op, body, err := wlRead(conn)
		switch {
		case err != nil:
			return
		case object == wlDisplay && op == wlSync:
			conn.Write(wlMessage(wlRegistry, wlGlobal, 7, "wl_compositor", 6))
			conn.Write(wlMessage(wlRegistry, wlGlobal, 8, "wl_seat", 9))
			if c.version > 0 {
				conn.Write(wlMessage(wlRegistry, wlGlobal, 9, "ext_idle_notifier_v1", c.version))
			}
			conn.Write(wlMessage(wlCallback, 0, 1))
		case object == wlNotifier:
			c.asked <- append([]byte{byte(op)}, body...)
			c.conn <- conn
		}
	}
}

func TestWayland(t *testing.T) {
	for version, op := range map[uint32]byte{1: wlGetIdle, 2: wlGetInputIdle} {
		c := newCompositor(t, version)
		woken := make(chan struct{}, 1)
		w := &wayland{socket: c.l.Addr().String(), user: "ada", wake: func() { woken <- struct{}{} }}
		s := sensed(t, w)
		if !s.Desktop || len(s.Sessions) != 1 || s.Sessions[0].IdleSeconds == nil || *s.Sessions[0].IdleSeconds != 0 {
			t.Fatalf("%+v", s)
		}
		want := append([]byte{op}, wlMessage(0, 0, wlNotification, 1000, wlSeat)[8:]...)
		if got := <-c.asked; !bytes.Equal(got, want) {
			t.Errorf("asked %v, want %v", got, want)
		}
		conn := <-c.conn
		conn.Write(wlMessage(wlNotification, wlIdled))
		eventually(t, "input rests", func() bool { return *sensed(t, w).Sessions[0].IdleSeconds >= 1 })
		conn.Write(wlMessage(wlNotification, wlResumed))
		<-woken
		if d := *sensed(t, w).Sessions[0].IdleSeconds; d != 0 {
			t.Errorf("idle for %v s at the input", d)
		}
		conn.Close()
		eventually(t, "the end is noticed", func() bool { _, err := w.Sense(t.Context()); return err != nil })
		w.close()
	}
	none := newCompositor(t, 0)
	w := &wayland{socket: none.l.Addr().String(), wake: func() {}}
	if _, err := w.Sense(t.Context()); err == nil || !strings.Contains(err.Error(), "does not offer") {
		t.Error(err)
	}
	w.close()
}

func FuzzWaylandEvents(f *testing.F) {
	f.Add(append(wlMessage(wlRegistry, wlGlobal, 8, "wl_seat", 9), wlMessage(wlCallback, 0, 1)...))
	f.Add(wlMessage(wlDisplay, wlError, 1, 2, "no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() {
			go io.Copy(io.Discard, there)
			there.Write(b)
			there.Close()
		}()
		subscribe(here)
		here.Close()
	})
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPowerAndTemperature(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"desktop", map[string]string{"hid/type": "Battery\n", "hid/scope": "Device\n", "hid/status": "Discharging\n"}, "unknown"},
		{"at the mains", map[string]string{"AC/type": "Mains\n", "AC/online": "1\n", "BAT0/type": "Battery\n", "BAT0/status": "Not charging\n"}, "no"},
		{"draining at the mains", map[string]string{"AC/type": "Mains\n", "AC/online": "1\n", "BAT0/type": "Battery\n", "BAT0/status": "Discharging\n"}, "no"},
		{"by USB-C", map[string]string{"usb/type": "USB\n", "usb/online": "1\n", "BAT0/type": "Battery\n", "BAT0/status": "Charging\n"}, "no"},
		{"on battery", map[string]string{"AC/type": "Mains\n", "AC/online": "0\n", "BAT0/type": "Battery\n", "BAT0/status": "Discharging\n"}, "yes"},
		{"UPS", map[string]string{"ups/type": "UPS\n", "ups/status": "Discharging\n"}, "yes"},
	} {
		root := t.TempDir()
		files := map[string]string{}
		for n, text := range c.files {
			files["class/power_supply/"+n] = text
		}
		write(t, root, files)
		var s idle.Signals
		apply, err := power{root}.Sense(t.Context())
		got := "unknown"
		if err == nil {
			apply(&s)
			got = map[bool]string{true: "yes", false: "no"}[*s.OnBattery]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s (%v)", c.name, got, c.want, err)
		}
	}
	root := t.TempDir()
	write(t, root, map[string]string{
		"class/hwmon/hwmon0/name": "nvme\n", "class/hwmon/hwmon0/temp1_input": "99000\n",
		"class/hwmon/hwmon1/name": "k10temp\n", "class/hwmon/hwmon1/temp1_input": "71250\n", "class/hwmon/hwmon1/temp3_input": "rubbish\n",
	})
	if s := sensed(t, temperature{root}); *s.CPUTemp != 71.25 {
		t.Errorf("%v", *s.CPUTemp)
	}
	if _, err := (temperature{t.TempDir()}).Sense(t.Context()); err == nil {
		t.Error("no sensor, no error")
	}
}

func TestCPUOfOthers(t *testing.T) {
	root := t.TempDir()
	stat := func(user, nice, system, idle int) string {
		return "cpu  " + strings.Join([]string{strconv.Itoa(user), strconv.Itoa(nice), strconv.Itoa(system), strconv.Itoa(idle), "0 0 0 0 0 0"}, " ") + "\ncpu0 1 2 3\n"
	}
	proc := func(user, system, nice int) string {
		f := strings.Fields("S 1 1 1 0 -1 0 0 0 0 0 U V 0 0 20 N 1 0 100 0 0 0")
		f[11], f[12], f[16] = strconv.Itoa(user), strconv.Itoa(system), strconv.Itoa(nice)
		return "7 (a) b) " + strings.Join(f, " ")
	}
	c := &cpu{proc: root, ours: func() map[int]bool { return map[int]bool{7: true, 8: true} }}
	write(t, root, map[string]string{"stat": stat(0, 0, 0, 0), "7/stat": proc(0, 0, 0), "8/stat": proc(0, 0, 19)})
	if s := sensed(t, c); s.CPUOthers != nil {
		t.Errorf("a share after one look: %v", *s.CPUOthers)
	}
	// 1000 ticks: 300 of others, 100 of the daemon, 400 of a niced worker and 50
	// that the kernel did for it.
	write(t, root, map[string]string{"stat": stat(400, 400, 50, 150), "7/stat": proc(100, 0, 0), "8/stat": proc(400, 50, 19)})
	c.at = c.at.Add(-time.Minute)
	if s := sensed(t, c); s.CPUOthers == nil || *s.CPUOthers != 0.3 {
		t.Errorf("others use %v, want 0.3", *s.CPUOthers)
	}
	// A worker that ended makes ours smaller, never others' negative.
	write(t, root, map[string]string{"stat": stat(400, 900, 50, 650), "7/stat": proc(0, 0, 0), "8/stat": proc(0, 0, 19)})
	c.at = c.at.Add(-time.Minute)
	if s := sensed(t, c); *s.CPUOthers != 0 {
		t.Errorf("others use %v, want 0", *s.CPUOthers)
	}
	// The real files are understood too.
	real := &cpu{proc: "/proc", ours: ourTree}
	sensed(t, real)
	if real.total == 0 {
		t.Error("nothing was counted")
	}
}

func TestOurTreeHasOurChildren(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tree := ourTree()
	if !tree[os.Getpid()] || !tree[cmd.Process.Pid] || tree[1] && os.Getpid() != 1 {
		t.Errorf("%v has not %d and %d", tree, os.Getpid(), cmd.Process.Pid)
	}
	w.Close()
	r.Close()
	cmd.Wait()
}

func TestTerminals(t *testing.T) {
	if _, err := (terminals{dirs: []string{t.TempDir() + "/*"}}).Sense(t.Context()); err == nil {
		t.Error("no terminal, no error")
	}
	s := sensed(t, terminals{user: "ada", dirs: []string{"/dev/null"}})
	if len(s.Sessions) != 1 || s.Sessions[0].Graphical || s.Sessions[0].IdleSeconds == nil {
		t.Errorf("%+v", s)
	}
}

func TestClocks(t *testing.T) {
	a, b := Now(), Now()
	if b.Mono < a.Mono || a.Mono <= 0 || a.Slept < 0 || Boot() == "" {
		t.Errorf("%+v, %+v, boot %q", a, b, Boot())
	}
}

func TestHook(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) string {
		p := filepath.Join(dir, "hook"+strconv.Itoa(len(text)))
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for path, want := range map[string]idle.Hook{
		script("exit 0"):                           {Yes: true},
		script("echo the sun shines\necho no"):     {Yes: true, Text: "the sun shines"},
		script("echo 300 W from the grid; exit 1"): {Text: "300 W from the grid"},
		filepath.Join(dir, "none"):                 {Text: "it could not be run"},
	} {
		woken := make(chan struct{}, 1)
		h := &hook{path: path, wake: func() { woken <- struct{}{} }}
		if s := sensed(t, h); s.Hook == nil || s.Hook.Yes {
			t.Errorf("%s: %+v before it answered", path, s.Hook)
		}
		<-woken
		s := sensed(t, h)
		if s.Hook.Yes != want.Yes || !strings.Contains(s.Hook.Text, want.Text) || want.Text == "" && s.Hook.Text != "" {
			t.Errorf("%s: %+v, want %+v", path, s.Hook, want)
		}
		h.close()
	}
	h := &hook{path: script("exec sleep 1000"), wake: func() {}}
	sensed(t, h)
	h.close() // does not wait for it
}
