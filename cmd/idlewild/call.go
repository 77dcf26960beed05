package main

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
)

// call is one subcommand at work.
type call struct {
	*program
	*cli.Context
	// settings are flags that stand for settings, by dotted key.
	settings map[string]string
	// asked is the path of the Blender that --blender names.
	asked string
}

// withAsked adds that Blender to those of this process; a daemon has its own.
func (k *call) withAsked(c node.Config) node.Config {
	if k.asked != "" {
		c.Blender.Programs = append(c.Blender.Programs, k.asked)
	}
	return c
}

func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{DisableDefaultText: true, Name: "json", Usage: "print one JSON document on stdout, or one per line where it streams"},
		&cli.StringFlag{Name: "data-dir", Usage: "the daemon's identity, store and journal lie in `DIR`"},
		&cli.StringFlag{Name: "farm", EnvVars: []string{"IDLEWILD_FARM"}, DefaultText: "the first", Usage: "of this machine's farms the one called `NAME`; see: idlewild farm list"},
		&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` instead of config.toml in the data folder"},
	}
}

// command makes a subcommand of c: the common flags, one shape of errors, and
// least to most arguments.
func command(p *program, c *cli.Command, least, most int, act func(*call) error) *cli.Command {
	for _, f := range commonFlags() {
		if !slices.ContainsFunc(c.Flags, func(own cli.Flag) bool { return own.Names()[0] == f.Names()[0] }) {
			c.Flags = append(c.Flags, f)
		}
	}
	c.OnUsageError = usageError
	c.HideHelpCommand = true
	c.Action = func(x *cli.Context) error {
		p.json = x.Bool("json")
		k := &call{program: p, Context: x, settings: map[string]string{}}
		if n := x.NArg(); n < least || n > most {
			what := c.ArgsUsage
			if what == "" {
				what = "no arguments"
			}
			return usagef("%s takes %s; see: idlewild %s --help", commandPath(x), what, commandPath(x))
		}
		if d := x.String("data-dir"); d != "" {
			k.settings["data_dir"] = d
		}
		return act(k)
	}
	return c
}

// config reads the settings: flags over environment over file over defaults.
func (k *call) config() (node.Config, []node.Origin, error) {
	if d, ok := k.settings["data_dir"]; ok {
		abs, err := absolute(d)
		if err != nil {
			return node.Config{}, nil, err
		}
		k.settings["data_dir"] = abs
	}
	c, origins, err := node.LoadConfig(k.String("config"), k.settings)
	if err != nil {
		return c, origins, usage{err}
	}
	return c, origins, nil
}

// farmConfig is config for what belongs to the farm that --farm names.
func (k *call) farmConfig() (node.Config, error) {
	c, _, err := k.config()
	name := k.String("farm")
	if err != nil || name == "" {
		return c, err
	}
	if c, err = c.ForFarm(name); err != nil {
		return c, usage{err}
	}
	if _, err := os.Stat(c.DataDir); errors.Is(err, fs.ErrNotExist) {
		return c, usagef("this machine has no farm called %s; see: idlewild farm list", name)
	}
	return c, nil
}

// client is the way to the daemon of the data folder, or to its farm of --farm.
func (k *call) client() (*localapi.Client, error) {
	c, err := k.farmConfig()
	if err != nil {
		return nil, err
	}
	return localapi.Dial(c.DataDir)
}

// learnNames makes who speak of members by name; without names it speaks of
// ids.
func (k *call) learnNames(c *localapi.Client) {
	if k.json {
		return
	}
	v, err := c.Peers(k.Context.Context)
	if err != nil {
		return
	}
	k.names = map[string]string{}
	for _, m := range v.Members {
		k.names[m.Peer] = oneLine(m.Name)
	}
}

// jobArg reads the job that the n-th argument names.
func (k *call) jobArg(n int) (job.ID, error) {
	id, err := job.ParseID(k.Args().Get(n))
	if err != nil {
		return "", usagef("%w; see: idlewild status", err)
	}
	return id, nil
}

// outcome is how a job that ended ended, as an error.
func outcome(s job.Status) error {
	switch s.State {
	case job.StateFinished:
		return nil
	case job.StateFailed:
		if problems := (job.Inspection{Problems: s.Problems}).Refused(); s.Tasks == 0 && len(problems) > 0 {
			return &job.RefusedError{Problems: problems}
		}
		if s.Reason == "" {
			return errors.New("the job failed")
		}
		return errors.New("the job failed: " + s.Reason)
	case job.StateCancelled:
		return errors.New("the job was cancelled")
	}
	return errors.New("the job has not ended")
}
