package service

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const label = "org.idlewild.daemon"

// Name of what starts programs here.
const Name = "launchd"

func plistFile() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrNone, err)
	}
	return filepath.Join(home, "Library", "LaunchAgents", label+".plist"), nil
}

func domain() string { return fmt.Sprintf("gui/%d", os.Getuid()) }

// Available says why Install would not work, or nil.
func Available(ctx context.Context) error {
	if _, err := run(ctx, "launchctl", "print", domain()); err != nil {
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
	file, err := plistFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		_, _ = run(ctx, "launchctl", "bootout", domain()+"/"+label) // it may not be running
	}
	if err := os.WriteFile(file, plist(p), 0o644); err != nil {
		return err
	}
	_, err = run(ctx, "launchctl", "bootstrap", domain(), file)
	return err
}

func plist(p Program) []byte {
	var b bytes.Buffer
	text := func(s string) {
		b.WriteString("<string>")
		_ = xml.EscapeText(&b, []byte(s)) // a Buffer takes everything
		b.WriteString("</string>")
	}
	b.WriteString(xml.Header + `<plist version="1.0"><dict><key>Label</key>`)
	text(label)
	b.WriteString("<key>ProgramArguments</key><array>")
	for _, a := range append([]string{p.Path}, p.Args...) {
		text(a)
	}
	// Ended with an error it is started again; a wrong setting is told by launchd
	// starting it ever more slowly.
	b.WriteString("</array><key>RunAtLoad</key><true/><key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>" +
		"<key>ProcessType</key><string>Background</string><key>LowPriorityIO</key><true/></dict></plist>\n")
	return b.Bytes()
}

// Remove undoes Install; the daemon ends. It does nothing where nothing was
// installed.
func Remove(ctx context.Context) (removed bool, err error) {
	file, err := plistFile()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	_, err = run(ctx, "launchctl", "bootout", domain()+"/"+label)
	return true, errors.Join(os.Remove(file), err)
}
