package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnit(t *testing.T) {
	got := unitText(Program{Path: `/opt/my apps/idle"wild`, Args: []string{"up", "--data-dir", `/d/100%/$HOME`}})
	if !strings.HasPrefix(got, "[Unit]\n") {
		t.Errorf("the head that is for people is in it: %.60s", got)
	}
	want := `ExecStart="/opt/my apps/idle\"wild" "up" "--data-dir" "/d/100%%/$$HOME"` + "\n"
	if !strings.Contains(got, want) || strings.Count(got, "ExecStart=") != 1 {
		t.Errorf("no %q in %s", want, got)
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT RUN: systemd's own look at the unit: systemd-analyze is not installed")
	}
	file := filepath.Join(t.TempDir(), unit)
	program := filepath.Join(t.TempDir(), "a program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(unitText(Program{Path: program, Args: []string{"up"}})), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(verify, "verify", file).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// The system's own program is played by a script that writes down its calls.
func TestInstallAndRemove(t *testing.T) {
	bin, home := t.TempDir(), t.TempDir()
	calls := filepath.Join(home, "calls")
	script := "#!/bin/sh\necho \"$@\" >> " + calls + "\n"
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	if removed, err := Remove(t.Context()); removed || err != nil {
		t.Errorf("nothing to remove: %v %v", removed, err)
	}
	for range 2 { // again is the same
		if err := Install(t.Context(), Program{Path: "/x/idlewild", Args: []string{"up"}}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(home, "config", "systemd", "user", unit)
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"/x/idlewild" "up"`) {
		t.Errorf("%s: %v", b, err)
	}
	if removed, err := Remove(t.Context()); !removed || err != nil {
		t.Errorf("remove: %v %v", removed, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the unit is left")
	}
	b, _ := os.ReadFile(calls)
	for _, want := range []string{"--user enable --now idlewild.service", "--user disable --now idlewild.service", "--user daemon-reload"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q was not called: %s", want, b)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho Failed to connect to bus; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Install(t.Context(), Program{Path: "/x/idlewild"}); err == nil || !strings.Contains(err.Error(), "Failed to connect to bus") {
		t.Errorf("without a session: %v", err)
	}
}
