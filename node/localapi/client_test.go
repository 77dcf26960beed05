package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/build"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"idlewild/job"
)

func TestClientSpeaksToTheFarm(t *testing.T) {
	f := newFake()
	dir, _, _ := door(t, f)
	ctx := t.Context()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	rate := 0.5
	spec := job.Spec{Kind: "echo", Title: "ä", Input: "/a/b", Params: []byte(`{"n":1}`), Policy: job.Policy{Recheck: &rate, Parts: "no"}}
	id, err := c.Submit(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(spec, f.specs[0]); d != "" {
		t.Errorf("spec changed on the way:\n%s", d)
	}
	in, err := c.Inspect(ctx, spec)
	if err != nil || len(in.Deps) != 1 || in.Deps[0].Path != "/a/b" || string(in.Facts) != `{"n":1}` {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	s, err := c.Job(ctx, id)
	if err != nil || s.State != job.StateAccepted || len(s.Frames) != 1 {
		t.Errorf("job: %+v, %v", s, err)
	}
	l, err := c.Jobs(ctx)
	if err != nil || len(l) != 1 || l[0].Job != id || l[0].Frames != nil {
		t.Errorf("jobs: %+v, %v", l, err)
	}
	for a, want := range map[job.Action]job.State{job.Pause: job.StatePaused, job.Resume: job.StatePlanned, job.Cancel: job.StateCancelled} {
		if s, err := c.Steer(ctx, id, a); err != nil || s.State != want {
			t.Errorf("%s: %s, %v", a, s.State, err)
		}
	}
	if _, err := c.Steer(ctx, id, "explode"); err == nil {
		t.Error("unknown action taken")
	}
	if s, err := c.Requeue(ctx, id, "7"); err != nil || s.Reason != "again: 7" {
		t.Errorf("requeue: %+v, %v", s, err)
	}
	if b, err := c.Log(ctx, id, "a b&c"); err != nil || string(b) != "log of a b&c\n<b>\x00" {
		t.Errorf("log: %q, %v", b, err)
	}
	if v, err := c.Status(ctx); err != nil || v.Machine.Name != "here" || v.Jobs.Ended+v.Jobs.Open != 1 {
		t.Errorf("status: %+v, %v", v, err)
	}
	if v, err := c.SetPaused(ctx, true, "gaming"); err != nil || v.Paused != "gaming" {
		t.Errorf("pause: %+v, %v", v, err)
	}
	if v, err := c.CreateFarm(ctx, "studio"); err != nil || v.Name != "studio" {
		t.Errorf("create: %+v, %v", v, err)
	}
	if tk, err := c.Invite(ctx, 90*time.Minute); err != nil || tk != "ticket for 1h30m0s" {
		t.Errorf("invite: %q, %v", tk, err)
	}
	if v, err := c.Join(ctx, "x"); err != nil || v.ID != "g" {
		t.Errorf("join: %+v, %v", v, err)
	}
	if v, err := c.LeaveFarm(ctx); err != nil || v.ID != "g" {
		t.Errorf("leave: %+v, %v", v, err)
	}
	if v, err := c.Peers(ctx); err != nil || v.Name != "studio" {
		t.Errorf("peers: %+v, %v", v, err)
	}
	if _, err := c.Revoke(ctx, "p"); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if _, err := c.Ban(ctx, "p", "r", time.Hour); err != nil {
		t.Errorf("ban: %v", err)
	}
	if _, err := c.Pardon(ctx, "p", "r"); err != nil {
		t.Errorf("pardon: %v", err)
	}
}

func TestClientErrorsAreThoseOfTheFarm(t *testing.T) {
	f := newFake()
	dir, _, stop := door(t, f)
	ctx := t.Context()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	_, err = c.Submit(ctx, job.Spec{Kind: "no"})
	var refused *job.RefusedError
	if !errors.As(err, &refused) || !errors.Is(err, job.ErrRefused) || refused.Problems[0].Remedy != "add one" {
		t.Errorf("refusal: %v", err)
	}
	if _, err = c.Join(ctx, "old"); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "expired yesterday") {
		t.Errorf("ticket: %v", err)
	}
	if _, err = c.Submit(ctx, job.Spec{Kind: "bang"}); err == nil || err.Error() != "disk on fire" || errors.Is(err, job.ErrRefused) {
		t.Errorf("failure: %v", err)
	}
	if _, err = c.Revoke(ctx, "q"); err == nil || err.Error() != "no member q" {
		t.Errorf("revoke: %v", err)
	}
	if v, err := c.Store(ctx); err != nil || v != (StoreView{2, 30, 40, 100}) {
		t.Errorf("store: %+v, %v", v, err)
	}
	if w, err := c.CollectStore(ctx, 10); err != nil || w.FreedBytes != 20 || w.Store.Blocks != 2 {
		t.Errorf("collect: %+v, %v", w, err)
	}
	if _, err := c.CollectStore(ctx, -1); err == nil {
		t.Error("collect down to less than nothing")
	}
	if w, err := c.VerifyStore(ctx); err != nil || w.Read != 2 || w.Dropped != 1 {
		t.Errorf("verify: %+v, %v", w, err)
	}
	unknown := job.NewID(time.Now())
	for what, err := range map[string]error{
		"job":     second(c.Job(ctx, unknown)),
		"steer":   second(c.Steer(ctx, unknown, job.Cancel)),
		"requeue": second(c.Requeue(ctx, unknown, "1")),
		"log":     second(c.Log(ctx, unknown, "")),
		"events":  first(c, unknown),
	} {
		if !errors.Is(err, job.ErrUnknownJob) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s of unknown job: %v", what, err)
		}
	}
	if _, err := c.Job(ctx, "../status"); err == nil || !strings.Contains(err.Error(), "ULID") {
		t.Errorf("nonsense id: %v", err)
	}
	if _, err := c.Submit(ctx, job.Spec{Kind: "echo", Title: strings.Repeat("x", MaxBodyBytes)}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("oversized: %v", err)
	}

	stop()
	if _, err := c.Status(ctx); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "idlewild up") {
		t.Errorf("after shutdown: %v", err)
	}
	if _, err := Dial(dir); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), dir) {
		t.Errorf("dial after shutdown: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func second[T any](_ T, err error) error { return err }

func first(c *Client, id job.ID) error {
	for _, err := range c.Events(context.Background(), id, 0) {
		return err
	}
	return nil
}

func TestClientTellsWhoIsThere(t *testing.T) {
	dir, ep, _ := door(t, newFake())
	ctx := t.Context()
	as := func(change func(*Endpoint)) error {
		other := t.TempDir()
		e := ep
		change(&e)
		if err := writeEndpoint(other, e); err != nil {
			t.Fatal(err)
		}
		c, err := Dial(other)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Status(ctx)
		return err
	}
	if err := as(func(*Endpoint) {}); err != nil {
		t.Errorf("unix: %v", err)
	}
	if err := as(func(e *Endpoint) { e.Socket = "" }); err != nil {
		t.Errorf("tcp: %v", err)
	}
	if err := as(func(e *Endpoint) { e.Token = "x" }); !errors.Is(err, ErrToken) {
		t.Errorf("wrong token: %v", err)
	}
	if err := as(func(e *Endpoint) { e.API = 99 }); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "update this program") {
		t.Errorf("newer daemon: %v", err)
	}
	if err := as(func(e *Endpoint) { e.API = 0 }); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "older") {
		t.Errorf("older daemon: %v", err)
	}
	// The port of a daemon that crashed may be another program's by now.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })}
	go srv.Serve(l)
	defer srv.Close()
	if err := as(func(e *Endpoint) { e.Socket, e.Address = "", l.Addr().String() }); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("another program: %v", err)
	}
	if err := as(func(e *Endpoint) { e.Socket = filepath.Join(dir, "gone.sock") }); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("stale socket: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, EndpointFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); err == nil || errors.Is(err, ErrNoDaemon) {
		t.Errorf("damaged file: %v", err)
	}
}

