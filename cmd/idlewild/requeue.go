package main

import "github.com/urfave/cli/v2"

func requeueCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "requeue",
		Usage:     "run a frame again, also one that was delivered or failed",
		ArgsUsage: "JOB FRAME",
	}, 2, 2, func(k *call) error {
		id, err := k.jobArg(0)
		if err != nil {
			return err
		}
		client, err := k.client()
		if err != nil {
			return err
		}
		defer client.Close()
		s, err := client.Requeue(k.Context.Context, id, k.Args().Get(1))
		if err != nil {
			return err
		}
		return k.answer(s, func() { k.say("%s of job %s runs again", k.Args().Get(1), id) })
	})
}
