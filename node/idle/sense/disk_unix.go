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
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return nil, err
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	return func(s *idle.Signals) { s.DiskFree = &free }, nil
}
