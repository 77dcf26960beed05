package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/job"
)

func pauseCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "pause",
		Usage:       "give out no more of a job; or, without one, take no work from others",
		ArgsUsage:   "[JOB]",
		Description: "A pause lasts until: idlewild resume",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for whoever asks why this machine is paused", Value: "paused by its owner"},
		},
	}, 0, 1, func(k *call) error {
		if k.NArg() == 0 {
			return setPaused(k, true, k.String("reason"))
		}
		if k.IsSet("reason") {
			return usagef("--reason is for pausing this machine, not a job")
		}
		return steer(k, job.Pause)
	})
}
