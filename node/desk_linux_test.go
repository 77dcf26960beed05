package node

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"idlewild/node/idle"
	"idlewild/node/localapi"
	"idlewild/render/echo"
)

// A hand on the mouse, with a real X server: what runs is stopped, and the
// farm has the task back.
func TestWorkMakesWayForAHandOnTheMouse(t *testing.T) {
	tool := func(name string) string {
		path, err := exec.LookPath(name)
		if err != nil {
			if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "xvfb") {
				t.Fatalf("%s is required and missing", name)
			}
			t.Skipf("NOT RUN: %s is not installed", name)
		}
		return path
	}
	xdotool := tool("xdotool")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(tool("Xvfb"), "-displayfd", "3", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset")
	server.ExtraFiles = []*os.File{w}
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); r.Close() })
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of the desk that the tests may be run at.
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(number))
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_SESSION_TYPE", "x11")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/system")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/session")

	requester := startNode(t, "requester", func(c *Config) { c.Worker.Enabled = false })
	desk := startNode(t, "desk", func(c *Config) {
		c.Idle = defaultIdle()
		c.Idle.AfterSeconds, c.Idle.SettleSeconds, c.Idle.CPULoad, c.Idle.Games = 1, 0, 0, false
		c.Idle.OnBattery, c.Idle.OnMetered = true, true
		c.Limits.CPUTemp, c.Limits.FreeDiskBytes = 0, 0
	})
	join(t, requester, desk)
	id, err := requester.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 1, Text: "x", SleepMS: 600_000}))
	if err != nil {
		t.Fatal(err)
	}
	running := func(want int) func() error {
		return func() error {
			s, err := requester.client.Job(t.Context(), id)
			if err == nil && s.Running != want {
				err = fmt.Errorf("%d run: %s", s.Running, s.Reason)
			}
			return err
		}
	}
	eventually(t, "a task runs", running(1))
	if out, err := exec.Command(xdotool, "mousemove_relative", "5", "5").CombinedOutput(); err != nil {
		t.Fatalf("xdotool: %v %s", err, out)
	}
	var v localapi.WhyView
	eventually(t, "it yields", func() (err error) {
		if v, err = desk.client.Why(t.Context()); err == nil && v.Devices[len(v.Devices)-1].Level != "stop" {
			err = fmt.Errorf("%+v", v.Devices)
		}
		return err
	})
	if d := v.Devices[len(v.Devices)-1]; !v.Desk || d.Signal != idle.SignalInput || !strings.Contains(d.Reason, "XScreenSaver") {
		t.Errorf("%+v", v)
	}
	eventually(t, "the farm has the task back", running(0))
	eventually(t, "it comes back by itself", running(1))
}
