package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/internal/service"
	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
)

// daemonLog is where a daemon that setup starts itself tells of itself.
const daemonLog = "daemon.log"

func setupCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "setup",
		Usage: "five questions, and this machine is a node that is always there",
		Description: "What a flag answers is not asked. Without a terminal, or with --yes, nothing is asked and what no flag answers is\n" +
			"left as it is. Settings are written to config.toml in the data folder; setup can be run again.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "`NAME` of this machine, as other members see it"},
			&cli.StringFlag{Name: "farm", Usage: "a `TICKET` of a farm to join, or the name of a new farm"},
			&cli.StringFlag{Name: "when", Usage: "work `WHEN`: away (nobody is at the desk), always, or hours such as \"mon-fri 22:00-07:00\""},
			&cli.Float64Flag{Name: "disk", DefaultText: "as it is set, 20 at first", Usage: "use `GB` of disk for jobs of others"},
			&cli.StringFlag{Name: "start", Usage: "`HOW` is login (whenever you log in), now, or no"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "yes", Usage: "ask nothing"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "undo", Usage: "do not start at log-in any more, and end the daemon; settings and identity stay"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "purge", Usage: "with --undo: remove identity, settings, store and everything else in the data folder too"},
		},
	}, 0, 0, setup)
}

// ticketText is how a ticket of any version begins.
var ticketText = regexp.MustCompile(`(?i)^idlewild(-open)?\d+:`)

// setupAnswers is what setup came to.
type setupAnswers struct {
	DataDir string   `json:"data_dir"`
	Name    string   `json:"name"`
	Farm    string   `json:"farm,omitempty"`
	Ticket  string   `json:"ticket,omitempty"` // for the next machine, of a farm that was made
	Started string   `json:"started"`          // login, now, running or no
	Notes   []string `json:"notes,omitempty"`
}

func setup(k *call) error {
	cfg, _, err := k.config()
	if err != nil {
		return err
	}
	ctx := k.Context.Context
	if k.Bool("purge") && !k.Bool("undo") {
		return usagef("--purge goes with --undo")
	}
	if k.Bool("undo") {
		return undoSetup(k, cfg)
	}
	q := &questions{call: k, ask: !k.Bool("yes") && !k.program.json && terminalIn(k.in), in: bufio.NewScanner(k.in)}
	if q.ask {
		k.say("Five questions. Enter takes what stands in brackets.")
	}
	values := map[string]string{}
	if name := q.text("name", "1. What shall others call this machine?", cfg.Name); name != cfg.Name {
		values["name"] = name
	}
	farm := q.text("farm", "2. Ticket of a farm to join, or a name for a new one; empty for later", "")
	for {
		when := q.text("when", "3. When may it work: away (nobody is at the desk), always, or hours like mon-fri 22:00-07:00", "away")
		if when != "" {
			values["idle.mode"], values["idle.hours"] = workWhen(when)
		}
		gb := q.text("disk", "4. How many GB of disk for jobs of others?", strconv.FormatInt(cfg.Store.QuotaBytes>>30, 10))
		if err = diskSize(gb, values); err == nil {
			if err = os.MkdirAll(cfg.DataDir, 0o700); err == nil {
				err = node.WriteSettings(cfg.DataDir, values)
			}
		}
		if err == nil {
			break
		}
		if !q.ask {
			return usage{err}
		}
		k.say("That does not work: %s", err)
	}
	how := "login"
	if err := service.Available(ctx); err != nil {
		how = "now"
	}
	if !q.ask {
		how = "no"
	}
	start := q.text("start", "5. Start it: login (whenever you log in, with "+service.Name+"), now (until you log out), or no?", how)

	a := setupAnswers{DataDir: cfg.DataDir, Name: q.said["name"]}
	if a.Started, err = startDaemon(k, cfg, start); err != nil {
		return err
	}
	if a.Started != "no" {
		if err := k.enterFarm(ctx, cfg, farm, &a); err != nil {
			return err
		}
	} else if farm != "" {
		a.Notes = append(a.Notes, "the farm was not joined, because the daemon does not run; once it does: idlewild farm join TICKET, or: idlewild farm create NAME")
	}
	return k.answer(a, func() {
		k.say("Settings are in %s", filepath.Join(cfg.DataDir, "config.toml"))
		if a.Farm != "" {
			k.say("This machine is in farm %s", clean(a.Farm))
		}
		if a.Ticket != "" {
			k.say("On the next machine: idlewild setup --farm %s", a.Ticket)
		}
		for _, n := range a.Notes {
			k.say("note: %s", clean(n))
		}
		k.say("what it does and why: idlewild why; everything else: idlewild dashboard; to undo: idlewild setup --undo")
	})
}

// workWhen turns an answer into idle.mode and idle.hours.
func workWhen(s string) (mode, hours string) {
	switch s {
	case "away":
		return "auto", ""
	case "always":
		return "server", ""
	}
	return "auto", s
}

