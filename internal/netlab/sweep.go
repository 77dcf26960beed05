package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sweep removes the namespaces of labs whose program was killed and could not.
func Sweep() error {
	all, err := os.ReadDir(filepath.Dir(namespacePath("x")))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range all {
		pid, ok := labOf(e.Name())
		if !ok {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !os.IsNotExist(err) {
			continue // it may still use them
		}
		if err := run("ip", "netns", "del", e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// prefixOf names the namespaces of a process's nth lab; labOf reads it again.
func prefixOf(pid int, n int64) string { return fmt.Sprintf("nl%d-%d-", pid, n) }

func labOf(namespace string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(namespace, "nl")
	if !ok {
		return 0, false
	}
	parts := strings.SplitN(rest, "-", 3)
	if len(parts) != 3 {
		return 0, false
	}
	pid, err := strconv.Atoi(parts[0])
	if _, err2 := strconv.ParseUint(parts[1], 10, 63); err != nil || err2 != nil || pid < 1 {
		return 0, false
	}
	return pid, true
}
