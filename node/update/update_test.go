package update

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// site is a real web server with what its makers signed.
type site struct {
	*httptest.Server
	files map[string][]byte
	key   minisign.PrivateKey
	src   Source
}

func newSite(t *testing.T) *site {
	t.Helper()
	pub, priv, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{files: map[string][]byte{}, key: priv}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	text, err := pub.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	s.src = Source{URL: s.URL + "/idlewild.json", Key: string(text)}
	return s
}

// publish signs a version whose program is text.
func (s *site) publish(t *testing.T, version, text string, change func(*Manifest)) {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	m := Manifest{Version: version, Files: map[string]File{Platform(): {URL: "program", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}}}
	s.files["/program"] = []byte(text)
	if change != nil {
		change(&m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s.files["/idlewild.json"] = b
	s.files["/idlewild.json.minisig"] = minisign.Sign(s.key, b)
}

func (s *site) fetch(t *testing.T, exe, current string) (Staged, error) {
	m, err := s.src.Manifest(t.Context())
	if err != nil {
		return Staged{}, err
	}
	return s.src.Fetch(t.Context(), m, exe, current)
}

func TestNewer(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want bool
	}{
		{"0.2.0", "0.1.0", true}, {"0.10.0", "0.9.9", true}, {"0.1.0", "0.1.0", false}, {"0.1.0", "0.2.0", false}, {"1.0.0-rc1", "1.0.0", false},
		{"1.0.0", "1.0.0-rc1", true}, {"v2.0.0", "1.0.0", false}, {"2", "1.0.0", false}, {"9.9.9", "dev", false}, {"9.9.9\n", "1.0.0", false},
	} {
		if Newer(x.a, x.b) != x.want {
			t.Errorf("%s newer than %s: %v", x.a, x.b, !x.want)
		}
	}
}

func TestWhatIsNotSignedOrNotNewerIsNotFetched(t *testing.T) {
	const good = "#!/bin/sh\n"
	other := newSite(t)
	for name, x := range map[string]struct {
		do   func(s *site)
		want string
	}{
		"no manifest":      {func(s *site) { delete(s.files, "/idlewild.json") }, "404"},
		"no signature":     {func(s *site) { delete(s.files, "/idlewild.json.minisig") }, "404"},
		"changed manifest": {func(s *site) { s.files["/idlewild.json"] = append(s.files["/idlewild.json"], ' ') }, "not signed"},
		"another's key":    {func(s *site) { s.src.Key = other.src.Key }, "not signed"},
		"torn signature":   {func(s *site) { s.files["/idlewild.json.minisig"] = []byte("untrusted comment") }, "not signed"},
		"huge manifest":    {func(s *site) { s.files["/idlewild.json"] = make([]byte, maxManifest+1) }, "is over"},
		"no version":       {func(s *site) { s.publish(t, "newest", good, nil) }, "is none"},
		"the same":         {func(s *site) { s.publish(t, "0.1.0", good, nil) }, "not newer"},
		"older":            {func(s *site) { s.publish(t, "0.0.9", good, nil) }, "not newer"},
		"another system": {func(s *site) {
			s.publish(t, "0.2.0", good, func(m *Manifest) { m.Files = map[string]File{"plan9/mips": {}} })
		}, "not made for"},
		"no hash": {func(s *site) {
			s.publish(t, "0.2.0", good, func(m *Manifest) { m.Files[Platform()] = File{URL: "program", Size: 3} })
		}, "no right size or SHA-256"},
		"changed program": {func(s *site) { s.files["/program"] = []byte("#!/bin/xx\n") }, "not what the manifest says"},
		"longer program":  {func(s *site) { s.files["/program"] = []byte(good + good) }, "is over"},
		"shorter program": {func(s *site) { s.files["/program"] = []byte("#") }, "not what the manifest says"},
		"no program":      {func(s *site) { delete(s.files, "/program") }, "404"},
		"absurd size": {func(s *site) {
			s.publish(t, "0.2.0", good, func(m *Manifest) {
				f := m.Files[Platform()]
				f.Size = 1 << 62
				m.Files[Platform()] = f
			})
		}, "no right size or SHA-256"},
	} {
		s := newSite(t)
		s.publish(t, "0.2.0", good, nil)
		x.do(s)
		dir := t.TempDir()
		_, err := s.fetch(t, filepath.Join(dir, "idlewild"), "0.1.0")
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
}

func TestSource(t *testing.T) {
	s := newSite(t)
	for name, x := range map[string]struct{ url, key, part string }{
		"right": {s.src.URL, s.src.Key, ""}, "https": {"https://example.com/m.json", s.src.Key, ""}, "http": {"http://example.com/m.json", s.src.Key, "url"},
		"none": {"", s.src.Key, "url"}, "no key": {s.src.URL, "", "key"}, "a short key": {s.src.URL, "RWQ", "key"}, "password": {"https://a:b@c/m", s.src.Key, "url"},
	} {
		if part, err := (Source{URL: x.url, Key: x.key}).Validate(); part != x.part || (err == nil) != (part == "") {
			t.Errorf("%s: %q %v", name, part, err)
		}
	}
}

// An old program and a new one, as files that run.
func TestTrial(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: shell scripts on Windows")
	}
	const version = `if [ "$1" = --version ]; then echo idlewild version 0.2.0; exit; fi` + "\n"
	const stays = `echo $$ > "$PIDFILE"; trap 'exit 0' INT; while :; do sleep 0.05; done` + "\n"
	for name, x := range map[string]struct {
		program string
		says    string // when it is asked
		works   bool
		want    string
	}{
		"it works":                {version + stays, "0.2.0", true, ""},
		"it ends at once":         {version + "exit 7\n", "0.2.0", false, "ended before it answered: exit status 7"},
		"it never answers":        {version + "while :; do sleep 0.05; done\n", "", false, "did not answer within"},
		"another version answers": {version + stays, "0.1.0", false, "what answers is version 0.1.0"},
		"it says another version": {"echo idlewild version 0.3.0\n", "0.2.0", false, "says that it is"},
		"it does not run":         {"exit 1\n", "0.2.0", false, "does not run here"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.publish(t, "0.2.0", "#!/bin/sh\n"+x.program, nil)
			dir, bin := t.TempDir(), t.TempDir()
			exe, pidFile := filepath.Join(bin, "idlewild"), filepath.Join(dir, "pid")
			if err := os.WriteFile(exe, []byte("old"), 0o750); err != nil {
				t.Fatal(err)
			}
			g, err := s.fetch(t, exe, "0.1.0")
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(exe); string(b) != "old" {
				t.Fatal("the old program is changed before the new one answered")
			}
			if err := (State{Staged: &g}).Save(dir); err != nil {
				t.Fatal(err)
			}
			trial := Trial{
				Dir: dir, Exe: exe, Args: []string{"up"}, Env: []string{"PIDFILE=" + pidFile}, For: time.Minute, Every: 5 * time.Millisecond,
				Answers: func(_ context.Context, pid int) (string, bool) {
					b, _ := os.ReadFile(pidFile)
					return x.says, strings.TrimSpace(string(b)) == strconv.Itoa(pid)
				},
			}
			if x.want == "did not answer within" {
				trial.For = 100 * time.Millisecond
			}
			got, err := trial.Apply(t.Context())
			now, rerr := os.ReadFile(exe)
			if rerr != nil {
				t.Fatal(rerr)
			}
			after := Load(dir)
			if after.Staged != nil {
				t.Error("it would be tried again")
			}
			if x.works {
				fi, _ := os.Stat(exe)
				old, _ := os.ReadFile(exe + ".old")
				if err != nil || got != "0.2.0" || !strings.Contains(string(now), version) || fi.Mode().Perm() != 0o750 || string(old) != "old" {
					t.Errorf("%q %v, mode %v, before it %q", got, err, fi.Mode(), old)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), x.want) || got != "" || string(now) != "old" || !strings.Contains(after.Bad["0.2.0"], x.want) {
				t.Errorf("%q %v, the program is %q, remembered %q", got, err, now, after.Bad)
			}
			if _, err := os.Stat(g.Path); err == nil {
				t.Error("the new program is left")
			}
		})
	}
}

