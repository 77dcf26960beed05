// Package support writes a bundle for whoever helps: how this machine is set,
// what it has, what is wrong and what its log says, without names of scenes,
// files, machines or people.
package support

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
)

// Input is what a bundle is made of.
type Input struct {
	Version  string
	DataDir  string
	Settings []localapi.Setting
	Secrets  []string         // texts that must not be in it, whatever they look like
	Daemon   *localapi.Client // nil: none answers
	NoDaemon string           // why
	Now      time.Time
}

// Bounds of what is read.
const (
	maxFiles    = 200_000 // of the data folder
	maxDaemonKB = 512     // of the log of a daemon that does not answer
	doctorFor   = time.Minute
)

// Write writes the bundle as a zip and returns the names of what is in it. A
// part that cannot be had is an entry that says so.
func Write(ctx context.Context, w io.Writer, in Input) ([]string, error) {
	b := &bundle{in: in, s: newScrub(), zip: zip.NewWriter(w)}
	d := b.ask(ctx)
	b.learn(d)
	b.put("README.txt", []byte(readme))
	b.json("version.json", b.version(), map[string]bool{"version": true, "go": true, "system": true, "vcs": true, "os": true, "kernel": true})
	b.json("settings.json", b.settings(), map[string]bool{"key": true, "value": true, "from": true})
	b.json("disk.json", b.disk(), map[string]bool{"folder": true})
	b.lines("log.txt", d.lines)
	if d.trouble != nil {
		b.json("trouble.json", d.trouble, nil)
	}
	if in.Daemon != nil {
		b.json("machine.json", machine(d.status, d.why), map[string]bool{"version": true, "type": true, "model": true, "level": true, "signal": true, "mode": true})
		b.json("doctor.json", doctor(d.doctor), map[string]bool{
			"severity": true, "nat": true, "profile": true, "path": true, "transport": true, "outcome": true, "version": true,
		})
		b.json("jobs.json", jobs(d.jobs), map[string]bool{"kind": true, "state": true})
		b.json("history.json", d.history, map[string]bool{"day": true})
	}
	if b.err == nil {
		b.err = b.zip.Close()
	}
	return b.names, b.err
}

const readme = `This is a bundle that "idlewild support" made for whoever helps you.

It has no names of scenes, files, folders, machines, members or people in it, no addresses, tokens or keys: what stands
in <angle brackets> or is an ellipsis stood for one, and the same number is the same thing throughout the bundle. Logs of renders
and the reasons that name programs that ran here are left out. Look through it before you send it; every file is text.

version.json   the program and the system
settings.json  settings: numbers, switches and choices; of others only whether they are set
machine.json   devices, and which signal decides what they may do
doctor.json    how members are reached, what was offered, and what is wrong
jobs.json      counts, times and bytes of this machine's jobs
history.json   what was done, by day
disk.json      what lies in the data folder, by sort
log.txt        the newest lines of the daemon's log
trouble.json   what could not be had, and why
`

type bundle struct {
	in    Input
	s     *scrub
	zip   *zip.Writer
	names []string
	err   error
}

// answers are what the daemon said.
type answers struct {
	status  localapi.StatusView
	why     localapi.WhyView
	doctor  localapi.DoctorView
	jobs    []job.Status
	history localapi.HistoryView
	lines   []string
	trouble map[string]string
}

func (b *bundle) ask(ctx context.Context) (a answers) {
	fail := func(what string, err error) {
		if err != nil {
			if a.trouble == nil {
				a.trouble = map[string]string{}
			}
			a.trouble[what] = err.Error()
		}
	}
	c := b.in.Daemon
	if c == nil {
		fail("daemon", fmt.Errorf("no daemon answers: %s", b.in.NoDaemon))
		var err error
		a.lines, err = lastLines(filepath.Join(b.in.DataDir, "daemon.log"))
		if !os.IsNotExist(err) {
			fail("log", err)
		}
		return a
	}
	var err error
	a.status, err = c.Status(ctx)
	fail("status", err)
	a.why, err = c.Why(ctx)
	fail("why", err)
	a.jobs, err = c.Jobs(ctx)
	fail("jobs", err)
	a.history, err = c.History(ctx, 31)
	fail("history", err)
	a.lines, err = c.Lines(ctx)
	fail("log", err)
	ctx, cancel := context.WithTimeout(ctx, doctorFor)
	defer cancel()
	a.doctor, err = c.Doctor(ctx, false)
	fail("doctor", err)
	return a
}

