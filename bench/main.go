// Command bench measures what idlewild publishes, with real processes on this
// machine and, where there are any, peers in the same run:
//
//	go run ./bench NAME [--json] [flags of the benchmark]
//
// With --json it prints one document: the figures, their units, what each is
// meant to reach and whether it does. A peer that is missing on the machine is
// an error and not a gap. A run that misses a goal still exits 0: the figure is
// the answer. Only a benchmark that could not be run exits 1.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"idlewild/render/ai"
)

// Document is what one benchmark prints with --json.
type Document struct {
	Bench   string   `json:"bench"`
	Machine Machine  `json:"machine"`
	Figures []Figure `json:"figures"`
}

// Machine is where it ran.
type Machine struct {
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
}

// Figure is one measured number.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal"`  // "<= 20", ">= 0.85", or empty where there is none
	Holds bool    `json:"holds"` // whether the value meets the goal
	Peers []Peer  `json:"peers"`
}

// Peer is the same figure of another program, or of plain Blender.
type Peer struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// benchmark runs one measurement. Progress goes to stderr.
type benchmark struct {
	about string
	run   func(ctx context.Context, args []string) ([]Figure, error)
}

var benchmarks = map[string]benchmark{}

func main() {
	ai.RunnerMain() // of the programs that "tokens" has answer
	gameMain()      // of the owner in "evening"
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	asJSON := false
	var args []string
	for _, a := range os.Args[1:] {
		if a == "--json" || a == "-json" {
			asJSON = true
		} else {
			args = append(args, a)
		}
	}
	if len(args) == 0 || benchmarks[args[0]].run == nil {
		fmt.Fprintln(os.Stderr, "usage: go run ./bench NAME [--json] [flags]")
		var names []string
		for n := range benchmarks {
			names = append(names, n)
		}
		sort.Strings(names)
		for _, n := range names {
			fmt.Fprintf(os.Stderr, "  %-12s %s\n", n, benchmarks[n].about)
		}
		os.Exit(2)
	}
	figures, err := benchmarks[args[0]].run(ctx, args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", args[0], err)
		if err == flag.ErrHelp {
			os.Exit(2)
		}
		os.Exit(1)
	}
	doc := Document{Bench: args[0], Machine: thisMachine(), Figures: figures}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		e.Encode(doc)
		return
	}
	fmt.Printf("%s on %s (%d cores)\n", doc.Bench, doc.Machine.CPU, doc.Machine.Cores)
	for _, f := range doc.Figures {
		verdict := ""
		if f.Goal != "" {
			verdict = "goal " + f.Goal
			if f.Holds {
				verdict += ", holds"
			} else {
				verdict += ", MISSED"
			}
		}
		fmt.Printf("  %-52s %12s %-10s %s\n", f.Name, number(f.Value), f.Unit, verdict)
		for _, p := range f.Peers {
			fmt.Printf("    %-50s %12s\n", p.Name, number(p.Value))
		}
	}
}

// number keeps every digit of a count and four of a measurement.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// atMost and atLeast make figures with a goal.
func atMost(name string, value float64, unit string, goal float64, peers ...Peer) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Goal: fmt.Sprintf("<= %g", goal), Holds: value <= goal, Peers: peers}
}

func atLeast(name string, value float64, unit string, goal float64, peers ...Peer) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Goal: fmt.Sprintf(">= %g", goal), Holds: value >= goal, Peers: peers}
}

func plain(name string, value float64, unit string) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Holds: true}
}

func thisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: runtime.GOARCH}
	b, _ := os.ReadFile("/proc/cpuinfo")
	for _, l := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			m.CPU = strings.TrimSpace(v)
			break
		}
	}
	return m
}

// quantile of a sorted list, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+0.5) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}
