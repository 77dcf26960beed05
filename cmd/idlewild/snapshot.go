package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func snapshotCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "snapshot",
		Usage:     "what would be stored of a file or folder; nothing is, unless you say so",
		ArgsUsage: "PATH",
		Flags: []cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "keep", Usage: "put it into this machine's store; no daemon may be running"},
			&cli.StringFlag{Name: "car", Usage: "write it to the content archive `FILE`, which IPFS tools and \"idlewild store import\" read"},
		},
	}, 1, 1, func(k *call) error {
		path, err := absolute(k.Args().First())
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return refuseFile(err)
		}
		o := node.SnapshotOptions{Keep: k.Bool("keep")}
		if file := k.String("car"); file != "" {
			if o.CAR, err = absolute(file); err != nil {
				return err
			}
		}
		cfg, _, err := k.config()
		if err != nil {
			return err
		}
		r, err := node.Snapshot(k.Context.Context, cfg, path, o)
		if err != nil {
			return err
		}
		return k.answer(r, func() {
			for _, w := range r.Warnings {
				k.say("warning: %s", oneLine(w))
			}
			if o.CAR != "" {
				k.say("%s written to %s", plural(r.CARBlocks, "block", "blocks"), o.CAR)
			}
			k.say("%s, %s, in %s, of it new %s in %d; root %s", plural(r.Files, "file", "files"), bytesText(r.Bytes), plural(r.Blocks, "block", "blocks"), bytesText(r.NewBytes), r.NewBlocks, r.Root)
		})
	})
}
