package sense

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"

	"idlewild/node/idle"
)

const (
	mutter     = "org.gnome.Mutter.IdleMonitor"
	mutterPath = dbus.ObjectPath("/org/gnome/Mutter/IdleMonitor/Core")
)

// mutterIdle asks GNOME's compositor how long ago there was input. It also has
// it tell at once when there is some.
type mutterIdle struct {
	bus     *bus
	user    string
	wake    func()
	watched bool // the compositor will tell
}

func newMutter(b *bus, user string, wake func()) *mutterIdle {
	m := &mutterIdle{bus: b, user: user, wake: wake}
	b.opened = func(c *dbus.Conn) {
		m.watched = false
		_ = c.AddMatchSignal(dbus.WithMatchInterface(mutter), dbus.WithMatchMember("WatchFired")) // else it is asked, a little later
	}
	b.heard = func(s *dbus.Signal) {
		if s.Name == mutter+".WatchFired" {
			wake()
		}
	}
	return m
}

// Sense implements Source.
func (m *mutterIdle) Sense(ctx context.Context) (func(*idle.Signals), error) {
	var ms uint64
	if err := m.bus.call(ctx, mutter, mutterPath, mutter+".GetIdletime", nil, &ms); err != nil {
		m.watched = false
		return nil, err
	}
	d := time.Duration(ms) * time.Millisecond
	// A watch fires once, at the first input after a rest.
	if d < time.Second {
		m.watched = false
	} else if !m.watched {
		var id uint32
		m.watched = m.bus.call(ctx, mutter, mutterPath, mutter+".AddUserActiveWatch", nil, &id) == nil
	}
	return func(s *idle.Signals) {
		s.Desktop = true
		setIdle(s, m.user, "Mutter", d)
	}, nil
}

// inhibited asks the desktop whether a program keeps the screen on: GNOME's
// session manager, or the interface that KDE and others have.
type inhibited struct{ bus *bus }

// Sense implements Source.
func (i inhibited) Sense(ctx context.Context) (func(*idle.Signals), error) {
	const idleFlag = uint32(8)
	var yes bool
	who := "a program (by GNOME's session manager)"
	err := i.bus.call(ctx, "org.gnome.SessionManager", "/org/gnome/SessionManager", "org.gnome.SessionManager.IsInhibited", []any{idleFlag}, &yes)
	if err != nil {
		who = "a program (by the desktop's power management)"
		const pm = "org.freedesktop.PowerManagement"
		if i.bus.call(ctx, pm, "/org/freedesktop/PowerManagement/Inhibit", pm+".Inhibit.HasInhibit", nil, &yes) != nil {
			return nil, errors.New("no desktop that tells")
		}
	}
	return func(s *idle.Signals) {
		if yes && s.Inhibitor == nil {
			s.Inhibitor = &who
		}
	}, nil
}

// network asks NetworkManager whether the way out is metered.
type network struct{ bus *bus }

// Sense implements Source.
func (n network) Sense(ctx context.Context) (func(*idle.Signals), error) {
	const nm = "org.freedesktop.NetworkManager"
	var v dbus.Variant
	err := n.bus.call(ctx, nm, "/org/freedesktop/NetworkManager", "org.freedesktop.DBus.Properties.Get", []any{nm, "Metered"}, &v)
	if err != nil {
		return nil, err
	}
	code, _ := v.Value().(uint32)
	if code == 0 {
		return nil, errors.New("NetworkManager does not know")
	}
	metered := code == 1 || code == 3 // yes, and guessed yes
	return func(s *idle.Signals) { s.Metered = &metered }, nil
}
