package hooks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func options(change func(*Options)) Options {
	o := Options{Events: []string{"*.*"}, Timeout: 10 * time.Minute, Tries: 3}
	change(&o)
	return o
}

func document(event, job, frame string) Document {
	d := Document{Event: event, Time: time.Unix(1, 0), Job: Job{ID: job, Title: "hero"}}
	if frame != "" {
		d.Frame = &Frame{Label: frame, Files: []string{"/out/" + frame + ".png"}}
	}
	return d
}

func start(t *testing.T, h *Hooks) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return stop
}

func TestOptions(t *testing.T) {
	for name, x := range map[string]struct {
		o   func(*Options)
		key string
	}{
		"nothing":            {func(*Options) {}, ""},
		"relative program":   {func(o *Options) { o.Program = "bin/hook" }, "program"},
		"https":              {func(o *Options) { o.URL = "https://example.com/x?y=z" }, ""},
		"loopback":           {func(o *Options) { o.URL = "http://127.0.0.1:8000" }, ""},
		"own network":        {func(o *Options) { o.URL = "http://192.168.1.5/x" }, ""},
		"a studio's host":    {func(o *Options) { o.URL = "http://pipeline/x" }, ""},
		"plain to outside":   {func(o *Options) { o.URL = "http://example.com/x" }, "url"},
		"public number":      {func(o *Options) { o.URL = "http://8.8.8.8/x" }, "url"},
		"a password":         {func(o *Options) { o.URL = "https://a:b@example.com/x" }, "url"},
		"no address":         {func(o *Options) { o.URL = "example.com" }, "url"},
		"a file":             {func(o *Options) { o.URL = "file:///etc/passwd" }, "url"},
		"short secret":       {func(o *Options) { o.Secret = "hunter2" }, "secret"},
		"secret no base64":   {func(o *Options) { o.Secret = "whsec_!!" }, "secret"},
		"unknown event":      {func(o *Options) { o.Events = []string{"job.exploded"} }, "events"},
		"bad pattern":        {func(o *Options) { o.Events = []string{"["} }, "events"},
		"no time":            {func(o *Options) { o.Timeout = 0 }, "timeout_s"},
		"for ever":           {func(o *Options) { o.Timeout = time.Hour }, "timeout_s"},
		"no tries":           {func(o *Options) { o.Tries = 0 }, "tries"},
		"tries without end":  {func(o *Options) { o.Tries = 1 << 30 }, "tries"},
		"pattern of a kind":  {func(o *Options) { o.Events = []string{"frame.*", "job.failed"} }, ""},
		"a long text secret": {func(o *Options) { o.Secret = "correct horse battery" }, ""},
	} {
		key, err := options(x.o).Validate()
		if key != x.key || (err != nil) != (x.key != "") {
			t.Errorf("%s: %q %v", name, key, err)
		}
	}
}

// The example of the specification's own libraries.
func TestSignature(t *testing.T) {
	key, err := secretBytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Error(got)
	}
}

// received is a web address that answers as told and checks signatures.
type received struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int // of the next requests; then 200
	got     []Document
	asked   int
	bad     []string
}

