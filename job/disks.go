package job

import (
	"fmt"
	"strings"
)

// Bounds of what says where files lie.
const (
	MaxDiskFiles     = 1 << 16
	MaxDiskListBytes = 16 << 20
	maxDiskPathBytes = 4 << 10
)

// DiskFile says that a file of a job's content lies on a disk that several
// machines have, so that one that has it too need not be sent the file. It is a
// hint: what lies there counts only as far as it is what the content's manifest
// says. A list of them is stored as a file of its own, which a Lease names.
type DiskFile struct {
	Name string `cbor:"name"` // in the manifest
	// At is its path by the name that the disk has among the machines, with
	// slashes: "//nas/projects/shot/wood.exr".
	At   string `cbor:"at"`
	Size int64  `cbor:"size"` // in bytes
	Mod  int64  `cbor:"mod"`  // when it was changed last, in nanoseconds since 1970
}

// diskList is what is stored.
type diskList struct {
	Version int        `cbor:"v"` // 1
	Files   []DiskFile `cbor:"files"`
}

// EncodeDiskFiles returns what is stored of a list.
func EncodeDiskFiles(files []DiskFile) ([]byte, error) { return Encode(diskList{1, files}) }

// DecodeDiskFiles reads a list that a peer made.
func DecodeDiskFiles(b []byte) ([]DiskFile, error) {
	var l diskList
	if err := Decode(b, MaxDiskListBytes, &l); err != nil {
		return nil, fmt.Errorf("files on disks: %w", err)
	}
	if l.Version != 1 || len(l.Files) > MaxDiskFiles {
		return nil, fmt.Errorf("files on disks: version %d with %d files; this program knows 1, with at most %d", l.Version, len(l.Files), MaxDiskFiles)
	}
	for _, f := range l.Files {
		if len(f.Name) > maxDiskPathBytes || len(f.At) > maxDiskPathBytes || f.Size < 0 || strings.ContainsRune(f.At, 0) {
			return nil, fmt.Errorf("files on disks: a file over its bounds")
		}
	}
	return l.Files, nil
}
