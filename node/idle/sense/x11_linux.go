package sense

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/screensaver"
	"github.com/jezek/xgb/xproto"

	"idlewild/node/idle"
)

func init() {
	// The library would write to stderr, which is the daemon's log.
	xgb.Logger = log.New(io.Discard, "", 0)
}

// x11 asks the X server how long ago there was input, and what fills the
// screen. Under Wayland the X server sees only what goes to X windows, so
// there only the second counts.
type x11 struct {
	display string
	user    string
	screen  bool // full screen counts
	wayland bool
	link    *xlink
	tried   time.Time
	err     error
}

// xlink is a connection. The goroutine of one question owns it.
type xlink struct {
	conn     *xgb.Conn
	root     xproto.Window
	whole    rect
	saver    bool
	monitors bool
	atoms    map[string]xproto.Atom
}

type rect struct{ x, y, w, h int }

func newX11(display, user string, screen bool) *x11 {
	if display == "" {
		display = os.Getenv("DISPLAY")
	}
	return &x11{
		display: display, user: user, screen: screen,
		wayland: os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("XDG_SESSION_TYPE") == "wayland",
	}
}

// xanswer is what one question brought.
type xanswer struct {
	link  *xlink
	since *time.Duration
	name  string
	err   error
}

// Sense implements Source.
func (x *x11) Sense(ctx context.Context) (func(*idle.Signals), error) {
	if x.display == "" {
		return nil, errors.New("there is no DISPLAY")
	}
	if host, _, _ := strings.Cut(x.display, ":"); host != "" && !strings.HasPrefix(host, "/") && host != "unix" {
		return nil, fmt.Errorf("DISPLAY %s is on another machine", x.display)
	}
	if x.link == nil && !x.tried.IsZero() && time.Since(x.tried) < busAgain {
		return nil, x.err
	}
	// The library waits without end, so a question that is not answered in
	// time is left alone with its connection.
	answer := make(chan xanswer, 1)
	go x.ask(x.link, answer)
	x.tried = time.Now()
	var a xanswer
	select {
	case a = <-answer:
	case <-ctx.Done():
		a.err = errors.New("the X server does not answer")
		if x.link != nil {
			go x.link.conn.Close()
		}
	}
	if x.link, x.err = a.link, a.err; a.err != nil {
		return nil, a.err
	}
	return func(s *idle.Signals) {
		s.Desktop = true
		own(s, x.user)
		if a.since != nil {
			setIdle(s, x.user, "XScreenSaver", *a.since)
		}
		if a.name != "" {
			s.Fullscreen = &a.name
		}
	}, nil
}

func (x *x11) close() {
	if x.link != nil {
		x.link.conn.Close()
		x.link = nil
	}
}

// ask asks once. It reads of x only what never changes.
func (x *x11) ask(link *xlink, answer chan<- xanswer) {
	var a xanswer
	defer func() {
		if r := recover(); r != nil { // of the library, on an answer that is too short
			a.err = fmt.Errorf("X server: %v", r)
		}
		if a.err != nil && link != nil {
			link.conn.Close()
			a.link = nil
		}
		answer <- a
	}()
	if link == nil {
		if link, a.err = xopen(x.display); a.err != nil {
			return
		}
	}
	a.link = link
	if link.saver && !x.wayland {
		info, err := screensaver.QueryInfo(link.conn, xproto.Drawable(link.root)).Reply()
		if err != nil {
			a.err = fmt.Errorf("X server: %w", err)
			return
		}
		d := time.Duration(info.MsSinceUserInput) * time.Millisecond
		a.since = &d
	}
	if x.screen {
		if a.name, a.err = link.fullscreen(); a.err != nil {
			a.err = fmt.Errorf("X server: %w", a.err)
		}
	}
}