func receive(t *testing.T, secret string, answers ...int) *received {
	r := &received{answers: answers}
	key, _ := secretBytes(secret)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		var d Document
		err := json.Unmarshal(b, &d)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked++
		var at int64
		fmt.Sscan(q.Header.Get("webhook-timestamp"), &at)
		if want := sign(key, q.Header.Get("webhook-id"), at, b); secret != "" && q.Header.Get("webhook-signature") != want {
			r.bad = append(r.bad, "signature "+q.Header.Get("webhook-signature"))
		}
		if err != nil || d.ID != q.Header.Get("webhook-id") || d.Version != 1 || q.Header.Get("Content-Type") != "application/json" {
			r.bad = append(r.bad, fmt.Sprintf("%s: %v", b, err))
		}
		code := 200
		if len(r.answers) > 0 {
			code, r.answers = r.answers[0], r.answers[1:]
		}
		if code == 302 {
			w.Header().Set("Location", "/elsewhere")
		}
		if code < 300 {
			r.got = append(r.got, d)
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *received) labels() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.got {
		s := d.Event
		if d.Frame != nil {
			s += " " + d.Frame.Label
		}
		out = append(out, s)
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within two minutes", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func quick(h *Hooks) (rests *[]time.Duration) {
	rests = &[]time.Duration{}
	for _, l := range h.lines {
		l.wait = func(ctx context.Context, d time.Duration) error {
			*rests = append(*rests, d)
			return ctx.Err()
		}
	}
	return rests
}

func TestWebhookTellsInOrderAndAgain(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	r := receive(t, secret, 500, 503, 200, 400, 200, 302)
	h, err := New(options(func(o *Options) { o.URL, o.Secret, o.Events = r.URL, secret, []string{"job.*", "frame.delivered"} }))
	if err != nil {
		t.Fatal(err)
	}
	rests := quick(h)
	start(t, h)
	h.Put(document("job.accepted", "J", ""))     // 500, 503, arrives
	h.Put(document("frame.started", "J", "1"))   // nobody wants it
	h.Put(document("frame.delivered", "J", "2")) // refused for good
	h.Put(document("frame.delivered", "J", "3"))
	h.Put(document("frame.delivered", "J", "4")) // a redirect
	h.Put(document("job.finished", "J", ""))
	eventually(t, "all are told", func() bool { return len(r.labels()) == 3 })
	if got := strings.Join(r.labels(), ", "); got != "job.accepted, frame.delivered 3, job.finished" {
		t.Error(got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked != 7 || len(r.bad) > 0 {
		t.Errorf("asked %d times, wrong: %v", r.asked, r.bad)
	}
	if fmt.Sprint(*rests) != "[1s 2s]" {
		t.Errorf("rests %v", *rests)
	}
	if d := r.got[1]; d.Frame.Files[0] != "/out/3.png" || d.Job.Title != "hero" {
		t.Errorf("%+v", d)
	}
}

func TestRestsDoubleToAMinute(t *testing.T) {
	var got []string
	for try := 1; try < 10; try++ {
		got = append(got, restOf(try).String())
	}
	if s := strings.Join(got, " "); s != "1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s" {
		t.Error(s)
	}
}

// fakeTarget fails as told.
type fakeTarget func(m message) error

func (f fakeTarget) tell(_ context.Context, m message) error { return f(m) }

// Whoever puts events never waits, however slow the hook: the newest are kept,
// and what happened to jobs above all.
func TestFullQueueLosesFramesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(options(func(o *Options) { o.Program = "/bin/false" }))
		if err != nil {
			t.Fatal(err)
		}
		l := h.lines[0]
		var told []message
		l.to = fakeTarget(func(m message) error { told = append(told, m); return nil })
		h.Put(document("job.accepted", "J", ""))
		for i := range 3 * maxPending {
			h.Put(document("frame.delivered", "J", fmt.Sprint(i)))
		}
		h.Put(document("job.finished", "J", ""))
		ctx, cancel := context.WithCancel(t.Context())
		go h.Run(ctx)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(told) != maxPending || told[0].Event != "job.accepted" || told[len(told)-1].Event != "job.finished" {
			t.Fatalf("%d told, first %s", len(told), told[0].Event)
		}
		var last Document
		if err := json.Unmarshal(told[len(told)-1].Body, &last); err != nil || last.Lost != 2*maxPending+2 {
			t.Errorf("lost %d %v", last.Lost, err)
		}
		for range 2 * maxPending { // of jobs alone: it stays bounded
			h.Put(document("job.failed", "J", ""))
		}
		if len(l.pending) != maxPending {
			t.Errorf("%d wait", len(l.pending))
		}
	})
}

func TestHookThatIsNotThereHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(options(func(o *Options) { o.Program, o.Tries = "/bin/false", 5 }))
		if err != nil {
			t.Fatal(err)
		}
		tries := map[string]int{}
		h.lines[0].to = fakeTarget(func(m message) error {
			tries[m.Frame]++
			if m.Frame < "3" || m.Frame == "4" && tries["4"] < 3 {
				return errors.New("not there")
			}
			return nil
		})
		for i := range 5 {
			h.Put(document("frame.delivered", "J", fmt.Sprint(i)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go h.Run(ctx)
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		if got := fmt.Sprint(tries); got != "map[0:5 1:1 2:1 3:1 4:3]" {
			t.Error(got)
		}
	})
}

func TestRetryAfterIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(options(func(o *Options) { o.Program = "/bin/false" }))
		if err != nil {
			t.Fatal(err)
		}
		began, ended := time.Now(), time.Time{}
		after := time.Duration(90 * time.Second)
		h.lines[0].to = fakeTarget(func(message) error {
			if d := after; d > 0 {
				after = 0
				return retryAfter{errors.New("busy"), d}
			}
			ended = time.Now()
			return nil
		})
		h.Put(document("job.failed", "J", ""))
		ctx, cancel := context.WithCancel(t.Context())
		go h.Run(ctx)
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		if ended.Sub(began) != 90*time.Second {
			t.Error(ended.Sub(began))
		}
	})
}

