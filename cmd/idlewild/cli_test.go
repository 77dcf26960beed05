package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
	"idlewild/node/localapi"
)

func TestArrangePutsFlagsFirst(t *testing.T) {
	app := newApp(&program{})
	for _, c := range []struct{ in, want string }{
		{"submit a.blend -f 1-3 -o out", "submit -f 1-3 -o out -- a.blend"},
		{"submit -f 1-3 a.blend --wait -o out", "submit -f 1-3 --wait -o out -- a.blend"},
		{"submit a.blend --frames=1 b", "submit --frames=1 -- a.blend b"},
		{"submit -- -f", "submit -- -f"},
		{"farm join TICKET --json", "farm join --json -- TICKET"},
		{"status", "status"},
		{"status JOB -w", "status -w -- JOB"},
		{"submit a --nonsense b", "submit --nonsense -- a b"},
		{"check a --frame -3 --claim c", "check --frame -3 --claim c -- a"},
		{"nonsense a -f", "nonsense a -f"},
		{"--version", "--version"},
		{"submit a -f", "submit -f -- a"},
	} {
		got := arrange(app.Commands, append([]string{"idlewild"}, strings.Fields(c.in)...))
		if s := strings.Join(got[1:], " "); s != c.want {
			t.Errorf("%s: got %s, want %s", c.in, s, c.want)
		}
	}
}

func TestWrongUsageExitsWith2AndOneLine(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("[worker]\nthreds = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"nonsense":                              `no command "nonsense"`,
		"farm nonsense":                         `no command "farm nonsense"`,
		"farm":                                  "farm needs one of",
		"config":                                "config needs show",
		"status --nonsense":                     "-nonsense; see: idlewild status --help",
		"farm join":                             "farm join takes TICKET",
		"cancel":                                "cancel takes JOB",
		"cancel a b":                            "cancel takes JOB",
		"peers x":                               "peers takes no arguments",
		"peers pardon":                          "peers pardon takes PEER",
		"peers ban x --for 9000h":               "--for is",
		"cancel abc":                            "not a ULID",
		"status --watch":                        "name it",
		"submit a.blend":                        "-o DIR",
		"submit -o x":                           "no file named",
		"submit a.blend -o x --parts 0x2":       "--parts",
		"submit a.blend -o x --resolution 1920": "--resolution",
		"submit a.blend -o x --resolution 0x5":  "--resolution",
		"submit a.blend -o x --resolution 99999999x1": "--resolution",
		"submit a.blend -o x --samples 0":             "--samples",
		"submit a.blend -o x --samples many":          "invalid value",
		"submit a.blend -o x --recheck 2":             "--recheck",
		"submit a.blend -o x --recheck NaN":           "--recheck",
		"submit a.blend -o x --params {":              "--params",
		"render a.blend -o x --nodes 0":               "--nodes",
		"check a.blend --claim c":                     "--frame N",
		"check a.blend --frame 1":                     "--claim FILE",
		"check a.blend --frame 1 --claim nowhere":     "no such file",
		"chunk nowhere":                               "no such file",
		"chunk .":                                     "is a folder",
		"farm backup":                                 "farm backup takes FILE",
		"farm backup /":                               "is there already",
		"farm backup /nowhere/x":                      "no terminal to ask",
		"farm recover nowhere":                        "no such file",
		"farm rotate --carry 48h":                     "--carry",
		"audit x":                                     "not a ULID",
		"audit --limit -1":                            "--limit",
		"audit --since 0s":                            "--since",
		"farm invite --valid 0s":                      "--valid",
		"farm invite --valid 721h":                    "1s to 720h",
		"farm invite --valid long":                    "invalid value",
		"farm invite --guest 1ms":                     "--guest",
		"config show --config " + bad:                 `line 2: no setting is called "worker.threds"`,
		"up --config " + bad:                          `line 2: no setting is called "worker.threds"`,
		"up --threads -1":                             "worker.threads",
		"up --sandbox maybe":                          "sandbox.mode",
		"up --saboteur nicely":                        "worker.saboteur",
		"up --log-level loud":                         "log.level",
	} {
		f := strings.Fields(args)
		if f[len(f)-1] != bad && !strings.HasPrefix(args, "nonsense") && len(f) > 1 || f[0] == "peers" {
			f = append(f, "--data-dir", dir)
		}
		if args == "farm" || args == "config" || args == "farm nonsense" || args == "cancel" {
			f = strings.Fields(args)
		}
		for _, asJSON := range []bool{false, true} {
			if asJSON {
				f = append(f, "--json")
			}
			r := idlewild(f...)
			if r.code != exitUsage || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "idlewild: ") || !strings.Contains(r.err, want) {
				t.Errorf("%s: exit %d, stderr %q, want one line with %q", strings.Join(f, " "), r.code, r.err, want)
			}
			if !asJSON && r.out != "" {
				t.Errorf("%s: stdout %q", args, r.out)
			}
			if asJSON && doc[failure](t, r).Code != "usage" {
				t.Errorf("%s: %s", args, r.out)
			}
		}
	}
}

func TestWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	id := string(job.NewID(time.Now()))
	for _, args := range []string{
		"status", "status " + id, "submit --kind echo -o x", "cancel " + id, "pause", "resume " + id, "logs " + id,
		"fetch " + id, "requeue " + id + " 1", "farm create", "farm invite", "farm join x", "farm members", "farm revoke x", "peers", "doctor", "audit",
	} {
		r := idlewild(append(strings.Fields(args), "--data-dir", dir)...)
		want := "idlewild: no daemon is running for " + dir + "; start it with: idlewild up\n"
		if r.code != exitFailed || r.err != want || r.out != "" {
			t.Errorf("%s: %+v, want %q", args, r, want)
		}
	}
}

func finished(id job.ID, out string) job.Status {
	return job.Status{
		Job: id, Kind: "echo", State: job.StateFinished, Output: out, Tasks: 2, Delivered: 2, Rechecked: 1, Accepted: 1,
		UploadedBytes: 1234, ResultBytes: 99, WallSeconds: 2, RenderSeconds: 1.5, Efficiency: 0.75,
		Frames:  []job.TaskStatus{{Label: "1", State: "delivered", Files: []string{filepath.Join(out, "1.txt")}}, {Label: "2", State: "delivered", Files: []string{filepath.Join(out, "2.txt")}}},
		Workers: []job.WorkerStatus{{Peer: "w\x1b[31m", Tasks: 2}},
	}
}

func TestSubmitWaitEndsWithTheDocument(t *testing.T) {
	f := newFakeDaemon(t)
	out := t.TempDir()
	f.onSubmit = func(id job.ID) {
		s := finished(id, out)
		s.State, s.Delivered = job.StatePlanned, 0
		f.set(s, job.Event{Type: job.EventPhase, Text: "storing"})
		f.set(finished(id, out), job.Event{Type: job.EventDelivered, Task: "1"})
	}
	r := f.idlewild("submit", "--kind", "echo", "--params", `{"count":2}`, "-o", out, "--wait", "--json", "--recheck", "0.5", "--parts", "no")
	if r.code != exitDone || r.err != "" {
		t.Fatalf("%+v", r)
	}
	d := doc[map[string]any](t, r)
	for _, k := range []string{"job", "state", "tasks", "delivered", "rejected", "uploaded_bytes", "result_bytes", "wall_s", "render_s", "efficiency"} {
		if _, ok := d[k]; !ok {
			t.Errorf("no %s in %s", k, r.out)
		}
	}
	if d["state"] != "finished" || d["uploaded_bytes"] != 1234.0 {
		t.Errorf("%s", r.out)
	}
	if f.spec.Kind != "echo" || f.spec.Output != out || string(f.spec.Params) == "" {
		t.Errorf("submitted %+v", f.spec)
	}

	r = f.idlewild("submit", "--kind", "echo", "-o", out, "--wait")
	for _, want := range []string{"planned 2 tasks", "finished: 2 of 2 delivered in " + out, "results: 1 accepted, 0 rejected, 0 unsure; 1 of them checked", "WORKER"} {
		if r.code != exitDone || !strings.Contains(r.out, want) {
			t.Errorf("no %q in %+v", want, r)
		}
	}
	if strings.Contains(r.out, "\x1b") {
		t.Errorf("a worker's name reaches the terminal: %q", r.out)
	}
}

