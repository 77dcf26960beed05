package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"idlewild/job"
	"idlewild/node/localapi"
)

// farmsFolder holds, in the data folder, one more data folder for each farm
// beside the first.
const farmsFolder = "farms"

// maxFarms bounds the farms of one daemon beside the first.
const maxFarms = 15

var farmName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// ForFarm is c for one more farm of the same daemon: the same settings, a folder
// in the data folder with an identity, a store and a journal of its own, and any
// free port. The name is this machine's for the farm.
func (c Config) ForFarm(name string) (Config, error) {
	if !farmName.MatchString(name) {
		return c, job.Refuse("farm", fmt.Sprintf("%q is no name for a farm of this machine", name), "1 to 32 small letters, digits and hyphens")
	}
	c.file = c.path()
	c.DataDir = filepath.Join(c.DataDir, farmsFolder, name)
	c.API.Address, c.Metrics.Address = DefaultConfig().API.Address, ""
	c.Network.Port = 0
	for i, a := range c.Network.Listen {
		if i == 0 {
			c.Network.Listen = slices.Clone(c.Network.Listen)
		}
		c.Network.Listen[i] = anyPort(a)
	}
	return c, nil
}

var portOf = regexp.MustCompile(`/(tcp|udp)/\d+`)

// anyPort is a multiaddress to listen on, with any free port.
func anyPort(addr string) string { return portOf.ReplaceAllString(addr, "/$1/0") }

// farms are the further farms of a daemon: each is a Node of its own, with
// another identity, so that no farm learns of another. What the machine has once
// they share: devices, programs, the owner's policy and settings.
type farms struct {
	n *Node // of the first farm

	mu   sync.Mutex
	life context.Context // of Run; nil before it
	runs sync.WaitGroup
	more map[string]*farm
}

// farm is one of them.
type farm struct {
	n     *Node // nil: it could not be opened
	stop  context.CancelFunc
	ended chan struct{}
	why   string // it does not run
}