// What was fetched is looked at again before it runs: the power may have gone.
func TestTornProgramIsNotRun(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	exe, bystander := filepath.Join(bin, "idlewild"), filepath.Join(bin, "bystander")
	for _, f := range []string{exe, bystander} {
		if err := os.WriteFile(f, []byte("old"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ran := filepath.Join(dir, "ran")
	for name, fetched := range map[string]string{"torn": "new", "another": "#!/bin/sh\ntouch " + ran + "\necho idlewild version 0.2.0\n", "gone": ""} {
		if fetched != "" {
			if err := os.WriteFile(newPath(exe), []byte(fetched), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// A path in the file counts for nothing: whatever lies there stays.
		state := fmt.Sprintf(`{"staged":{"version":"0.2.0","path":%q,"sha256":"%064d"}}`, bystander, 0)
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := (Trial{Dir: dir, Exe: exe}).Apply(t.Context()); err == nil || got != "" || Load(dir).Bad["0.2.0"] == "" {
			t.Errorf("%s: %q %v", name, got, err)
		}
		for _, f := range []string{exe, bystander} {
			if b, err := os.ReadFile(f); err != nil || string(b) != "old" {
				t.Errorf("%s: %s is %q %v", name, f, b, err)
			}
		}
		for _, f := range []string{newPath(exe), ran} {
			if _, err := os.Stat(f); err == nil {
				t.Errorf("%s: %s is there", name, f)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Trial{Dir: dir, Exe: exe}).Apply(t.Context()); err != nil || got != "" {
		t.Errorf("a torn memory: %q %v", got, err)
	}
}

// What was fetched may have been overtaken: somebody installed a newer program
// by hand meanwhile.
func TestAnOlderProgramTakesNoPlace(t *testing.T) {
	for _, current := range []string{"0.2.0", "0.3.0"} {
		dir, exe := t.TempDir(), filepath.Join(t.TempDir(), "idlewild")
		ran := filepath.Join(dir, "ran")
		program := []byte("#!/bin/sh\ntouch " + ran + "\necho idlewild version 0.2.0\n")
		sum := sha256.Sum256(program)
		for f, b := range map[string][]byte{exe: []byte("newer"), newPath(exe): program} {
			if err := os.WriteFile(f, b, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := (State{Staged: &Staged{Version: "0.2.0", SHA256: hex.EncodeToString(sum[:])}}).Save(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := (Trial{Dir: dir, Exe: exe, Current: current, For: time.Minute, Every: time.Millisecond}).Apply(t.Context()); err != nil || got != "" {
			t.Errorf("%q %v", got, err)
		}
		if b, err := os.ReadFile(exe); err != nil || string(b) != "newer" {
			t.Errorf("the program is %q %v", b, err)
		}
		for _, f := range []string{ran, newPath(exe)} {
			if _, err := os.Stat(f); err == nil {
				t.Errorf("%s is there", f)
			}
		}
		if s := Load(dir); s.Staged != nil || len(s.Bad) > 0 {
			t.Errorf("remembered %+v", s)
		}
	}
}