func TestSubmitRefusals(t *testing.T) {
	f := newFakeDaemon(t)
	problems := []job.Problem{
		{Severity: job.SeverityError, Where: "image wood", Message: "file is missing", Remedy: "find it"},
		{Severity: job.SeverityError, Where: "scene", Message: "no camera", Remedy: "add one"},
	}
	check := func(r result, what string) {
		t.Helper()
		want := "idlewild: image wood: file is missing; find it\nidlewild: scene: no camera; add one\n"
		if r.code != exitRefused || r.err != want {
			t.Errorf("%s: %+v", what, r)
		}
	}
	// At the door, or when the file was looked at: the same to a person.
	f.refuse = &job.RefusedError{Problems: problems}
	check(f.idlewild("submit", "--kind", "echo", "-o", "x"), "at the door")
	r := f.idlewild("submit", "--kind", "echo", "-o", "x", "--json")
	check(r, "at the door, as JSON")
	if d := doc[failure](t, r); d.Code != "refused" || !reflect.DeepEqual(d.Problems, problems) {
		t.Errorf("%s", r.out)
	}
	f.refuse = nil
	f.onSubmit = func(id job.ID) {
		f.set(job.Status{Job: id, State: job.StateFailed, Reason: "refused", Problems: problems})
	}
	check(f.idlewild("submit", "--kind", "echo", "-o", "x"), "inspected")
	check(f.idlewild("submit", "--kind", "echo", "-o", "x", "--wait"), "inspected, waiting")
	r = f.idlewild("submit", "--kind", "echo", "-o", "x", "--wait", "--json")
	check(r, "inspected, as JSON")
	if s := doc[job.Status](t, r); len(s.Problems) != 2 {
		t.Errorf("%s", r.out)
	}
}

func TestSubmitWaitOfAJobThatFails(t *testing.T) {
	f := newFakeDaemon(t)
	f.onSubmit = func(id job.ID) {
		f.set(job.Status{Job: id, State: job.StateFailed, Tasks: 2, Delivered: 1, FailedN: 1, Reason: "1 task failed",
			Frames: []job.TaskStatus{{Label: "1", State: "delivered"}, {Label: "2", State: "failed", Reason: "crashed"}}},
			job.Event{Type: job.EventFailed, Task: "2", Worker: "w", Text: "crashed"})
	}
	r := f.idlewild("submit", "--kind", "echo", "-o", "x", "--wait")
	if r.code != exitFailed || !strings.Contains(r.err, "idlewild: the job failed: 1 task failed\n") || !strings.Contains(r.err, "  | last of 2\ufffd[2J\n") {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.out, "2: crashed") {
		t.Errorf("%q", r.out)
	}
	f.onSubmit = func(id job.ID) { f.set(job.Status{Job: id, State: job.StateCancelled, Tasks: 1}) }
	if r = f.idlewild("submit", "--kind", "echo", "-o", "x", "--wait", "--json"); r.code != exitFailed || doc[job.Status](t, r).State != job.StateCancelled {
		t.Errorf("%+v", r)
	}
}