// run opens the farms that the data folder has and keeps them running until ctx
// ends. One that fails does not take the others with it.
func (f *farms) run(ctx context.Context) error {
	f.mu.Lock()
	f.life = ctx
	entries, err := os.ReadDir(filepath.Join(f.n.cfg.DataDir, farmsFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.n.log.Error("further farms are not there", "error", err)
	}
	for _, e := range entries {
		if e.IsDir() && farmName.MatchString(e.Name()) && len(f.more) < maxFarms {
			if err := f.openLocked(e.Name()); err != nil {
				f.n.log.Error("a farm is not there", "farm", e.Name(), "error", err)
			}
		}
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock() // nothing begins after it
	f.mu.Unlock()
	f.runs.Wait()
	return nil
}

// openLocked starts one. mu is held.
func (f *farms) openLocked(name string) error {
	if f.life == nil || f.life.Err() != nil {
		return errors.New("the daemon is starting or ending")
	}
	x := &farm{ended: make(chan struct{})}
	f.more[name] = x
	cfg, err := f.n.cfg.ForFarm(name)
	if err == nil {
		x.n, err = open(f.life, cfg, f.n.log.With("farm", name), f.n.release, f.n)
	}
	if err != nil {
		x.why = err.Error()
		close(x.ended)
		return err
	}
	var ctx context.Context
	ctx, x.stop = context.WithCancel(f.life)
	f.runs.Go(func() {
		defer close(x.ended)
		err := x.n.Run(ctx)
		if ctx.Err() == nil {
			f.n.log.Error("a farm has ended", "farm", name, "error", err)
			f.mu.Lock()
			x.why = fmt.Sprint(err)
			f.mu.Unlock()
		}
	})
	return nil
}

// List implements localapi.Farms.
func (f *farms) List(context.Context) []localapi.OneFarm {
	out := []localapi.OneFarm{f.n.oneFarm("")}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, x := range f.more {
		v := localapi.OneFarm{Name: name, DataDir: filepath.Join(f.n.cfg.DataDir, farmsFolder, name), Trouble: x.why}
		if x.n != nil && x.why == "" {
			v = x.n.oneFarm(name)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b localapi.OneFarm) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// machine are the settings with the data folder of what all farms share: those
// of the first.
func (n *Node) machine() Config {
	if n.first != nil {
		return n.first.cfg
	}
	return n.cfg
}

// oneFarm is n's farm at a glance.
func (n *Node) oneFarm(name string) localapi.OneFarm {
	v := localapi.OneFarm{Name: name, DataDir: n.cfg.DataDir, Peer: n.self.String()}
	if m, in := n.host.Membership().Farm(); in {
		v.ID, v.Farm, v.Owner, v.Role, v.Revoked = string(m.ID), m.Name, m.Owner, string(m.Role), m.Revoked
		for _, p := range n.host.Peers() {
			v.Members++
			if p.Connected && !p.Self {
				v.Connected++
			}
		}
	}
	for _, s := range n.jobs.List() {
		if !s.State.Ended() {
			v.OpenJobs++
		}
	}
	return v
}

// Add implements localapi.Farms.
func (f *farms) Add(_ context.Context, name string) (localapi.OneFarm, error) {
	if !farmName.MatchString(name) {
		_, err := f.n.cfg.ForFarm(name)
		return localapi.OneFarm{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.more[name]
	switch {
	case x != nil && x.why == "":
		return localapi.OneFarm{}, job.Refuse("farm", fmt.Sprintf("this machine has a farm called %s already", name), "take another name for it here, or see: idlewild farm list")
	case x == nil && len(f.more) >= maxFarms:
		return localapi.OneFarm{}, job.Refuse("farm", fmt.Sprintf("this machine has %d farms already", maxFarms+1), "idlewild farm drop removes one")
	}
	if err := f.openLocked(name); err != nil {
		return localapi.OneFarm{}, err
	}
	return f.more[name].n.oneFarm(name), nil
}

// Drop implements localapi.Farms.
func (f *farms) Drop(ctx context.Context, name string) error {
	f.mu.Lock()
	x := f.more[name]
	f.mu.Unlock()
	if x == nil {
		return job.Refuse("farm", fmt.Sprintf("this machine has no further farm called %q", name), "see: idlewild farm list")
	}
	if x.n == nil { // its root key may be among what would be removed
		f.mu.Lock()
		why := x.why
		f.mu.Unlock()
		return job.Refuse("farm", fmt.Sprintf("%s could not be opened, so that it is not known whether this machine owns it or has open jobs there: %s", name, why),
			"mend that and start the daemon again, or remove it whatever is lost: idlewild farm drop --force "+name)
	}
	switch v := x.n.oneFarm(name); {
	case v.Owner && !v.Revoked:
		return job.Refuse("farm", fmt.Sprintf("this machine owns farm %q: nobody could let members in or put them out any more", v.Farm),
			"make another machine an owner first: idlewild farm backup FILE --farm "+name+" here, farm recover FILE there; then idlewild farm drop --force "+name)
	case v.OpenJobs > 0:
		return job.Refuse("farm", fmt.Sprintf("%d jobs of this machine are open there", v.OpenJobs), "wait for them or cancel them: idlewild status --farm "+name)
	}
	return f.drop(ctx, name, x)
}

// Force is Drop, whatever is lost by it.
func (f *farms) Force(ctx context.Context, name string) error {
	f.mu.Lock()
	x := f.more[name]
	f.mu.Unlock()
	if x == nil {
		return f.Drop(ctx, name)
	}
	return f.drop(ctx, name, x)
}

func (f *farms) drop(ctx context.Context, name string, x *farm) error {
	if x.stop != nil {
		x.stop()
	}
	select {
	case <-x.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.more[name] != x {
		return nil // somebody else did so meanwhile
	}
	dir := filepath.Join(f.n.cfg.DataDir, farmsFolder, name)
	if _, err := Purge(dir); err != nil {
		x.why = "it is to be removed: " + err.Error()
		return err
	}
	delete(f.more, name)
	return nil
}

// running reports whether a task of any farm runs on a device.
func (f *farms) running(device string) bool {
	if f.n.worker.Running(device) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.more {
		if x.n != nil && x.why == "" && x.n.worker.Running(device) {
			return true
		}
	}
	return false
}