func diskSize(s string, values map[string]string) error {
	if s == "" {
		return nil
	}
	gb, err := strconv.ParseFloat(s, 64)
	if err != nil || !(gb >= 1 && gb <= 1<<20) {
		return fmt.Errorf("%q is no number of GB from 1 to a million", s)
	}
	n := strconv.FormatInt(int64(gb*(1<<30)), 10)
	values["store.quota_bytes"], values["worker.tree_bytes"] = n, n
	return nil
}

// startDaemon makes a daemon run, unless one does.
func startDaemon(k *call, cfg node.Config, how string) (string, error) {
	ctx := k.Context.Context
	if how == "no" {
		return how, nil
	}
	if how != "login" && how != "now" {
		return "", usagef("--start is %q; it may be login, now or no", how)
	}
	if err := daemonAnswers(ctx, cfg.DataDir); err == nil && how == "now" {
		k.say("A daemon runs already; what was changed counts once it is started again.")
		return "running", nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return "", err
	}
	args := []string{"up", "--data-dir", cfg.DataDir}
	if how == "login" {
		if err := service.Install(ctx, service.Program{Path: exe, Args: args}); err != nil {
			return "", fmt.Errorf("it cannot be started at log-in (%w); try: idlewild setup --start now", err)
		}
	} else if err := spawn(exe, args, filepath.Join(cfg.DataDir, daemonLog)); err != nil {
		return "", err
	}
	k.say("Starting; it looks for Blender and devices.")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = daemonAnswers(ctx, cfg.DataDir); err == nil {
			return how, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", fmt.Errorf("the daemon does not answer after two minutes (%w); see what it says: idlewild up", err)
		}
	}
}

// spawn starts a program that outlives this one.
func spawn(exe string, args []string, log string) error {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, detached()
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

func daemonAnswers(ctx context.Context, dir string) error {
	c, err := localapi.Dial(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Status(ctx)
	return err
}

// enterFarm joins or makes the farm that was named, and notes what else the
// owner has to know.
func (k *call) enterFarm(ctx context.Context, cfg node.Config, farm string, a *setupAnswers) error {
	c, err := localapi.Dial(cfg.DataDir)
	if err != nil {
		return err
	}
	defer c.Close()
	if farm != "" {
		if ticketText.MatchString(farm) {
			_, err = c.Join(ctx, farm)
		} else if _, err = c.CreateFarm(ctx, farm); err == nil {
			a.Ticket, err = c.Invite(ctx, 24*time.Hour)
		}
		if err != nil {
			return err
		}
	}
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	a.Name, a.Farm, a.Notes = s.Machine.Name, s.Farm.Name, append(a.Notes, s.Machine.Warnings...)
	return nil
}

// undone is what undoing came to.
type undone struct {
	Removed bool     `json:"removed"`          // it was started at log-in
	Purged  bool     `json:"purged,omitempty"` // what it had made is gone
	Left    []string `json:"left,omitempty"`   // in the data folder, not made by idlewild
}

func undoSetup(k *call, cfg node.Config) error {
	ctx := k.Context.Context
	removed, err := service.Remove(ctx)
	if err != nil {
		return err
	}
	a := undone{Removed: removed, Purged: k.Bool("purge")}
	if !a.Purged {
		if !removed {
			return job.Refuse(service.Name, "idlewild is not started at log-in here", "a daemon that was started by hand ends with Ctrl-C, or: kill")
		}
		return k.answer(a, func() {
			k.say("It does not start at log-in any more. Its settings, identity and store are still in the data folder; with --purge they go too; see: idlewild config show")
		})
	}
	// A daemon that was just told to end may still be at it.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for tries := 0; daemonAnswers(ctx, cfg.DataDir) == nil; tries++ {
		if !removed || tries > 600 {
			return job.Refuse(cfg.DataDir, "a daemon runs for it", "end it first: Ctrl-C, or: kill")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if a.Left, err = node.Purge(cfg.DataDir); err != nil {
		return err
	}
	return k.answer(a, func() {
		k.say("Everything that idlewild made in %s is gone, this machine's identity with it. Finished frames are where you had them put.", cfg.DataDir)
		if len(a.Left) > 0 {
			k.say("Left there, because idlewild did not make it: %s", clean(strings.Join(a.Left, ", ")))
		}
	})
}

// questions asks what no flag answers.
type questions struct {
	*call
	ask  bool
	in   *bufio.Scanner
	said map[string]string
}

// text is the answer to one question: the flag's, else the person's, else
// usual, which without anybody to ask is taken as nothing said.
func (q *questions) text(flag, question, usual string) string {
	if q.said == nil {
		q.said = map[string]string{}
	}
	answer := usual
	switch {
	case q.IsSet(flag):
		answer = strings.TrimSpace(fmt.Sprint(q.Value(flag)))
	case q.ask:
		if usual != "" {
			question += " [" + usual + "]"
		}
		fmt.Fprint(q.out, question+" ")
		if q.in.Scan() {
			if s := strings.TrimSpace(q.in.Text()); s != "" {
				answer = s
			}
		}
	case flag == "when" || flag == "disk":
		answer = "" // what was set stays
	}
	q.said[flag] = answer
	return answer
}

func terminalIn(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isTerminal(f)
}
