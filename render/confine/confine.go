// Package confine takes rights away from a process from inside of it, under a
// sandbox of namespaces: files by Landlock, memory, threads and file sizes by
// resource limits, system calls by a filter.
//
// Some of that can only be done by the process itself, after its namespaces
// are made and before the program starts. So the sandbox starts this very
// program again, with a Spec in its environment; it gives up what the Spec
// says and becomes the program. That happens in this package's init: whatever
// program holds the package can be used so, and none can forget to ask.
package confine

import (
	"encoding/json"
	"fmt"
)

// env holds the Spec of a process that is to become another.
const env = "IDLEWILD_CONFINE"

// Spec is what is left to a process. Zero numbers mean no limit.
type Spec struct {
	Threads   int64 `json:"threads,omitempty"`    // of all its processes; the kernel does not hold root to it
	FileBytes int64 `json:"file_bytes,omitempty"` // of one file
	DataBytes int64 `json:"data_bytes,omitempty"` // of writable memory, of one process

	// What it may still reach, files and folders; those that are not there
	// are passed over. Everything else is out of reach where the kernel has
	// Landlock.
	Read    []string `json:"read,omitempty"`    // and execute
	Write   []string `json:"write,omitempty"`   // and read
	Devices []string `json:"devices,omitempty"` // and use

	// Same is the path of a file that lists Sames, as JSON; it is removed. The
	// program does not start unless all of them are so. Empty: nothing is looked at.
	Same string `json:"same,omitempty"`
}

// Same is a file that has to be the one that was looked at outside: a name can
// have come to lead elsewhere since then.
type Same struct {
	Path  string `json:"path"`
	Dev   uint64 `json:"dev"`
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // nanoseconds since 1970
}

// Environ is the setting that makes a process confine itself: this program,
// started with the arguments that it is to become.
func (s Spec) Environ() (name, value string, err error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", "", fmt.Errorf("confinement: %w", err)
	}
	return env, string(b), nil
}
