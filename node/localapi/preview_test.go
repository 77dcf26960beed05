package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

type fakePreviews struct{}

func (fakePreviews) Estimate(_ context.Context, s job.Spec) (Estimate, error) {
	return Estimate{Tasks: 3, Problems: []job.Problem{}, Basis: s.File()}, nil
}

func (fakePreviews) Thumbnail(_ context.Context, _ job.ID, label string, side int) ([]byte, error) {
	if label == "9" {
		return nil, job.Refuse("frame 9", "it is not delivered yet", "wait for it")
	}
	return fmt.Appendf(nil, "picture of %s, %d", label, side), nil
}

// The examples are what the types say, field by field, so that the add-on,
// whose tests read the same files, is held to what the daemon speaks.
func TestExamples(t *testing.T) {
	for name, v := range map[string]any{
		"spec.json": &job.Spec{}, "submitted.json": &Submitted{}, "estimate.json": &Estimate{}, "jobs.json": &JobList{},
		"frames.json": &FrameList{}, "status.json": &StatusView{},
		"event.json": &job.Event{}, "refused.json": &Error{},
	} {
		b, err := examples.ReadFile("examples/" + name)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var want, have any
		if json.Unmarshal(b, &want) != nil || json.Unmarshal(again, &have) != nil {
			t.Fatal(name)
		}
		w, _ := json.MarshalIndent(want, "", " ")
		h, _ := json.MarshalIndent(have, "", " ")
		if !bytes.Equal(w, h) {
			t.Errorf("%s says\n%s\nand comes out as\n%s", name, w, h)
		}
		if s, ok := v.(*job.Spec); ok {
			if err := s.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	entries, err := examples.ReadDir("examples")
	if err != nil || len(entries) != 8 {
		t.Errorf("%d examples are there, 8 are looked at: %v", len(entries), err)
	}
}

func TestPreviews(t *testing.T) {
	f := newFake()
	dir, ep, _ := door(t, f)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	e, err := c.Estimate(ctx, job.Spec{Kind: "echo", Input: "/tmp/x/a.blend", CopyOf: "/home/a.blend"})
	if err != nil || e.Tasks != 3 || e.Basis != "/home/a.blend" {
		t.Errorf("estimate: %+v, %v", e, err)
	}
	if _, err := c.Estimate(ctx, job.Spec{Kind: "echo", Input: "/tmp/x/b.blend", CopyOf: "/home/a.blend"}); err == nil || !strings.Contains(err.Error(), "must be named") {
		t.Errorf("a copy of another name: %v", err)
	}

	id, err := c.Submit(ctx, job.Spec{Kind: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var frames []job.TaskStatus
	for i := range 5 {
		s := job.TaskStatus{Label: fmt.Sprint(i), State: "waiting"}
		if i < 3 {
			file := filepath.Join(out, s.Label)
			s.State, s.Files = "delivered", []string{file}
			when := time.Unix(1_700_000_000+[]int64{5, 9, 7}[i], 0)
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, when, when); err != nil {
				t.Fatal(err)
			}
		}
		frames = append(frames, s)
	}
	if err := f.change(id, func(s *job.Status) { s.Frames = frames }); err != nil {
		t.Fatal(err)
	}
	labels := func(state string, limit int) (l []string, total int) {
		v, err := c.Frames(ctx, id, state, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range v.Frames {
			l = append(l, f.Label)
		}
		return l, v.Total
	}
	if l, n := labels("delivered", 2); !slices.Equal(l, []string{"1", "2"}) || n != 3 {
		t.Errorf("newest frames: %q of %d", l, n)
	}
	if l, n := labels("", 100); !slices.Equal(l, []string{"0", "1", "2", "3", "4"}) || n != 5 {
		t.Errorf("frames: %q of %d", l, n)
	}
	if l, n := labels("failed", 100); l != nil || n != 0 {
		t.Errorf("failed frames: %q of %d", l, n)
	}
	if b, err := c.Thumbnail(ctx, id, "1", 64); err != nil || string(b) != "picture of 1, 64" {
		t.Errorf("thumbnail: %q, %v", b, err)
	}
	if _, err := c.Thumbnail(ctx, id, "9", 64); err == nil || !strings.Contains(err.Error(), "wait for it") {
		t.Errorf("thumbnail of what is not there: %v", err)
	}

	// Of jobs that ended a caller may want only the newest.
	if err := f.change(id, func(s *job.Status) { s.State = job.StateFinished }); err != nil {
		t.Fatal(err)
	}
	h, base := over(ep, "tcp")
	for query, want := range map[string]int{"": 1, "?ended=0": 0, "?ended=1": 1} {
		req, _ := http.NewRequestWithContext(ctx, "GET", base+"/v1/jobs"+query, nil)
		req.Header.Set("Authorization", "Bearer "+testToken)
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var l JobList
		err = json.NewDecoder(resp.Body).Decode(&l)
		resp.Body.Close()
		if err != nil || len(l.Jobs) != want {
			t.Errorf("%d jobs for %q: %v", len(l.Jobs), query, err)
		}
	}
}

// The page and the add-on need no token, and nothing else is open with them.
func TestPageIsPublic(t *testing.T) {
	_, ep, _ := door(t, newFake())
	h, base := over(ep, "tcp")
	get := func(method, path, host string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if host != "" {
			req.Host = host
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, body := get("GET", "/", ""); code != 200 || !strings.Contains(body, `href="/x-1.2.3.zip"`) || strings.Contains(body, testToken) {
		t.Errorf("page: %d %s", code, body)
	}
	if code, body := get("GET", "/x-1.2.3.zip", ""); code != 200 || body != "zip" {
		t.Errorf("zip: %d %s", code, body)
	}
	for _, path := range []string{"/x-1.2.4.zip", "//", "/v1/status", "/v1/openapi.json"} {
		if code, _ := get("GET", path, ""); code != 401 {
			t.Errorf("%s without a token: %d", path, code)
		}
	}
	if code, _ := get("GET", "/", "evil.example"); code != 403 {
		t.Errorf("the page under a foreign name: %d", code)
	}
	if code, _ := get("POST", "/", ""); code != 401 {
		t.Errorf("POST to the page: %d", code)
	}
}
