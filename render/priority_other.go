//go:build !linux

package render

// lower and lowerTree do nothing here: Windows is told at the start of a
// process, macOS is not.
func lower(int, Priority) {}

func lowerTree([]proc, Priority) {}

// LowerSession does nothing here.
func LowerSession() {}
