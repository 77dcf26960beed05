package node

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// maxDiskMaps bounds the entries of paths.map in the configuration.
const maxDiskMaps = 64

// DiskMap is a disk that several machines of a farm have: the name by which they
// know it, and where it is on this one.
type DiskMap struct {
	// From is the same text on all machines: "//nas/projects", `P:\projects` or
	// "/mnt/projects". It need not be a path here.
	From string `toml:"from"`
	To   string `toml:"to"` // the folder where it is here; empty: From
	// SampleFrom are members, by id or name, for whose jobs a few pieces of a file
	// are compared before it is used where it lies; "*": all of them. For others
	// every byte is.
	SampleFrom []string `toml:"sample_from"`
}

// here is where the disk is on this machine.
func (d DiskMap) here() string {
	if d.To == "" {
		return d.From
	}
	return d.To
}

// validateDisks says what is wrong with a list of disks.
func validateDisks(list []DiskMap) error {
	if len(list) > maxDiskMaps {
		return fmt.Errorf("paths.map has %d entries; there may be %d", len(list), maxDiskMaps)
	}
	for i, d := range list {
		switch {
		case !rooted(d.From):
			return fmt.Errorf("paths.map: from is %q; it needs the form //SERVER/SHARE, P:\\FOLDER or /FOLDER", d.From)
		case !filepath.IsAbs(d.here()) || len(d.here()) > 4096:
			return fmt.Errorf("paths.map: to is %q for %s, which is not an absolute path of this machine", d.here(), d.From)
		case filepath.Dir(filepath.Clean(d.here())) == filepath.Clean(d.here()) && runtime.GOOS != "windows":
			return fmt.Errorf("paths.map: to is %q for %s: that is the whole machine", d.here(), d.From)
		}
		if j := slices.IndexFunc(list[:i], func(o DiskMap) bool { return sameFolder(o.From, d.From) }); j >= 0 {
			return fmt.Errorf("paths.map has %q twice", d.From)
		}
	}
	return nil
}

// slashed is a path of any system with slashes, clean; whether it is one of
// Windows, where case does not count.
func slashed(p string) (_ string, windows bool) {
	windows = strings.HasPrefix(p, `\\`) || strings.HasPrefix(p, "//") || drive(p)
	if windows {
		p = strings.ReplaceAll(p, `\`, "/")
	}
	clean := path.Clean(p)
	if strings.HasPrefix(p, "//") && !strings.HasPrefix(clean, "//") {
		clean = "/" + clean // of a server
	}
	return clean, windows
}

// drive reports whether a path begins with the letter of a drive.
func drive(p string) bool {
	if len(p) < 3 || p[1] != ':' || p[2] != '/' && p[2] != '\\' {
		return false
	}
	c := p[0] | 0x20
	return c >= 'a' && c <= 'z'
}

// rooted reports whether a path of any system says where it begins, and is not
// all of a machine.
func rooted(p string) bool {
	clean, _ := slashed(p)
	if strings.ContainsRune(p, 0) || len(p) > 4096 {
		return false
	}
	return drive(p) || strings.HasPrefix(clean, "/") && len(strings.Trim(clean, "/")) > 0
}

// under returns what of a path of any system is below a folder, with slashes.
func under(folder, p string) (rel string, ok bool) {
	f, windows := slashed(folder)
	p, also := slashed(p)
	if windows != also || len(p) <= len(f)+1 || p[len(f)] != '/' {
		return "", false
	}
	if p[:len(f)] != f && !(windows && strings.EqualFold(p[:len(f)], f)) {
		return "", false
	}
	return p[len(f)+1:], true
}

// sameFolder reports whether two texts name one folder.
func sameFolder(a, b string) bool {
	x, windows := slashed(a)
	y, also := slashed(b)
	return windows == also && (x == y || windows && strings.EqualFold(x, y))
}

// diskTexts are the entries in words.
func diskTexts(list []DiskMap) (out []string) {
	for _, d := range list {
		text := d.From
		if d.To != "" {
			text += " to " + d.To
		}
		if len(d.SampleFrom) > 0 {
			text += " sample_from " + strings.Join(d.SampleFrom, " ")
		}
		out = append(out, text)
	}
	return out
}