func TestFollowSurvivesARestartOfTheDaemon(t *testing.T) {
	f := newFakeDaemon(t)
	var id job.ID
	planned := make(chan struct{})
	f.onSubmit = func(i job.ID) {
		id = i
		f.set(job.Status{Job: id, State: job.StatePlanned, Tasks: 2})
		close(planned)
	}
	ended := make(chan result)
	go func() { ended <- f.idlewild("submit", "--kind", "echo", "-o", "x", "--wait", "--json") }()
	<-planned
	f.stop()
	f.start(t) // at another port, with another token
	f.set(finished(id, "x"))
	if r := <-ended; r.code != exitDone || doc[job.Status](t, r).State != job.StateFinished {
		t.Errorf("%+v", r)
	}
}

func TestStatus(t *testing.T) {
	f := newFakeDaemon(t)
	id := job.NewID(time.Now())
	f.set(finished(id, "/out"))
	r := f.idlewild("status")
	if r.code != exitDone || !strings.Contains(r.out, string(id)) || !strings.Contains(r.out, "in no farm") {
		t.Errorf("%+v", r)
	}
	d := doc[overview](t, f.idlewild("status", "--json"))
	if len(d.Jobs) != 1 || d.Machine.Name != "here" {
		t.Errorf("%+v", d)
	}
	if s := doc[job.Status](t, f.idlewild("status", string(id), "--json")); len(s.Frames) != 2 {
		t.Errorf("%+v", s)
	}
	if r := f.idlewild("status", string(id)); r.code != exitDone || !strings.Contains(r.out, "TASK") {
		t.Errorf("%+v", r)
	}
	unknown := string(job.NewID(time.Now()))
	if r := f.idlewild("status", unknown); r.code != exitFailed || !strings.Contains(r.err, "no such job here") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("status", unknown, "--watch"); r.code != exitFailed || !strings.Contains(r.err, "no such job here") {
		t.Errorf("%+v", r)
	}
}

func TestStatusWatchStreamsDocuments(t *testing.T) {
	f := newFakeDaemon(t)
	id := job.NewID(time.Now())
	f.set(job.Status{Job: id, State: job.StatePlanned, Tasks: 2})
	ended := make(chan result)
	go func() { ended <- f.idlewild("status", string(id), "--watch", "--json") }()
	f.set(finished(id, "/out"))
	r := <-ended
	var last job.Status
	n := 0
	for d := json.NewDecoder(strings.NewReader(r.out)); d.More(); n++ {
		if err := d.Decode(&last); err != nil {
			t.Fatal(err)
		}
	}
	if r.code != exitDone || n < 1 || n > 2 || last.State != job.StateFinished || strings.Count(r.out, "\n") != n {
		t.Errorf("%d documents in %+v", n, r)
	}
}