// learn collects the names that must not be in the bundle.
func (b *bundle) learn(a answers) {
	for _, t := range b.in.Secrets {
		b.s.know("secret", t)
	}
	if b.in.Daemon != nil {
		b.s.know("secret", b.in.Daemon.Endpoint().Token)
	}
	if u, err := user.Current(); err == nil {
		b.s.know("user", u.Username)
		for _, part := range append(strings.Fields(u.Name), u.Name) {
			if len(part) >= 2 {
				b.s.know("user", strings.Trim(part, ","))
			}
		}
		b.s.knowPath(u.HomeDir)
	}
	if h, err := os.Hostname(); err == nil {
		b.s.know("machine", h)
		short, _, _ := strings.Cut(h, ".")
		b.s.know("machine", short)
	}
	b.s.knowPath(b.in.DataDir)
	b.s.know("machine", a.status.Machine.Name)
	b.s.know("farm", a.status.Farm.Name)
	for _, m := range a.status.Farm.Members {
		b.s.know("member", m.Name)
	}
	for _, p := range a.doctor.Peers {
		b.s.know("member", p.Name)
	}
	for _, j := range a.jobs {
		b.s.know("title", j.Title)
		b.s.knowPath(j.File)
		b.s.knowPath(j.Output)
	}
	for _, o := range b.in.Settings {
		if open[o.Key] {
			continue
		}
		for _, v := range strings.FieldsFunc(fmt.Sprint(o.Value), func(r rune) bool { return r == ' ' || r == '[' || r == ']' }) {
			if strings.ContainsAny(v, `/\`) {
				b.s.knowPath(v)
			}
		}
		if o.Key == "name" {
			b.s.know("machine", fmt.Sprint(o.Value))
		}
	}
}

func (b *bundle) put(name string, text []byte) {
	if b.err != nil {
		return
	}
	f, err := b.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.in.Now})
	if err == nil {
		_, err = f.Write(text)
	}
	b.err, b.names = err, append(b.names, name)
}

func (b *bundle) json(name string, v any, keep map[string]bool) {
	tree, err := b.s.clean(v, keep)
	if err != nil {
		tree = map[string]string{"error": b.s.text(err.Error())}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(tree); err != nil && b.err == nil {
		b.err = err
	}
	b.put(name, out.Bytes())
}

func (b *bundle) lines(name string, lines []string) {
	var out bytes.Buffer
	for _, l := range lines {
		out.WriteString(b.s.line(l) + "\n")
	}
	b.put(name, out.Bytes())
}

func (b *bundle) version() map[string]any {
	v := map[string]any{"version": b.in.Version, "go": runtime.Version(), "system": runtime.GOOS + "/" + runtime.GOARCH, "processors": runtime.NumCPU(), "made": b.in.Now}
	if i, ok := debug.ReadBuildInfo(); ok {
		for _, s := range i.Settings {
			if s.Key == "vcs.revision" {
				v["vcs"] = s.Value
			}
		}
	}
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(io.LimitReader(f, 64<<10)); sc.Scan(); {
			if t, ok := strings.CutPrefix(sc.Text(), "PRETTY_NAME="); ok {
				v["os"] = strings.Trim(t, `"`)
			}
		}
	}
	if k, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		v["kernel"] = strings.TrimSpace(string(k))
	}
	return v
}

// open are settings whose text is one of a few words, or a time.
var open = map[string]bool{
	"log.level": true, "network.profile": true, "idle.mode": true, "idle.on_return": true, "idle.hours": true, "limits.priority": true,
	"sandbox.mode": true, "onnx.models": true, "hooks.events": true, "worker.saboteur": true,
}

// settings are all of them; of texts that are not open only that they are set.
func (b *bundle) settings() []map[string]any {
	out := []map[string]any{}
	for _, o := range b.in.Settings {
		from, _, _ := strings.Cut(o.From, " ")
		v := o.Value
		if !open[o.Key] {
			raw, _ := json.Marshal(v)
			switch {
			case string(raw) == `""` || string(raw) == "[]" || string(raw) == "null":
				v = "(empty)"
			case len(raw) > 0 && raw[0] == '"':
				v = "(set)"
			case len(raw) > 0 && raw[0] == '[':
				var list []any
				_ = json.Unmarshal(raw, &list) // it was made of a list
				v = fmt.Sprintf("(a list of %d)", len(list))
			}
		}
		out = append(out, map[string]any{"key": o.Key, "value": v, "from": from})
	}
	return out
}

