package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
)

// gameVariable makes this program a game: DISPLAY,SECONDS,REPORT.
const gameVariable = "IDLEWILD_BENCH_GAME"

// gameReport is what the game says of itself.
type gameReport struct {
	Frames int     `json:"frames"`
	Late   int     `json:"late"`   // that took more than two of the screen's
	P99    float64 `json:"p99_ms"` // from one frame to the next
	Worst  float64 `json:"worst_ms"`
}

// gameFrame is how long the screen shows a frame, gameWork what the game reckons
// for it.
const (
	gameFrame = time.Second / 60
	gameWork  = 4 * time.Millisecond
)

// gameMain plays, where the environment says so: it draws sixty times a second,
// reckons a while for each frame, and moves the mouse as its player does.
func gameMain() {
	wish := strings.Split(os.Getenv(gameVariable), ",")
	if len(wish) != 3 {
		return
	}
	seconds, err := time.ParseDuration(wish[1] + "s")
	if err == nil {
		err = playGame(wish[0], seconds, wish[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "game:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playGame(display string, long time.Duration, report string) error {
	c, err := xgb.NewConnDisplay(display)
	if err != nil {
		return err
	}
	if err := xtest.Init(c); err != nil {
		return err
	}
	screen := xproto.Setup(c).DefaultScreen(c)
	window, err := xproto.NewWindowId(c)
	if err != nil {
		return err
	}
	if err := xproto.CreateWindowChecked(c, screen.RootDepth, window, screen.Root, 0, 0, screen.WidthInPixels, screen.HeightInPixels, 0,
		xproto.WindowClassInputOutput, screen.RootVisual, 0, nil).Check(); err != nil {
		return err
	}
	if err := xproto.MapWindowChecked(c, window).Check(); err != nil {
		return err
	}
	pen, err := xproto.NewGcontextId(c)
	if err != nil {
		return err
	}
	if err := xproto.CreateGCChecked(c, pen, xproto.Drawable(window), xproto.GcForeground, []uint32{0xffffff}).Check(); err != nil {
		return err
	}
	// What this machine reckons in that time when nobody else wants it.
	perFrame, x := 0, uint64(1)
	for range 5 {
		n := 0
		for start := time.Now(); time.Since(start) < gameWork; n++ {
			x = reckon(x)
		}
		perFrame = max(perFrame, n)
	}
	rng := rand.New(rand.NewPCG(1, 0))
	var took []float64
	begun := time.Now()
	last := begun
	for n := 0; time.Since(begun) < long; n++ {
		for range perFrame {
			x = reckon(x)
		}
		if n%6 == 0 {
			const motion = 6 // MotionNotify
			xtest.FakeInput(c, motion, 0, 0, screen.Root, int16(1+rng.IntN(600)), int16(1+rng.IntN(400)), 0)
		}
		xproto.PolyFillRectangle(c, xproto.Drawable(window), pen, []xproto.Rectangle{{X: int16(n % 600), Y: int16(x % 400), Width: 40, Height: 40}})
		if _, err := xproto.GetInputFocus(c).Reply(); err != nil { // the server has drawn it
			return err
		}
		// The next one is shown when the screen is ready for it.
		next := begun.Add((time.Since(begun)/gameFrame + 1) * gameFrame)
		time.Sleep(time.Until(next))
		now := time.Now()
		took = append(took, now.Sub(last).Seconds()*1e3)
		last = now
	}
	r := gameReport{Frames: len(took)}
	slices.Sort(took)
	for _, t := range took {
		if t > 2*gameFrame.Seconds()*1e3 {
			r.Late++
		}
	}
	r.P99, r.Worst = quantile(took, .99), quantile(took, 1)
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(report, b, 0o600)
}

func reckon(x uint64) uint64 {
	for range 1000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

func (e *evening) gameFolder() string { return filepath.Join(e.dir, "Games") }

// installGame puts the game where the owner of desk has games.
func (e *evening) installGame() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	to := filepath.Join(e.gameFolder(), "caverns")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := os.Link(self, filepath.Join(to, "caverns")); err != nil {
		if err := copyFile(filepath.Join(to, "caverns"), self); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(to, "caverns"), 0o755)
}

// playing is a game under way.
type playing struct {
	cmd    *exec.Cmd
	began  time.Time
	report string
}

// play starts the game on the owner's desk, on the core that desk is.
func (e *evening) play(ctx context.Context, long time.Duration) (*playing, error) {
	p := &playing{began: time.Now(), report: filepath.Join(e.dir, fmt.Sprintf("game-%d", time.Now().UnixNano()))}
	p.cmd = exec.CommandContext(ctx, "taskset", "-c", "0", filepath.Join(e.gameFolder(), "caverns", "caverns"))
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%g,%s", gameVariable, e.owner.display, long.Seconds(), p.report))
	p.cmd.Stderr = os.Stderr
	return p, p.cmd.Start()
}

// end waits until the owner has played enough.
func (p *playing) end(ctx context.Context) (r gameReport, err error) {
	if err := p.cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		return r, fmt.Errorf("the game: %w", err)
	}
	b, err := os.ReadFile(p.report)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.Frames == 0 {
		err = errors.New("the game drew nothing")
	}
	return r, err
}
