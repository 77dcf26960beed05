package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/localapi"
	"idlewild/render/echo"
)

func testAudit(t *testing.T, dir string) *audit {
	t.Helper()
	a, err := openAudit(dir, func(dispatch.Given) (string, string) { return "bob", "farm" }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func given(t *testing.T, at time.Time, id job.ID) dispatch.Given {
	t.Helper()
	_, p, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	return dispatch.Given{At: at, Peer: p, Job: id, Expires: at.Add(time.Hour)}
}

func TestAuditIsReadBackAndAsked(t *testing.T) {
	a := testAudit(t, t.TempDir())
	now := time.Now()
	one, two := job.NewID(now), job.NewID(now)
	first := given(t, now.Add(-48*time.Hour), one)
	for _, g := range []dispatch.Given{first, given(t, now, one), given(t, now, two)} {
		if err := a.Given(g); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		q           localapi.AuditQuery
		found, here int
	}{
		"all":     {localapi.AuditQuery{}, 3, 3},
		"a job":   {localapi.AuditQuery{Job: one}, 2, 2},
		"a peer":  {localapi.AuditQuery{Peer: first.Peer.String()}, 1, 1},
		"a name":  {localapi.AuditQuery{Peer: "bob"}, 3, 3},
		"nobody":  {localapi.AuditQuery{Peer: "eve"}, 0, 0},
		"a day":   {localapi.AuditQuery{Since: now.Add(-24 * time.Hour)}, 2, 2},
		"limited": {localapi.AuditQuery{Limit: 1}, 3, 1},
	} {
		v, err := a.Audit(c.q)
		if err != nil || v.Found != c.found || len(v.Entries) != c.here {
			t.Errorf("%s: found %d, %d here, %v", what, v.Found, len(v.Entries), err)
		}
	}
	v, _ := a.Audit(localapi.AuditQuery{Limit: 1})
	if e := v.Entries[0]; e.Job != two || e.Name != "bob" || e.Farm != "farm" || !e.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("the newest is %+v", e)
	}
}

func TestAuditIsBounded(t *testing.T) {
	dir := t.TempDir()
	a := testAudit(t, dir)
	a.bytes, a.files = 2000, 3
	id := job.NewID(time.Now())
	const n = 100
	start := time.Now().UTC().Truncate(time.Second)
	for i := range n {
		if err := a.Given(given(t, start.Add(time.Duration(i)*time.Second), id)); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, auditDir, "*"))
	if len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 2000 || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
	}
	v, err := a.Audit(localapi.AuditQuery{})
	if err != nil || v.Found < 10 || v.Damaged != 0 {
		t.Fatalf("%d entries, %d damaged, %v", v.Found, v.Damaged, err)
	}
	// The newest are there, in order and without a gap.
	for i, e := range v.Entries {
		if want := start.Add(time.Duration(n-len(v.Entries)+i) * time.Second); !e.At.Equal(want) {
			t.Fatalf("entry %d is of %v, want %v", i, e.At, want)
		}
	}
	// A lower number of files later on removes nothing by surprise, and the log
	// goes on after a restart.
	a.Close()
	b := testAudit(t, dir)
	if err := b.Given(given(t, start.Add(n*time.Second), id)); err != nil {
		t.Fatal(err)
	}
	if w, err := b.Audit(localapi.AuditQuery{}); err != nil || w.Found != v.Found+1 {
		t.Errorf("%d entries after a restart, want %d; %v", w.Found, v.Found+1, err)
	}
}

// At whatever byte the power went off: what was written before is there, and
// what is written next is a line of its own.
func TestAuditAfterAPowerCut(t *testing.T) {
	dir := t.TempDir()
	a := testAudit(t, dir)
	id := job.NewID(time.Now())
	for range 2 {
		if err := a.Given(given(t, time.Now(), id)); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	whole, err := os.ReadFile(a.path(0))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(a.path(0), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		b := testAudit(t, dir)
		if cut%16 == 0 { // syncing costs
			if err := b.Given(given(t, time.Now(), id)); err != nil {
				t.Fatal(err)
			}
			v, err := b.Audit(localapi.AuditQuery{})
			if want := bytes.Count(whole[:cut], []byte("\n")) + 1; err != nil || v.Found != want || v.Damaged != 0 {
				t.Fatalf("cut at %d: %d entries, %d damaged, want %d; %v", cut, v.Found, v.Damaged, want, err)
			}
		}
		b.Close()
	}
	// Damage elsewhere costs the lines that it is in.
	if err := os.WriteFile(a.path(0), append([]byte("x"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := a.Audit(localapi.AuditQuery{}); err != nil || v.Found != 1 || v.Damaged != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAuditThatCannotBeWrittenIsAnError(t *testing.T) {
	dir := t.TempDir()
	a := testAudit(t, dir)
	a.Close()
	if err := os.Remove(a.path(0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(a.path(0), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	id := job.NewID(time.Now())
	if err := a.Given(given(t, time.Now(), id)); err == nil {
		t.Error("no error")
	}
	if err := os.Remove(a.path(0)); err != nil {
		t.Fatal(err)
	}
	if err := a.Given(given(t, time.Now(), id)); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func TestWhoWasGivenAJobsContent(t *testing.T) {
	requester := startNode(t, "requester", nil) // works as well, and gives itself nothing
	worker := startNode(t, "worker", nil)
	idler := startNode(t, "idler", func(c *Config) { c.Worker.Enabled = false })
	join(t, requester, worker, idler)
	in := filepath.Join(t.TempDir(), "input.bin")
	if err := os.WriteFile(in, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := echoSpec(t, t.TempDir(), echo.Params{Count: 30, SleepMS: 100})
	spec.Input = in
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	worked := 0
	for _, w := range s.Workers {
		if w.Peer == worker.self.String() {
			worked = w.Tasks
		}
	}
	v, err := requester.client.Audit(t.Context(), localapi.AuditQuery{Job: id})
	if err != nil {
		t.Fatal(err)
	}
	if worked == 0 || v.Found != 1 {
		t.Fatalf("the other worker did %d tasks; given: %+v", worked, v.Entries)
	}
	e := v.Entries[0]
	if e.Peer != worker.self.String() || e.Name != "worker" || e.Farm != string(requester.host.Membership().FarmID()) || e.Job != id || len(e.Roots) != 1 || !e.Expires.After(e.At) {
		t.Errorf("%+v", e)
	}
	// A line of the file is the entry.
	b, err := os.ReadFile(filepath.Join(requester.cfg.DataDir, auditDir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var line localapi.AuditEntry
	if err := json.Unmarshal([]byte(strings.TrimSpace(string(b))), &line); err != nil || fmt.Sprint(line) != fmt.Sprint(e) {
		t.Errorf("the file has %s, %v", b, err)
	}
	if v, err := worker.client.Audit(t.Context(), localapi.AuditQuery{}); err != nil || v.Found != 0 {
		t.Errorf("the worker gave %+v, %v", v.Entries, err)
	}
}
