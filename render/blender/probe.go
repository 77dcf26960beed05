package blender

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldest is the oldest Blender that the runner works with.
const oldest = "3.3"

// probe is what a Blender said of itself.
type probe struct {
	Program   string   `json:"program"` // what it was asked of: path, size, time, and what asked: see probeFiles
	Version   string   `json:"version"`
	Build     string   `json:"build"`
	Engines   []string `json:"engines"`   // that it has
	Rendered  []string `json:"rendered"`  // that brought out a picture here
	Denoisers []string `json:"denoisers"` // that need no GPU
	// Failed are engines that it has and that were tried without a picture.
	Failed []failedEngine `json:"failed,omitempty"`
	// Of a Python with the package bpy: the folders that it reads, and a file
	// that changes with the package, with the stamp it had.
	Folders []string `json:"folders,omitempty"`
	Module  string   `json:"module,omitempty"`
	Stamp   string   `json:"stamp,omitempty"`
}

// bounds of what a program says of itself: its facts go to every peer.
const (
	maxFact    = 128
	maxEngines = 16
	maxFolders = 8
)

func (p *probe) validate() error {
	n := 0
	for _, f := range p.Failed {
		if len(f.Engine) > maxFact || len(f.Why) > maxWhy || f.Times < 1 {
			return errors.New("its answer makes no sense")
		}
	}
	for _, s := range slices.Concat([]string{p.Version, p.Build}, p.Engines, p.Rendered, p.Denoisers) {
		n = max(n, len(s))
	}
	if n > maxFact || len(p.Engines)+len(p.Rendered)+len(p.Denoisers)+len(p.Failed) > maxEngines || len(p.Folders) > maxFolders || p.Version == "" || p.Build == "" {
		return errors.New("its answer makes no sense")
	}
	for _, dir := range p.Folders {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("it says that it lies in %q", clip(dir))
		}
	}
	return nil
}

// Fact names of this kind, in job.Machine.Facts and job.Needs.Require. A
// machine may have several Blenders, and not each has what another has: engines
// and denoisers are told of each build, as fact makes them.
const (
	FactVersion  = "blender"          // "3.4.1"
	FactBuild    = "blender.build"    // version, commit and origin
	FactEngine   = "blender.engine"   // build and Blender's name of the engine
	FactDenoiser = "blender.denoiser" // build and "openimagedenoise", or "none"
	FactBake     = "blender.bake"     // how a bake is laid out: "bake"
)

const noDenoiser = "none"

// fact is a value of FactEngine or FactDenoiser.
func fact(build, ability string) string { return build + " " + ability }

// probeFiles are the runner's files by which a Blender is asked, launch.py where
// it is a Python's. What the others do has no part in the answer: a version of
// this program that has new ones of those need not ask again.
var probeFiles = []string{"compat.py", "launch.py", "probe.py"}

// probeForm grows when learn asks otherwise, or an answer is read otherwise.
const probeForm = 2

// proberName stands for how a Blender is asked.
func proberName() (string, error) {
	h := sha256.New()
	for _, name := range probeFiles {
		b, err := runnerFiles.ReadFile("runner/" + name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(b))
		h.Write(b)
	}
	return fmt.Sprintf("%d-%x", probeForm, h.Sum(nil)), nil
}

// Probe implements render.Kind. The first call starts each Blender two or three
// times; what it finds is kept as long as the program and the graphics drivers
// stay the same, but for engines that did not render: see Retry.
func (k *Kind) Probe(ctx context.Context) (map[string][]string, []string, error) {
	here, wrong, err := k.ables(ctx)
	if err != nil {
		return nil, nil, err
	}
	facts := map[string][]string{}
	add := func(name, value string) {
		if !slices.Contains(facts[name], value) {
			facts[name] = append(facts[name], value)
		}
	}
	var warnings []string
	for _, err := range wrong {
		warnings = append(warnings, err.Error())
	}
	for _, p := range here {
		add(FactVersion, p.Version)
		add(FactBuild, p.Build)
		for _, e := range p.Rendered {
			add(FactEngine, fact(p.Build, e))
		}
		for _, d := range p.Denoisers {
			add(FactDenoiser, fact(p.Build, d))
		}
		if len(p.Denoisers) == 0 {
			add(FactDenoiser, fact(p.Build, noDenoiser))
			warnings = append(warnings, fmt.Sprintf("Blender %s (%s) has no denoiser: jobs that denoise go to other machines", p.Version, p.Build))
		}
		if !slices.Contains(p.Rendered, cycles) {
			warnings = append(warnings, fmt.Sprintf("Blender %s does not render with Cycles here", p.Version))
		}
	}
	if len(here) > 0 {
		add(FactBake, bakeTree)
	}
	if builds := facts[FactBuild]; len(builds) == 1 {
		// As programs of capability 2 ask for it, which name no build: there has
		// to be one alone.
		for _, name := range []string{FactEngine, FactDenoiser} {
			for _, v := range slices.Clone(facts[name]) {
				add(name, strings.TrimPrefix(v, builds[0]+" "))
			}
		}
	}
	return facts, warnings, nil
}

const cycles = "CYCLES"

