package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigPrecedenceAndOrigins(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	os.WriteFile(file, []byte("name = \"from-file\"\n[worker]\nthreads = 2\nenv = [\"A=1\", \"B=2\"]\n[check]\nrate = 0.5\n"), 0o600)
	t.Setenv("IDLEWILD_WORKER_THREADS", "3")
	t.Setenv("IDLEWILD_CHECK_RATE", "0.25")
	c, origins, err := LoadConfig("", map[string]string{"data_dir": dir, "check.rate": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "from-file" || c.Worker.Threads != 3 || c.Check.Rate != 1 || len(c.Worker.Env) != 2 || c.Sandbox.Mode != "auto" {
		t.Errorf("%+v", c)
	}
	from := map[string]string{}
	for _, o := range origins {
		from[o.Key] = o.From
	}
	want := map[string]string{
		"name":           "file " + file,
		"worker.threads": "environment IDLEWILD_WORKER_THREADS",
		"worker.env":     "file " + file,
		"check.rate":     "flag",
		"data_dir":       "flag",
		"sandbox.mode":   "default",
	}
	for k, w := range want {
		if from[k] != w {
			t.Errorf("%s comes from %q, want %q", k, from[k], w)
		}
	}
}

func TestConfigErrorsNameTheThing(t *testing.T) {
	cases := []struct{ file, flag, value, want string }{
		{file: "[worker]\ntreads = 2\n", want: "line 2: no setting is called \"worker.treads\""},
		{file: "name = \n", want: "line 1"},
		{file: "[worker]\nthreads = \"x\"\n", want: "line 2"},
		{flag: "worker.threads", value: "many", want: "worker.threads=\"many\": not a whole number"},
		{flag: "nonsense", value: "1", want: "no setting is called \"nonsense\""},
		{flag: "check.rate", value: "2", want: "between 0 and 1"},
		{flag: "check.rate", value: "NaN", want: "between 0 and 1"},
		{flag: "sandbox.mode", value: "maybe", want: "auto, required or off"},
		{flag: "sandbox.trusted", value: "somebody", want: "no peer's id"},
		{flag: "sandbox.disk_bytes", value: "-1", want: "limit in sandbox"},
		{flag: "worker.env", value: "X", want: "KEY=VALUE"},
	}
	for _, c := range cases {
		dir := t.TempDir()
		if c.file != "" {
			os.WriteFile(filepath.Join(dir, "config.toml"), []byte(c.file), 0o600)
		}
		flags := map[string]string{"data_dir": dir}
		if c.flag != "" {
			flags[c.flag] = c.value
		}
		_, _, err := LoadConfig("", flags)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q %s=%s: got %v, want one line with %q", c.file, c.flag, c.value, err, c.want)
		}
	}
	if _, _, err := LoadConfig(filepath.Join(t.TempDir(), "absent.toml"), nil); err == nil {
		t.Error("a file that was named and is not there was ignored")
	}
}

func TestIdentityIsStableAndNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	a, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equals(b) {
		t.Error("a second start made another peer")
	}
	fi, err := os.Stat(filepath.Join(dir, "identity.key"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", fi.Mode(), err)
	}
	os.WriteFile(filepath.Join(dir, "identity.key"), []byte("garbage"), 0o600)
	if _, err := loadIdentity(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged key: %v", err)
	}
}
