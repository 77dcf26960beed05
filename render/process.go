package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"idlewild/job"
)

// envEvents names, to a runner, the path that it writes events to.
const envEvents = "IDLEWILD_EVENTS"

// eventsPath is descriptor 3 of the process itself.
const eventsPath = "/dev/fd/3"

const (
	defaultStartTimeout = 2 * time.Minute
	sampleEvery         = 250 * time.Millisecond
	closeGrace          = 500 * time.Millisecond // for a process to go by itself at the end of its requests
)

// LocalProcess starts sessions as plain child processes: no sandbox, so only
// for the files of peers that this machine's owner trusts.
type LocalProcess struct {
	Limits Limits

	log        *slog.Logger
	eventsFile bool // events through a file instead of a pipe, as on Windows
}

// NewLocalProcess returns a Process without a sandbox. log may be nil.
func NewLocalProcess(log *slog.Logger) *LocalProcess {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &LocalProcess{log: log, eventsFile: runtime.GOOS == "windows"}
}

// Start implements Process. HOME and TMPDIR lie in root.Work where cmd.Env
// does not name them, so that a program does not write into its owner's.
func (p *LocalProcess) Start(ctx context.Context, cmd Command, root SessionRoot) (Session, error) {
	l, err := localLaunch(cmd, root)
	if err != nil {
		return nil, err
	}
	return p.start(ctx, l)
}

// localLaunch starts cmd where it is, with the real paths.
func localLaunch(cmd Command, root SessionRoot) (launch, error) {
	if len(root.Shown) > 0 {
		return launch{}, errNotShown
	}
	l := launch{
		path: cmd.Path, in: root.In, work: root.Work, trees: root.Trees, dir: root.Work, hostWork: root.Work,
		args:         expandAll(cmd.Args, root.In, root.Work, cmd.Runner),
		env:          expandAll(cmd.Env, root.In, root.Work, cmd.Runner),
		memory:       cmd.MemoryBytes,
		most:         cmd.MemoryLimit,
		startTimeout: cmd.StartTimeout,
		priority:     cmd.Priority,
	}
	for _, own := range []struct{ name, folder string }{{"HOME", "home"}, {"TMPDIR", "tmp"}} {
		if hasEnv(l.env, own.name) {
			continue
		}
		dir := filepath.Join(root.Work, own.folder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return launch{}, fmt.Errorf("session folder: %w", err)
		}
		l.env = append(l.env, own.name+"="+dir)
	}
	return l, nil
}

// launch is what start needs: a command line that is ready to be executed,
// sandbox and all.
type launch struct {
	path         string
	args, env    []string
	dir          string // working directory
	in, work     string // where the process sees its folders
	trees        []string
	hostWork     string // where the work folder is for us
	memory       int64
	most         int64
	startTimeout time.Duration
	priority     Priority
	wrapped      bool // path is a wrapper that passes on a signal as exit code 128+n
	// prepare changes how the process is started; what it returns is called
	// when that is done. May be nil.
	prepare func(*syscall.SysProcAttr) (done func(), err error)
	// data appears to the process on descriptors from 4 on, each short enough
	// to fit into a pipe.
	data []string
}

// start starts l and waits for its ready event.
func (p *LocalProcess) start(ctx context.Context, l launch) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s := &session{
		log: p.log, launch: l, limits: p.Limits.bounded(l.most),
		began:  time.Now(),
		events: make(chan event, 64),
		killed: make(chan struct{}),
		exited: make(chan struct{}),
		text:   newLogBuffer(MaxLogBytes),
	}
	if err := s.spawn(p.eventsFile); err != nil {
		return nil, &OutcomeError{Outcome: job.Broken, Reason: fmt.Sprintf("start %s: %v", filepath.Base(l.path), err)}
	}
	if err := s.awaitReady(ctx); err != nil {
		s.end()
		var o *OutcomeError
		if errors.As(err, &o) && len(o.Log) == 0 {
			o.Log = s.text.Take()
		}
		return nil, err
	}
	lowerTree(processTree(s.cmd.Process.Pid), l.priority)
	p.log.Debug("session started", "pid", s.cmd.Process.Pid, "took", time.Since(s.began))
	return s, nil
}

