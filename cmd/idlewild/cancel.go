package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/job"
)

func cancelCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "cancel",
		Usage:     "end a job; what was delivered stays",
		ArgsUsage: "JOB",
	}, 1, 1, func(k *call) error { return steer(k, job.Cancel) })
}
