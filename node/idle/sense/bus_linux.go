package sense

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// bus is a connection to D-Bus that is made when it is needed and made again,
// not too often, when it was lost.
type bus struct {
	name    string
	address string
	// opened is called for each new connection, to ask for signals; heard for
	// each signal.
	opened func(*dbus.Conn)
	heard  func(*dbus.Signal)

	mu    sync.Mutex
	conn  *dbus.Conn
	tried time.Time
	err   error
	done  sync.WaitGroup
}

const busAgain = 15 * time.Second

func systemBus(address string) *bus {
	if address == "" {
		address = os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	}
	if address == "" {
		address = "unix:path=/run/dbus/system_bus_socket"
	}
	return &bus{name: "the system's D-Bus", address: address}
}

func sessionBus(address string) *bus {
	if address == "" {
		address = os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	}
	if address == "" {
		// A daemon that was started before its owner logged in.
		address = fmt.Sprintf("unix:path=/run/user/%d/bus", os.Getuid())
	}
	return &bus{name: "the session's D-Bus", address: address}
}

// get returns a connection.
func (b *bus) get() (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	if b.conn != nil {
		b.conn, b.tried = nil, time.Time{}
	}
	if !b.tried.IsZero() && time.Since(b.tried) < busAgain {
		return nil, b.err
	}
	b.tried = time.Now()
	conn, err := dbus.Connect(b.address)
	if err != nil {
		b.err = fmt.Errorf("%s is not there", b.name)
		return nil, b.err
	}
	if b.heard != nil {
		ch := make(chan *dbus.Signal, 64)
		conn.Signal(ch)
		b.done.Go(func() {
			for s := range ch { // closed with the connection
				b.heard(s)
			}
		})
	}
	b.conn, b.err = conn, nil
	if b.opened != nil {
		b.opened(conn)
	}
	return conn, nil
}

// call calls a method and stores what it returns.
func (b *bus) call(ctx context.Context, dest string, path dbus.ObjectPath, method string, args []any, into ...any) error {
	conn, err := b.get()
	if err != nil {
		return err
	}
	// A service that is not running is not started by a question.
	c := conn.Object(dest, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil {
		var e dbus.Error
		if errors.As(c.Err, &e) && (e.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner") {
			return fmt.Errorf("%s is not running", dest)
		}
		return fmt.Errorf("%s: %w", method, c.Err)
	}
	return c.Store(into...)
}

// properties of one interface of an object.
func (b *bus) properties(ctx context.Context, dest string, path dbus.ObjectPath, iface string) (map[string]dbus.Variant, error) {
	var m map[string]dbus.Variant
	err := b.call(ctx, dest, path, "org.freedesktop.DBus.Properties.GetAll", []any{iface}, &m)
	return m, err
}

func (b *bus) close() {
	b.mu.Lock()
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
	b.tried, b.err = time.Now(), errors.New("closed")
	b.mu.Unlock()
	b.done.Wait()
}

// value is a property of a type, or its zero value.
func value[T any](m map[string]dbus.Variant, name string) T {
	v, _ := m[name].Value().(T)
	return v
}
