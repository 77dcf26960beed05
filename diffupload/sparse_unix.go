//go:build linux || darwin || freebsd

package diffupload

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// seekHole returns where the next hole at or behind from begins; the end of a
// file is one.
func seekHole(f *os.File, from int64) (int64, error) { return f.Seek(from, unix.SEEK_HOLE) }

// seekData returns where the next data at or behind from begins; an error
// where there is none.
func seekData(f *os.File, from int64) (int64, error) { return f.Seek(from, unix.SEEK_DATA) }

// hasHoles says whether a file takes so much less of the disk than it is long
// that its holes are worth looking for.
func hasHoles(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && st.Size()-int64(sys.Blocks)*512 >= holeBytes
}