func TestSteering(t *testing.T) {
	f := newFakeDaemon(t)
	id := job.NewID(time.Now())
	f.set(job.Status{Job: id, State: job.StatePlanned})
	for _, c := range []struct {
		cmd  string
		want job.State
	}{{"pause", job.StatePaused}, {"resume", job.StatePlanned}, {"cancel", job.StateCancelled}} {
		if s := doc[job.Status](t, f.idlewild(c.cmd, string(id), "--json")); s.State != c.want {
			t.Errorf("%s: %s", c.cmd, s.State)
		}
	}
	if m := doc[localapi.MachineView](t, f.idlewild("pause", "--reason", "a game", "--json")); m.Paused != "a game" {
		t.Errorf("%+v", m)
	}
	if r := f.idlewild("status"); !strings.Contains(r.out, "takes no work from others: a game") {
		t.Errorf("%+v", r)
	}
	if m := doc[localapi.MachineView](t, f.idlewild("resume", "--json")); m.Paused != "" {
		t.Errorf("%+v", m)
	}
	if r := f.idlewild("requeue", string(id), "1"); r.code != exitDone {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("requeue", string(id), "9"); r.code != exitFailed || !strings.Contains(r.err, "has no task") {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("logs", string(id), "7"); r.code != exitDone || r.out != "first\nlast of 7\ufffd[2J\n" {
		t.Errorf("%+v", r)
	}
	if d := doc[logDoc](t, f.idlewild("logs", string(id), "7", "--json")); d.Task != "7" || !strings.HasPrefix(d.Log, "first\n") {
		t.Errorf("%+v", d)
	}
}

func TestDoctor(t *testing.T) {
	f := newFakeDaemon(t)
	r := f.idlewild("doctor")
	for _, want := range []string{
		"lets no hole be punched", "/ip4/11.0.0.1/udp/4001", "reached through desk", "has relayed 2.0 GB",
		"relayed via desk", "41.0 ms", "-1.500 s", "gone", "not connected",
		"job 01J of far: not for this machine: lacks blender 9\n  install it\n", "warning: 1 of 1 connected members", "  pass on UDP port 4001\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if r.code != exitDone || strings.Contains(r.out, "\x1b") || strings.Contains(r.out, "Mbit/s") {
		t.Errorf("exit %d\n%q", r.code, r.out)
	}
	if r := f.idlewild("doctor", "--speed"); !strings.Contains(r.out, "10.0 Mbit/s") || !strings.Contains(r.out, "20.0 Mbit/s") {
		t.Errorf("%s", r.out)
	}
	if d := doc[localapi.DoctorView](t, f.idlewild("doctor", "--json")); len(d.Peers) != 2 || d.Offers[0].Outcome != "unfit" || d.Network.NAT != "symmetric" {
		t.Errorf("%+v", d)
	}
	f.findings = []localapi.Finding{{Severity: "error", What: "this machine is in no farm", Remedy: "idlewild farm create"}}
	if r := f.idlewild("doctor"); r.code != exitFailed || !strings.Contains(r.err, "1 error among the findings") || !strings.Contains(r.out, "error: this machine is in no farm\n") {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("doctor", "--json"); r.code != exitFailed || len(doc[localapi.DoctorView](t, r).Findings) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestFarmAndPeers(t *testing.T) {
	f := newFakeDaemon(t)
	if r := f.idlewild("peers"); !strings.Contains(r.out, "in no farm") {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("farm", "create", "studio"); r.code != exitDone || !strings.Contains(r.out, "farm studio (farm1)") {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("farm", "invite", "--valid", "90m"); r.out != "ticket-1h30m0s\n" {
		t.Errorf("%+v", r)
	}
	if d := doc[localapi.Ticket](t, f.idlewild("farm", "invite", "--json")); d.Ticket != "ticket-24h0m0s" {
		t.Errorf("%+v", d)
	}
	if r := f.idlewild("farm", "invite", "--guest", "48h"); r.out != "guest-48h0m0s\n" {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("farm", "join", "good"); r.out != "joined farm there (farm2)\n" {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("farm", "join", "old"); r.code != exitRefused || r.err != "idlewild: ticket: it has expired; ask for a new one\n" {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("farm", "members"); r.code != exitDone || strings.Count(r.out, "\n") != 3 || strings.Contains(r.out, "\x1b") {
		t.Errorf("%+v", r)
	}
	if r := f.idlewild("peers"); !strings.Contains(r.out, "direct, tcp") || strings.Contains(r.out, "p0") ||
		!strings.Contains(r.out, "\nother is too old: update idlewild on other") || strings.Contains(r.out, "\x1b") {
		t.Errorf("%+v", r)
	}
	if d := doc[localapi.FarmView](t, f.idlewild("peers", "--json")); len(d.Members) != 2 {
		t.Errorf("%+v", d)
	}
	if r := f.idlewild("farm", "revoke", "p1"); r.code != exitDone {
		t.Errorf("%+v", r)
	}
}

func TestFetchCopiesWhatWasDelivered(t *testing.T) {
	f := newFakeDaemon(t)
	out, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	sub := filepath.Join(out, "layer", "2.txt")
	if err := os.MkdirAll(filepath.Dir(sub), 0o700); err != nil {
		t.Fatal(err)
	}
	for p, s := range map[string]string{filepath.Join(out, "1.txt"): "one", sub: "two"} {
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := job.NewID(time.Now())
	s := finished(id, out)
	s.Frames[1].Files = []string{sub}
	f.set(s)
	d := doc[fetchDoc](t, f.idlewild("fetch", string(id), "--json"))
	if diff := cmp.Diff([]string{filepath.Join(out, "1.txt"), sub}, d.Files); diff != "" {
		t.Error(diff)
	}
	r := f.idlewild("fetch", string(id), "-o", to)
	if r.code != exitDone || r.out != filepath.Join(to, "1.txt")+"\n"+filepath.Join(to, "layer", "2.txt")+"\n" {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(filepath.Join(to, "layer", "2.txt")); err != nil || string(b) != "two" {
		t.Errorf("%q, %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(to, ".idlewild-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if r := f.idlewild("fetch", string(id), "--json"); r.code != exitFailed || !strings.Contains(r.err, "1 file was delivered and is gone") || len(doc[fetchDoc](t, r).Missing) != 1 {
		t.Errorf("%+v", r)
	}
	blocked := filepath.Join(to, "1.txt", "deeper")
	if r := f.idlewild("fetch", string(id), "-o", blocked); r.code != exitFailed || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "not a directory") {
		t.Errorf("%+v", r)
	}
}

func TestChunkAndConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte(strings.Repeat("idlewild", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := doc[chunkDoc](t, idlewild("chunk", file, "--json", "--cuts"))
	var sum int64
	for _, c := range d.Cuts {
		sum += int64(c.Size)
	}
	if d.Bytes != 800_000 || sum != d.Bytes || len(d.Cuts) != d.Chunks {
		t.Errorf("%+v", d)
	}
	dir := t.TempDir()
	t.Setenv("IDLEWILD_NAME", "from-env")
	r := idlewild("config", "show", "--data-dir", dir)
	if r.code != exitDone || !strings.Contains(r.out, "environment IDLEWILD_NAME") || !strings.Contains(r.out, dir) {
		t.Errorf("%+v", r)
	}
	type origin struct {
		Key, From string
		Value     any
	}
	if l := doc[[]origin](t, idlewild("config", "show", "--data-dir", dir, "--json")); len(l) < 10 {
		t.Errorf("%+v", l)
	}
}

func TestEveryCommandHasJSONAndHelp(t *testing.T) {
	app := newApp(&program{})
	for _, c := range app.Commands {
		cmds := c.Subcommands
		if len(cmds) == 0 {
			cmds = append(cmds, c)
		}
		for _, c := range cmds {
			has := false
			for _, f := range c.Flags {
				for _, n := range f.Names() {
					has = has || n == "json"
				}
			}
			if !has && c.Name != "help" {
				t.Errorf("%s has no --json", c.Name)
			}
			if c.Usage == "" {
				t.Errorf("%s says nothing of itself", c.Name)
			}
		}
	}
	if r := idlewild("submit", "--help"); r.code != exitDone || r.err != "" || !strings.Contains(r.out, "--only-missing") || strings.Contains(r.out, "saboteur") {
		t.Errorf("%+v", r)
	}
	if r := idlewild("setup", "--help"); !strings.Contains(r.out, "(default: as it is set, 20 at first)") {
		t.Errorf("what --disk is without being said: %s", r.out)
	}
	if r := idlewild("up", "--help"); strings.Contains(r.out, "saboteur") {
		t.Errorf("%+v", r)
	}
}

func TestTexts(t *testing.T) {
	for want, s := range map[string]job.Status{
		"results: none": {},
		"results: 1 accepted, 0 rejected, 0 unsure; none of them checked": {Accepted: 1},
		"results: 3 accepted, 1 rejected, 0 unsure; 2 of them checked":    {Accepted: 3, Rejected: 1, Rechecked: 2},
	} {
		if got := verdictText(s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_960: "1.0 MB", 12_345_678: "12.3 MB", 1 << 62: "4.6 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0s", 1.234: "1.23s", 59.94: "59.9s", 61: "1m1s", 3725: "1h2m5s"} {
		if got := secondsText(s); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}