// What was not told before the end is told after the next start, once.
func TestWhatWasNotToldIsKept(t *testing.T) {
	dir := t.TempDir()
	r := receive(t, "")
	open := func() *Hooks {
		h, err := New(options(func(o *Options) { o.URL, o.Dir = r.URL, dir }))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open()
	failing := make(chan struct{}, 10)
	h.lines[0].to = fakeTarget(func(message) error { failing <- struct{}{}; return errors.New("not there") })
	stop := start(t, h)
	h.Put(document("job.accepted", "J", ""))
	h.Put(document("frame.delivered", "J", "1"))
	<-failing
	stop()
	h = open()
	stop = start(t, h)
	eventually(t, "both are told", func() bool { return len(r.labels()) == 2 })
	stop()
	if again := open(); len(again.lines[0].pending) != 0 {
		t.Errorf("%d are told twice", len(again.lines[0].pending))
	}
	if err := os.WriteFile(h.lines[0].file(), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := open(); len(again.lines[0].pending) != 0 {
		t.Error("a torn file gave events")
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: shell scripts on Windows")
	}
	f := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(f, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestProgram(t *testing.T) {
	t.Setenv("IDLEWILD_HOOKS_SECRET", "a secret that is nobody's")
	out := t.TempDir()
	p := script(t, `cat > "`+out+`/$1.json"; env > "`+out+`/env"; echo "$IDLEWILD_JOB $IDLEWILD_FRAME" > "`+out+`/done"`)
	h, err := New(options(func(o *Options) { o.Program = p }))
	if err != nil {
		t.Fatal(err)
	}
	start(t, h)
	h.Put(document("frame.delivered", "J; rm -rf /", "7"))
	eventually(t, "it is run", func() bool { b, err := os.ReadFile(out + "/done"); return err == nil && len(b) > 0 })
	if b, _ := os.ReadFile(out + "/done"); string(b) != "J; rm -rf / 7\n" {
		t.Errorf("%q", b)
	}
	var d Document
	b, err := os.ReadFile(out + "/frame.delivered.json")
	if err != nil || json.Unmarshal(b, &d) != nil || d.Frame.Label != "7" {
		t.Errorf("%s %v", b, err)
	}
	if b, _ := os.ReadFile(out + "/env"); strings.Contains(string(b), "nobody's") {
		t.Error("the secret is in its environment")
	}
}

func TestProgramsThatFail(t *testing.T) {
	m := message{ID: "e", Event: "job.failed", Body: []byte(`{}`)}
	long := 10 * time.Minute
	err := program{script(t, "head -c 100000 /dev/zero | tr '\\0' x; echo the disk is full >&2; exit 3"), long}.tell(t.Context(), m)
	if err == nil || errors.Is(err, errFinal) || !strings.Contains(err.Error(), "the disk is full") || len(err.Error()) > 1000 {
		t.Errorf("exit 3: %v", err)
	}
	if err := (program{"/no/such/program", long}).tell(t.Context(), m); !errors.Is(err, errFinal) {
		t.Errorf("not there: %v", err)
	}
	// It hangs, with a child that does too, and does not read its input.
	pids := filepath.Join(t.TempDir(), "pids")
	hang := script(t, "sleep 1000 & echo $! > "+pids+"; wait")
	if err := (program{hang, 500 * time.Millisecond}).tell(t.Context(), message{Event: "job.failed", Body: make([]byte, 1<<20)}); err == nil || !strings.Contains(err.Error(), "did not end within") {
		t.Errorf("hangs: %v", err)
	}
	if b, err := os.ReadFile(pids); err == nil && runtime.GOOS == "linux" { // the shell may not have come so far
		eventually(t, "the child is gone", func() bool {
			stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
	}
}

func TestSecretsAreReadAsMeant(t *testing.T) {
	raw := []byte("0123456789abcdef")
	for _, s := range []string{string(raw), secretPrefix + base64.StdEncoding.EncodeToString(raw)} {
		if got, err := secretBytes(s); err != nil || string(got) != string(raw) {
			t.Errorf("%s: %q %v", s, got, err)
		}
	}
}

func TestErrorsDoNotShowTheAddress(t *testing.T) {
	w := newWebhook("http://127.0.0.1:1/secret-part?token=x", nil, time.Minute, http.DefaultTransport)
	if err := w.tell(t.Context(), message{Body: []byte("{}")}); err == nil || strings.Contains(err.Error(), "secret-part") || strings.Contains(err.Error(), "token") {
		t.Error(err)
	}
}
