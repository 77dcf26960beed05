package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// physicalMemory in bytes; 0 where the system does not tell.
func physicalMemory() int64 { return meminfo("MemTotal") }

// availableMemory is how much more this machine's programs can have without
// anything being swapped, of which a control group around us may leave us less;
// 0 where the system does not tell.
func availableMemory() int64 {
	left := meminfo("MemAvailable")
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/"); ok {
			left = groupMemory("/sys/fs/cgroup", group, left)
		}
	}
	return left
}

// groupMemory is what the group and those around it, up to the mount of all of
// them, leave of left.
func groupMemory(mount, group string, left int64) int64 {
	for {
		dir := filepath.Join(mount, group)
		if most, err := number(filepath.Join(dir, "memory.max")); err == nil {
			used, _ := number(filepath.Join(dir, "memory.current"))
			left = min(left, max(0, most-used+cached(dir)))
		}
		if group == "" || group == "." {
			return left
		}
		group = filepath.Dir(group)
	}
}

// cached is what a group holds of files and gives up first.
func cached(dir string) int64 {
	b, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "inactive_file" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// number is the one in a file of the kernel's; "max" is none.
func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// meminfo is one line of /proc/meminfo, in bytes.
func meminfo(name string) int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name+":" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
