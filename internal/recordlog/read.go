package recordlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// segments lists the segments of the log, and those before its start.
func (l *Log) segments() (old, segs []uint64, err error) {
	if segs, err = segments(l.o.Disk, l.dir); err != nil {
		return nil, nil, err
	}
	for i := len(segs) - 1; i > 0; i-- {
		h, err := l.header(segs[i])
		if err != nil {
			return nil, nil, err
		}
		if _, flags, why, err := l.parse(segs[i], h); err == nil && why == "" && flags&flagStart != 0 {
			return segs[:i], segs[i:], nil
		}
	}
	return nil, segs, nil
}

func segments(d Disk, dir string) ([]uint64, error) {
	names, err := d.List(dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, name := range names {
		name, ok := strings.CutSuffix(name, ".log")
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// header reads the first bytes of a segment, fewer where there are fewer.
func (l *Log) header(seq uint64) ([]byte, error) {
	f, err := l.o.Disk.Open(l.path(seq), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := make([]byte, headerSize)
	n, err := f.ReadAt(h, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return h[:n], nil
}

// parse reads a header; why says what is wrong with it.
func (l *Log) parse(seq uint64, b []byte) (version, flags uint16, why string, err error) {
	if len(b) < headerSize {
		return 0, 0, "torn header", nil
	}
	if binary.LittleEndian.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], table) || string(b[:8]) != magic || binary.LittleEndian.Uint64(b[16:]) != seq {
		return 0, 0, "damaged header", nil
	}
	if string(b[8:12]) != l.o.Magic {
		return 0, 0, "", fmt.Errorf("holds %q, not %q", b[8:12], l.o.Magic)
	}
	version, flags = binary.LittleEndian.Uint16(b[12:]), binary.LittleEndian.Uint16(b[14:])
	if version > l.o.Version {
		return 0, 0, "", fmt.Errorf("format %d: %w (it knows %d)", version, ErrNewer, l.o.Version)
	}
	return version, flags, "", nil
}

// read replays one segment. good is the offset behind the last valid frame, 0
// where not even the header is; why says what follows it, "" for nothing.
func (l *Log) read(seq uint64, replay func([]byte) error) (good int64, crc uint32, version uint16, why string, err error) {
	b, err := l.o.Disk.Read(l.path(seq))
	if err != nil {
		return 0, 0, 0, "", err
	}
	version, _, why, err = l.parse(seq, b)
	if err != nil || why != "" {
		return 0, 0, 0, why, err
	}
	crc = binary.LittleEndian.Uint32(b[headerSize-4:])
	good = headerSize
	for rest := b[headerSize:]; len(rest) > 0; {
		if len(rest) < FrameBytes {
			return good, crc, version, "torn frame", nil
		}
		n := binary.LittleEndian.Uint32(rest)
		if int64(n) > int64(l.o.MaxRecord) || int64(n) > int64(len(rest)-FrameBytes) {
			return good, crc, version, "torn frame", nil
		}
		rec := rest[FrameBytes : FrameBytes+int(n)]
		sum := frameSum(crc, rest[:4], rec)
		if binary.LittleEndian.Uint32(rest[4:]) != sum {
			return good, crc, version, "checksum does not match", nil
		}
		if err := replay(rec); err != nil {
			return 0, 0, 0, "", fmt.Errorf("record at %d: %w", good, err)
		}
		crc, good, rest = sum, good+FrameBytes+int64(n), rest[FrameBytes+int(n):]
	}
	return good, crc, version, "", nil
}

func frameSum(prev uint32, length, rec []byte) uint32 {
	var seed [4]byte
	binary.LittleEndian.PutUint32(seed[:], ^prev) // so that zeros are no valid frame
	c := crc32.Update(0, table, seed[:])
	c = crc32.Update(c, table, length)
	return crc32.Update(c, table, rec)
}

// repair cuts segs[0] at good and puts everything after it aside.
func (l *Log) repair(segs []uint64, good int64, why string) error {
	l.Torn = fmt.Sprintf("%s at byte %d of segment %d", why, good, segs[0])
	for _, seq := range segs[1:] {
		if b, err := l.o.Disk.Read(l.path(seq)); err == nil {
			l.Cut += int64(len(b))
		}
		if err := l.o.Disk.Rename(l.path(seq), l.path(seq)+".damaged"); err != nil {
			return err
		}
	}
	b, err := l.o.Disk.Read(l.path(segs[0]))
	if err != nil {
		return err
	}
	tail := b[good:]
	l.Cut += int64(len(tail))
	// More than one torn write can leave is kept for a person to look at.
	if len(segs) > 1 || (len(tail) > FrameBytes && int64(binary.LittleEndian.Uint32(tail)) < int64(len(tail)-FrameBytes)) {
		f, err := l.o.Disk.Open(l.path(segs[0])+".damaged", os.O_RDWR|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(tail, 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	f, err := l.o.Disk.Open(l.path(segs[0]), os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(good); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return l.o.Disk.SyncDir(l.dir)
}