// spawn starts the process and the goroutines that listen to it.
func (s *session) spawn(eventsFile bool) (err error) {
	var opened []*os.File
	defer func() {
		if err != nil {
			for _, f := range opened {
				f.Close()
			}
		}
	}()
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			opened = append(opened, r, w)
		}
		return r, w
	}
	inR, inW := pipe()
	logR, logW := pipe()
	if err != nil {
		return err
	}

	cmd := exec.Command(s.launch.path, s.launch.args...)
	cmd.Dir = s.launch.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, logW, logW
	cmd.Env = append([]string{}, s.launch.env...) // never nil, which would inherit ours
	cmd.SysProcAttr = sysProcAttr(s.launch.priority)
	if s.launch.prepare != nil {
		var prepared func()
		if prepared, err = s.launch.prepare(cmd.SysProcAttr); err != nil {
			return err
		}
		defer prepared()
	}
	if own, gerr := ownGroups(); gerr == nil {
		if s.group, err = own.make(s.limits); err != nil {
			return fmt.Errorf("group of processes: %w", err)
		}
		defer func() {
			if err != nil {
				s.group.end()
			}
		}()
		joined, gerr := s.group.join(cmd.SysProcAttr)
		if gerr != nil {
			err = fmt.Errorf("group of processes: %w", gerr)
			return err
		}
		defer joined()
	}
	theirs := []*os.File{inR, logW}
	var events eventSource
	if eventsFile {
		f, ferr := newFileTail(filepath.Join(s.launch.hostWork, "events.jsonl"))
		if ferr != nil {
			err = ferr
			return err
		}
		opened = append(opened, f.f)
		events = f
		cmd.Env = append(cmd.Env, envEvents+"="+f.f.Name())
	} else {
		evR, evW := pipe()
		if err != nil {
			return err
		}
		theirs = append(theirs, evW)
		events = pipeEvents{evR}
		cmd.ExtraFiles = []*os.File{evW} // the child's descriptor 3
		if !s.launch.wrapped {
			cmd.Env = append(cmd.Env, envEvents+"="+eventsPath)
		}
	}

	for _, text := range s.launch.data {
		r, w := pipe()
		if err != nil {
			return err
		}
		theirs = append(theirs, r)
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		if _, err = w.WriteString(text); err != nil {
			return err
		}
		w.Close()
	}

	s.cmd, s.stdin = cmd, inW
	started := make(chan error)
	go s.watch(started, events)
	if err = <-started; err != nil {
		return err
	}
	for _, f := range theirs {
		f.Close()
	}
	s.logs = newLogReader(logR, io.MultiWriter(s.text, &s.lines))
	go s.listen(events)
	go s.guard()
	return nil
}

// watch starts the process, waits for its end and clears away what is left of
// its tree. It keeps its thread, because Linux ends a child that asked to die
// with its parent when the thread that started it ends.
func (s *session) watch(started chan<- error, events eventSource) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.cmd.Start(); err != nil {
		started <- err
		return
	}
	if s.group != nil {
		if err := s.group.started(s.cmd.Process.Pid); err != nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
			started <- err
			return
		}
	}
	lower(s.cmd.Process.Pid, s.launch.priority)
	started <- nil
	// Until it is waited for, the process keeps its number, so that killing
	// the rest of its group cannot hit somebody else's.
	awaitExit(s.cmd.Process.Pid)
	s.killTree()
	s.life.Lock()
	if err := s.cmd.Wait(); err != nil && s.cmd.ProcessState == nil {
		s.log.Warn("process was not waited for", "err", err)
	}
	s.reaped = true
	s.life.Unlock()
	if s.group != nil {
		if s.group.overMemory() {
			s.blame(fmt.Errorf("%w: the kernel ended it at %d MiB", ErrMemory, s.limits.MemoryBytes>>20))
		}
		if err := s.group.end(); err != nil {
			s.log.Warn("group of processes stays", "err", err)
		}
	}
	events.Exited()
	close(s.exited)
}

// listen passes on the runner's events until there are no more.
func (s *session) listen(events eventSource) {
	defer close(s.events)
	defer events.Close()
	err := readEvents(events, func(e event) bool {
		select {
		case s.events <- e:
			return true
		case <-s.killed:
			return false
		}
	})
	if err != nil {
		s.kill(fmt.Errorf("%w: %v", ErrContract, err))
	}
}
