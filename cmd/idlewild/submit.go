package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node/localapi"
)

func submitCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "submit",
		Usage:     "give a job to the farm",
		ArgsUsage: "FILE",
		Description: "Returns once the job is planned, with exit code 3 where it is refused; the daemon does the rest.\n" +
			"With --wait it returns at the end, and Ctrl-C leaves the job running.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "wait", Aliases: []string{"w"}, Usage: "stay until the job ends"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "reuse", Usage: "leave out frames that the last job of the file delivered and nothing changed for"},
			&cli.StringSliceFlag{Name: "only", Usage: "only `PEER` may work on it, a member's name or id; again for more"},
			&cli.StringSliceFlag{Name: "not", Usage: "`PEER` may not work on it; again for more"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "strangers", Usage: "let peers work on it, too, that are no members, where the farm is open to them: they get the job's files"},
			&cli.StringSliceFlag{Name: "steward", DefaultText: "the farm's", Usage: "`PEER` goes on with the job while this machine is silent, the first that is named first; or none"},
		}, specFlags()...),
	}, 0, 1, submit)
}

func resubmitCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "resubmit",
		Usage:     "render what changed since a job",
		ArgsUsage: "JOB",
		Description: "Submits what an ended job was asked for once more, with its file as it is now. Frames that nothing changed for\n" +
			"stay as they were delivered; some of them are rendered all the same and compared. For other settings: submit --reuse.",
		Flags: []cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "wait", Aliases: []string{"w"}, Usage: "stay until the job ends"},
		},
	}, 1, 1, func(k *call) error {
		id, err := k.jobArg(0)
		if err != nil {
			return err
		}
		return k.submitted(func(ctx context.Context, client *localapi.Client) (job.ID, error) { return client.Resubmit(ctx, id) })
	})
}

func submit(k *call) error {
	spec, err := k.spec(true)
	if err != nil {
		return err
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	if len(spec.Policy.Stewards) == 0 {
		spec.Policy.Stewards = cfg.Farm.Stewards // as they are now; the daemon read them at its start
	}
	spec.Policy.Reuse = k.Bool("reuse")
	spec.Policy.Strangers = k.Bool("strangers")
	spec.Policy.Only, spec.Policy.Not = k.StringSlice("only"), k.StringSlice("not")
	return k.submitted(func(ctx context.Context, client *localapi.Client) (job.ID, error) { return client.Submit(ctx, spec) })
}

// submitted follows a job that ask submits.
func (k *call) submitted(ask func(context.Context, *localapi.Client) (job.ID, error)) error {
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	client, err := localapi.Dial(cfg.DataDir)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := k.Context.Context
	id, err := ask(ctx, client)
	if err != nil {
		return err
	}
	k.say("job %s", id)
	k.learnNames(client)
	enough := func(s job.Status) bool { return s.State != job.StateAccepted }
	if k.Bool("wait") {
		enough = func(s job.Status) bool { return s.State.Ended() }
	}
	v := k.newView()
	s, err := follow(ctx, cfg.DataDir, id, v, enough)
	v.close()
	if ctx.Err() != nil {
		k.complain("job %s goes on; watch it with: idlewild status %s --watch; end it with: idlewild cancel %s", id, id, id)
		if s.Job == "" {
			s.Job = id
		}
		return k.endWith(s, errInterrupted)
	}
	if err != nil {
		return err
	}
	if !s.State.Ended() {
		return k.answer(s, func() { k.say("watch it with: idlewild status %s --watch", id) })
	}
	err = outcome(s)
	if !errors.Is(err, job.ErrRefused) {
		k.printResult(s)
	}
	if err != nil {
		k.showLog(client, s)
	}
	return k.endWith(s, err)
}

// endWith prints the job as the document, whatever became of it.
func (k *call) endWith(s job.Status, err error) error {
	if k.json {
		if e := k.doc(s); e != nil {
			return e
		}
	}
	return err
}

// showLog prints the end of the log of the first task that failed.
func (k *call) showLog(client *localapi.Client, s job.Status) {
	for _, f := range s.Frames {
		if f.State != "failed" {
			continue
		}
		b, err := client.Log(k.Context.Context, s.Job, f.Label)
		if err != nil || len(b) == 0 {
			return // the reason stands in the result
		}
		k.complain("end of the log of %s; the whole: idlewild logs %s %s", f.Label, s.Job, f.Label)
		for _, line := range lastLines(string(b), 20) {
			k.quote(line)
		}
		return
	}
}
