package node

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"idlewild/job"
)

func TestMetrics(t *testing.T) {
	x := startNode(t, "desk", func(c *Config) { c.Metrics.Address = "127.0.0.1:0" })
	id, err := x.client.Submit(t.Context(), job.Spec{Kind: "echo", Output: t.TempDir(), Params: []byte(`{"text":"x","count":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	x.finish(t, id)
	get := func(base, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	ep := x.client.Endpoint()
	if code, _ := get("http://"+ep.Address, ""); code != 401 {
		t.Errorf("without a token at the local API: %d", code)
	}
	open := "http://" + x.metricsAt.Addr().String()
	var text string
	eventually(t, "the three tasks are counted", func() error {
		_, text = get("http://"+ep.Address, ep.Token)
		if !strings.Contains(text, "idlewild_delivered_total 3") {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	for _, want := range []string{`idlewild_jobs{state="finished"} 1`, `idlewild_done_tasks_total{for="own"} 3`, `idlewild_device_level{device="cpu",signal=""} 3`, "go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if code, other := get(open, ""); code != 200 || !strings.Contains(other, "idlewild_delivered_total 3") {
		t.Errorf("at metrics.address: %d %s", code, other)
	}
	if resp, err := http.Get(open + "/v1/status"); err != nil || resp.StatusCode != 404 {
		t.Errorf("more than metrics at metrics.address: %v %v", resp, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{x.Node})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	// The dashboard for Grafana asks for nothing that is not there.
	b, err := os.ReadFile("../packaging/grafana/idlewild.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`(idlewild|process|go)_[a-z_]+`).FindAllString(string(b), -1) {
		if !strings.Contains(text, name) && name != "idlewild_gpu_temperature_celsius" && name != "idlewild_gpu_power_watts" {
			t.Errorf("the Grafana dashboard asks for %s", name)
		}
	}
}
