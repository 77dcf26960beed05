package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func init() {
	benchmarks["all"] = benchmark{"every benchmark one after the other, written into bench/RESULTS.md beside what was measured before", allBench}
}

// rounds are what `bench all` runs, in the order in which the results have
// them. Where a benchmark can measure more than is quick or possible
// everywhere, its arguments name what is published.
var rounds = []round{
	{"overhead", nil}, {"efficiency", nil}, {"still", nil}, {"sandbox", nil},
	{"chunk", nil}, {"ingest", nil}, {"rescan", nil},
	{"diff", nil}, {"diff", []string{"--edits", "--scenes", "small"}}, {"diff", []string{"--stroke"}}, {"diff", []string{"--models", "--ours"}},
	{"reads", nil}, {"reuse", nil}, {"results", nil},
	{"scenes", nil}, {"blend", nil},
	{"verify", []string{"--kept"}}, {"game", []string{"--kept"}}, {"verdict", nil}, {"viewport", nil},
	{"sim", []string{"--table", "hundred,liar,thousand"}}, {"quota", nil}, {"journal", nil}, {"chaos", nil}, {"steward", nil},
	{"bulk", nil}, {"netlab", nil},
	{string(aiKind), nil}, {"tokens", nil}, {"door", nil},
	{"idle", nil}, {"yield", nil}, {"first", nil}, {"dashboard", nil}, {"addon", nil},
}

// round is one run of a benchmark.
type round struct {
	Bench string
	Args  []string
}

func (r round) String() string { return strings.Join(append([]string{r.Bench}, r.Args...), " ") }

// run is what came of a round.
type run struct {
	Round   string    `json:"round"`
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"` // what was measured; "+" where the tree had changes
	Took    float64   `json:"took_s"`
	Load    float64   `json:"load"` // of the machine, when it began
	Machine Machine   `json:"machine"`
	Figures []Figure  `json:"figures"`
	// Error is why the newest try has no figures; then these are older.
	Error string `json:"error,omitempty"`
}

func allBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("all", flag.ContinueOnError)
	only := fs.String("only", "", "benchmarks, separated by commas; the others' figures stay as they are")
	not := fs.String("not", "", "all but these")
	kept := fs.String("kept", filepath.Join("bench", "figures.json"), "the figures of the last run, which are replaced")
	page := fs.String("page", filepath.Join("bench", "RESULTS.md"), "the page that is written")
	write := fs.Bool("write", false, "run nothing, only write the page")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	wanted, err := chosen(*only, *not)
	if err != nil {
		return nil, err
	}
	before, err := readRuns(*kept)
	if err != nil {
		return nil, err
	}
	if *write {
		return nil, os.WriteFile(*page, results(before, nil), 0o644)
	}
	now := slices.Clone(before)
	var figures []Figure
	for i, r := range wanted {
		say("%d of %d: %s", i+1, len(wanted), r)
		x := once(ctx, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		now = put(now, x)
		// What was measured is kept, whatever becomes of the rest.
		if err := writeRuns(*kept, now); err != nil {
			return nil, err
		}
		if err := os.WriteFile(*page, results(now, before), 0o644); err != nil {
			return nil, err
		}
		if x.Error != "" {
			say("%s: %s", r, x.Error)
		}
		for _, f := range x.Figures {
			f.Name = r.String() + ": " + strings.TrimSpace(f.Name)
			figures = append(figures, f)
		}
	}
	return figures, nil
}

// chosen are the rounds of the benchmarks that are named.
func chosen(only, not string) ([]round, error) {
	names := func(s string) ([]string, error) {
		list := strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
		for _, n := range list {
			if !slices.ContainsFunc(rounds, func(r round) bool { return r.Bench == n }) {
				return nil, fmt.Errorf("%q is none of the benchmarks that are published", n)
			}
		}
		return list, nil
	}
	with, err := names(only)
	if err != nil {
		return nil, err
	}
	without, err := names(not)
	if err != nil {
		return nil, err
	}
	var out []round
	for _, r := range rounds {
		if (len(with) == 0 || slices.Contains(with, r.Bench)) && !slices.Contains(without, r.Bench) {
			out = append(out, r)
		}
	}
	return out, nil
}

// once runs a round in a process of its own: what it leaves behind, or dies of,
// is not the next one's.
func once(ctx context.Context, r round) run {
	x := run{Round: r.String(), When: time.Now().UTC().Truncate(time.Second), Commit: commit(ctx), Load: loadNow(), Machine: thisMachine()}
	self, err := os.Executable()
	if err != nil {
		x.Error = err.Error()
		return x
	}
	c := exec.CommandContext(ctx, self, append([]string{r.Bench, "--json"}, r.Args...)...)
	var out, last bytes.Buffer
	c.Stdout, c.Stderr = &out, &teeTail{to: os.Stderr, last: &last}
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	err = c.Run()
	x.Took = time.Since(x.When).Seconds()
	var d Document
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &d)
	}
	if err != nil {
		x.Error = strings.TrimSpace(last.String())
		if x.Error == "" {
			x.Error = err.Error()
		}
		return x
	}
	x.Figures = d.Figures
	return x
}

// teeTail passes on what is written to it, and remembers the last line.
type teeTail struct {
	to   *os.File
	last *bytes.Buffer
}

func (t *teeTail) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 && !bytes.HasPrefix(line, []byte("exit status")) {
			t.last.Reset()
			t.last.Write(line[:min(len(line), 300)])
		}
	}
	return t.to.Write(b)
}

// commit names what is measured.
func commit(ctx context.Context) string {
	b, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// loadNow is how many programs want the processor, over the last minute.
func loadNow() float64 {
	var l float64
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(b), &l)
	}
	return l
}

