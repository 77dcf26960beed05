package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"idlewild/node"
)

func jobCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "job",
		Usage:           "look into what is kept of a job",
		HideHelpCommand: true,
		OnUsageError:    usageError,
		Action: func(x *cli.Context) error {
			if name := x.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild job --help", "job "+name)
			}
			return usagef("job needs verify; see: idlewild job --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{
				Name: "verify", Usage: "read a job's journal and every signature in it, and change nothing", ArgsUsage: "JOB",
				Description: "The journal may belong to a daemon that is running. Damage is mended when a daemon starts: everything up\n" +
					"to it counts, and what follows is put aside.",
			}, 1, 1, jobVerify),
		},
	}
}

func jobVerify(k *call) error {
	id, err := k.jobArg(0)
	if err != nil {
		return err
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	v, err := node.VerifyJournal(cfg, id)
	if err != nil {
		return err
	}
	if err := k.answer(v, func() {
		k.say("job %s, %s: %s, %s; results of %d of %s, %d delivered; %s",
			v.Job, v.State, plural(v.Records, "record", "records"), bytesText(v.Bytes), v.Accepted, plural(v.Tasks, "task", "tasks"), v.Delivered, plural(v.Receipts, "receipt", "receipts"))
	}); err != nil {
		return err
	}
	switch {
	case v.Bad != "":
		return fmt.Errorf("the journal is damaged: %s; what stands before it is whole, and the next start of the daemon goes on from there", v.Bad)
	case v.Forged > 0:
		return fmt.Errorf("%d of %d receipts are not signed by the worker that they name: somebody changed the journal", v.Forged, v.Receipts)
	}
	return nil
}
