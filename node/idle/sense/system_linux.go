package sense

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"idlewild/node/idle"
)

// system adds the sources of Linux: first who is logged in, then when there
// was input last, by the most precise that answers.
func (s *Sensor) system() {
	user := userName()
	login, desk := systemBus(s.opts.SystemBus), sessionBus(s.opts.SessionBus)
	l := newLogind(login, s.opts.Screen, s.wake)
	s.slept = l.stopped
	s.closers = append(s.closers, desk.close, l.close)
	s.add("logind", 2*time.Second, 5*time.Second, l)
	s.add("terminal", 2*time.Second, 10*time.Second, terminals{user: user, dirs: []string{"/dev/tty[1-9]*", "/dev/pts/[0-9]*"}})
	s.add("mutter", 250*time.Millisecond, 5*time.Second, newMutter(desk, user, s.wake))
	w := newWayland(user, s.wake)
	s.closers = append(s.closers, w.close)
	s.add("wayland", 250*time.Millisecond, 5*time.Second, w)
	x := newX11(s.opts.Display, user, s.opts.Screen)
	s.closers = append(s.closers, x.close)
	s.add("x11", 250*time.Millisecond, 5*time.Second, x)
	if s.opts.Screen {
		s.add("desktop", 2*time.Second, 10*time.Second, inhibited{desk})
	}
	s.add("programs", 2*time.Second, 10*time.Second, &programs{
		list: listPrograms, ours: ourTree, steam: s.opts.Steam, folders: s.games(), yes: s.opts.Programs, no: s.opts.NotPrograms,
	})
	s.add("cpu", time.Second, 5*time.Second, &cpu{proc: "/proc", ours: ourTree})
	s.add("temperature", 5*time.Second, time.Minute, temperature{"/sys"})
	s.add("power", 2*time.Second, 10*time.Second, power{"/sys"})
	s.add("network", 10*time.Second, time.Minute, network{login})
}

func (s *Sensor) games() []string {
	if !s.opts.Steam {
		return nil
	}
	out := gameFolders(s.opts.GameFolders)
	for i, dir := range out {
		if real, err := filepath.EvalSymlinks(dir); err == nil { // as /proc names executables
			out[i] = real
		}
	}
	return out
}

// Now reads the clocks.
func Now() idle.Instant {
	read := func(clock int32) time.Duration {
		var t unix.Timespec
		if unix.ClockGettime(clock, &t) != nil {
			return 0
		}
		return time.Duration(t.Nano())
	}
	boot, mono := read(unix.CLOCK_BOOTTIME), read(unix.CLOCK_MONOTONIC)
	return idle.Instant{Wall: time.Now(), Mono: boot, Slept: max(boot-mono, 0)}
}
