package diffupload

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of names in a manifest.
const (
	MaxNameBytes = 1024 // a whole name: components with slashes between
	maxComponent = 255  // one component, as file systems have it
)

// safeName checks a slash-separated relative file name: no way out of its
// folder on any system. What it accepts, job.SafeName accepts.
func safeName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("file name of %d bytes", len(name))
	}
	for c := range strings.SplitSeq(name, "/") {
		if err := safeComponent(c); err != nil {
			return fmt.Errorf("file name %q: %w", name, err)
		}
	}
	return nil
}

func safeComponent(c string) error {
	switch {
	case c == "":
		return fmt.Errorf("empty component")
	case len(c) > maxComponent:
		return fmt.Errorf("component of %d bytes", len(c))
	case c == "." || c == "..":
		return fmt.Errorf("component %q leaves its folder", c)
	case !utf8.ValidString(c):
		return fmt.Errorf("component %q is not UTF-8", c)
	case strings.ContainsAny(c, "\x00\\:/"):
		return fmt.Errorf("component %q: character not allowed", c)
	}
	return nil
}

// notOnWindows says whether a component that is safe cannot be the name of a
// file on Windows, where a device of that name would be written to, or the
// name would lose its end.
func notOnWindows(c string) bool {
	if strings.ContainsAny(c, `<>"|?*`) || strings.HasSuffix(c, ".") || strings.HasSuffix(c, " ") {
		return true
	}
	for _, r := range c {
		if r < 0x20 {
			return true
		}
	}
	base, _, _ := strings.Cut(c, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	device := strings.TrimPrefix(strings.TrimPrefix(base, "COM"), "LPT")
	return device != base && len([]rune(device)) == 1 && strings.ContainsAny(device, "0123456789¹²³")
}
