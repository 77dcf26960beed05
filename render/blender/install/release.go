package install

import (
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Release is an official archive of a Blender, pinned by the hash of its bytes.
type Release struct {
	Version string // "4.5.4"
	System  string // "linux-x64", "windows-x64"
	SHA256  string // hexadecimal
}

// DefaultMirror is where official archives lie.
const DefaultMirror = "https://download.blender.org/release"

// Known are the releases that this program can vouch for.
var Known = []Release{
	{"3.6.23", "linux-x64", "0e9a18af4d0060b825e9617e24a775f759e0f9f67271c062f3d53a539030af00"},
	{"4.2.15", "linux-x64", "b9dcc1d06861529779e7faf8d82c9dd3563443dfb1eb14212424c8c40b77074e"},
	{"4.5.4", "linux-x64", "2e6ef8e99fc36327270429ddc8e7bad2859dd878a5a137d2e0bf0f02f6792505"},
	{"4.5.4", "windows-x64", "0de55df1d99e4e7152605022cb648e795d5d49209c5c5c4889e1a19fb401a054"},
	{"5.0.1", "linux-x64", "8019580ee1b7262e505f4196a00237ccf743c88d205b38d34201510676e60b09"},
}

// ParseRelease reads "4.5.5 linux-x64 SHA256", as settings write it.
func ParseRelease(s string) (Release, error) {
	f := strings.Fields(s)
	if len(f) != 3 {
		return Release{}, fmt.Errorf("%q is not a version, a system and a SHA-256, as \"4.5.5 linux-x64 2e6e…\"", s)
	}
	r := Release{f[0], f[1], strings.ToLower(f[2])}
	if b, err := hex.DecodeString(r.SHA256); err != nil || len(b) != 32 {
		return r, fmt.Errorf("%q is no SHA-256: it needs 64 hexadecimal digits", f[2])
	}
	if len(numbers(r.Version)) != 3 {
		return r, fmt.Errorf("%q is no version, as 4.5.5", r.Version)
	}
	if r.System != "linux-x64" && r.System != "windows-x64" {
		return r, fmt.Errorf("%q is no system whose archives can be unpacked: linux-x64 or windows-x64", r.System)
	}
	return r, nil
}

// System is this machine's, in the names of archives; empty where there are
// none that can be unpacked.
func System() string {
	if runtime.GOARCH != "amd64" {
		return ""
	}
	switch runtime.GOOS {
	case "linux", "windows":
		return runtime.GOOS + "-x64"
	}
	return ""
}

// IsVersion tells a version from a path: "4.5" or "4.5.4".
func IsVersion(s string) bool { n := len(numbers(s)); return n == 2 || n == 3 }

// numbers are those of a version; none where it is not one.
func numbers(s string) []int {
	var out []int
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 999 || strconv.Itoa(n) != part {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// Choose finds a release for a system: "4.5" is the newest 4.5 that is known.
// Those in more go before the program's own.
func Choose(version, system string, more []Release) (Release, error) {
	var best Release
	var have []string
	for _, r := range append(slices.Clone(more), Known...) {
		if r.System != system {
			continue
		}
		if !slices.Contains(have, r.Version) {
			have = append(have, r.Version)
		}
		if (r.Version == version || strings.HasPrefix(r.Version, version+".")) && (best.Version == "" || slices.Compare(numbers(best.Version), numbers(r.Version)) < 0) {
			best = r
		}
	}
	if best.Version == "" {
		if system == "" {
			return best, fmt.Errorf("archives for this system cannot be unpacked: install Blender %s yourself and add it with: idlewild blender add PATH", version)
		}
		return best, fmt.Errorf("no hash of Blender %s for %s is known, only of %s: put \"%s %s SHA256\" into blender.releases, with the hash from blender.org, or add a path", version, system, strings.Join(have, ", "), version, system)
	}
	return best, nil
}

// Folder is the name of what the archive holds.
func (r Release) Folder() string { return "blender-" + r.Version + "-" + r.System }

// Archive is the archive's file name.
func (r Release) Archive() string {
	if strings.HasPrefix(r.System, "windows") {
		return r.Folder() + ".zip"
	}
	return r.Folder() + ".tar.xz"
}

// URL of the archive on a mirror that is laid out as download.blender.org.
func (r Release) URL(mirror string) string {
	n := numbers(r.Version)
	return fmt.Sprintf("%s/Blender%d.%d/%s", strings.TrimRight(mirror, "/"), n[0], n[1], r.Archive())
}
