package render

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskUsage adds up what lies below dir. Folders are entered by descriptor, one
// after the other, so that neither long paths nor links lead anywhere.
func diskUsage(dir string) usage {
	var u usage
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil {
		u.free, u.known = int64(fs.Bavail)*fs.Bsize, true
	}
	seen := map[[2]uint64]bool{} // files with several names
	var walk func(fd, depth int)
	walk = func(fd, depth int) {
		f := os.NewFile(uintptr(fd), "")
		defer f.Close()
		if depth > maxWatchedDepth {
			u.tooDeep = true
			return
		}
		for u.files <= maxFiles {
			names, err := f.Readdirnames(256)
			for _, name := range names {
				var st unix.Stat_t
				if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
					continue
				}
				u.files++
				if id := [2]uint64{uint64(st.Dev), st.Ino}; st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
					if seen[id] {
						continue
					}
					seen[id] = true
				}
				u.bytes += st.Blocks * 512
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					if sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
						walk(sub, depth+1)
					}
				}
			}
			if err != nil || len(names) == 0 {
				if err != nil && !errors.Is(err, io.EOF) {
					u.files++ // it changes under us: look again
				}
				return
			}
		}
	}
	if fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		walk(fd, 0)
	}
	return u
}

// unnamedFiles adds up the files that a tree of processes has open and that
// have no name any more: of disks, and of memory.
func unnamedFiles(tree []proc) (disk, memory int64) {
	seen := map[[2]uint64]bool{}
	for _, p := range tree {
		dir := filepath.Join("/proc", strconv.Itoa(p.pid), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			name := filepath.Join(dir, fd.Name())
			to, err := os.Readlink(name)
			if err != nil || !strings.HasSuffix(to, " (deleted)") {
				continue
			}
			fi, err := os.Stat(name)
			if err != nil || !fi.Mode().IsRegular() {
				continue
			}
			st, ok := fi.Sys().(*syscall.Stat_t)
			if !ok || seen[[2]uint64{uint64(st.Dev), st.Ino}] {
				continue
			}
			seen[[2]uint64{uint64(st.Dev), st.Ino}] = true
			if strings.HasPrefix(to, "/memfd:") {
				memory += st.Blocks * 512
			} else {
				disk += st.Blocks * 512
			}
		}
	}
	return disk, memory
}
