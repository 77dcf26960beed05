package diffupload

import (
	"io/fs"
	"time"
)

// Stamp is what tells that a file is still the same one: size, both times and
// identity, as far as the platform has them.
type Stamp struct {
	Size  int64
	Mtime int64 // nanoseconds since 1970
	Ctime int64 // of the inode, 0 where there is none
	Dev   uint64
	Inode uint64
	Mode  uint32
}

// StampOf returns the stamp of a file that was looked at.
func StampOf(st fs.FileInfo) Stamp {
	s := Stamp{Size: st.Size(), Mtime: st.ModTime().UnixNano(), Mode: uint32(st.Mode())}
	s.fill(st)
	return s
}

// Settled reports whether both times are so much older than the scan that a
// write since would show in them: file systems and kernels round times.
func (s Stamp) Settled(scan time.Time) bool {
	limit := scan.Add(-settleTime).UnixNano()
	return s.Mtime <= limit && s.Ctime <= limit
}

const settleTime = 2 * time.Second
