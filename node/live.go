package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"idlewild/node/idle"
)

// liveSettings count at once when the file changes; all others once the daemon
// is started again.
var liveSettings = map[string]bool{
	"idle.on_return": true, "idle.after_s": true, "idle.after_locked_s": true, "idle.settle_s": true, "idle.hours": true,
	"idle.gpu_load": true, "idle.gpu_memory": true, "idle.cpu_load": true, "idle.on_battery": true, "idle.on_metered": true,
	"limits.gpu_temp_max": true, "limits.cpu_temp_max": true, "limits.kwh_per_day": true, "limits.free_disk_bytes": true,
	"worker.only_from": true, "worker.never_from": true, "blender.trees": true,
}

// live is the settings as they count now, and the file that they come from.
type live struct {
	mu      sync.Mutex
	cfg     Config // what counts
	next    Config // what the file says: what a start would make of it
	at      fileStamp
	pending []string // keys that count once the daemon is started again
	broken  string   // why the file cannot be read; empty: it can
}

// fileStamp tells versions of a file apart.
type fileStamp struct {
	at   time.Time
	size int64
}

func stampOf(path string) fileStamp {
	fi, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{fi.ModTime(), fi.Size()}
}

func newLive(cfg Config) *live {
	cfg.from = maps.Clone(cfg.from)
	if cfg.from == nil {
		cfg.from = map[string]string{}
	}
	l := &live{cfg: cfg, next: cfg}
	l.at = stampOf(cfg.path())
	return l
}

// path is the file of the settings.
func (c Config) path() string {
	if c.file != "" {
		return c.file
	}
	return filepath.Join(c.DataDir, configFile)
}

// again reads the file of these settings as a start would: what flags and the
// environment said still goes before it.
func (c Config) again() (Config, error) {
	b, err := os.ReadFile(c.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("config file: %w", err)
	}
	return c.with(b)
}

// with is what these settings were if the file held b.
func (c Config) with(b []byte) (Config, error) {
	next, from := DefaultConfig(), map[string]string{}
	next.DataDir, next.file = c.DataDir, c.file
	if err := decodeFile(b, c.path(), &next, from); err != nil {
		return Config{}, err
	}
	next.DataDir = c.DataDir // that is where the file lies
	delete(from, "data_dir")
	plain := DefaultConfig()
	now, then, usual := leaves(reflect.ValueOf(&c).Elem(), ""), leaves(reflect.ValueOf(&next).Elem(), ""), leaves(reflect.ValueOf(&plain).Elem(), "")
	for key := range then {
		switch f := c.from[key]; {
		case f == "flag" || strings.HasPrefix(f, "environment "):
			from[key] = f
		case f == "" && from[key] == "" && !same(now[key], usual[key]): // whoever started this set it
		default:
			continue
		}
		then[key].Set(now[key])
	}
	next.Network.inStudio(from)
	next.from = from
	return next, next.validate()
}

// reread takes up what changed in the file. It costs a look at the file's date
// where nothing changed.
func (n *Node) reread() {
	l := n.live
	l.mu.Lock()
	defer l.mu.Unlock()
	at := stampOf(l.cfg.path())
	if at == l.at {
		return
	}
	l.at = at
	next, err := l.cfg.again()
	if err != nil {
		l.broken = err.Error()
		n.log.Warn("settings were changed and cannot be read: the ones before go on to count", "error", err)
		return
	}
	l.broken, l.next = "", next
	was, will := leaves(reflect.ValueOf(&l.cfg).Elem(), ""), leaves(reflect.ValueOf(&next).Elem(), "")
	var changed []string
	l.pending = nil
	for _, key := range slices.Sorted(maps.Keys(will)) {
		if same(was[key], will[key]) {
			continue
		}
		if liveSettings[key] {
			was[key].Set(will[key])
			changed = append(changed, key)
		} else {
			l.pending = append(l.pending, key)
		}
	}
	if len(changed) > 0 {
		if policy, err := l.cfg.policy(); err == nil { // validate has seen it
			n.owner.setPolicy(policy)
		}
	}
	if len(changed)+len(l.pending) > 0 {
		n.log.Info("settings were changed", "count_now", strings.Join(changed, " "), "count_after_restart", strings.Join(l.pending, " "))
	}
	// What a change of the file made of a value's origin is shown too.
	for key := range will {
		if f, ok := next.from[key]; ok {
			l.cfg.from[key] = f
		} else {
			delete(l.cfg.from, key)
		}
	}
}

func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// settings are the settings that count now.
func (n *Node) settings() Config {
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	c := n.live.cfg
	c.from = maps.Clone(c.from)
	return c
}

// configChanged says that settings were edited and do not count yet, or "".
func (n *Node) configChanged() string {
	n.reread()
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	switch l := n.live; {
	case l.broken != "":
		return configFile + " changed and cannot be read, so the settings before go on to count: " + l.broken
	case len(l.pending) > 0:
		return configFile + " changed since this daemon started; once it is started again these count: " + strings.Join(l.pending, ", ")
	}
	return ""
}

// setPolicy has another policy count from now on.
func (o *owner) setPolicy(p idle.Policy) {
	o.mu.Lock()
	mode, memory := o.policy.Mode, o.policy.DeviceBytes // what is sensed, and what is offered, follows from them and does not change
	o.policy = p
	o.policy.Mode, o.policy.DeviceBytes = mode, memory
	o.mu.Unlock()
	o.hurry()
}