// put replaces what was known of a round. A failed try leaves the figures.
func put(runs []run, x run) []run {
	i := slices.IndexFunc(runs, func(o run) bool { return o.Round == x.Round })
	if i < 0 {
		return append(runs, x)
	}
	if x.Error != "" && len(runs[i].Figures) > 0 {
		runs[i].Error = x.When.Format(time.DateOnly) + ": " + x.Error
		return runs
	}
	runs[i] = x
	return runs
}

func readRuns(path string) (runs []run, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &runs); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return runs, nil
}

func writeRuns(path string, runs []run) error {
	b, err := json.MarshalIndent(runs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// A figure that moved by more than this is named: what is less two runs on a
// shared machine differ by anyway.
const moved = .15

// results is the page: where goals are missed, what became worse than before,
// and each benchmark's figures.
func results(now, before []run) []byte {
	var b bytes.Buffer
	b.WriteString(`# Results

Written by ` + "`make bench`" + `, which runs every benchmark, or by ` + "`go run ./bench all --only NAME`" + ` for one of them; a
benchmark's own command stands above its table. Each was run once, so figures of a machine with a load are too bad: the load
is what the machine had to do when the run began. Ratios are against the peer in the same run. How figures came about, what
was tried, and what was measured by hand is in [NOTES.md](NOTES.md).

`)
	missed, worse := 0, 0
	var short, fell bytes.Buffer
	for _, r := range rounds {
		x, ok := of(now, r)
		if !ok {
			fmt.Fprintf(&short, "| `%s` | not run yet | | |\n", r)
			continue
		}
		old, _ := of(before, r)
		group := ""
		for _, f := range x.Figures {
			name := full(&group, f)
			if missing(f) {
				missed++
				fmt.Fprintf(&short, "| `%s` | %s | %s | %s |\n", r, cell(name), value(f), cell(f.Goal))
			}
			if was, ok := figureOf(old, name); ok && worsened(was, f) {
				worse++
				fmt.Fprintf(&fell, "| `%s` | %s | %s | %s |\n", r, cell(name), value(was), value(f))
			}
		}
		if x.Error != "" {
			fmt.Fprintf(&short, "| `%s` | did not run to its end | %s | |\n", r, cell(x.Error))
		}
	}
	fmt.Fprintf(&b, "## Where we fall short\n\n%d goals are missed.\n\n", missed)
	if short.Len() > 0 {
		b.WriteString("| command | figure | is | goal |\n|---|---|---|---|\n" + short.String() + "\n")
	}
	if before != nil {
		fmt.Fprintf(&b, "## Worse than before\n\n%d figures with a goal are worse by more than %.0f %% than in the run before.\n\n", worse, 100*moved)
		if fell.Len() > 0 {
			b.WriteString("| command | figure | was | is |\n|---|---|---|---|\n" + fell.String() + "\n")
		}
	}
	for _, r := range rounds {
		x, ok := of(now, r)
		if !ok || len(x.Figures) == 0 {
			continue
		}
		old, _ := of(before, r)
		b.WriteString(table(r, x, old))
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

// table has the figures of one round.
func table(r round, x, old run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s.\n\n`go run ./bench %s`: %s, commit %s, %s with %d cores, %s; load %.1f, took %s.\n\n",
		r, strings.ToUpper(benchmarks[r.Bench].about[:1])+benchmarks[r.Bench].about[1:], r, x.When.Format(time.DateOnly), x.Commit, x.Machine.CPU, x.Machine.Cores,
		x.Machine.Go, x.Load, (time.Duration(x.Took) * time.Second).String())
	b.WriteString("| figure | is | before | goal | others |\n|---|---|---|---|---|\n")
	group := ""
	for _, f := range x.Figures {
		name := full(&group, f)
		was := ""
		if o, ok := figureOf(old, name); ok && old.When != x.When {
			was = value(o)
		}
		goal := f.Goal
		if missing(f) {
			goal += ", **missed**"
		}
		var peers []string
		for _, p := range f.Peers {
			peers = append(peers, p.Name+" "+number(p.Value))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(name), value(f), was, cell(goal), cell(strings.Join(peers, ", ")))
	}
	b.WriteString("\n")
	return b.String()
}

// full is a figure's name with that of the one it belongs to: benchmarks indent
// what says more of the figure above.
func full(group *string, f Figure) string {
	name := strings.TrimSpace(f.Name)
	if !strings.HasPrefix(f.Name, " ") {
		*group = name
		return name
	}
	return *group + ": " + name
}

func of(runs []run, r round) (run, bool) {
	i := slices.IndexFunc(runs, func(x run) bool { return x.Round == r.String() })
	if i < 0 {
		return run{}, false
	}
	return runs[i], true
}

func figureOf(x run, name string) (Figure, bool) {
	group := ""
	for _, f := range x.Figures {
		if full(&group, f) == name {
			return f, true
		}
	}
	return Figure{}, false
}

// worsened reports whether a figure with a goal is farther on its wrong side, or
// nearer to it, than it was by more than two runs differ.
func worsened(was, is Figure) bool {
	if is.Goal == "" || math.Abs(is.Value-was.Value) <= moved*math.Abs(was.Value) {
		return false
	}
	return strings.HasPrefix(is.Goal, "<=") == (is.Value > was.Value)
}

// missing reports whether a figure has a goal and does not meet it.
func missing(f Figure) bool { return f.Goal != "" && !f.Holds }

func value(f Figure) string { return strings.TrimSpace(number(f.Value) + " " + f.Unit) }

// cell keeps a text inside of its table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}
