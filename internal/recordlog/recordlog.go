// Package recordlog keeps an append-only sequence of records on disk.
//
// A log is a folder of segments. A segment is a header and frames; a frame is
// a length, a checksum and a record. Each checksum covers the length and the
// record and is seeded with the one before it, so a frame is valid only in its
// place. What a crash left half-written at the end is cut off when the log is
// opened; a log that was damaged elsewhere is read up to the damage, and what
// follows is put aside. A record that was not written is never returned.
package recordlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Header of a segment, little-endian: magic (8), the user's magic (4), the
// user's version (2), flags (2), segment number (8), checksum of these (4).
const (
	magic      = "IDLWLOG\x01"
	headerSize = 28
	// FrameBytes is what a record costs beside itself: length and checksum.
	FrameBytes = 8

	// flagStart: the log begins here; segments before it were rewritten into it.
	flagStart = 1
)

var table = crc32.MakeTable(crc32.Castagnoli)

// ErrNewer is returned for a log that a newer version of the program wrote.
var ErrNewer = errors.New("written by a newer version of this program")

// ErrInDoubt is wrapped by every error after which nobody can know what is on
// disk: the log must be opened anew. After any other error nothing was written,
// and the call can be tried again.
var ErrInDoubt = errors.New("log in doubt")

// Options describe a log.
type Options struct {
	Magic        string // four bytes: what is in it
	Version      uint16 // of the records; an older log may be read, a newer one not
	MaxRecord    int    // bytes of one record; 16 MiB
	SegmentBytes int64  // a new segment is begun after this many bytes; 8 MiB
	Disk         Disk   // nil: the machine's own
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Magic) != 4 {
		return o, fmt.Errorf("recordlog: magic %q is not four bytes", o.Magic)
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = 16 << 20
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 8 << 20
	}
	if o.Disk == nil {
		o.Disk = System{}
	}
	return o, nil
}

// Log is an open log. Its methods may be called from several goroutines.
type Log struct {
	dir  string
	o    Options
	Cut  int64  // bytes that were cut off at open: a torn tail, or damage
	Torn string // what was cut and why; empty where nothing was
	// Upgraded: what was there is of an older version.
	Upgraded bool

	mu      sync.Mutex // guards what follows, and writing
	f       File
	seq     uint64 // of the segment in f
	size    int64
	crc     uint32 // of the newest frame
	written uint64 // records appended
	total   int64  // bytes in all segments
	dead    error  // sticky: the state of the file is unknown

	syncMu sync.Mutex // held during fsync: callers that wait share the next
	synced uint64     // guarded by syncMu
}

// Open opens the log in dir, making it if need be, and hands every record to
// replay in order; the slice is valid during the call only. What it handed out
// survives a power cut once it returns, also where a process that was killed had
// not synced it. Only one Log may be open in a folder (see ondisk.Lock).
func Open(dir string, o Options, replay func(rec []byte) error) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.Disk.MkdirAll(dir); err != nil {
		return nil, err
	}
	l := &Log{dir: dir, o: o}
	old, segs, err := l.segments()
	if err != nil {
		return nil, err
	}
	if len(segs) > 0 {
		// Names that a killed process gave: nothing is removed before they last.
		if err := o.Disk.SyncDir(dir); err != nil {
			return nil, err
		}
	}
	// What a rewriting left behind when it was cut short.
	if err := l.remove(old); err != nil {
		return nil, err
	}
	version := o.Version
	for i, seq := range segs {
		good, crc, v, why, err := l.read(seq, replay)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.path(seq), err)
		}
		if good > 0 {
			version = v
		}
		if why == "" && i+1 < len(segs) && segs[i+1] != seq+1 {
			why = fmt.Sprintf("segment %d is missing", seq+1)
		}
		l.seq, l.size, l.crc = seq, good, crc
		l.total += good
		if why != "" {
			if err := l.repair(segs[i:], good, why); err != nil {
				return nil, err
			}
			break
		}
	}
	if l.size == 0 {
		l.seq = max(l.seq, 1)
		return l, l.begin(l.seq)
	}
	// Segments before the last one were synced when it was begun.
	if l.f, err = o.Disk.Open(l.path(l.seq), os.O_RDWR); err == nil {
		err = l.f.Sync()
	}
	if err == nil && version < o.Version {
		// An older program must not take new records for damage.
		l.Upgraded = true
		err = l.begin(l.seq + 1)
	}
	if err != nil && l.f != nil {
		l.f.Close()
	}
	return l, err
}

// remove deletes segments, the oldest first, and files of a rewriting.
func (l *Log) remove(segs []uint64) error {
	names, err := l.o.Disk.List(l.dir)
	if err != nil {
		return err
	}
	var left []string
	for _, name := range names {
		if strings.HasSuffix(name, ".new") {
			left = append(left, filepath.Join(l.dir, name))
		}
	}
	for _, seq := range segs {
		left = append(left, l.path(seq))
	}
	for _, path := range left {
		if err := l.o.Disk.Remove(path); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return l.o.Disk.SyncDir(l.dir)
	}
	return nil
}

func (l *Log) path(seq uint64) string { return filepath.Join(l.dir, fmt.Sprintf("%08d.log", seq)) }

