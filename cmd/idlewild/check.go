package main

import (
	"errors"
	"fmt"
	"os"
	"sort"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
)

func checkCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "check",
		Usage:       "judge a frame that somebody says they rendered, by rendering random crops of it again",
		ArgsUsage:   "FILE",
		Description: "Exits with 0 where the claim is accepted and 1 where it is rejected or cannot be verified.",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "frame", DefaultText: "none", Usage: "the claim shows frame `N`"},
			&cli.StringFlag{Name: "claim", Usage: "`FILE` is the picture that is claimed to be it"},
			&cli.StringFlag{Name: "heatmap", Usage: "draw where the claim differs into `FILE.png`"},
		}, overrides()...),
	}, 1, 1, check)
}

func check(k *call) error {
	if !k.IsSet("frame") || k.String("claim") == "" {
		return usagef("check needs --frame N and --claim FILE; see: idlewild check --help")
	}
	o, err := k.specOptions()
	if err != nil {
		return err
	}
	file, err := absolute(k.Args().First())
	if err != nil {
		return err
	}
	claim, err := absolute(k.String("claim"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(claim); err != nil {
		return refuseFile(err)
	}
	heatmap := k.String("heatmap")
	if heatmap != "" {
		if heatmap, err = absolute(heatmap); err != nil {
			return err
		}
	}
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	v, err := node.Check(k.Context.Context, k.withAsked(cfg), node.CheckOptions{
		File: file, Frame: k.Int("frame"), Claim: claim, Spec: o, Heatmap: heatmap,
	})
	if err != nil {
		return err
	}
	err = k.answer(v, func() {
		k.say("%s", oneLine(v.String()))
		var names []string
		for n := range v.Numbers {
			names = append(names, n)
		}
		sort.Strings(names)
		rows := [][]string{}
		for _, n := range names {
			rows = append(rows, []string{n, fmt.Sprintf("%.6g", v.Numbers[n])})
		}
		k.table(rows...)
		k.say("checking took %s", secondsText(v.CostSeconds))
	})
	switch {
	case err != nil:
		return err
	case v.Ruling == job.Rejected:
		return errors.New("the claim is rejected: " + v.Reason)
	case v.Ruling != job.Accepted:
		return errors.New("the claim could not be verified: " + v.Reason)
	}
	return nil
}