func xopen(display string) (*xlink, error) {
	conn, err := xgb.NewConnDisplay(display)
	if err != nil {
		return nil, fmt.Errorf("no X server at %s", display)
	}
	x := &xlink{conn: conn, atoms: map[string]xproto.Atom{}}
	screen := xproto.Setup(conn).DefaultScreen(conn)
	x.root = screen.Root
	x.whole = rect{0, 0, int(screen.WidthInPixels), int(screen.HeightInPixels)}
	x.saver = screensaver.Init(conn) == nil
	x.monitors = randr.Init(conn) == nil
	for _, a := range []string{
		"_NET_ACTIVE_WINDOW", "_NET_WM_STATE", "_NET_WM_STATE_FULLSCREEN", "_NET_WM_STATE_HIDDEN", "_NET_WM_WINDOW_TYPE",
		"_NET_WM_WINDOW_TYPE_DESKTOP", "_NET_WM_WINDOW_TYPE_DOCK",
	} {
		r, err := xproto.InternAtom(conn, false, uint16(len(a)), a).Reply()
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("X server: %w", err)
		}
		x.atoms[a] = r.Atom
	}
	return x, nil
}

// fullscreen names the window in use if it fills a screen: because it says so,
// or because a borderless one is as large as a monitor.
func (x *xlink) fullscreen() (string, error) {
	active, err := x.list(x.root, "_NET_ACTIVE_WINDOW", xproto.AtomWindow)
	if err != nil {
		return "", err
	}
	if len(active) == 0 || active[0] == 0 {
		return "", nil
	}
	w := xproto.Window(active[0])
	state, err := x.list(w, "_NET_WM_STATE", xproto.AtomAtom)
	if err != nil {
		return "", nil // the window is gone
	}
	if has(state, x.atoms["_NET_WM_STATE_HIDDEN"]) {
		return "", nil
	}
	full := has(state, x.atoms["_NET_WM_STATE_FULLSCREEN"])
	if !full {
		kind, err := x.list(w, "_NET_WM_WINDOW_TYPE", xproto.AtomAtom)
		if err != nil || has(kind, x.atoms["_NET_WM_WINDOW_TYPE_DESKTOP"]) || has(kind, x.atoms["_NET_WM_WINDOW_TYPE_DOCK"]) {
			return "", nil
		}
		if full, err = x.covers(w); err != nil {
			return "", nil
		}
	}
	if !full {
		return "", nil
	}
	return x.name(w), nil
}

func has(list []uint32, a xproto.Atom) bool {
	for _, v := range list {
		if xproto.Atom(v) == a {
			return true
		}
	}
	return false
}

// list reads a property of 32-bit numbers.
func (x *xlink) list(w xproto.Window, property string, kind xproto.Atom) ([]uint32, error) {
	r, err := xproto.GetProperty(x.conn, false, w, x.atoms[property], kind, 0, 64).Reply()
	if err != nil || r.Format != 32 {
		return nil, err
	}
	var out []uint32
	for i := 0; i+4 <= len(r.Value); i += 4 {
		out = append(out, xgb.Get32(r.Value[i:]))
	}
	return out, nil
}

// covers reports whether a window covers a monitor.
func (x *xlink) covers(w xproto.Window) (bool, error) {
	g, err := xproto.GetGeometry(x.conn, xproto.Drawable(w)).Reply()
	if err != nil {
		return false, err
	}
	at, err := xproto.TranslateCoordinates(x.conn, w, x.root, 0, 0).Reply()
	if err != nil {
		return false, err
	}
	win := rect{int(at.DstX), int(at.DstY), int(g.Width), int(g.Height)}
	screens := []rect{x.whole}
	if x.monitors {
		if r, err := randr.GetMonitors(x.conn, x.root, true).Reply(); err == nil {
			for _, m := range r.Monitors {
				screens = append(screens, rect{int(m.X), int(m.Y), int(m.Width), int(m.Height)})
			}
		}
	}
	for _, m := range screens {
		if m.w > 0 && win.x <= m.x && win.y <= m.y && win.x+win.w >= m.x+m.w && win.y+win.h >= m.y+m.h {
			return true, nil
		}
	}
	return false, nil
}

// name is the program's name for its windows: never the title, which is
// private.
func (x *xlink) name(w xproto.Window) string {
	r, err := xproto.GetProperty(x.conn, false, w, xproto.AtomWmClass, xproto.AtomString, 0, 64).Reply()
	if err == nil {
		if parts := bytes.Split(bytes.TrimRight(r.Value, "\x00"), []byte{0}); len(parts[len(parts)-1]) > 0 {
			return string(parts[len(parts)-1])
		}
	}
	return "a window"
}
