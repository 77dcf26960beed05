package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
)

func inspectCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "inspect",
		Usage:       "what a job would need and what is wrong with it; nothing is stored or sent",
		ArgsUsage:   "FILE",
		Description: "Exits with 3 where the job would be refused.",
		Flags:       specFlags(),
	}, 0, 1, inspect)
}

func inspect(k *call) error {
	spec, err := k.spec(false)
	if err != nil {
		return err
	}
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	in, err := node.Inspect(k.Context.Context, k.withAsked(cfg), spec)
	if err != nil {
		return err
	}
	err = k.answer(in, func() {
		rows := [][]string{}
		for _, d := range in.Deps {
			rows = append(rows, []string{d.Name, d.Path})
		}
		if len(rows) > 0 { // none: it was refused before anybody looked
			k.say("%s", plural(len(rows), "file", "files"))
		}
		k.table(rows...)
		for _, p := range in.Problems {
			if p.Severity == job.SeverityWarning {
				k.say("warning: %s", oneLine(p.String()))
			}
		}
		if e := in.Estimate; e.MemoryBytes > 0 {
			text := job.Gigabytes(e.MemoryBytes) + " of memory"
			if e.VRAMBytes > 0 {
				text += ", or " + job.Gigabytes(e.VRAMBytes) + " of a GPU's"
			}
			k.say("a task takes about %s, by estimate", text)
		}
		k.table(factRows(in.Facts)...)
	})
	if err != nil {
		return err
	}
	if r := in.Refused(); len(r) > 0 {
		return &job.RefusedError{Problems: r}
	}
	return nil
}

// factRows lists what the kind found, which is its own business, by name.
func factRows(facts json.RawMessage) [][]string {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(facts))
	d.UseNumber() // bytes are not 9.3e+08
	if d.Decode(&m) != nil {
		return nil
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch v := m[name].(type) {
		case bool, string, json.Number:
			if v != "" { // what the file does not say
				rows = append(rows, []string{strings.ReplaceAll(name, "_", " "), fmt.Sprint(v)})
			}
		case []any:
			if len(v) > 0 {
				rows = append(rows, []string{strings.ReplaceAll(name, "_", " "), strings.Trim(fmt.Sprint(v), "[]")})
			}
		}
	}
	return rows
}