// head is the header of a segment and its checksum.
func (l *Log) head(seq uint64, flags uint16) ([]byte, uint32) {
	h := make([]byte, 0, headerSize)
	h = append(h, magic...)
	h = append(h, l.o.Magic...)
	h = binary.LittleEndian.AppendUint16(h, l.o.Version)
	h = binary.LittleEndian.AppendUint16(h, flags)
	h = binary.LittleEndian.AppendUint64(h, seq)
	crc := crc32.Checksum(h, table)
	return binary.LittleEndian.AppendUint32(h, crc), crc
}

// frames appends records to b as they stand behind the frame with checksum crc.
func (l *Log) frames(b []byte, crc uint32, recs [][]byte) ([]byte, uint32, error) {
	n := 0
	for _, r := range recs {
		if len(r) > l.o.MaxRecord {
			return nil, 0, fmt.Errorf("recordlog: record of %d bytes where at most %d are allowed", len(r), l.o.MaxRecord)
		}
		n += FrameBytes + len(r)
	}
	b = slices.Grow(b, n)
	for _, r := range recs {
		at := len(b)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r)))
		crc = frameSum(crc, b[at:], r)
		b = binary.LittleEndian.AppendUint32(b, crc)
		b = append(b, r...)
	}
	return b, crc, nil
}

// Rewrite replaces everything in the log by records that say the same: after a
// power cut either all of the old ones are there or all of the new ones. It is
// not for several goroutines at a time. An error other than ErrInDoubt leaves
// the log as it was.
func (l *Log) Rewrite(recs ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return l.dead
	}
	seq := l.seq + 1
	h, crc := l.head(seq, flagStart)
	b, crc, err := l.frames(h, crc, recs)
	if err != nil {
		return err
	}
	tmp := filepath.Join(l.dir, fmt.Sprintf("%08d.new", seq))
	f, err := l.o.Disk.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("recordlog: %w", err)
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if runtime.GOOS == "windows" && err == nil {
		// An open file cannot be renamed there.
		err = f.Close()
		f = nil
	}
	if err == nil {
		err = l.o.Disk.Rename(tmp, l.path(seq))
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		l.o.Disk.Remove(tmp)
		return fmt.Errorf("recordlog: %w", err)
	}
	if err = l.o.Disk.SyncDir(l.dir); err == nil && f == nil {
		f, err = l.o.Disk.Open(l.path(seq), os.O_RDWR)
	}
	if err != nil {
		l.dead = fmt.Errorf("%w: %w", ErrInDoubt, err)
		return l.dead
	}
	l.f.Close()
	l.f, l.seq, l.size, l.crc, l.total = f, seq, int64(len(b)), crc, int64(len(b))
	l.written += uint64(len(recs))
	if segs, err := segments(l.o.Disk, l.dir); err == nil {
		// What cannot be removed now is at the next opening.
		l.remove(slices.DeleteFunc(segs, func(s uint64) bool { return s >= seq }))
	}
	return nil
}

// begin makes f a new segment; its header reaches the disk before it returns.
func (l *Log) begin(seq uint64) error {
	h, crc := l.head(seq, 0)
	f, err := l.o.Disk.Open(l.path(seq), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(h, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.o.Disk.SyncDir(l.dir)
	}
	if err != nil {
		f.Close()
		l.o.Disk.Remove(l.path(seq))
		return err
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f, l.seq, l.size, l.crc = f, seq, headerSize, crc
	l.total += headerSize
	return nil
}

// Append writes records. They survive the end of this process; only Sync makes
// them survive a power cut. Either all of them are in the log or, with an
// error, none; after an error that leaves the file in doubt every call fails.
func (l *Log) Append(recs ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return l.dead
	}
	if l.size > l.o.SegmentBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	buf, crc, err := l.frames(nil, l.crc, recs)
	if err != nil {
		return err
	}
	if _, err := l.f.WriteAt(buf, l.size); err != nil {
		if terr := l.f.Truncate(l.size); terr != nil {
			l.dead = fmt.Errorf("%w: %w", ErrInDoubt, errors.Join(err, terr))
			return l.dead
		}
		return fmt.Errorf("recordlog: %w", err)
	}
	l.size += int64(len(buf))
	l.total += int64(len(buf))
	l.crc = crc
	l.written += uint64(len(recs))
	return nil
}

// rotate ends the segment: a later one is never begun before all of it is on
// disk.
func (l *Log) rotate() error {
	if err := l.f.Sync(); err != nil {
		l.dead = fmt.Errorf("%w: sync: %w", ErrInDoubt, err)
		return l.dead
	}
	return l.begin(l.seq + 1)
}

// Sync returns once every record appended before the call is on disk. Calls
// that overlap share one fsync.
func (l *Log) Sync() error {
	l.mu.Lock()
	want := l.written
	l.mu.Unlock()
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	if l.synced >= want {
		return nil
	}
	l.mu.Lock()
	f, have, dead := l.f, l.written, l.dead
	l.mu.Unlock()
	if dead != nil {
		return dead
	}
	// A rotation meanwhile closes f after syncing it.
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrClosed) {
		// What a failed fsync left on disk cannot be known.
		l.mu.Lock()
		l.dead = fmt.Errorf("%w: sync: %w", ErrInDoubt, err)
		dead := l.dead
		l.mu.Unlock()
		return dead
	}
	l.synced = have
	return nil
}

// Bytes is the size of the log on disk.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Close syncs and closes.
func (l *Log) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == nil {
		l.dead = fs.ErrClosed
	}
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	return err
}
