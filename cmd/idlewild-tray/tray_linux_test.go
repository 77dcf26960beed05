package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
)

func TestMain(m *testing.M) {
	if os.Getenv("IDLEWILD_TRAY_TEST") != "" {
		main()
		return
	}
	node.RunnerMain()
	os.Exit(m.Run())
}

func TestLook(t *testing.T) {
	device := func(doing, level, signal string) localapi.WhyDevice {
		return localapi.WhyDevice{Name: "cpu", Model: "Ryzen", Doing: doing, Level: level, Signal: signal, Reason: "ada\nuses it"}
	}
	var in localapi.StatusView
	in.Farm.ID = "x"
	paused := in
	paused.Machine.Paused = "by its owner"
	for name, x := range map[string]struct {
		s    localapi.StatusView
		d    []localapi.WhyDevice
		err  error
		want look
	}{
		"no daemon": {err: errors.New("x"), want: look{mood: away, head: "idlewild does not run", why: []string{"Start it with: idlewild up"}}},
		"free":      {s: in, d: []localapi.WhyDevice{device("idle", "free", "")}, want: look{mood: free, head: "Waits for work", why: []string{"Ryzen: has nothing to do"}, here: true}},
		"busy":      {s: in, d: []localapi.WhyDevice{device("job 01X task 7", "free", "")}, want: look{mood: busy, head: "Works for the farm", why: []string{"Ryzen: works on job 01X task 7"}, here: true}},
		"resting":   {s: in, d: []localapi.WhyDevice{device("resting", "stop", "input")}, want: look{mood: resting, head: "Rests", why: []string{"Ryzen: rests, because of input: ada uses it"}, here: true}},
		"paused":    {s: paused, d: []localapi.WhyDevice{device("resting", "stop", "pause")}, want: look{mood: resting, head: "Paused: by its owner", why: []string{"Ryzen: rests, because of pause: ada uses it"}, paused: true, here: true}},
		"no farm":   {d: []localapi.WhyDevice{{Name: job.HomeDevice}}, want: look{mood: resting, head: "Rests (in no farm)", here: true}},
	} {
		if got := lookOf(x.s, localapi.WhyView{Devices: x.d}, x.err); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", x.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := line(strings.Repeat("é", 1000)); len([]rune(got)) != maxLine {
		t.Errorf("a line of %d", len([]rune(got)))
	}
	for m := range moods {
		if _, err := png.Decode(bytes.NewReader(icon(m))); err != nil {
			t.Error(err)
		}
	}
	if b := ico(64, icon(free)); len(b) != 22+len(icon(free)) || b[6] != 64 {
		t.Error("no ICO")
	}
}

// bus is a session bus of the test's own, with a desktop's stand-in on it that
// icons report to.
func bus(t *testing.T) (address string, conn *dbus.Conn, items chan string) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("NOT RUN: the icon on a session bus: dbus-daemon is not installed")
	}
	cmd := exec.Command(program, "--session", "--nofork", "--print-address", "--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	conn, err = dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	items = make(chan string, 8)
	const name = "org.kde.StatusNotifierWatcher"
	if err := conn.ExportMethodTable(map[string]any{
		"RegisterStatusNotifierItem": func(_ string, from dbus.Sender) *dbus.Error { items <- string(from); return nil },
	}, "/StatusNotifierWatcher", name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return address, conn, items
}

// menu reads what is shown, by title.
func menu(item dbus.BusObject) (map[string]int32, error) {
	var (
		revision uint32
		layout   struct {
			ID       int32
			Props    map[string]dbus.Variant
			Children []dbus.Variant
		}
	)
	if err := item.Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &layout); err != nil {
		return nil, err
	}
	out := map[string]int32{}
	for _, c := range layout.Children {
		f, ok := c.Value().([]any)
		if !ok || len(f) < 2 {
			continue
		}
		props, _ := f[1].(map[string]dbus.Variant)
		if v, ok := props["visible"]; ok && v.Value() == false {
			continue
		}
		if title, ok := props["label"].Value().(string); ok {
			out[title], _ = f[0].(int32)
		}
	}
	return out, nil
}

// A desktop shows the icon of a real daemon; the owner pauses and resumes by
// its menu.
func TestIconOnASessionBus(t *testing.T) {
	address, conn, items := bus(t)
	cfg := node.DefaultConfig()
	cfg.DataDir, cfg.Name = filepath.Join(t.TempDir(), "data"), "desk"
	cfg.Network.Listen, cfg.Network.MDNS = []string{"/ip4/127.0.0.1/tcp/0"}, false
	cfg.Idle.Mode, cfg.Sandbox.Mode, cfg.Blender.Path = "off", "off", filepath.Join(t.TempDir(), "none")
	n, err := node.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	end := func() { stop(); <-ended }
	ran := true
	defer func() {
		if ran {
			end()
		}
	}()
	eventually := func(what string, ok func() error) {
		t.Helper()
		var err error
		for until := time.Now().Add(time.Minute); time.Now().Before(until); <-time.After(20 * time.Millisecond) {
			if err = ok(); err == nil {
				return
			}
		}
		t.Fatalf("%s: not within a minute: %v", what, err)
	}
	var client *localapi.Client
	eventually("the daemon answers", func() error {
		if client, err = localapi.Dial(cfg.DataDir); err == nil {
			_, err = client.Status(t.Context())
		}
		return err
	})
	defer client.Close()

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tray := exec.Command(exe, "--data-dir", cfg.DataDir)
	tray.Env = append(os.Environ(), "IDLEWILD_TRAY_TEST=1", "DBUS_SESSION_BUS_ADDRESS="+address)
	tray.Stderr = os.Stderr
	if err := tray.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- tray.Wait() }()
	defer tray.Process.Kill()
	var name string
	select {
	case name = <-items:
	case err := <-gone:
		t.Fatalf("it ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("it did not report to the desktop")
	}
	item := conn.Object(name, "/StatusNotifierItem/menu")
	shows := func(want, not string) func() error {
		return func() error {
			m, err := menu(item)
			if err != nil {
				return err
			}
			_, has := m[want]
			if _, bad := m[not]; !has || bad {
				return fmt.Errorf("the menu is %v", m)
			}
			return nil
		}
	}
	press := func(title string) error {
		t.Helper()
		m, err := menu(item)
		if err != nil {
			t.Fatal(err)
		}
		return item.Call("com.canonical.dbusmenu.Event", 0, m[title], "clicked", dbus.MakeVariant(""), uint32(0)).Err
	}
	click := func(title string) {
		t.Helper()
		if err := press(title); err != nil {
			t.Fatal(err)
		}
	}
	eventually("it shows the daemon", shows("Pause", "Resume"))
	eventually("it shows its state", shows("Waits for work (in no farm)", "Resume"))
	icon, err := conn.Object(name, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.IconPixmap")
	if err != nil || icon.Value() == nil {
		t.Errorf("no icon: %v", err)
	}
	click("Pause")
	eventually("the daemon is paused", func() error {
		s, err := client.Status(t.Context())
		if err == nil && s.Machine.Paused == "" {
			err = errors.New("it is not")
		}
		return err
	})
	eventually("it shows the pause", shows("Resume", "Pause"))
	click("Resume")
	eventually("it shows the end of it", shows("Pause", "Resume"))
	ran = false
	end()
	eventually("it shows that the daemon is gone", shows("idlewild does not run", "Pause"))
	answer := press("Close this icon") // an error where the icon ended before it answered
	select {
	case <-gone:
	case <-time.After(2 * time.Minute):
		t.Errorf("it does not end, and answered %v", answer)
	}
}
