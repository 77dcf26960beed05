package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"idlewild/job"
)

func init() {
	benchmarks["dashboard"] = benchmark{"the dashboard in a real Chromium: first paint, bytes, and what axe-core finds (--axe FILE)", dashboardBench}
}

// dashboardPages are all that there are, by the part of the address after #.
var dashboardPages = []string{"machine", "jobs", "job", "swarm", "farm", "history", "settings", "logs"}

// dashboardBench opens the page of a daemon in a farm, with a job that is done,
// again and again without a cache.
func dashboardBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("dashboard", flag.ContinueOnError)
	loads := fs.Int("loads", 20, "how often the page is opened")
	axe := fs.String("axe", "", "axe.min.js of the package axe-core: npm install axe-core@4.14.1")
	shots := fs.String("shots", "", "a folder for pictures of every page")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return nil, fmt.Errorf("a browser is missing (package chromium): %w", err)
	}
	var rules []byte
	if *axe != "" {
		if rules, err = os.ReadFile(*axe); err != nil {
			return nil, err
		}
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	desk, err := f.start(ctx, "desk", nodeOptions{})
	if err != nil {
		return nil, err
	}
	tower, err := f.start(ctx, "tower", nodeOptions{})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, desk, tower); err != nil {
		return nil, err
	}
	text := filepath.Join(f.dir, "text.txt")
	if err := os.WriteFile(text, []byte("x"), 0o600); err != nil {
		return nil, err
	}
	id, err := desk.client.Submit(ctx, job.Spec{Kind: "echo", Title: "a job", Input: text, Output: filepath.Join(f.dir, "out"), Params: []byte(`{"text":"x","count":40}`)})
	if err != nil {
		return nil, err
	}
	if _, err := desk.wait(ctx, id, nil); err != nil {
		return nil, err
	}

	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.UserDataDir(filepath.Join(f.dir, "profile")), chromedp.WSURLReadTimeout(2*time.Minute))
	browser, stop := chromedp.NewExecAllocator(ctx, opts...)
	defer stop()
	tab, stop := chromedp.NewContext(browser)
	defer stop()
	base := "http://" + desk.client.Endpoint().Address + "/"
	if err := chromedp.Run(tab, network.Enable(), network.SetCacheDisabled(true)); err != nil {
		return nil, err
	}
	var paints, tiles []float64
	var urls []string
	for range *loads {
		code, err := desk.client.LoginCode(ctx)
		if err != nil {
			return nil, err
		}
		var paint, shown float64
		err = chromedp.Run(tab, chromedp.Navigate("about:blank"), chromedp.Navigate(base+"#"+code.Code), chromedp.WaitVisible(".tiles"),
			chromedp.Evaluate("performance.now()", &shown),
			chromedp.Poll(`performance.getEntriesByName("first-contentful-paint").length > 0`, nil),
			chromedp.Evaluate(`performance.getEntriesByName("first-contentful-paint")[0].startTime`, &paint),
			chromedp.Evaluate(`performance.getEntriesByType("resource").filter(e => e.initiatorType != "fetch").map(e => e.name).concat(location.origin + "/")`, &urls))
		if err != nil {
			return nil, err
		}
		paints, tiles = append(paints, paint), append(tiles, shown)
	}
	slices.Sort(paints)
	slices.Sort(tiles)
	bundle, err := gzipped(ctx, urls)
	if err != nil {
		return nil, err
	}
	for _, u := range urls {
		if !strings.HasPrefix(u, base) {
			return nil, fmt.Errorf("the page asks elsewhere: %s", u)
		}
	}
	figures := []Figure{
		atMost("first paint, median of the loads", quantile(paints, .5), "ms", 200),
		plain("the slowest", quantile(paints, 1), "ms"),
		plain("this machine's tiles are there, median", quantile(tiles, .5), "ms"),
		atMost("all that a load fetches, with gzip", float64(bundle)/1000, "kB", 250),
		plain("files of it", float64(len(urls)), ""),
	}
	if rules == nil && *shots == "" {
		return figures, nil
	}
	serious, looked, err := lookAtPages(tab, string(rules), *shots, string(id))
	if err != nil {
		return figures, err
	}
	if rules != nil {
		figures = append(figures, plain("pages that axe-core looked at: two sizes, dark and light", float64(looked), ""),
			atMost("serious and critical findings", float64(serious), "", 0))
	}
	return figures, nil
}

// gzipped is what urls come to, each compressed by itself.
func gzipped(ctx context.Context, urls []string) (total int64, err error) {
	for _, u := range slices.Compact(slices.Sorted(slices.Values(urls))) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		var n counter
		z := gzip.NewWriter(&n)
		_, err = io.Copy(z, resp.Body)
		if err := errors.Join(err, z.Close(), resp.Body.Close()); err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("%s: %s", u, resp.Status)
		}
		total += int64(n)
	}
	return total, nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// lookAtPages has axe-core look at every page in two sizes and both schemes, and
// takes pictures of them.
func lookAtPages(tab context.Context, rules, shots, id string) (serious, looked int, err error) {
	for _, scheme := range []string{"dark", "light"} {
		for _, width := range []int64{1280, 390} {
			err := chromedp.Run(tab, chromedp.EmulateViewport(width, 844),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			if err != nil {
				return serious, looked, err
			}
			for _, page := range dashboardPages {
				hash := page
				if page == "job" {
					hash = "jobs/" + id
				}
				if err := chromedp.Run(tab, chromedp.Evaluate(`location.hash = "`+hash+`"`, nil), chromedp.WaitVisible("main h2, main h1"), chromedp.Sleep(500*time.Millisecond)); err != nil {
					return serious, looked, fmt.Errorf("page %s: %w", page, err)
				}
				name := fmt.Sprintf("%s-%s-%d", page, scheme, width)
				if rules != "" {
					var found []struct{ ID, Impact string }
					var raw string
					err := chromedp.Run(tab, chromedp.Evaluate(rules+"; 0", nil), chromedp.Evaluate(
						`axe.run().then(r => JSON.stringify(r.violations.map(v => ({ID: v.id + " " + v.nodes.map(n => n.target).join(" "), Impact: v.impact}))))`,
						&raw, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
					if err == nil {
						err = json.Unmarshal([]byte(raw), &found)
					}
					if err != nil {
						return serious, looked, fmt.Errorf("axe-core on %s: %w", name, err)
					}
					looked++
					for _, v := range found {
						fmt.Fprintf(os.Stderr, "%s: %s: %s\n", name, v.Impact, v.ID)
						if v.Impact == "serious" || v.Impact == "critical" {
							serious++
						}
					}
				}
				if shots == "" {
					continue
				}
				var png []byte
				if err := chromedp.Run(tab, chromedp.FullScreenshot(&png, 100)); err != nil {
					return serious, looked, err
				}
				if err := errors.Join(os.MkdirAll(shots, 0o755), os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644)); err != nil {
					return serious, looked, err
				}
			}
		}
	}
	return serious, looked, nil
}