// ask returns what a program said of itself, and asks it where it has not been
// asked since it changed.
func (k *Kind) ask(ctx context.Context, p *program) (*probe, error) {
	if p.path == "" {
		return nil, p.gone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.stamp() + " " + k.prober + " " + k.drivers
	if p.asked == asked && (p.failed != nil || p.probed.current()) {
		return p.probed, p.failed
	}
	found, specimen, err := k.learn(ctx, p, asked)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p.asked, p.probed, p.failed, p.specimen, p.retried = asked, found, err, specimen, false
	return found, err
}

// learn reads what was remembered of a program, or starts it.
func (k *Kind) learn(ctx context.Context, p *program, asked string) (*probe, string, error) {
	file := k.probeFile(asked)
	specimen := file + ".blend"
	if found := loadProbe(file, asked); found != nil {
		return found, specimen, nil
	}
	found, err := k.start(ctx, p, cycles, specimen)
	if err != nil {
		return nil, "", err
	}
	for _, engine := range found.Engines {
		if !strings.HasPrefix(engine, "BLENDER_EEVEE") {
			continue
		}
		why := k.try(ctx, p, engine)
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		found.took(engine, why, time.Now())
	}
	found.Program = asked
	if err := saveProbe(file, found); err != nil {
		k.opts.Log.Warn("what Blender can do is not remembered", "err", err)
	}
	return found, specimen, nil
}

// probeFile is where the answer of a program is remembered.
func (k *Kind) probeFile(asked string) string {
	return filepath.Join(k.opts.Scratch, "probe-"+strconv.FormatUint(hash64(asked), 16)+".json")
}

// Specimens returns a file that each Blender saved, of those that were probed
// and where the file is there: who holds its content need not fetch what is in
// every file of this Blender, the description of its structs for one.
func (k *Kind) Specimens() []string {
	var out []string
	for _, p := range k.list() {
		p.mu.Lock()
		specimen := p.specimen
		p.mu.Unlock()
		if st, err := os.Stat(specimen); specimen != "" && err == nil && st.Mode().IsRegular() {
			out = append(out, specimen)
		}
	}
	return out
}

// start runs one Blender that renders a few pixels with an engine, and keeps
// the empty file that it saves at specimen, where that is not empty.
func (k *Kind) start(ctx context.Context, p *program, engine, specimen string) (*probe, error) {
	work, err := os.MkdirTemp(k.opts.Scratch, "probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("no answer within 3 minutes"))
	defer cancel()
	what := "as a Blender"
	if p.python {
		what = "as a Python with the package bpy"
	}
	out := filepath.Join(work, "out.json")
	log, err := k.run(ctx, p, work, "-b", "--factory-startup", "--python-exit-code", exitScript, "-P", filepath.Join(k.runner, "probe.py"), "--", out, engine)
	b, readErr := os.ReadFile(out)
	if readErr != nil {
		if err == nil {
			err = fmt.Errorf("it ran but did not answer")
		}
		return nil, fmt.Errorf("%s does not work %s: %w\n%s", p.path, what, err, lastLines(log, 12))
	}
	var found probe
	if err := strict(b, &found); err != nil {
		return nil, fmt.Errorf("%s does not work %s: %w", p.path, what, err)
	}
	found.Failed = nil // that is not for it to say
	if err := found.validate(); err != nil {
		return nil, fmt.Errorf("%s does not work %s: %w", p.path, what, err)
	}
	if tooOld(found.Version) {
		return nil, fmt.Errorf("%s is Blender %s; %s or newer is needed", p.path, found.Version, oldest)
	}
	private := slices.Clone(k.opts.Private)
	if home, err := os.UserHomeDir(); err == nil {
		private = append(private, home)
	}
	if err := hidden(p.needs(&found), private); err != nil {
		return nil, fmt.Errorf("%s is not used: %w", p.path, err)
	}
	if found.Module != "" {
		if found.Stamp, err = fileStamp(found.Module); err != nil {
			return nil, fmt.Errorf("%s does not work %s: %w", p.path, what, err)
		}
	}
	if specimen != "" {
		if err := os.Rename(out+".blend", specimen); err != nil {
			k.opts.Log.Warn("an empty file of this Blender is not kept", "err", err)
		}
	}
	return &found, nil
}

// current reports whether the package that a Python has is the one that was
// asked.
func (p *probe) current() bool {
	if p.Module == "" {
		return true
	}
	now, err := fileStamp(p.Module)
	return err == nil && now == p.Stamp
}

func tooOld(version string) bool {
	major, minor := versionPair(version)
	wantMajor, wantMinor := versionPair(oldest)
	return major < wantMajor || major == wantMajor && minor < wantMinor
}

// compareVersions orders "3.4.1" and "3.10.0" by their numbers.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return 0
}

// versionPair reads the first two numbers of "3.4.1".
func versionPair(s string) (major, minor int) {
	a, rest, _ := strings.Cut(s, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}

func loadProbe(file, program string) *probe {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var p probe
	if json.Unmarshal(b, &p) != nil || p.Program != program || p.validate() != nil || !p.current() {
		return nil
	}
	return &p
}

func saveProbe(file string, p *probe) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".part", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}

func hash64(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}
