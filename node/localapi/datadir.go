package localapi

import (
	"os"
	"path/filepath"
	"runtime"
)

// DefaultDataDir is the data folder of this user's daemon where nothing else
// is set.
func DefaultDataDir() string {
	if runtime.GOOS == "linux" {
		if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
			return filepath.Join(d, "idlewild")
		}
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "share", "idlewild")
		}
	}
	if d, err := os.UserConfigDir(); err == nil {
		return filepath.Join(d, "idlewild")
	}
	return filepath.Join(os.TempDir(), "idlewild")
}
