package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// pauseFile is where an explicit pause is kept: it never ends by itself, also
// not when the daemon or the machine starts again.
const pauseFile = "paused.json"

// pauseNote is the content of pauseFile; without the file there is no pause.
type pauseNote struct {
	Reason string `json:"reason"`
}

// loadPause returns why this machine is paused, or "". A file that cannot be
// understood still means a pause: somebody asked for one.
func loadPause(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, pauseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("pause: %w", err)
	}
	var n pauseNote
	if json.Unmarshal(b, &n) != nil || n.Reason == "" {
		n.Reason = "paused by its owner"
	}
	return n.Reason, nil
}

// savePause keeps a pause, or with an empty reason its end.
func savePause(dir, reason string) error {
	path := filepath.Join(dir, pauseFile)
	if reason == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("resume: %w", err)
		}
		return syncDir(dir)
	}
	b, err := json.Marshal(pauseNote{reason})
	if err == nil {
		err = writeFileAtomic(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	return nil
}