func TestEventsStreamAndResume(t *testing.T) {
	f := newFake()
	dir, _, stop := door(t, f)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	a, _ := c.Submit(ctx, job.Spec{Kind: "echo"})
	b, _ := c.Submit(ctx, job.Spec{Kind: "echo"})

	var got []job.Event
	f.emit(job.Event{Job: a, Type: job.EventState, Text: "one\ntwo\r\n\ndata: x", Time: time.Unix(5, 0).UTC()})
	f.emit(job.Event{Job: b, Type: job.EventJudged, Verdict: &job.Verdict{Ruling: job.Rejected, Numbers: map[string]float64{"r": 0.5}}})
	for e, err := range c.Events(ctx, "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e); len(got) == 2 {
			f.emit(job.Event{Job: a, Type: job.EventDelivered, Files: []string{"/x/1.png"}}) // while it is open
		}
		if len(got) == 3 {
			break
		}
	}
	if d := cmp.Diff(f.events, got); d != "" {
		t.Error(d)
	}
	<-f.gone // leaving the loop ended the daemon's watcher

	got = nil
	for e, err := range c.Events(ctx, a, 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
		break
	}
	if d := cmp.Diff(f.events[2:], got); d != "" {
		t.Errorf("resumed with filter: %s", d)
	}

	ended := make(chan error, 1)
	open := make(chan struct{}, 16)
	go func() {
		var last error
		for _, err := range c.Events(context.Background(), "", 0) {
			last = err
			open <- struct{}{}
		}
		ended <- last
	}()
	<-open
	stop() // a shutdown does not wait for watchers
	if err := <-ended; !errors.Is(err, ErrNoDaemon) {
		t.Errorf("cut stream: %v", err)
	}
}

func TestEventsEndWithTheCaller(t *testing.T) {
	f := newFake()
	dir, _, _ := door(t, f)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.emit(job.Event{Type: job.EventWarning})
	var last error
	for _, err := range c.Events(ctx, "", 0) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
	<-f.gone
}

