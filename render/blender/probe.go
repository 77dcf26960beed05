package blender

import (
	"context"
	"encoding/json"
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
	Program   string   `json:"program"` // what it was asked of: path, size, time, runner
	Version   string   `json:"version"`
	Build     string   `json:"build"`
	Engines   []string `json:"engines"`   // that it has
	Rendered  []string `json:"rendered"`  // that brought out a picture here
	Denoisers []string `json:"denoisers"` // that need no GPU
}

// Fact names of this kind, in job.Machine.Facts and job.Needs.Require.
const (
	FactVersion  = "blender"          // "3.4.1"
	FactBuild    = "blender.build"    // version, commit and origin
	FactEngine   = "blender.engine"   // Blender's names
	FactDenoiser = "blender.denoiser" // "openimagedenoise", or "none"
)

const noDenoiser = "none"

// Probe implements render.Kind. The first call starts Blender two or three
// times; what it finds is kept as long as the program stays the same.
func (k *Kind) Probe(ctx context.Context) (map[string][]string, []string, error) {
	p, err := k.probe(ctx)
	if err != nil {
		return nil, nil, err
	}
	facts := map[string][]string{
		FactVersion:  {p.Version},
		FactBuild:    {p.Build},
		FactEngine:   slices.Clone(p.Rendered),
		FactDenoiser: slices.Clone(p.Denoisers),
	}
	var warnings []string
	if len(p.Denoisers) == 0 {
		facts[FactDenoiser] = []string{noDenoiser}
		warnings = append(warnings, fmt.Sprintf("Blender %s (%s) has no denoiser: jobs that denoise go to other machines", p.Version, p.Build))
	}
	if !slices.Contains(p.Rendered, cycles) {
		warnings = append(warnings, fmt.Sprintf("Blender %s does not render with Cycles here", p.Version))
	}
	return facts, warnings, nil
}

const cycles = "CYCLES"

func (k *Kind) probe(ctx context.Context) (*probe, error) {
	if k.path == "" {
		return nil, k.absent
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	program := k.build() + " " + k.runners
	if k.probed != nil && k.probed.Program == program {
		return k.probed, nil
	}
	file := filepath.Join(k.opts.Scratch, "probe-"+strconv.FormatUint(hash64(program), 16)+".json")
	specimen := file + ".blend"
	if p := loadProbe(file, program); p != nil {
		k.probed, k.specimen = p, specimen
		return p, nil
	}
	p, err := k.ask(ctx, cycles, specimen)
	if err != nil {
		return nil, err
	}
	for _, engine := range p.Engines {
		if !strings.HasPrefix(engine, "BLENDER_EEVEE") {
			continue
		}
		// In a Blender of its own: a broken graphics driver ends the process.
		if e, err := k.ask(ctx, engine, ""); err == nil && len(e.Rendered) > 0 {
			p.Rendered = append(p.Rendered, engine)
			if slices.Contains(p.Engines, "BLENDER_WORKBENCH") && !slices.Contains(p.Rendered, "BLENDER_WORKBENCH") {
				p.Rendered = append(p.Rendered, "BLENDER_WORKBENCH") // same way to the screen
			}
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	p.Program = program
	k.probed, k.specimen = p, specimen
	if err := saveProbe(file, p); err != nil {
		k.opts.Log.Warn("what Blender can do is not remembered", "err", err)
	}
	return p, nil
}

// Specimens returns a file that this Blender saved, where it was probed and the
// file is there: who holds its content need not fetch what is in every file of
// this Blender, the description of its structs for one.
func (k *Kind) Specimens() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if st, err := os.Stat(k.specimen); k.specimen == "" || err != nil || !st.Mode().IsRegular() {
		return nil
	}
	return []string{k.specimen}
}

// ask runs one Blender that renders a few pixels with an engine, and keeps the
// empty file that it saves at specimen, where that is not empty.
func (k *Kind) ask(ctx context.Context, engine, specimen string) (*probe, error) {
	work, err := os.MkdirTemp(k.opts.Scratch, "probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("no answer within 3 minutes"))
	defer cancel()
	out := filepath.Join(work, "out.json")
	log, err := k.program(ctx, work, "-b", "--factory-startup", "--python-exit-code", exitScript, "-P", filepath.Join(k.runner, "probe.py"), "--", out, engine)
	b, readErr := os.ReadFile(out)
	if readErr != nil {
		if err == nil {
			err = fmt.Errorf("it ran but did not answer")
		}
		return nil, fmt.Errorf("%s does not work as a Blender: %w\n%s", k.path, err, lastLines(log, 12))
	}
	var p probe
	if err := strict(b, &p); err != nil {
		return nil, fmt.Errorf("%s does not work as a Blender: %w", k.path, err)
	}
	if tooOld(p.Version) {
		return nil, fmt.Errorf("%s is Blender %s; %s or newer is needed", k.path, p.Version, oldest)
	}
	if specimen != "" {
		if err := os.Rename(out+".blend", specimen); err != nil {
			k.opts.Log.Warn("an empty file of this Blender is not kept", "err", err)
		}
	}
	return &p, nil
}

func tooOld(version string) bool {
	major, minor := versionPair(version)
	wantMajor, wantMinor := versionPair(oldest)
	return major < wantMajor || major == wantMajor && minor < wantMinor
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
	if json.Unmarshal(b, &p) != nil || p.Program != program || p.Version == "" {
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
