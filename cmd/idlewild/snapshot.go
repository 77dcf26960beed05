package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func snapshotCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "snapshot",
		Usage:     "what would be stored of a file or folder; nothing is",
		ArgsUsage: "PATH",
	}, 1, 1, func(k *call) error {
		path, err := absolute(k.Args().First())
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return refuseFile(err)
		}
		cfg, _, err := k.config()
		if err != nil {
			return err
		}
		r, err := node.Snapshot(k.Context.Context, cfg, path)
		if err != nil {
			return err
		}
		return k.answer(r, func() {
			for _, w := range r.Warnings {
				k.say("warning: %s", oneLine(w))
			}
			k.say("%d files, %s in %d blocks, of it new %s in %d; root %s", r.Files, bytesText(r.Bytes), r.Blocks, bytesText(r.NewBytes), r.NewBlocks, r.Root)
		})
	})
}
