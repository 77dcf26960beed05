package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"idlewild/packaging"
)

const unit = "idlewild.service"

// Name of what starts programs here.
const Name = "systemd"

func unitFile() (string, error) {
	if d := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "systemd", "user", unit), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrNone, err)
	}
	return filepath.Join(home, ".config", "systemd", "user", unit), nil
}

// Available says why Install would not work, or nil.
func Available(ctx context.Context) error {
	if _, err := run(ctx, "systemctl", "--user", "show", "--property=Version"); err != nil {
		return fmt.Errorf("%w: %v", ErrNone, err)
	}
	return nil
}

// Install has p started at each log-in, and starts it now. What an earlier
// Install wrote is replaced.
func Install(ctx context.Context, p Program) error {
	if err := Available(ctx); err != nil {
		return err
	}
	file, err := unitFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(unitText(p)), 0o644); err != nil {
		return err
	}
	if _, err := run(ctx, "systemctl", "--user", "daemon-reload"); err != nil {
		return err
	}
	_, err = run(ctx, "systemctl", "--user", "enable", "--now", unit)
	return err
}

// unitText is the packaged unit with p in it.
func unitText(p Program) string {
	var b strings.Builder
	for line := range strings.Lines(packaging.SystemdUnit) {
		switch {
		case b.Len() == 0 && (strings.HasPrefix(line, "#") || line == "\n"):
			continue // the head says how to install it by hand
		case strings.HasPrefix(line, "ExecStart="):
			line = "ExecStart=" + quote(p.Path)
			for _, a := range p.Args {
				line += " " + quote(a)
			}
			line += "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// quote writes an argument as systemd.service(5) reads it.
func quote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`, "\n", `\n`)
	return `"` + r.Replace(s) + `"`
}

// Remove undoes Install; the daemon ends. It does nothing where nothing was
// installed.
func Remove(ctx context.Context) (removed bool, err error) {
	file, err := unitFile()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	_, err = run(ctx, "systemctl", "--user", "disable", "--now", unit)
	if rerr := os.Remove(file); rerr != nil {
		return false, rerr
	}
	if err == nil {
		_, err = run(ctx, "systemctl", "--user", "daemon-reload")
	}
	return true, err
}
