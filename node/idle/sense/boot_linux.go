package sense

import (
	"os"
	"strings"
)

// Boot names this start of the machine, or is "" where nothing tells.
func Boot() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
