package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/node/localapi"
)

func upCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "up",
		Usage: "run the daemon: requester and worker in one, until it is interrupted",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`NAME` of this machine, as other members see it"},
			&cli.StringSliceFlag{Name: "listen", Usage: "listen on the libp2p multiaddress `ADDR`; may be repeated"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "no-mdns", Usage: "do not look for members on the local network"},
			&cli.StringFlag{Name: "api", DefaultText: "a free port", Usage: "loopback address `HOST:PORT` of the local API"},
			&cli.IntFlag{Name: "threads", DefaultText: "all", Usage: "work with `N` threads of the CPU"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "no-work", Usage: "take no work from others"},
			&cli.StringFlag{Name: "sandbox", Usage: "`MODE` is auto, required or off"},
			&cli.StringFlag{Name: "log-level", Usage: "`LEVEL` is debug, info, warn or error"},
			&cli.StringFlag{Name: "saboteur", Hidden: true, Usage: "half-samples, stale or later-layers: deliver wrong frames, to test that it is seen"},
			&cli.StringSliceFlag{Name: "cpu-kernel-env", Hidden: true, Usage: "KEY=VALUE for the programs that render; may be repeated"},
		},
	}, 0, 0, up)
}

// ready is what up prints once the daemon can be asked.
type ready struct {
	Address string `json:"address"`
	Socket  string `json:"socket,omitempty"`
	DataDir string `json:"data_dir"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

func up(k *call) error {
	if name := k.String("farm"); name != "" {
		return usagef("up runs all farms of this machine; leave --farm %s out", name)
	}
	k.readSettings()
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	exe, err := executable() // what is there now, should it be replaced later
	if err != nil {
		return err
	}
	if k.takeUpdate(k.Context.Context, cfg, exe) {
		return startAgain(exe)
	}
	n, err := node.New(k.Context.Context, cfg, newLog(k.program, cfg))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(k.Context.Context)
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		k.announce(ctx, cfg.DataDir)
	}()
	err = n.Run(ctx)
	stop()
	<-announced
	if errors.Is(err, node.ErrRestart) {
		return startAgain(exe)
	}
	if k.Context.Context.Err() != nil && err == context.Canceled {
		err = nil
	}
	return err // a daemon that was asked to stop is done
}

// executable is the path of this program.
func executable() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(exe)
}

// readSettings takes the flags that stand for settings.
func (k *call) readSettings() {
	for flag, key := range map[string]string{
		"name": "name", "api": "api.address", "sandbox": "sandbox.mode", "log-level": "log.level", "saboteur": "worker.saboteur",
	} {
		if k.IsSet(flag) {
			k.settings[key] = k.String(flag)
		}
	}
	for flag, key := range map[string]string{"listen": "network.listen", "cpu-kernel-env": "worker.env"} {
		if k.IsSet(flag) {
			k.settings[key] = strings.Join(k.StringSlice(flag), ",")
		}
	}
	if k.IsSet("threads") {
		k.settings["worker.threads"] = strconv.Itoa(k.Int("threads"))
	}
	if k.Bool("no-work") {
		k.settings["worker.enabled"] = "false"
	}
	if k.Bool("no-mdns") {
		k.settings["network.mdns"] = "false"
	}
}

// announce says when this process answers at the door of dir.
func (k *call) announce(ctx context.Context, dir string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ep, err := localapi.ReadEndpoint(dir); err == nil && ep.PID == os.Getpid() {
			r := ready{Address: ep.Address, Socket: ep.Socket, DataDir: dir, PID: ep.PID, Version: ep.Version}
			_ = k.answer(r, func() { k.say("up, data folder %s, local API %s", dir, ep.Address) }) // stdout may be closed
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func newLog(p *program, cfg node.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // the settings were checked
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.JSON {
		return slog.New(slog.NewJSONHandler(p.err, o))
	}
	return slog.New(slog.NewTextHandler(p.err, o))
}
