package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"idlewild/render/gpu"
)

// filePower is a driver whose limits are files, so that several processes see
// the same GPU.
type filePower struct{ dir string }

func (f filePower) PowerLimit(uuid string) (now, least float64, err error) {
	b, err := os.ReadFile(filepath.Join(f.dir, uuid))
	if err != nil {
		return 0, 0, err
	}
	now, err = strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	return now, 100, err
}

func (f filePower) SetPowerLimit(uuid string, watts float64) error {
	if uuid == "locked" {
		return errors.New("no permission to ask it")
	}
	return os.WriteFile(filepath.Join(f.dir, uuid), []byte(fmt.Sprint(watts)), 0o600)
}

const envTestPower = "IDLEWILD_TEST_POWER"

func init() {
	// This program is its own guard, and in one test its own daemon.
	if dir := os.Getenv(envTestPower); dir != "" {
		newLimiter = func() gpu.PowerLimiter { return filePower{dir} }
	}
}

func TestPowerLimit(t *testing.T) {
	driver, dir := t.TempDir(), t.TempDir()
	t.Setenv(envTestPower, driver)
	newLimiter = func() gpu.PowerLimiter { return filePower{driver} }
	t.Cleanup(func() { newLimiter = gpu.NewPowerLimiter })
	for name, w := range map[string]string{"a": "320", "b": "150", "locked": "320"} {
		if err := os.WriteFile(filepath.Join(driver, name), []byte(w), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	watts := func(name string) string {
		b, err := os.ReadFile(filepath.Join(driver, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if p := newPowerCap(dir, nil, slog.New(slog.DiscardHandler)); p != nil {
		t.Error("a limit that nobody wants")
	}
	p := newPowerCap(dir, map[string]float64{"a": 200, "b": 200, "locked": 200}, slog.New(slog.DiscardHandler))
	for range 2 {
		for _, d := range []string{"a", "b", "locked", "none"} {
			p.follow(d, true)
		}
	}
	if watts("a") != "200" || watts("b") != "150" || watts("locked") != "320" {
		t.Errorf("%s, %s, %s", watts("a"), watts("b"), watts("locked"))
	}
	p.follow("a", false)
	if watts("a") != "320" {
		t.Errorf("%s after the work", watts("a"))
	}
	if _, err := os.Stat(filepath.Join(dir, powerFile)); err == nil {
		t.Error("nothing is left to restore")
	}
	p.follow("a", true)
	if err := p.close(); err != nil || watts("a") != "320" {
		t.Errorf("%v, %s after the end", err, watts("a"))
	}

	// What a daemon left that was killed together with its guard.
	if err := os.WriteFile(filepath.Join(dir, powerFile), []byte(`{"a":300}`), 0o600); err != nil {
		t.Fatal(err)
	}
	newPowerCap(dir, nil, slog.New(slog.DiscardHandler))
	if watts("a") != "300" {
		t.Errorf("%s after a start", watts("a"))
	}
}

// TestPowerDaemon is no test but the daemon of the one below.
func TestPowerDaemon(t *testing.T) {
	dir := os.Getenv("IDLEWILD_TEST_POWER_DAEMON")
	if dir == "" {
		return
	}
	newPowerCap(dir, map[string]float64{"a": 200, "b": 200, "locked": 200}, slog.New(slog.DiscardHandler)).follow("a", true)
	fmt.Println("capped")
	select {}
}

// A daemon that is killed leaves no limit behind.
func TestPowerLimitIsTakenBackAfterAKill(t *testing.T) {
	driver, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(driver, "a"), []byte("320"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPowerDaemon$")
	cmd.Env = append(os.Environ(), envTestPower+"="+driver, "IDLEWILD_TEST_POWER_DAEMON="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	is := func(want string) error {
		if b, err := os.ReadFile(filepath.Join(driver, "a")); err != nil || string(b) != want {
			return fmt.Errorf("%s, %v", b, err)
		}
		return nil
	}
	if err := is("200"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	eventually(t, "the limit is taken back", func() error { return is("320") })
}