func TestListenRefusals(t *testing.T) {
	dir, ep, _ := door(t, newFake())
	for _, c := range []struct{ dir, addr, want string }{
		{t.TempDir(), "0.0.0.0:0", "not on loopback"},
		{t.TempDir(), ":0", "not on loopback"},
		{t.TempDir(), "192.0.2.1:0", "not on loopback"},
		{t.TempDir(), "nonsense", "not host:port"},
		{t.TempDir(), ep.Address, "taken by another program"},
		{dir, "", "running for " + dir + " already"},
	} {
		d, err := Listen(c.dir, c.addr, nil)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with %q", c.addr, err, c.want)
		}
	}
}

// A daemon that stops while a kept connection is taken for the next request: who
// is first differs from run to run, so the error is net/http's own text here, and
// the test says whether this Go still has it.
func TestClientMeetsADaemonThatStops(t *testing.T) {
	c := &Client{dir: "here"}
	err := c.trouble(t.Context(), &url.Error{Op: "Post", URL: "http://x", Err: errors.New(closedIdle)})
	if !errors.Is(err, ErrNoDaemon) {
		t.Errorf("%v", err)
	}
	src, err := os.ReadFile(filepath.Join(build.Default.GOROOT, "src", "net", "http", "transport.go"))
	if err != nil {
		t.Log("NOT RUN: whether net/http still says so: no source of Go here")
		return
	}
	if !bytes.Contains(src, []byte(`errors.New("`+closedIdle+`")`)) {
		t.Errorf("net/http does not say %q any more", closedIdle)
	}
}

func TestClientFindsARestartedDaemon(t *testing.T) {
	f := newFake()
	dir, _, stop := door(t, f)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := func(token string) func() {
		t.Helper()
		d, err := Listen(dir, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- d.Serve(ctx, New(Deps{Jobs: f, Views: f, Machine: f, Farm: fakeFarm{f}, Token: token}))
		}()
		eventually(t, "endpoint file", func() bool { ep, err := ReadEndpoint(dir); return err == nil && ep.Token == token })
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	if _, err := c.Submit(t.Context(), job.Spec{Kind: "echo"}); !errors.Is(err, ErrNoDaemon) {
		t.Fatalf("between two daemons: %v", err)
	}
	stop = again("another")
	if _, err := c.Submit(t.Context(), job.Spec{Kind: "echo"}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	stop()
	// A wrong token that is nobody's news stays an error.
	stop = again("third")
	defer stop()
	ep, err := ReadEndpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	ep.Token = "wrong"
	if err := writeEndpoint(dir, ep); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrToken) {
		t.Errorf("wrong token: %v", err)
	}
}

func TestTwoDaemonsThatStartAtOnce(t *testing.T) {
	dir, err := os.MkdirTemp("", "iw") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	a, err := Listen(dir, "", nil) // listens, does not serve yet
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if b, err := Listen(dir, "", nil); err == nil {
		b.Close()
		t.Error("both have the folder")
	} else if !strings.Contains(err.Error(), "starting for "+dir+" already") {
		t.Error(err)
	}
}

func TestEndpointFileIsPrivateAndCrashesLeaveNoTrouble(t *testing.T) {
	dir, ep, stop := door(t, newFake())
	for _, name := range []string{EndpointFile, socketFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	stop()
	// As after kill -9: file and socket are there, nobody listens.
	if err := writeEndpoint(dir, ep); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ep.Socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	d, err := Listen(dir, "", nil)
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	if d.unix == nil {
		t.Error("no socket after a crash")
	}
	d.Close()
}

func TestLongDataFolderGoesWithoutSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Listen(dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.unix != nil {
		t.Error("socket with a path that does not fit")
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add("id: 1\nevent: state\ndata: {\"seq\":1}\n\n")
	f.Add(": beat\n\ndata: {\ndata: }\n\n")
	f.Add("data: {\"seq\":-1}\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		n, ended := 0, false
		for e, err := range readEvents(strings.NewReader(s), func() {}) {
			if ended {
				t.Fatal("something after the error")
			}
			ended = err != nil
			if err != nil && e.Seq != 0 {
				t.Fatal("event beside an error")
			}
			n++
		}
		if !ended || n > strings.Count(s, "data:")+1 {
			t.Fatalf("%d yields, ended %v", n, ended)
		}
	})
}

func FuzzStrictJSON(f *testing.F) {
	f.Add(`{"kind":"echo"}`)
	f.Add(`{"kind":"echo","x":1}`)
	f.Add(`{} {}`)
	f.Fuzz(func(t *testing.T, s string) {
		var spec, again job.Spec
		if strictJSON.Unmarshal([]byte(s), &spec) != nil {
			return
		}
		b, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictJSON.Unmarshal(b, &again); err != nil {
			t.Fatalf("what was taken is not taken again: %v", err)
		}
	})
}

// A daemon that starts has its socket before it answers: nobody is told to
// start another.
func TestADaemonThatIsStarting(t *testing.T) {
	dir := t.TempDir()
	d, err := Listen(dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // nothing was served
	if _, err := Dial(dir); !errors.Is(err, ErrNoDaemon) || strings.Contains(err.Error(), "idlewild up") || !strings.Contains(err.Error(), "is starting") {
		t.Errorf("dial while it starts: %v", err)
	}
}
