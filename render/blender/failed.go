package blender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// An engine that did not render here is tried again after firstRetry, then after
// twice as long each time, up to lastRetry; and once after each start, unless it
// was tried just before. What a change of Blender or of a driver makes of it is
// seen at the start after it: then everything is asked anew.
const (
	firstRetry = 10 * time.Minute
	lastRetry  = 24 * time.Hour
	maxWhy     = 300 // bytes
)

// failedEngine is an engine that a Blender has and that brought out no picture.
type failedEngine struct {
	Engine string    `json:"engine"`
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
	Times  int       `json:"times"`
}

// due reports whether it is to be tried again. fresh: this process has not.
func (f failedEngine) due(now time.Time, fresh bool) bool {
	since := now.Sub(f.At)
	return since >= f.wait() || fresh && since >= firstRetry || since < 0 // a clock that was set back
}

func (f failedEngine) wait() time.Duration {
	wait := firstRetry
	for n := 1; n < f.Times && wait < lastRetry; n++ {
		wait *= 2
	}
	return min(wait, lastRetry)
}

// try has a Blender render with an engine that needs a graphics driver, in a
// process of its own: a broken driver ends it. why is empty where it rendered.
func (k *Kind) try(ctx context.Context, p *program, engine string) (why string) {
	found, err := k.start(ctx, p, engine, "")
	switch {
	case err != nil:
		text := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "")
		for len(text) > maxWhy {
			_, n := utf8.DecodeLastRuneInString(text)
			text = text[:len(text)-n]
		}
		return text
	case len(found.Rendered) == 0:
		return "it rendered no picture"
	}
	return ""
}

// took notes what trying an engine came to.
func (p *probe) took(engine, why string, now time.Time) {
	i := slices.IndexFunc(p.Failed, func(f failedEngine) bool { return f.Engine == engine })
	if why != "" {
		if i < 0 {
			i = len(p.Failed)
			p.Failed = append(p.Failed, failedEngine{Engine: engine})
		}
		p.Failed[i].Why, p.Failed[i].At = why, now
		p.Failed[i].Times++
		return
	}
	if i >= 0 {
		p.Failed = slices.Delete(p.Failed, i, i+1)
	}
	p.Rendered = append(p.Rendered, engine)
	if slices.Contains(p.Engines, workbench) && !slices.Contains(p.Rendered, workbench) {
		p.Rendered = append(p.Rendered, workbench) // same way to the screen
	}
}

const workbench = "BLENDER_WORKBENCH"

// Retry tries engines again that did not render, where it is time, and reports
// whether one does now. Blenders that were not asked yet are left alone.
func (k *Kind) Retry(ctx context.Context, now time.Time) (changed bool) {
	for _, p := range k.list() {
		p.mu.Lock()
		was, asked, fresh := p.probed, p.asked, !p.retried
		p.mu.Unlock()
		if was == nil {
			continue
		}
		next, tried := was.clone(), false
		for _, f := range was.Failed {
			if !f.due(now, fresh) {
				continue
			}
			// Not under the lock: tasks ask what this Blender is.
			why := k.try(ctx, p, f.Engine)
			if ctx.Err() != nil {
				return changed
			}
			tried = true
			next.took(f.Engine, why, now)
			k.opts.Log.Info("an engine that did not render was tried again", "build", was.Build, "engine", f.Engine, "reason", why)
		}
		p.mu.Lock()
		p.retried = p.retried || tried
		if tried && p.probed == was {
			p.probed = next
			changed = changed || len(next.Rendered) > len(was.Rendered)
			if err := saveProbe(k.probeFile(asked), next); err != nil {
				k.opts.Log.Warn("what Blender can do is not remembered", "err", err)
			}
		}
		p.mu.Unlock()
	}
	return changed
}

func (p *probe) clone() *probe {
	c := *p
	c.Rendered, c.Failed = slices.Clone(p.Rendered), slices.Clone(p.Failed)
	return &c
}

// NotRendered says which engines of this machine's Blenders do not render here,
// of those that were asked, and when each is tried again.
func (k *Kind) NotRendered() (out []string) {
	for _, p := range k.list() {
		p.mu.Lock()
		found := p.probed
		p.mu.Unlock()
		if found == nil {
			continue
		}
		for _, f := range found.Failed {
			out = append(out, fmt.Sprintf("Blender %s does not render with %s here (%s); it is tried again at %s",
				found.Version, f.Engine, f.Why, f.At.Add(f.wait()).Format("2006-01-02 15:04")))
		}
	}
	return out
}

// drivers stands for the graphics drivers of this machine when the process began,
// by files that change with them.
var drivers = sync.OnceValue(func() string {
	h := sha256.New()
	texts, patterns := []string{"/sys/module/nvidia/version", "/sys/module/amdgpu/srcversion", "/sys/module/i915/srcversion", "/sys/module/xe/srcversion"},
		[]string{"/usr/lib/*/libEGL*.so*", "/usr/lib/*/libGLX*.so*", "/usr/lib/*/dri/*_dri.so", "/usr/lib64/libEGL*.so*", "/usr/lib64/libGLX*.so*", "/usr/lib64/dri/*_dri.so",
			"/usr/share/glvnd/egl_vendor.d/*", "/etc/glvnd/egl_vendor.d/*", "/dev/dri/*"}
	if runtime.GOOS == "windows" {
		texts, patterns = nil, []string{`C:\Windows\System32\DriverStore\FileRepository\nv*.inf_*`, `C:\Windows\System32\DriverStore\FileRepository\u0*.inf_*`,
			`C:\Windows\System32\DriverStore\FileRepository\iigd*.inf_*`}
	}
	for _, name := range texts {
		if b, err := os.ReadFile(name); err == nil {
			fmt.Fprintf(h, "%s %.100q\n", name, b)
		}
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern)
		for _, name := range found {
			st, err := os.Stat(name)
			if err == nil && st.Mode().IsRegular() {
				fmt.Fprintf(h, "%s %d %d\n", name, st.Size(), st.ModTime().UnixNano())
			} else if err == nil {
				fmt.Fprintln(h, name)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
})
