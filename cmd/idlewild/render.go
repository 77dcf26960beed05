package main

import (
	"errors"
	"log/slog"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
)

func renderCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "render",
		Usage:       "render with a whole farm inside this process, without a daemon",
		ArgsUsage:   "FILE",
		Description: "Ctrl-C cancels the job; what was delivered stays, and --only-missing does the rest later.",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "nodes", Aliases: []string{"n"}, Value: 1, Usage: "`N` workers share this machine"},
			&cli.IntFlag{Name: "threads", DefaultText: "all", Usage: "work with `N` threads of the CPU"},
			&cli.StringFlag{Name: "sandbox", Usage: "`MODE` is auto, required or off"},
			&cli.StringFlag{Name: "log-level", Usage: "what the farm says on stderr: `LEVEL` is debug, info, warn or error"},
		}, specFlags()...),
	}, 0, 1, renderAct)
}

func renderAct(k *call) error {
	if n := k.Int("nodes"); n < 1 || n > 64 {
		return usagef("--nodes is %d; it may be 1 to 64", n)
	}
	spec, err := k.spec(true)
	if err != nil {
		return err
	}
	k.readSettings()
	if !k.IsSet("log-level") {
		k.settings["log.level"] = "error"
	}
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	v := k.newView()
	ctx := k.Context.Context
	var state job.State
	s, err := node.RunEmbedded(ctx, node.EmbeddedOptions{
		Nodes: k.Int("nodes"), Config: k.withAsked(cfg), Spec: spec, Log: quietLog(k, cfg),
	}, func(e job.Event, s job.Status) {
		v.event(e)
		if s.State != state || k.tty {
			state = s.State
			v.status(s)
		}
	})
	v.close()
	if ctx.Err() != nil {
		k.complain("cancelled; what was delivered stays")
		return k.endWith(s, errInterrupted)
	}
	if err != nil {
		return err
	}
	err = outcome(s)
	if !errors.Is(err, job.ErrRefused) {
		k.printResult(s)
	}
	return k.endWith(s, err)
}

// quietLog keeps the farm's log away from a bar that redraws itself.
func quietLog(k *call, cfg node.Config) *slog.Logger {
	if k.tty && !k.IsSet("log-level") {
		return slog.New(slog.DiscardHandler)
	}
	return newLog(k.program, cfg)
}
