package main

import (
	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node/localapi"
)

func pauseCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "pause",
		Usage:     "give out no more of a job; or, without one, take no work from others",
		ArgsUsage: "[JOB]",
		Description: "A pause lasts until: idlewild resume, also over restarts of the daemon and of the machine. With --for or\n" +
			"--until-restart it ends by itself, and says so in the log; whatever else keeps this machine from work then decides.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for", Usage: "pause this machine for a `TIME` such as 90m"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "until-restart", Usage: "pause this machine until it starts again"},
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for whoever asks why this machine is paused", Value: "paused by its owner"},
		},
	}, 0, 1, func(k *call) error {
		if k.NArg() == 0 {
			w := localapi.PauseWish{Paused: true, Reason: k.String("reason"), ForSeconds: k.Duration("for").Seconds(), UntilRestart: k.Bool("until-restart")}
			switch {
			case w.ForSeconds > 0 && w.UntilRestart:
				return usagef("--for and --until-restart are two different ends of a pause; give one")
			case k.IsSet("for") && w.ForSeconds <= 0:
				return usagef("--for needs a time that is more than nothing, such as 90m")
			}
			return setPaused(k, w)
		}
		for _, flag := range []string{"reason", "for", "until-restart"} {
			if k.IsSet(flag) {
				return usagef("--%s is for pausing this machine, not a job", flag)
			}
		}
		return steer(k, job.Pause)
	})
}
