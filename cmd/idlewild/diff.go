package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"idlewild/node"
)

// diffDecoder is the name of the hidden command that is the other process.
const diffDecoder = "diff-decode"

func diffCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "diff",
		Usage:     "what a re-submission would move: the real encoder here, the real decoder in another process",
		ArgsUsage: "OLD NEW",
		Description: "OLD and NEW are two files or two folders. The decoder has OLD's blocks and a pipe, whose bytes are counted " +
			"in both directions. What it makes is stored again and compared with NEW. Nothing is sent anywhere.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "keep what the decoder made as `F`, a file or folder as NEW is"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "exact", Usage: "move the files' own bytes, not the canonical form of .blend files and images"},
		},
	}, 2, 2, diff)
}

func diff(k *call) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o := node.DiffOptions{
		Decoder: &exec.Cmd{Path: exe, Args: []string{os.Args[0], diffDecoder}},
		Exact:   k.Bool("exact"),
	}
	var paths [3]string
	for i, a := range []string{k.Args().Get(0), k.Args().Get(1), k.String("out")} {
		if a == "" && i == 2 && !k.IsSet("out") {
			continue
		}
		if paths[i], err = absolute(a); err != nil {
			return err
		}
	}
	o.Out = paths[2]
	r, err := node.Diff(k.Context.Context, paths[0], paths[1], o)
	if errors.Is(err, node.ErrDiffPaths) {
		return usage{err}
	}
	if err != nil {
		return err
	}
	return k.answer(r, func() { k.sayDiff(r) })
}

func (k *call) sayDiff(r node.DiffReport) {
	for _, w := range r.Warnings {
		k.say("warning: %s", oneLine(w))
	}
	var parts []string
	for _, p := range []string{node.PartEdits, node.PartBlocks, node.PartRequests} {
		if n := r.Parts[p]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", p, bytesText(n)))
		}
	}
	spent := ""
	if len(parts) > 0 {
		spent = ": " + strings.Join(parts, ", ")
	}
	k.say("%s move instead of %s (%.3g %%)%s", bytesText(r.WireBytes), bytesText(r.NewBytes), 100*float64(r.WireBytes)/float64(max(r.NewBytes, 1)), spent)
	k.say("the other process made the new content of them; encoded in %s, decoded in %s", secondsText(r.EncodeSeconds), secondsText(r.DecodeSeconds))
}

// diffDecodeCommand is run by diff alone, in a folder that it prepared.
func diffDecodeCommand(p *program) *cli.Command {
	c := command(p, &cli.Command{Name: diffDecoder, Usage: "the receiving half of diff", ArgsUsage: "no arguments"}, 0, 0, func(k *call) error {
		return node.DiffDecode(k.Context.Context, ".", k.in, k.out)
	})
	c.Hidden = true
	return c
}
