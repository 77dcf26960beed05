package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
)

// farm is a private farm of real daemons in processes of their own, on
// loopback, in a folder that goes with it.
type farm struct {
	dir   string
	bin   string
	nodes []*daemon
}

// daemon is one `idlewild up`.
type daemon struct {
	name   string
	dir    string
	env    []string
	cores  string
	before []string
	apart  bool
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	client *localapi.Client
}

// nodeOptions of one daemon.
type nodeOptions struct {
	cores  string   // as taskset takes them; empty: all
	env    []string // IDLEWILD_* settings beyond the common ones
	noWork bool     // requester only
	before []string // put before the command line
	apart  bool     // a session of its own, as a service has
}

// newFarm builds the binary into a fresh folder.
func newFarm(ctx context.Context) (*farm, error) {
	dir, err := os.MkdirTemp("", "idlewild-bench-")
	if err != nil {
		return nil, err
	}
	f := &farm{dir: dir, bin: filepath.Join(dir, "idlewild")}
	if err := buildProgram(ctx, f.bin); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// buildProgram builds the program of this module.
func buildProgram(ctx context.Context, bin string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "./cmd/idlewild")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// close ends every daemon and removes the folder.
func (f *farm) close() {
	for _, d := range f.nodes {
		d.signal(syscall.SIGTERM)
	}
	for _, d := range f.nodes {
		select {
		case <-d.exited:
		case <-time.After(10 * time.Second):
			d.signal(syscall.SIGKILL)
			<-d.exited
		}
	}
	if os.Getenv("IDLEWILD_BENCH_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept:", f.dir)
		return
	}
	os.RemoveAll(f.dir)
}

// start brings up a daemon and waits until its API answers.
func (f *farm) start(ctx context.Context, name string, o nodeOptions) (*daemon, error) {
	d := &daemon{
		name:   name,
		dir:    filepath.Join(f.dir, name),
		cores:  o.cores,
		before: o.before,
		apart:  o.apart,
		env: append(append(os.Environ(),
			"IDLEWILD_DATA_DIR="+filepath.Join(f.dir, name),
			"IDLEWILD_NAME="+name,
			"IDLEWILD_NETWORK_LISTEN=/ip4/127.0.0.1/tcp/0",
			"IDLEWILD_NETWORK_MDNS=false",
			"IDLEWILD_WORKER_ENABLED="+strconv.FormatBool(!o.noWork),
			"IDLEWILD_IDLE_MODE=off", // whoever measures is at the machine
			"IDLEWILD_LIMITS_PRIORITY=normal",
		), o.env...),
	}
	f.nodes = append(f.nodes, d)
	return d, f.restart(ctx, d)
}

// restart runs a daemon that is not running, on the data folder it has.
func (f *farm) restart(ctx context.Context, d *daemon) error {
	args := []string{f.bin, "up"}
	if d.cores != "" {
		args = append([]string{"taskset", "-c", d.cores}, args...)
	}
	args = append(slices.Clone(d.before), args...)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(f.dir, d.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = d.env, log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !d.apart, Setsid: d.apart}
	if err := d.cmd.Start(); err != nil {
		log.Close()
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	d.exited = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		log.Close()
		close(done)
	}(d.cmd, d.exited)
	return poll(ctx, 60*time.Second, "daemon "+d.name, func() error {
		select {
		case <-d.exited:
			return fatal{fmt.Errorf("%s ended at once:\n%s", d.name, f.tail(d.name))}
		default:
		}
		c, err := localapi.Dial(d.dir)
		if err != nil {
			return err
		}
		if _, err := c.Status(ctx); err != nil {
			return err
		}
		d.client = c
		return nil
	})
}

func (f *farm) tail(name string) string {
	b, _ := os.ReadFile(filepath.Join(f.dir, name+".log"))
	return string(b[max(0, len(b)-2000):])
}

// signal goes to the daemon's process only: what it started is its own to end.
func (d *daemon) signal(s syscall.Signal) {
	if d.cmd != nil && d.cmd.Process != nil {
		d.cmd.Process.Signal(s)
	}
}

// kill9 ends the daemon as a power cut would and waits until it is gone.
func (d *daemon) kill9() {
	d.signal(syscall.SIGKILL)
	<-d.exited
}

// found makes first the owner of a farm that the others join by ticket.
func (f *farm) found(ctx context.Context, first *daemon, others ...*daemon) error {
	if _, err := first.client.CreateFarm(ctx, "bench"); err != nil {
		return fmt.Errorf("create farm: %w", err)
	}
	for _, d := range others {
		ticket, err := first.client.Invite(ctx, time.Hour)
		if err != nil {
			return fmt.Errorf("invite: %w", err)
		}
		if _, err := d.client.Join(ctx, ticket); err != nil {
			return fmt.Errorf("%s joins: %w", d.name, err)
		}
	}
	return poll(ctx, 30*time.Second, "every member connected", func() error {
		v, err := first.client.Peers(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, m := range v.Members {
			if m.Connected && !m.Self {
				n++
			}
		}
		if n < len(others) {
			return fmt.Errorf("%d of %d are connected", n, len(others))
		}
		return nil
	})
}

// wait follows a job to its end. each is called for every event.
func (d *daemon) wait(ctx context.Context, id job.ID, each func(job.Event)) (job.Status, error) {
	for {
		for e, err := range d.client.Events(ctx, id, 1) {
			if err != nil {
				break // the stream is opened again below
			}
			if each != nil {
				each(e)
			}
			if e.Type == job.EventState && job.State(e.Text).Ended() {
				break
			}
		}
		s, err := d.client.Job(ctx, id)
		if err == nil && s.State.Ended() {
			return s, nil
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
	}
}

// fatal is an error that waiting does not mend.
type fatal struct{ error }

// poll calls f until it succeeds, gives up for good, or time is over.
func poll(ctx context.Context, limit time.Duration, what string, f func() error) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if e := (fatal{}); errors.As(err, &e) {
			return e.error
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return fmt.Errorf("%s: not within %v: %w", what, limit, err)
		case <-tick.C:
		}
	}
}

// cpuSeconds is the processor time of a process so far, its own threads only.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; the fields follow it.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("unreadable /proc/%d/stat", pid)
	}
	u, err1 := strconv.ParseFloat(f[11], 64)
	s, err2 := strconv.ParseFloat(f[12], 64)
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux
	return (u + s) / ticksPerSecond, errors.Join(err1, err2)
}
