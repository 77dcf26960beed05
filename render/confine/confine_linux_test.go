package confine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// confined runs a shell with the layers of this package alone: no namespaces.
func confined(t *testing.T, s Spec, script string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name, value, err := s.Environ()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "/bin/bash", "-c", script)
	c.Env = []string{"PATH=/usr/bin:/bin", name + "=" + value, "LEFT=1"}
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestConfine(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("NOT RUN: no bash")
	}
	dir := t.TempDir()
	for _, d := range []string{"work", "in", "secret"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d, "f"), []byte(d), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := Spec{
		Read:    []string{"/usr", "/bin", "/lib", "/lib64", "/etc", filepath.Join(dir, "in"), "/no/such/folder"},
		Write:   []string{filepath.Join(dir, "work")},
		Devices: []string{"/dev", "/proc"},
	}
	tries := []struct {
		script string
		works  bool // with the layers; without, all do
	}{
		{"cat work/f", true},
		{"echo x > work/g && mkdir -p work/a work/b && mv work/g work/a/g && mv work/a/g work/b/g", true},
		{"cat in/f", true},
		{"echo x > /dev/null", true},
		{"[ \"$(env | grep -c IDLEWILD)\" = 0 ] && [ $LEFT = 1 ]", true},
		{"[ \"$(ulimit -Hc)\" != 0 ] || [ \"$(ulimit -Sc)\" = 0 ]", true},
		{"echo x > in/g", false},
		{"cat secret/f", false},
		{"echo x > secret/g", false},
		{"ls /", false},
		{"ln secret/f work/linked", false},
		{fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d", l.Addr().(*net.TCPAddr).Port), false},
		{fmt.Sprintf("kill -0 %d", os.Getpid()), false},
	}
	if v := LandlockVersion(); v < 6 {
		t.Skipf("NOT RUN: the kernel has Landlock %d, and 6 keeps from all of this", v)
	}
	for _, c := range tries {
		script := "cd " + dir + " && " + c.script
		if out, err := confined(t, s, script); (err == nil) != c.works {
			t.Errorf("%s: %v\n%s", c.script, err, out)
		}
		if out, err := exec.Command("/bin/bash", "-c", "export LEFT=1; "+script).CombinedOutput(); err != nil && !c.works {
			t.Errorf("%s, without the layers: %v\n%s", c.script, err, out)
		}
	}
}

func TestConfineLimits(t *testing.T) {
	s := Spec{Threads: 321, FileBytes: 1 << 20, DataBytes: 300 << 20, Read: []string{"/"}, Write: []string{os.TempDir()}, Devices: []string{"/dev", "/proc"}}
	out, err := confined(t, s, "ulimit -u; ulimit -f; ulimit -d; ulimit -c")
	if err != nil || strings.Join(strings.Fields(out), " ") != "321 1024 307200 0" {
		t.Errorf("%q %v", out, err)
	}
	for _, c := range []struct{ spec, args, want string }{
		{"{", "/bin/true", "unexpected end"},
		{"{}", "", "no program named"},
		{"{}", "/no/such/program", "/no/such/program"},
	} {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, strings.Fields(c.args)...)
		cmd.Env = []string{env + "=" + c.spec}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: %v %s", c.spec, c.args, err, out)
		}
	}
}
