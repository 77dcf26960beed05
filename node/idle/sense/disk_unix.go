//go:build unix

package sense

import (
	"context"

	"golang.org/x/sys/unix"

	"idlewild/node/idle"
)

// disk tells how much is free where a folder is.
type disk struct{ dir string }

// Sense implements Source.
func (d disk) Sense(context.Context) (func(*idle.Signals), error) {
	free, err := DiskFree(d.dir)
	if err != nil {
		return nil, err
	}
	return func(s *idle.Signals) { s.DiskFree = &free }, nil
}

// DiskFree is how many bytes are free where a folder is.
func DiskFree(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
