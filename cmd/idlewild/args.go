package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a command before its arguments, because people
// write `submit FILE -f 1-10` and the flag package stops at FILE. Everything
// behind "--" stays an argument.
func arrange(commands []*cli.Command, args []string) []string {
	i := 1
	var leaf, last *cli.Command
	for ; i < len(args) && leaf == nil; i++ {
		var found *cli.Command
		for _, c := range commands {
			if c.HasName(args[i]) {
				found = c
			}
		}
		if found == nil && last != nil && args[i] != "" && args[i][0] != '-' {
			leaf = last // which has subcommands, and this is none of them
			break
		}
		if found == nil {
			return args
		}
		last = found
		if commands = found.Subcommands; len(commands) == 0 {
			leaf = found
		}
	}
	if leaf == nil {
		return args
	}
	value := map[string]bool{}
	for _, f := range leaf.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, n := range f.Names() {
			value[n] = ok && d.TakesValue()
		}
	}
	head := i
	var flags, rest []string
	for ; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			continue
		}
		flags = append(flags, a)
		name := strings.TrimLeft(a, "-")
		if value[name] && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	out := append(append([]string{}, args[:head]...), flags...)
	if len(rest) > 0 {
		out = append(append(out, "--"), rest...)
	}
	return out
}

// beforeDashes is what of args can be flags.
func beforeDashes(args []string) []string {
	for i, a := range args {
		if a == "--" {
			return args[:i]
		}
	}
	return args
}

// commandPath is how a command is typed: "farm invite".
func commandPath(c *cli.Context) string {
	var names []string
	for _, l := range c.Lineage() {
		if l.Command != nil && l.Command.Name != "" && l.Command.Name != c.App.Name {
			names = append([]string{l.Command.Name}, names...)
		}
	}
	return strings.Join(names, " ")
}
