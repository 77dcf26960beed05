package diffupload

import (
	"io/fs"
	"time"
)

// stamp is what tells that a file is still the same one: size, both times and
// identity, as far as the platform has them.
type stamp struct {
	Size  int64
	Mtime int64 // nanoseconds since 1970
	Ctime int64 // of the inode, 0 where there is none
	Dev   uint64
	Inode uint64
	Mode  uint32
}

func stampOf(st fs.FileInfo) stamp {
	s := stamp{Size: st.Size(), Mtime: st.ModTime().UnixNano(), Mode: uint32(st.Mode())}
	s.fill(st)
	return s
}

// settled reports whether both times are so much older than the scan that a
// write since would show in them: file systems and kernels round times.
func (s stamp) settled(scan time.Time) bool {
	limit := scan.Add(-settleTime).UnixNano()
	return s.Mtime <= limit && s.Ctime <= limit
}

const settleTime = 2 * time.Second