type folder struct {
	Folder  string `json:"folder"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"size_bytes"`
	Largest int64  `json:"largest_bytes"`
}

// sorts are what lies in a data folder; anything else is counted as other.
var sorts = []string{"store", "dispatch", "ledger", "worker", "scratch", "runners", "farm", "copies", "blenders", "models", "runtimes"}

// disk counts what lies in the data folder.
func (b *bundle) disk() any {
	found := map[string]*folder{}
	n, cut := 0, false
	err := filepath.WalkDir(b.in.DataDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read is not counted
		}
		if n++; n > maxFiles {
			cut = true
			return filepath.SkipAll
		}
		rel, _ := filepath.Rel(b.in.DataDir, p)
		top, _, deep := strings.Cut(filepath.ToSlash(rel), "/")
		if !deep || !slices.Contains(sorts, top) {
			top = "other"
		}
		f := found[top]
		if f == nil {
			f = &folder{Folder: top}
			found[top] = f
		}
		f.Files++
		if i, err := d.Info(); err == nil {
			f.Bytes += i.Size()
			f.Largest = max(f.Largest, i.Size())
		}
		return nil
	})
	out := map[string]any{"cut_short": cut}
	list := []folder{}
	for _, f := range found {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b folder) int { return strings.Compare(a.Folder, b.Folder) })
	out["folders"] = list
	if err != nil {
		out["error"] = err.Error()
	}
	return out
}

// machine is devices and what decides; reasons name programs and people.
func machine(s localapi.StatusView, w localapi.WhyView) any {
	type device struct {
		Type   string  `json:"type,omitempty"`
		Model  string  `json:"model,omitempty"`
		Memory int64   `json:"memory_bytes,omitempty"`
		Level  string  `json:"level,omitempty"`
		Signal string  `json:"signal,omitempty"`
		Left   float64 `json:"left_s,omitempty"`
	}
	why := map[string]localapi.WhyDevice{}
	for _, d := range w.Devices {
		why[d.Name] = d
	}
	list := []device{}
	for _, d := range s.Machine.Devices {
		x := why[d.Name]
		list = append(list, device{d.Type, d.Model, d.MemoryBytes, x.Level, x.Signal, x.LeftSeconds})
	}
	connected := 0
	for _, m := range s.Farm.Members {
		if m.Connected {
			connected++
		}
	}
	return map[string]any{
		"version": s.Machine.Version, "started": s.Machine.Started, "facts": s.Machine.Facts, "warnings": s.Machine.Warnings, "sandbox": s.Machine.Sandbox,
		"paused": s.Machine.Paused != "", "devices": list, "mode": w.Mode, "desk": w.Desk, "not_sensed": w.Missing,
		"in_a_farm": s.Farm.ID != "", "owner_of_it": s.Farm.Owner, "members": len(s.Farm.Members), "connected": connected,
		"jobs_open": s.Jobs.Open, "jobs_ended": s.Jobs.Ended,
	}
}

func doctor(v localapi.DoctorView) localapi.DoctorView {
	v.Peers, v.Offers = slices.Clone(v.Peers), slices.Clone(v.Offers)
	for i := range v.Peers {
		v.Peers[i].Name, v.Peers[i].Address = "", ""
	}
	for i := range v.Offers {
		v.Offers[i].Name = ""
	}
	return v
}

// jobs are the numbers of jobs; what they say in words names datablocks.
func jobs(list []job.Status) any {
	out := []map[string]any{}
	for _, s := range list {
		m := map[string]any{}
		b, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			continue
		}
		errors, warnings := 0, 0
		for _, p := range s.Problems {
			if p.Severity == job.SeverityError {
				errors++
			} else {
				warnings++
			}
		}
		for k, v := range m {
			if _, ok := v.(float64); !ok && k != "job" && k != "kind" && k != "state" && k != "submitted" {
				delete(m, k)
			}
		}
		m["problems_errors"], m["problems_warnings"] = errors, warnings
		out = append(out, m)
	}
	return out
}

// lastLines are the last lines of a file.
func lastLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil && i.Size() > maxDaemonKB<<10 {
		if _, err := f.Seek(-maxDaemonKB<<10, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDaemonKB<<10))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[max(0, len(lines)-500):], nil
}
