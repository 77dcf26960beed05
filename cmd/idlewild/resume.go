package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node/localapi"
)

func resumeCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "resume",
		Usage:     "go on with a paused job; or, without one, take work from others again",
		ArgsUsage: "[JOB]",
	}, 0, 1, func(k *call) error {
		if k.NArg() == 0 {
			return setPaused(k, localapi.PauseWish{})
		}
		return steer(k, job.Resume)
	})
}
