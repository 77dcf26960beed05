//go:build unix

package node

import (
	"io/fs"
	"sync"
	"syscall"
)

// umask is the mask that files made by this program get. It can only be read
// by setting it, so that is done once.
var umask = sync.OnceValue(func() fs.FileMode {
	m := syscall.Umask(0o022)
	syscall.Umask(m)
	return fs.FileMode(m)
})
