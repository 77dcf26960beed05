package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/node/support"
)

func supportCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "support",
		Usage: "write a bundle for whoever helps you, without names of scenes or people",
		Description: "A zip of text files: versions, devices, settings, what the doctor finds, counts of jobs, the daemon's newest log lines. Names of\n" +
			"scenes, files, machines and people, addresses and tokens are taken out. It goes nowhere by itself: look through it, then send it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, DefaultText: "a new file here", Usage: "write to `FILE`, which must not be there; - is stdout"},
		},
	}, 0, 0, makeSupport)
}

// supportMade is what the command came to.
type supportMade struct {
	File   string   `json:"file"`
	Inside []string `json:"inside"`
	Daemon bool     `json:"daemon"` // it answered
}

func makeSupport(k *call) (err error) {
	cfg, origins, err := k.config()
	if err != nil {
		return err
	}
	in := support.Input{Version: node.Version, DataDir: cfg.DataDir, Secrets: []string{cfg.Hooks.Secret}, Now: time.Now()}
	for _, o := range origins {
		in.Settings = append(in.Settings, localapi.Setting{Key: o.Key, Value: o.Value, From: o.From, About: o.About})
	}
	c, err := localapi.Dial(cfg.DataDir)
	if err == nil {
		defer c.Close()
		_, err = c.Status(k.Context.Context)
	}
	if err != nil {
		in.NoDaemon = err.Error()
	} else {
		in.Daemon = c
	}
	file := k.String("output")
	if file == "-" {
		if k.json {
			return usagef("--json and -o - would both print to stdout")
		}
		_, err := support.Write(k.Context.Context, k.out, in)
		return err
	}
	if file == "" {
		file = "idlewild-support-" + in.Now.Format("20060102-150405") + ".zip"
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return usagef("%s is there already; name another file with -o", file)
	}
	if err != nil {
		return err
	}
	made := supportMade{File: file, Daemon: in.Daemon != nil}
	made.Inside, err = support.Write(k.Context.Context, io.Writer(f), in)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return k.answer(made, func() {
		if !made.Daemon {
			k.say("No daemon answers, so there is little in it: %s", clean(in.NoDaemon))
		}
		k.say("%s", file)
		k.say("Look through it before you send it. Its README.txt says what is in it and what was taken out.")
	})
}
