// Command idlewild-tray shows the daemon of this user in the notification area:
// what it does and why, pause and resume, and the way to the dashboard.
//
// It is a program of its own, so that a machine without a desktop has nothing
// of it, and a desktop that crashes takes no daemon with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"fyne.io/systray"

	"idlewild/node/localapi"
)

const (
	// every is how often the daemon is asked.
	every   = 5 * time.Second
	askFor  = 10 * time.Second
	devices = 8 // lines of the menu that tell why
)

func main() {
	dir := flag.String("data-dir", defaultDir(), "the daemon's data folder")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "idlewild-tray: takes no arguments but --data-dir")
		os.Exit(2)
	}
	t := &tray{dir: *dir, soon: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(context.Background())
	systray.Run(func() { t.begin(ctx, stop) }, stop)
}

func defaultDir() string {
	if d := os.Getenv("IDLEWILD_DATA_DIR"); d != "" {
		return d
	}
	return localapi.DefaultDataDir()
}

type tray struct {
	dir  string
	soon chan struct{} // holds one: look now

	head, pause, hour, resume, open, quit *systray.MenuItem
	why                                   []*systray.MenuItem

	mu     sync.Mutex
	client *localapi.Client
}

// begin makes the menu and keeps it up to date.
func (t *tray) begin(ctx context.Context, stop func()) {
	systray.SetIcon(icon(away))
	systray.SetTitle("idlewild")
	systray.SetTooltip("idlewild")
	t.head = systray.AddMenuItem("idlewild", "")
	t.head.Disable()
	for range devices {
		m := systray.AddMenuItem("", "")
		m.Disable()
		m.Hide()
		t.why = append(t.why, m)
	}
	systray.AddSeparator()
	t.pause = systray.AddMenuItem("Pause", "Take no work from others until you resume")
	t.hour = systray.AddMenuItem("Pause for an hour", "")
	t.resume = systray.AddMenuItem("Resume", "")
	t.resume.Hide()
	systray.AddSeparator()
	t.open = systray.AddMenuItem("Open dashboard", "")
	t.quit = systray.AddMenuItem("Close this icon", "The daemon goes on")
	go t.follow(ctx)
	go t.clicks(ctx, stop)
}

func (t *tray) clicks(ctx context.Context, stop func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.pause.ClickedCh:
			t.wish(ctx, localapi.PauseWish{Paused: true, Reason: "paused in the notification area"})
		case <-t.hour.ClickedCh:
			t.wish(ctx, localapi.PauseWish{Paused: true, Reason: "paused in the notification area", ForSeconds: time.Hour.Seconds()})
		case <-t.resume.ClickedCh:
			t.wish(ctx, localapi.PauseWish{})
		case <-t.open.ClickedCh:
			t.dashboard()
		case <-t.quit.ClickedCh:
			stop()
			systray.Quit()
			return
		}
	}
}

// wish tells the daemon what its owner wants; what went wrong stands in the
// menu until the next look.
func (t *tray) wish(ctx context.Context, w localapi.PauseWish) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	c, err := t.daemon()
	if err == nil {
		_, err = c.Pause(ctx, w)
	}
	if err != nil {
		t.head.SetTitle(line(err.Error()))
		return
	}
	select {
	case t.soon <- struct{}{}:
	default:
	}
}

// dashboard has the program itself open its page: it knows how to log in.
func (t *tray) dashboard() {
	name := "idlewild"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if exe, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(exe), name); isFile(beside) {
			name = beside
		}
	}
	cmd := exec.Command(name, "dashboard", "--data-dir", t.dir)
	if err := cmd.Start(); err != nil {
		t.head.SetTitle(line("the dashboard cannot be opened: " + err.Error()))
		return
	}
	go func() { _ = cmd.Wait() }() // it says nothing that could be shown here
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

func (t *tray) daemon() (*localapi.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == nil {
		c, err := localapi.Dial(t.dir)
		if err != nil {
			return nil, err
		}
		t.client = c
	}
	return t.client, nil
}

// forget has the next question look for the daemon anew.
func (t *tray) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		t.client.Close()
		t.client = nil
	}
}

func (t *tray) follow(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	shown := look{mood: -1}
	for {
		l := t.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		t.show(l, shown)
		shown = l
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-t.soon:
		}
	}
}

func (t *tray) ask(ctx context.Context) look {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	c, err := t.daemon()
	if err != nil {
		return lookOf(localapi.StatusView{}, localapi.WhyView{}, err)
	}
	s, err := c.Status(ctx)
	var w localapi.WhyView
	if err == nil {
		w, err = c.Why(ctx)
	}
	if err != nil {
		t.forget()
	}
	return lookOf(s, w, err)
}

func (t *tray) show(l, before look) {
	if l.mood != before.mood {
		systray.SetIcon(icon(l.mood))
	}
	systray.SetTooltip("idlewild: " + l.head)
	t.head.SetTitle(l.head)
	for i, m := range t.why {
		if i >= len(l.why) {
			m.Hide()
			continue
		}
		m.SetTitle(l.why[i])
		m.Show()
	}
	shown := map[*systray.MenuItem]bool{t.pause: l.here && !l.paused, t.hour: l.here && !l.paused, t.resume: l.here && l.paused, t.open: l.here}
	for m, yes := range shown {
		if yes {
			m.Show()
		} else {
			m.Hide()
		}
	}
}
