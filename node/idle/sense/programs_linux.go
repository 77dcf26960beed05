package sense

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

var platformGameFolders []string

// listPrograms reads /proc.
func listPrograms(known func(pid int) bool) ([]running, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, errNoList
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, errNoList
	}
	var out []running
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || known(pid) {
			continue
		}
		r := running{pid: pid}
		exe, err := os.Readlink(filepath.Join("/proc", n, "exe"))
		if err == nil {
			r.path = strings.TrimSuffix(exe, " (deleted)")
		}
		line, _ := os.ReadFile(filepath.Join("/proc", n, "cmdline"))
		arg0, _, _ := bytes.Cut(line, []byte{0})
		if p := winePath(string(arg0)); p != "" {
			r.path = p
		} else if r.path == "" { // another user's, or a thread of the kernel's
			r.path = string(arg0)
		}
		r.name = path.Base(r.path)
		if r.path == "" {
			r.name = processName(pid)
		}
		out = append(out, r)
	}
	return out, nil
}
