package verify

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"idlewild/media"
)

//go:embed scenes.py
var script []byte

// studio renders into a folder what is not there yet.
type studio struct {
	dir string
	log io.Writer
}

// lanes is how many Blenders run side by side.
const lanes = 6

// run renders what every machine has to, scene by scene.
func (s studio) run(ctx context.Context, list []scene) error {
	if _, err := exec.LookPath("blender"); err != nil {
		return fmt.Errorf("blender is missing: make setup: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(s.dir, "scenes.py")
	if err := os.WriteFile(file, script, 0o644); err != nil {
		return err
	}
	// The scenes are built by one process before others open them.
	var build []render
	for _, sc := range list {
		r := sc.asked(s.dir, "built", nil)
		r.Width, r.Height, r.Samples = 32, 18, 1
		build = append(build, r)
	}
	// Scenes are built whatever size they are rendered at.
	if err := s.blender(ctx, file, mine, "build", build); err != nil {
		return err
	}
	for _, extra := range []bool{false, true} {
		var wait sync.WaitGroup
		var mu sync.Mutex
		var errs []error
		lane := make(chan struct{}, lanes)
		for _, sc := range list {
			for _, m := range machines {
				lane <- struct{}{}
				wait.Go(func() {
					defer func() { <-lane }()
					if err := s.blender(ctx, file, m, sc.name+"-"+m.name, sc.renders(s.dir, m, extra)); err != nil {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
					}
				})
			}
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// version is what Blender calls itself.
func version(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "blender", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("blender --version: %w", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(first), nil
}

// complete says that all that a table needs of a scene was rendered.
func (s studio) complete(sc scene) bool {
	for _, m := range machines {
		for _, r := range sc.renders(s.dir, m, false) {
			if _, err := os.Stat(r.Out); err != nil {
				return false
			}
		}
	}
	return true
}

func (s studio) blender(ctx context.Context, file string, m machine, name string, jobs []render) error {
	var missing []render
	for _, j := range jobs {
		if err := os.MkdirAll(filepath.Dir(j.Out), 0o755); err != nil {
			return err
		}
		if _, err := os.Stat(j.Out); err != nil {
			missing = append(missing, j)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	b, err := json.Marshal(missing)
	if err != nil {
		return err
	}
	list := filepath.Join(s.dir, name+".json")
	if err := os.WriteFile(list, b, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "blender", "-b", "--factory-startup", "-t", fmt.Sprint(m.threads),
		"--python-exit-code", "3", "-P", file, "--", s.dir, list)
	cmd.Env = append(os.Environ(), m.env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var tail []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "rendered "); ok {
			rel, _ := filepath.Rel(s.dir, path)
			fmt.Fprintf(s.log, "rendered %s\n", rel)
		}
		tail = append(tail, lines.Text())
		tail = tail[max(0, len(tail)-20):]
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("blender %s: %w\n%s", name, err, strings.Join(tail, "\n"))
	}
	return nil
}

// image reads a render; nil where it was not made.
func (s studio) image(sc scene, name string) (*media.Image, error) {
	m, err := media.DecodeFile(sc.file(s.dir, name), media.Limits{})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		m.Channels = slices.DeleteFunc(m.Channels, func(c media.Channel) bool {
			// Direct light is stored over its surface's colour: such means do not add up.
			return strings.HasPrefix(c.Name, "ViewLayer.DiffDir.")
		})
	}
	return m, err
}
