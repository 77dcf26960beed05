package diffupload

import (
	"io/fs"
	"time"
)

// stamp is what tells that a file is still the same one: size, both times and
// identity, as far as the platform has them.
type stamp struct {
	Size  int64  `cbor:"1,keyasint"`
	Mtime int64  `cbor:"2,keyasint"` // nanoseconds since 1970
	Ctime int64  `cbor:"3,keyasint"` // of the inode, 0 where there is none
	Dev   uint64 `cbor:"4,keyasint"`
	Inode uint64 `cbor:"5,keyasint"`
	Mode  uint32 `cbor:"6,keyasint"`
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
