package sense

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxTree bounds how many processes are taken for ours.
const maxTree = 4096

// ourTree are this process and all that it started, by number.
func ourTree() map[int]bool {
	tree := map[int]bool{os.Getpid(): true}
	queue := []int{os.Getpid()}
	for len(queue) > 0 && len(tree) < maxTree {
		pid := queue[0]
		queue = queue[1:]
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			continue
		}
		for _, t := range threads {
			b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", t.Name(), "children"))
			if err != nil {
				continue
			}
			for _, f := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(f); err == nil && !tree[n] {
					tree[n] = true
					queue = append(queue, n)
				}
			}
		}
	}
	return tree
}

// procTimes of one process in the kernel's ticks: its own and those of children
// that it waited for.
type procTimes struct {
	user, system, childUser, childSystem uint64
	nice                                 int
}

// parseTimes reads the text of /proc/<pid>/stat, whose name may hold anything.
func parseTimes(b []byte) (t procTimes, ok bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return t, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 17 {
		return t, false
	}
	num := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
	t = procTimes{user: num(11), system: num(12), childUser: num(13), childSystem: num(14)}
	t.nice, _ = strconv.Atoi(f[16])
	return t, true
}

// processName is a process's short name, "" when it is gone.
func processName(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// pidKnown reports whether a process has that number here.
func pidKnown(pid int) bool {
	_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	return err == nil
}
