package diffupload

import (
	"io/fs"
	"syscall"
)

func (s *Stamp) fill(st fs.FileInfo) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.Ctime = sys.Ctimespec.Nano()
		s.Dev, s.Inode = uint64(sys.Dev), sys.Ino
	}
}
