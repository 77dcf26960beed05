package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// stateFile is where a data folder remembers what was fetched and what failed.
const stateFile = "update.json"

// Staged is a new program that lies beside the old one.
type Staged struct {
	Version string `json:"version"`
	Path    string `json:"-"` // beside the old program
	SHA256  string `json:"sha256"`
}

// State is what a data folder remembers.
type State struct {
	Staged  *Staged           `json:"staged,omitempty"`
	Bad     map[string]string `json:"bad,omitempty"` // versions that did not work here, and why
	Checked time.Time         `json:"checked,omitzero"`
}

const maxBad = 32

// Load reads the state of a data folder. One that is damaged is empty.
func Load(dir string) (s State) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return State{}
	}
	return s
}

// Save writes it.
func (s State) Save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, stateFile)
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// whole says why a staged program is not the one that was fetched.
func (g Staged) whole() error {
	f, err := os.Open(g.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxProgram+1)); err != nil {
		return err
	}
	if !strings.EqualFold(hex.EncodeToString(h.Sum(nil)), g.SHA256) {
		return errors.New("it is not the program that was fetched")
	}
	return nil
}

// says asks a program for its version: one for another system, or with a
// library missing, does not get so far.
func (g Staged) says(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.Path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("it does not run here: %w", err)
	}
	if f := strings.Fields(string(out)); len(f) == 0 || f[len(f)-1] != g.Version {
		return fmt.Errorf("it says that it is %.60q and not version %s", strings.TrimSpace(string(out)), g.Version)
	}
	return nil
}

// Trial is how a new program shows that it works.
type Trial struct {
	Dir     string   // data folder
	Exe     string   // the old program
	Current string   // its version; what is staged and not newer is dropped
	Args    []string // what the old one was started with, without its name
	Env     []string // more variables for the new one
	Stderr  io.Writer
	// Answers reports whether the daemon with this process id answers, and
	// which version it says it is.
	Answers func(ctx context.Context, pid int) (version string, ok bool)
	For     time.Duration // at most
	Every   time.Duration // between two questions
}

// Apply tries what is staged, if anything is, and puts it in the old program's
// place. It reports whether that happened: then the program at Exe is the new
// one, to be started. A version that does not work is remembered with the
// reason, and not tried again.
func (t Trial) Apply(ctx context.Context) (version string, err error) {
	s := Load(t.Dir)
	if s.Staged == nil {
		return "", nil
	}
	// Where it lies is reckoned, not read: what the state says would be run,
	// moved and removed.
	g := *s.Staged
	g.Path = newPath(t.Exe)
	if t.Current != "" && !Newer(g.Version, t.Current) {
		// Another program was put here since, by hand or by a package.
		if err := os.Remove(g.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		s.Staged = nil
		return "", s.Save(t.Dir)
	}
	if err := t.try(ctx, g); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err() // not its fault: it stays for the next start
		}
		_ = os.Remove(g.Path) // what is left is overwritten by the next
		if s.Bad == nil || len(s.Bad) >= maxBad {
			s.Bad = map[string]string{}
		}
		s.Staged, s.Bad[g.Version] = nil, err.Error()
		return "", errors.Join(fmt.Errorf("version %s is not used: %w", g.Version, err), s.Save(t.Dir))
	}
	if err := replace(g.Path, t.Exe); err != nil {
		return "", fmt.Errorf("version %s works and cannot take this program's place: %w", g.Version, err)
	}
	s.Staged = nil
	return g.Version, s.Save(t.Dir)
}

func (t Trial) try(ctx context.Context, g Staged) error {
	if err := g.whole(); err != nil {
		return err
	}
	if err := g.says(ctx); err != nil {
		return err
	}
	cmd := exec.Command(g.Path, t.Args...)
	cmd.Env = append(os.Environ(), t.Env...)
	cmd.Stderr = t.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() {
		if runtime.GOOS == "windows" || cmd.Process.Signal(os.Interrupt) != nil {
			_ = cmd.Process.Kill()
		}
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		<-ended
	}
	over := time.NewTimer(t.For)
	defer over.Stop()
	tick := time.NewTicker(t.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			stop()
			return ctx.Err()
		case err := <-ended:
			return fmt.Errorf("it ended before it answered: %v", err)
		case <-over.C:
			stop()
			return fmt.Errorf("it did not answer within %s", t.For)
		case <-tick.C:
			version, ok := t.Answers(ctx, cmd.Process.Pid)
			if !ok {
				continue
			}
			stop()
			if version != g.Version {
				return fmt.Errorf("what answers is version %s", version)
			}
			return nil
		}
	}
}

// replace puts a program in another's place. The old one stays beside it, to go
// back to by hand; on Windows that is how a program that runs can be replaced.
func replace(from, to string) error {
	old := to + ".old"
	if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if runtime.GOOS == "windows" {
		if err := os.Rename(to, old); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return errors.Join(err, os.Rename(old, to))
		}
		return nil
	}
	_ = os.Link(to, old) // a file system without links keeps no old one
	return os.Rename(from, to)
}
