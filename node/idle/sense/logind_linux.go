package sense

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"idlewild/node/idle"
)

const (
	login1      = "org.freedesktop.login1"
	login1Path  = dbus.ObjectPath("/org/freedesktop/login1")
	login1Mgr   = "org.freedesktop.login1.Manager"
	login1Sess  = "org.freedesktop.login1.Session"
	maxSessions = 64
)

// logind knows who is logged in, whether their session is in front, locked or
// idle, who keeps the machine awake, and when it is about to be suspended.
type logind struct {
	bus    *bus
	wake   func()
	screen bool // inhibitors count

	mu         sync.Mutex
	suspending bool
	delay      int // descriptor that makes a suspend wait for us; -1: none
}

func newLogind(b *bus, screen bool, wake func()) *logind {
	l := &logind{bus: b, wake: wake, screen: screen, delay: -1}
	b.opened, b.heard = l.opened, l.heard
	return l
}

// opened asks for signals, and for a moment's time before a suspend.
func (l *logind) opened(c *dbus.Conn) {
	for _, m := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(login1Mgr), dbus.WithMatchMember("PrepareForSleep")},
		{dbus.WithMatchInterface(login1Mgr), dbus.WithMatchMember("SessionNew")},
		{dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchPathNamespace(login1Path + "/session")},
	} {
		_ = c.AddMatchSignal(append(m, dbus.WithMatchSender(login1))...) // without it we ask, a little later
	}
	go l.hold(c)
}

// hold makes a suspend wait for Stopped, as far as logind's own limit.
func (l *logind) hold(c *dbus.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	var fd dbus.UnixFD
	err := c.Object(login1, login1Path).CallWithContext(ctx, login1Mgr+".Inhibit", dbus.FlagNoAutoStart,
		"sleep", "idlewild", "stops the work it does for others", "delay").Store(&fd)
	if err != nil {
		return // it is a courtesy to those we work for
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.letGo()
	l.delay = int(fd)
}

// letGo needs mu.
func (l *logind) letGo() {
	if l.delay >= 0 {
		syscall.Close(l.delay)
		l.delay = -1
	}
}

func (l *logind) heard(s *dbus.Signal) {
	if s.Name == login1Mgr+".PrepareForSleep" && len(s.Body) == 1 {
		begins, _ := s.Body[0].(bool)
		l.mu.Lock()
		l.suspending = begins
		l.mu.Unlock()
		if !begins {
			if c, err := l.bus.get(); err == nil {
				go l.hold(c)
			}
		}
	}
	l.wake()
}

// stopped: nothing of ours runs any more.
func (l *logind) stopped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspending {
		l.letGo()
	}
}

func (l *logind) close() {
	l.bus.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.letGo()
}

// Sense implements Source.
func (l *logind) Sense(ctx context.Context) (func(*idle.Signals), error) {
	var list []struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	if err := l.bus.call(ctx, login1, login1Path, login1Mgr+".ListSessions", nil, &list); err != nil {
		return nil, err
	}
	var sessions []idle.Session
	desktop := false
	for _, e := range list[:min(len(list), maxSessions)] {
		p, err := l.bus.properties(ctx, login1, e.Path, login1Sess)
		if err != nil {
			continue // it ended meanwhile
		}
		s := session(e.User, p)
		class := value[string](p, "Class")
		desktop = desktop || s.Graphical && !s.Remote
		if class == "user" || class == "user-early" || class == "user-light" || class == "" {
			sessions = append(sessions, s)
		} else if class == "greeter" && s.IdleSeconds != nil {
			s.User = "somebody at the greeter"
			sessions = append(sessions, s)
		}
	}
	inhibitor := ""
	if l.screen {
		inhibitor = l.inhibitor(ctx)
	}
	return func(out *idle.Signals) {
		out.Sessions = append(out.Sessions, sessions...)
		out.Desktop = out.Desktop || desktop
		if inhibitor != "" {
			out.Inhibitor = &inhibitor
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		out.Suspending = l.suspending
	}, nil
}

// session reads the properties of one.
func session(user string, p map[string]dbus.Variant) idle.Session {
	kind := value[string](p, "Type")
	s := idle.Session{
		User: user, Graphical: kind == "x11" || kind == "wayland" || kind == "mir",
		Remote: value[bool](p, "Remote"), Active: value[bool](p, "Active"), Locked: value[bool](p, "LockedHint"),
	}
	since := value[uint64](p, "IdleSinceHintMonotonic")
	switch {
	case !value[bool](p, "IdleHint") && since == 0 && s.Graphical:
		// The desktop never told logind anything: that is not "in use".
	case !value[bool](p, "IdleHint"):
		zero := 0.0
		s.IdleSeconds, s.Source = &zero, "logind"
	default:
		sec := max(monotonic()-time.Duration(since)*time.Microsecond, 0).Seconds()
		s.IdleSeconds, s.Source = &sec, "logind"
	}
	return s
}

func monotonic() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// inhibitor names a program that keeps the session from becoming idle.
func (l *logind) inhibitor(ctx context.Context) string {
	var list []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	if l.bus.call(ctx, login1, login1Path, login1Mgr+".ListInhibitors", nil, &list) != nil {
		return ""
	}
	for _, i := range list {
		for what := range strings.SplitSeq(i.What, ":") {
			if what == "idle" && i.Mode == "block" && int(i.PID) != os.Getpid() {
				if i.Why == "" {
					return i.Who
				}
				return i.Who + " (" + i.Why + ")"
			}
		}
	}
	return ""
}
