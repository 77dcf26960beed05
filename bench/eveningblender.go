package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	kinds "idlewild/render/blender"
)

//go:embed evening.py
var eveningScript []byte

// artistBlender is a Blender with a window on the artist's machine, and what is
// pressed in it.
type artistBlender struct {
	cmd             *exec.Cmd
	log             *os.File
	orders, answers string
	n               int
	exited          chan struct{}
}

// artistAnswer is what evening.py says of an order.
type artistAnswer struct {
	N        int     `json:"n"`
	Failure  string  `json:"failure"`
	Version  string  `json:"version"`
	Job      string  `json:"job"`
	Held     float64 `json:"held_s"` // the main thread, by the submission
	Save     float64 `json:"save_s"` // of it Blender's own save
	Clicked  float64 `json:"clicked_unix_s"`
	State    string  `json:"state"`
	LongTick float64 `json:"longest_tick_s"`
	Ticks    int     `json:"ticks"`
}

// openBlender opens the artist's scene in a window, with the add-on that the
// program brings.
func (e *evening) openBlender(ctx context.Context) error {
	zip, script := filepath.Join(e.dir, "addon.zip"), filepath.Join(e.dir, "evening.py")
	if out, err := exec.CommandContext(ctx, e.bin, "addon", "zip", "-o", zip, "--data-dir", e.artist.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("idlewild addon zip: %w: %s", err, out)
	}
	if err := os.WriteFile(script, eveningScript, 0o600); err != nil {
		return err
	}
	b := &artistBlender{orders: filepath.Join(e.dir, "orders"), answers: filepath.Join(e.dir, "answers"), exited: make(chan struct{})}
	for _, f := range []string{b.orders, b.answers} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			return err
		}
	}
	var err error
	if b.log, err = os.Create(filepath.Join(e.dir, "artist-blender.log")); err != nil {
		return err
	}
	line := append(e.hosts[e.artist].Enter(), kinds.OnPath, "--factory-startup", "-p", "0", "0", "640", "480", e.scene, "-P", script, "--", e.scene, zip, b.orders, b.answers)
	b.cmd = exec.Command(line[0], line[1:]...)
	b.cmd.Env = append(os.Environ(), "DISPLAY="+e.screen.display, "LIBGL_ALWAYS_SOFTWARE=1", "IDLEWILD_DATA_DIR="+e.artist.dir)
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as a program has that was started from a desktop
	if err := b.cmd.Start(); err != nil {
		b.log.Close()
		return err
	}
	e.blender = b
	go func() {
		b.cmd.Wait()
		close(b.exited)
	}()
	a, err := b.does(ctx, 2*time.Minute, map[string]any{"do": "connect"})
	if err == nil {
		e.say("the artist's Blender %s has a window and found the daemon", a.Version)
	}
	return err
}

// does has something done in the window and waits for what came of it.
func (b *artistBlender) does(ctx context.Context, limit time.Duration, order map[string]any) (a artistAnswer, err error) {
	line, err := json.Marshal(order)
	if err != nil {
		return a, err
	}
	f, err := os.OpenFile(b.orders, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return a, err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return a, err
	}
	b.n++
	err = poll(ctx, limit, fmt.Sprintf("the artist's Blender: %s", line), func() error {
		select {
		case <-b.exited:
			return fatal{errors.New("it ended: " + b.tail())}
		default:
		}
		said, err := os.ReadFile(b.answers)
		if err != nil {
			return err
		}
		lines := bytes.Split(said, []byte("\n"))
		if len(lines) <= b.n { // the last one is empty or half written
			return errors.New("it does not answer: " + b.tail())
		}
		if err := json.Unmarshal(lines[b.n-1], &a); err != nil {
			return fatal{err}
		}
		if a.Failure != "" {
			return fatal{errors.New(a.Failure)}
		}
		return nil
	})
	return a, err
}

func (b *artistBlender) tail() string {
	said, _ := os.ReadFile(b.log.Name())
	return string(said[max(0, len(said)-1000):])
}

func (b *artistBlender) close() {
	b.cmd.Process.Kill()
	<-b.exited
	b.log.Close()
}
