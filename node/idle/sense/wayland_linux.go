package sense

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"idlewild/node/idle"
)

// wayland has the compositor tell when input stops and begins again, by the
// protocol ext-idle-notify, which KDE, Sway and others have. The few messages
// that it takes are written here: there is no Go library for it that is kept up.
type wayland struct {
	socket string
	user   string
	wake   func()
	tried  time.Time
	err    error

	mu   sync.Mutex
	conn net.Conn
	gone error     // why conn ended
	rest time.Time // since when there was no input; zero: there is some
	done sync.WaitGroup
}

// Numbers of our objects, as we give them out, and what is asked of them.
const (
	wlDisplay, wlRegistry, wlCallback, wlSeat, wlNotifier, wlNotification = 1, 2, 3, 4, 5, 6

	wlSync, wlGetRegistry     = 0, 1 // of wl_display
	wlError                   = 0    // event of wl_display
	wlGlobal                  = 0    // event of wl_registry
	wlBind                    = 0    // of wl_registry
	wlGetIdle, wlGetInputIdle = 1, 2 // of ext_idle_notifier_v1
	wlIdled, wlResumed        = 0, 1 // events of ext_idle_notification_v1
	wlRestAfter               = time.Second
	maxWayland                = 64 << 10 // one message
)

func newWayland(user string, wake func()) *wayland {
	name, dir := os.Getenv("WAYLAND_DISPLAY"), os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	if name == "" {
		name = "wayland-0"
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return &wayland{socket: name, user: user, wake: wake}
}

// Sense implements Source.
func (w *wayland) Sense(ctx context.Context) (func(*idle.Signals), error) {
	w.mu.Lock()
	conn, gone := w.conn, w.gone
	w.mu.Unlock()
	if conn == nil {
		if gone != nil {
			w.err = gone
		}
		if !w.tried.IsZero() && time.Since(w.tried) < busAgain {
			return nil, w.err
		}
		w.tried = time.Now()
		if w.err = w.open(ctx); w.err != nil {
			return nil, w.err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d := time.Duration(0)
	if !w.rest.IsZero() {
		d = time.Since(w.rest)
	}
	return func(s *idle.Signals) {
		s.Desktop = true
		setIdle(s, w.user, "the Wayland compositor", d)
	}, nil
}

func (w *wayland) open(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", w.socket)
	if err != nil {
		return errors.New("no Wayland compositor")
	}
	if err := subscribe(conn); err != nil {
		conn.Close()
		return err
	}
	w.mu.Lock()
	w.conn, w.gone, w.rest = conn, nil, time.Time{}
	w.mu.Unlock()
	w.done.Go(func() { w.listen(conn) })
	return nil
}

// subscribe asks what the compositor has, and to be told of input.
func subscribe(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(askFor)); err != nil {
		return err
	}
	ask := append(wlMessage(wlDisplay, wlGetRegistry, wlRegistry), wlMessage(wlDisplay, wlSync, wlCallback)...)
	if _, err := conn.Write(ask); err != nil {
		return fmt.Errorf("Wayland compositor: %w", err)
	}
	globals := map[string][2]uint32{} // name and version by interface
	for {
		object, op, body, err := wlEvent(conn)
		if err != nil {
			return err
		}
		if object == wlCallback {
			break
		}
		if object == wlRegistry && op == wlGlobal && len(body) >= 8 {
			n := int(binary.NativeEndian.Uint32(body[4:]))
			end := 8 + (n+3)&^3
			if n < 1 || n > len(body) || end+4 > len(body) {
				return errors.New("the Wayland compositor sent a message that is too short")
			}
			globals[string(body[8:8+n-1])] = [2]uint32{binary.NativeEndian.Uint32(body), binary.NativeEndian.Uint32(body[end:])}
		}
	}
	const notifier, seat = "ext_idle_notifier_v1", "wl_seat"
	if globals[notifier][1] == 0 || globals[seat][1] == 0 {
		return errors.New("the Wayland compositor does not offer ext-idle-notify")
	}
	// From version 2 on one can ask for input alone, whatever keeps the screen on.
	version, op := uint32(1), uint16(wlGetIdle)
	if globals[notifier][1] >= 2 {
		version, op = 2, wlGetInputIdle
	}
	ask = wlMessage(wlRegistry, wlBind, globals[seat][0], seat, 1, wlSeat)
	ask = append(ask, wlMessage(wlRegistry, wlBind, globals[notifier][0], notifier, version, wlNotifier)...)
	ask = append(ask, wlMessage(wlNotifier, op, wlNotification, uint32(wlRestAfter.Milliseconds()), wlSeat)...)
	if _, err := conn.Write(ask); err != nil {
		return fmt.Errorf("Wayland compositor: %w", err)
	}
	return conn.SetDeadline(time.Time{})
}

// listen notes what the compositor tells, until the connection ends.
func (w *wayland) listen(conn net.Conn) {
	for {
		object, op, _, err := wlEvent(conn)
		w.mu.Lock()
		switch {
		case err != nil:
			conn.Close()
			w.conn, w.gone = nil, err
		case object == wlNotification && op == wlIdled:
			w.rest = time.Now().Add(-wlRestAfter)
		case object == wlNotification && op == wlResumed:
			w.rest = time.Time{}
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		if object == wlNotification && op == wlResumed {
			w.wake()
		}
	}
}

func (w *wayland) close() {
	w.mu.Lock()
	if w.conn != nil {
		w.conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// wlMessage is a request: its arguments are numbers and strings.
func wlMessage(object uint32, op uint16, args ...any) []byte {
	var body []byte
	for _, a := range args {
		switch v := a.(type) {
		case int:
			body = binary.NativeEndian.AppendUint32(body, uint32(v))
		case uint32:
			body = binary.NativeEndian.AppendUint32(body, v)
		case string:
			body = binary.NativeEndian.AppendUint32(body, uint32(len(v)+1))
			body = append(body, v...)
			body = append(body, make([]byte, 4-len(v)%4)...)
		}
	}
	m := binary.NativeEndian.AppendUint32(nil, object)
	m = binary.NativeEndian.AppendUint32(m, uint32(len(body)+8)<<16|uint32(op))
	return append(m, body...)
}

// wlEvent reads one event; the compositor's word of an error is one.
func wlEvent(r io.Reader) (object uint32, op uint16, body []byte, err error) {
	object, op, body, err = wlRead(r)
	if err == nil && object == wlDisplay && op == wlError {
		err = errors.New("the Wayland compositor refused: it does not speak ext-idle-notify as it says")
	}
	return object, op, body, err
}

// wlRead reads one message.
func wlRead(r io.Reader) (object uint32, op uint16, body []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, errors.New("the Wayland compositor ended the connection")
	}
	object = binary.NativeEndian.Uint32(head[:])
	word := binary.NativeEndian.Uint32(head[4:])
	size := int(word >> 16)
	if size < 8 || size > maxWayland {
		return 0, 0, nil, errors.New("the Wayland compositor sent a message of no possible size")
	}
	body = make([]byte, size-8)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, 0, nil, errors.New("the Wayland compositor ended the connection")
	}
	return object, uint16(word), body, nil
}
