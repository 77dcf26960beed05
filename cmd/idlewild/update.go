package main

import (
	"context"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/node/update"
)

func updateCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "update",
		Usage: "whether a newer version is there; with --install, have it take over",
		Description: "Updates come from update.url and are signed with update.key; both are empty until you set them. A new version is started on trial\n" +
			"with your settings and takes this program's place only if it answers. A daemon does that by itself where update.mode is install.",
		Flags: []cli.Flag{&cli.BoolFlag{DisableDefaultText: true, Name: "install", Usage: "fetch it, and have the daemon start it"}},
	}, 0, 0, updateNow)
}

type updateAnswer struct {
	Version string `json:"version"`           // of this program
	Newer   string `json:"newer,omitempty"`   // that is there
	Fetched bool   `json:"fetched,omitempty"` // and waits for the next start
}

func updateNow(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	exe, err := executable()
	if err != nil {
		return err
	}
	a := updateAnswer{Version: node.Version, Fetched: k.Bool("install")}
	if a.Newer, err = node.StageUpdate(k.Context.Context, cfg, exe, a.Fetched); err != nil {
		return err
	}
	a.Fetched = a.Fetched && a.Newer != ""
	started := false
	if a.Fetched {
		if c, err := localapi.Dial(cfg.DataDir); err == nil {
			defer c.Close()
			started = c.Restart(k.Context.Context) == nil
		}
	}
	return k.answer(a, func() {
		switch {
		case a.Newer == "":
			k.say("%s is the newest version", a.Version)
		case !a.Fetched:
			k.say("version %s is there, this is %s; install it with: idlewild update --install", a.Newer, a.Version)
		case started:
			k.say("version %s was fetched; the daemon tries it now, see: idlewild status", a.Newer)
		default:
			k.say("version %s was fetched; it is tried when the daemon starts: idlewild up", a.Newer)
		}
	})
}

const trialFor = 3 * time.Minute

// takeUpdate lets a program that was fetched show that it works, before this
// one opens anything. It reports whether the program at exe is another now.
func (k *call) takeUpdate(ctx context.Context, cfg node.Config, exe string) bool {
	if os.Getenv(node.Probation) != "" {
		return false
	}
	version, err := update.Trial{
		Dir: cfg.DataDir, Exe: exe, Current: node.Version, Args: os.Args[1:], Env: []string{node.Probation + "=1"}, Stderr: k.program.err,
		Answers: node.TrialAnswers(cfg.DataDir), For: trialFor, Every: 200 * time.Millisecond,
	}.Apply(ctx)
	log := newLog(k.program, cfg)
	if err != nil && ctx.Err() == nil {
		log.Error("the update is not used, and this version goes on", "error", err)
	}
	if version != "" {
		log.Info("updated", "from", node.Version, "to", version)
	}
	return version != ""
}
