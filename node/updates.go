package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/node/idle"
	"idlewild/node/localapi"
	"idlewild/node/update"
)

// UpdateConfig is about replacing this program by a newer one.
type UpdateConfig struct {
	Mode  string  `toml:"mode"` // off, notify or install
	URL   string  `toml:"url"`  // of the signed manifest
	Key   string  `toml:"key"`  // minisign public key that it is signed with
	Every float64 `toml:"every_h"`
}

const (
	updateOff     = "off"
	updateNotify  = "notify"
	updateInstall = "install"
)

func defaultUpdate() UpdateConfig { return UpdateConfig{Mode: updateOff, Every: 24} }

// Source is where updates come from.
func (c UpdateConfig) Source() update.Source { return update.Source{URL: c.URL, Key: c.Key} }

func (c UpdateConfig) validate() error {
	switch c.Mode {
	case updateOff, updateNotify, updateInstall:
	default:
		return fmt.Errorf("update.mode is %q; it may be off, notify or install", c.Mode)
	}
	if !(c.Every >= 1 && c.Every <= 24*365) {
		return fmt.Errorf("update.every_h is %g; it must lie between 1 and 8760", c.Every)
	}
	if c.Mode == updateOff && c.URL == "" && c.Key == "" {
		return nil
	}
	if part, err := c.Source().Validate(); err != nil {
		return fmt.Errorf("update.%s: %w", part, err)
	}
	return nil
}

// Probation is the variable that tells a new program that it is on trial: it
// answers, and takes no work.
const Probation = "IDLEWILD_ON_TRIAL"

const (
	updateFirst  = 5 * time.Minute  // after the start
	updateDrain  = time.Hour        // how long running work may go on once a new program is there
	updateLook   = 10 * time.Second // whether it has ended
	updateEndure = 10 * time.Minute // and no longer where all of it is for this machine's own jobs, whose next pieces follow at once
)

// updater looks for a newer program and has it take over.
type updater struct {
	n     *Node
	dir   string
	exe   string
	every time.Duration // between looks at running work

	mu     sync.Mutex
	notice string // for people
}

func (n *Node) newUpdater() (*updater, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return nil, fmt.Errorf("where this program lies: %w", err)
	}
	return &updater{n: n, dir: n.cfg.DataDir, exe: exe, every: updateLook}, nil
}

func (u *updater) say(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.notice = what
}

// warning is what people are told, or "".
func (u *updater) warning() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.notice
}

// run looks until ctx ends, where the settings say so.
func (u *updater) run(ctx context.Context) error {
	c := u.n.cfg.Update
	if c.Mode == updateOff || u.n.cfg.onTrial {
		<-ctx.Done()
		return nil
	}
	every := time.Duration(c.Every * float64(time.Hour))
	first := updateFirst
	if since := time.Since(update.Load(u.dir).Checked); since >= 0 && since < every {
		first = max(first, every-since)
	}
	t := time.NewTimer(first)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := u.look(ctx); err != nil && ctx.Err() == nil {
				u.say(err.Error())
				u.n.log.Warn("no update", "error", err)
			}
			t.Reset(every)
		}
	}
}

// look asks once, and goes as far as update.mode lets it.
func (u *updater) look(ctx context.Context) error {
	c := u.n.cfg.Update
	m, err := c.Source().Manifest(ctx)
	if err != nil {
		return err
	}
	s := update.Load(u.dir)
	s.Checked = time.Now()
	if err := s.Save(u.dir); err != nil {
		return err
	}
	if !update.Newer(m.Version, Version) {
		u.say("")
		return nil
	}
	if why := s.Bad[m.Version]; why != "" {
		u.say(fmt.Sprintf("version %s is there and did not work here: %s", m.Version, why))
		return nil
	}
	if c.Mode == updateNotify {
		u.say(fmt.Sprintf("version %s is there; install it with: idlewild update --install", m.Version))
		u.n.log.Info("a newer version is there", "newer", m.Version)
		return nil
	}
	g, err := c.Source().Fetch(ctx, m, u.exe, Version)
	if err != nil {
		return err
	}
	s.Staged = &g
	if err := s.Save(u.dir); err != nil {
		return err
	}
	u.say(fmt.Sprintf("version %s takes over once running work has ended", m.Version))
	u.n.log.Info("a newer version was fetched and takes over once running work has ended", "newer", m.Version)
	if !u.drain(ctx) {
		return nil
	}
	u.n.restart(ErrRestart)
	return nil
}

// drain waits for running tasks. No new ones of others begin meanwhile; what
// goes on for too long is given back by the end of the daemon.
func (u *updater) drain(ctx context.Context) bool {
	u.n.owner.setLeaving("an update is waiting for running work to end")
	begun := time.Now()
	tick := time.NewTicker(u.every)
	defer tick.Stop()
	for {
		others := false
		for _, d := range u.n.kit.machine.Devices {
			others = others || u.n.farms.running(d.Name)
		}
		if drained(others, u.n.farms.running(job.HomeDevice), time.Since(begun)) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// drained reports whether an update waits no longer: whether tasks run on
// devices or at home, and since when it has waited, decide.
func drained(devices, home bool, waited time.Duration) bool {
	switch {
	case devices:
		return waited >= updateDrain
	case home:
		return waited >= updateEndure
	}
	return true
}

// setLeaving has tasks end and none begin, until the daemon ends.
func (o *owner) setLeaving(why string) {
	o.mu.Lock()
	o.leaving = why
	o.mu.Unlock()
	o.decide()
}

// leave turns decisions that would begin work into ones that end it. mu is
// held.
func (o *owner) leave(next map[string]idle.Decision) {
	if o.leaving == "" {
		return
	}
	for d, x := range next {
		if x.Level > idle.Leave {
			next[d] = idle.Decision{Level: idle.Leave, Signal: "update", Reason: o.leaving}
		}
	}
}

// StageUpdate fetches the newest program to beside exe, where it waits for the
// next start. version is "" where there is none that is newer.
func StageUpdate(ctx context.Context, cfg Config, exe string, fetch bool) (version string, err error) {
	if cfg.Update.URL == "" || cfg.Update.Key == "" {
		return "", errors.New("nothing says where updates come from: set update.url and update.key")
	}
	m, err := cfg.Update.Source().Manifest(ctx)
	if err != nil || !update.Newer(m.Version, Version) {
		return "", err
	}
	if !fetch {
		return m.Version, nil
	}
	g, err := cfg.Update.Source().Fetch(ctx, m, exe, Version)
	if err != nil {
		return "", err
	}
	s := update.Load(cfg.DataDir)
	delete(s.Bad, g.Version) // a person asks for it
	s.Staged = &g
	return g.Version, s.Save(cfg.DataDir)
}

// TrialAnswers asks whether the daemon of a data folder is a process and
// answers, and which version it is.
func TrialAnswers(dir string) func(ctx context.Context, pid int) (string, bool) {
	return func(ctx context.Context, pid int) (string, bool) {
		ep, err := localapi.ReadEndpoint(dir)
		if err != nil || ep.PID != pid {
			return "", false
		}
		c, err := localapi.Dial(dir)
		if err != nil {
			return "", false
		}
		defer c.Close()
		s, err := c.Status(ctx)
		return s.Machine.Version, err == nil && filepath.IsAbs(dir)
	}
}
