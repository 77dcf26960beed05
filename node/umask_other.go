//go:build !unix

package node

import "io/fs"

func umask() fs.FileMode { return 0 }
