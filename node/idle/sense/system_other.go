//go:build !linux && !windows && !darwin

package sense

import (
	"time"

	"idlewild/node/idle"
)

var platformGameFolders []string

// system: nothing is sensed here, so whoever sits at such a machine pauses it.
func (s *Sensor) system() {}

var began = time.Now()

// Now reads the clocks.
func Now() idle.Instant { return idle.Instant{Wall: time.Now(), Mono: time.Since(began)} }

// Boot names this start of the machine; nothing tells.
func Boot() string { return "" }

func ourTree() map[int]bool { return nil }

func processName(int) string { return "" }

func pidKnown(int) bool { return true }
