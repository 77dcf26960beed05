package localapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a hostile web page, another user or a careless script can send; each
// row says which answer it gets. Nothing but the first may reach the farm.
func TestDoor(t *testing.T) {
	f := newFake()
	_, ep, _ := door(t, f)
	port := ep.Address[strings.LastIndex(ep.Address, ":")+1:]
	spec := `{"kind":"echo","params":{"n":1}}`
	type row struct {
		name   string
		change func(*http.Request)
		path   string
		body   string
		want   int
		code   Code
	}
	header := func(k, v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(k, v) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	rows := []row{
		{name: "as it should be", want: 201},
		{name: "own origin", change: func(r *http.Request) {
			r.Header.Set("Origin", "http://"+r.URL.Host)
			r.Header.Set("Referer", "http://"+r.URL.Host+"/dash")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}, want: 201},
		{name: "no token", change: func(r *http.Request) { r.Header.Del("Authorization") }, want: 401, code: CodeUnauthorized},
		{name: "empty token", change: header("Authorization", "Bearer "), want: 401, code: CodeUnauthorized},
		{name: "wrong token", change: header("Authorization", "Bearer correct-horsf"), want: 401, code: CodeUnauthorized},
		{name: "longer token", change: header("Authorization", "Bearer correct-horse1"), want: 401, code: CodeUnauthorized},
		{name: "other scheme", change: header("Authorization", "Basic "+testToken), want: 401, code: CodeUnauthorized},
		{name: "two tokens", change: func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }, want: 401, code: CodeUnauthorized},
		{name: "foreign origin", change: header("Origin", "https://evil.example"), want: 403, code: CodeForbidden},
		{name: "null origin", change: header("Origin", "null"), want: 403, code: CodeForbidden},
		{name: "other port on this machine", change: header("Origin", "http://127.0.0.1:1"), want: 403, code: CodeForbidden},
		{name: "foreign referer", change: header("Referer", "https://evil.example/x"), want: 403, code: CodeForbidden},
		{name: "referer that begins alike", change: func(r *http.Request) {
			r.Header.Set("Referer", "http://"+r.URL.Host+".evil.example/")
		}, want: 403, code: CodeForbidden},
		{name: "cross-site fetch", change: header("Sec-Fetch-Site", "cross-site"), want: 403, code: CodeForbidden},
		{name: "same-site fetch", change: header("Sec-Fetch-Site", "same-site"), want: 403, code: CodeForbidden},
		{name: "rebound name", change: host("evil.example:" + port), want: 403, code: CodeForbidden},
		{name: "rebound name with an address in it", change: host("127.0.0.1.evil.example:" + port), want: 403, code: CodeForbidden},
		{name: "other port in host", change: host("127.0.0.1:1"), want: 403, code: CodeForbidden},
		{name: "host without port", change: host("127.0.0.1"), want: 403, code: CodeForbidden},
		{name: "empty host", change: host("0.0.0.0:" + port), want: 403, code: CodeForbidden},
		{name: "token in the URL", path: "/v1/jobs?token=" + testToken, want: 400, code: CodeInvalid},
		{name: "token in the URL under another name", path: "/v1/jobs?x=" + testToken, want: 400, code: CodeInvalid},
		{name: "only in the URL", path: "/v1/jobs?access_token=" + testToken, change: func(r *http.Request) { r.Header.Del("Authorization") }, want: 400, code: CodeInvalid},
		{name: "unknown query parameter", path: "/v1/jobs?x=1", want: 422, code: CodeInvalid},
		{name: "oversized body", body: `{"kind":"` + strings.Repeat("x", MaxBodyBytes) + `"}`, want: 413, code: CodeTooLarge},
		{name: "oversized chunked body", change: func(r *http.Request) {
			r.Body = io.NopCloser(io.LimitReader(endless{}, 2<<20))
			r.ContentLength = -1
		}, want: 413, code: CodeTooLarge},
		{name: "unknown field", body: `{"kind":"echo","knid":1}`, want: 422, code: CodeInvalid},
		{name: "unknown nested field", body: `{"kind":"echo","policy":{"recheckk":1}}`, want: 422, code: CodeInvalid},
		{name: "wrong type", body: `{"kind":7}`, want: 422, code: CodeInvalid},
		{name: "no kind", body: `{}`, want: 422, code: CodeInvalid},
		{name: "relative path", body: `{"kind":"echo","input":"a.blend"}`, want: 422, code: CodeInvalid},
		{name: "two documents", body: spec + spec, want: 400, code: CodeInvalid},
		{name: "not JSON", body: `kind=echo`, want: 400, code: CodeInvalid},
		{name: "a form", body: `kind=echo`, change: header("Content-Type", "application/x-www-form-urlencoded"), want: 415, code: CodeInvalid},
		{name: "no body", body: " ", want: 400, code: CodeInvalid},
		{name: "no such endpoint", path: "/v2/jobs", want: 404, code: CodeNotFound},
		{name: "no such method", change: func(r *http.Request) { r.Method = "DELETE" }, want: 404, code: CodeNotFound},
		{name: "preflight", change: func(r *http.Request) {
			r.Method = "OPTIONS"
			r.Header.Set("Origin", "https://evil.example")
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Del("Authorization")
		}, want: 403, code: CodeForbidden},
		{name: "refused", body: `{"kind":"no"}`, want: 422, code: CodeRefused},
		{name: "failed", body: `{"kind":"bang"}`, want: 500, code: CodeFailed},
	}
	for _, network := range []string{"tcp", "unix"} {
		c, base := over(ep, network)
		defer c.CloseIdleConnections()
		for _, r := range rows {
			t.Run(network+"/"+r.name, func(t *testing.T) {
				if r.path == "" {
					r.path = "/v1/jobs"
				}
				if r.body == "" {
					r.body = spec
				}
				before := len(f.List())
				req, err := http.NewRequestWithContext(t.Context(), "POST", base+r.path, strings.NewReader(r.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+testToken)
				req.Header.Set("Content-Type", "application/json")
				if r.change != nil {
					r.change(req)
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != r.want {
					t.Fatalf("status %d, want %d: %s", resp.StatusCode, r.want, b)
				}
				if got := resp.Header.Get(HeaderVersion); got != "1.2.3" {
					t.Errorf("version header %q", got)
				}
				for k := range resp.Header {
					if strings.HasPrefix(k, "Access-Control-") {
						t.Errorf("answer has %s", k)
					}
				}
				if bytes.Contains(b, []byte(testToken)) {
					t.Errorf("answer shows the token: %s", b)
				}
				if r.want == 201 {
					if len(f.List()) != before+1 {
						t.Error("no job was made")
					}
					return
				}
				if len(f.List()) != before {
					t.Error("a job was made all the same")
				}
				var e Error
				if err := json.Unmarshal(b, &e); err != nil {
					t.Fatalf("%v in %s", err, b)
				}
				if e.Code != r.code || e.Status != r.want || e.Detail == "" {
					t.Errorf("got %+v, want code %s", e, r.code)
				}
				if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
					t.Errorf("content type %q", ct)
				}
			})
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// examplesIn finds the examples of an OpenAPI document, as compact JSON.
func examplesIn(v any, found map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if e, ok := v["example"]; ok {
			text, _ := json.Marshal(e)
			found[string(text)] = true
		}
		for _, x := range v {
			examplesIn(x, found)
		}
	case []any:
		for _, x := range v {
			examplesIn(x, found)
		}
	}
}

func TestOpenAPIDescribesEveryEndpoint(t *testing.T) {
	_, ep, _ := door(t, newFake())
	c, base := over(ep, "tcp")
	defer c.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", base+"/v1/openapi.json", nil)
	req.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	examplesIn(all, shown)
	names, err := examples.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		var v any
		b, err := examples.ReadFile("examples/" + n.Name())
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := json.Marshal(v); !shown[string(text)] {
			t.Errorf("%s is no example in the document", n.Name())
		}
	}
	var doc struct {
		Paths      map[string]map[string]any
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{
		"get /v1/status", "post /v1/machine/pause", "get /v1/jobs", "post /v1/jobs", "post /v1/inspect", "get /v1/jobs/{id}",
		"post /v1/jobs/{id}/{action}", "post /v1/jobs/{id}/requeue", "get /v1/jobs/{id}/log", "get /v1/events", "get /v1/peers",
		"post /v1/farm", "post /v1/farm/invite", "post /v1/farm/join", "post /v1/farm/leave", "post /v1/farm/revoke",
	} {
		method, path, _ := strings.Cut(w, " ")
		if doc.Paths[path][method] == nil {
			t.Errorf("no %s", w)
		}
	}
	for schema, field := range map[string]string{"Spec": "params", "Status": "uploaded_bytes", "Event": "seq", "Error": "problems", "Verdict": "evidence"} {
		if doc.Components.Schemas[schema].Properties[field] == nil {
			t.Errorf("schema %s has no %s", schema, field)
		}
	}
}

// TestOpenAPIHasWhatOpenAIsClientsCall: these are the calls of their clients
// that a farm knows.
func TestOpenAPIHasWhatOpenAIsClientsCall(t *testing.T) {
	type batches = Batches
	h := New(Deps{Answers: struct{ Answers }{}, Batches: struct{ batches }{}})
	raw, err := json.Marshal(h.api.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			RequestBody *struct{ Content map[string]any }
			Responses   map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if was := ids[op.OperationID]; was != "" {
				t.Errorf("%s %s and %s are both called %q", method, path, was, op.OperationID)
			}
			ids[op.OperationID] = method + " " + path
			for _, p := range op.Parameters {
				if p.In == "path" && !strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s has no %s", path, p.Name)
				}
			}
		}
	}
	for _, c := range []struct{ call, takes, gives string }{
		{"post /v1/embeddings", "application/json", "application/json"},
		{"post /v1/chat/completions", "application/json", "text/event-stream"},
		{"get /v1/models", "", "application/json"},
		{"get /v1/models/{name}", "", "application/json"},
		{"post /v1/files", "multipart/form-data", "application/json"},
		{"get /v1/files", "", "application/json"},
		{"get /v1/files/{id}", "", "application/json"},
		{"get /v1/files/{id}/content", "", "application/octet-stream"},
		{"delete /v1/files/{id}", "", "application/json"},
		{"post /v1/batches", "application/json", "application/json"},
		{"get /v1/batches", "", "application/json"},
		{"get /v1/batches/{id}", "", "application/json"},
		{"post /v1/batches/{id}/cancel", "", "application/json"},
		{"post /v1/images/generations", "", ""},
		{"get /v1/answers/{answer}", "", "application/json"},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		op, ok := doc.Paths[path][method]
		switch {
		case !ok:
			t.Errorf("no %s", c.call)
		case c.takes != "" && (op.RequestBody == nil || op.RequestBody.Content[c.takes] == nil):
			t.Errorf("%s takes no %s", c.call, c.takes)
		case c.gives != "" && op.Responses["200"].Content[c.gives].Schema == nil || op.Responses["default"].Content["application/json"].Schema == nil:
			t.Errorf("%s gives %v", c.call, op.Responses)
		}
		// What is described is served.
		r, _ := http.NewRequest(strings.ToUpper(method), path, nil)
		if _, pattern := h.guard.next.(*http.ServeMux).Handler(r); pattern == "" || pattern == "/" {
			t.Errorf("%s is not served", c.call)
		}
	}
	if New(Deps{}).api.OpenAPI().Paths["/v1/embeddings"] != nil {
		t.Error("a door without models describes requests to them")
	}
}
