package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
)

// A pack is a file of blocks, one behind the other:
//
//	pack   = "IDLWPAK\x02" record*
//	record = crc u32le | size u32le | hash u8 | digest of the data (32) | data
//
// crc is CRC-32C of size, hash and digest; hash is the multihash code: 0x12
// sha2-256, 0x1e blake3. Whether the data is whole, its hash says. A
// pack only grows, until it has packBytes; its name is its number from 1 on,
// eight decimal digits and ".pack".
const (
	packMagic  = "IDLWPAK\x02"
	packBytes  = 256 << 20
	recordHead = 4 + 4 + 1 + digestBytes
	writeBytes = 256 << 10
	maxHandles = 128 // packs that are open for reading while nobody reads them
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is where a block lies.
type place struct {
	pack uint32
	off  int64 // of its record
}

// packFile is what the store does with a pack: an *os.File, or a fault.
type packFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// packs are the files of one store. What is open for reading is shared; the
// rest belongs to the writer.
type packs struct {
	dir  string
	max  int64
	open func(path string, flag int) (packFile, error)

	disk    atomic.Int64 // bytes of all packs
	known   map[uint32]*packed
	current packFile // the last of known, open for writing; nil: a new one is due
	buf     []byte   // records on their way to current
	last    uint32

	mu      sync.Mutex
	handles map[uint32]*handle
	closed  bool
}

// packed is what the writer knows of a pack.
type packed struct {
	size   int64 // of the file
	live   int64 // of it in records that the index names
	end    int64 // of the last of them
	sealed bool  // takes no more blocks, whatever its size
}

// handle is a pack that is open for reading.
type handle struct {
	f    packFile
	refs int
}

func openFile(path string, flag int) (packFile, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err // not a packFile that holds a nil *os.File
	}
	return f, nil
}

// openPacks lists the packs in dir, which is made where it is not there.
func openPacks(dir string) (*packs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	p := &packs{dir: dir, max: packBytes, open: openFile, known: map[uint32]*packed{}, handles: map[uint32]*handle{}}
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".pack")
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n == 0 || packName(uint32(n)) != e.Name() {
			continue // nothing of ours
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		p.known[uint32(n)] = &packed{size: info.Size()}
		p.disk.Add(info.Size())
		p.last = max(p.last, uint32(n))
	}
	return p, nil
}

func packName(n uint32) string { return fmt.Sprintf("%08d.pack", n) }

func (p *packs) path(n uint32) string { return filepath.Join(p.dir, packName(n)) }

// count notes a block that the index names.
func (p *packs) count(e entry) {
	if k := p.known[e.place.pack]; k != nil { // else a read finds it missing
		k.live += recordBytes(e.size)
		k.end = max(k.end, e.place.off+recordBytes(e.size))
	}
}

// discount undoes count.
func (p *packs) discount(e entry) {
	if k := p.known[e.place.pack]; k != nil {
		k.live -= recordBytes(e.size)
	}
}

// wasteful are the packs of which too much is dropped blocks.
func (p *packs) wasteful() []uint32 {
	var out []uint32
	for _, n := range p.numbers() {
		k := p.known[n]
		if dead := k.size - int64(len(packMagic)) - k.live; dead > 0 && dead*deadShare >= k.size {
			out = append(out, n)
		}
	}
	return out
}

// numbers are the packs in the order of their making.
func (p *packs) numbers() []uint32 { return slices.Sorted(maps.Keys(p.known)) }

// append writes blocks behind each other and syncs them. Where it fails nothing
// of them stays.
func (p *packs) append(bs []diffupload.Block) ([]place, error) {
	out := make([]place, 0, len(bs))
	for len(bs) > 0 {
		if err := p.writable(); err != nil {
			return nil, err
		}
		k := p.known[p.last]
		start, end := k.size, k.size
		n := 0
		var err error
		for n < len(bs) && (n == 0 || end+int64(len(bs[n].Data)) <= p.max) {
			if len(p.buf) > 0 && len(p.buf)+len(bs[n].Data) > writeBytes {
				if err = p.write(end); err != nil {
					break
				}
			}
			out = append(out, place{p.last, end})
			p.buf = appendRecord(p.buf, keyOf(bs[n].ID), bs[n].Data)
			end += recordBytes(uint32(len(bs[n].Data)))
			n++
		}
		if err == nil {
			err = p.write(end)
		}
		if err == nil {
			err = p.current.Sync()
		}
		if err != nil {
			// What was written may be anything. It lies behind what is known:
			// cut off, or written over by the next block.
			p.buf = p.buf[:0]
			if terr := p.current.Truncate(start); terr != nil {
				p.stop()
			}
			return nil, err
		}
		k.size = end
		p.disk.Add(end - start)
		bs = bs[n:]
	}
	return out, nil
}

// write writes what is collected, which ends at end.
func (p *packs) write(end int64) error {
	_, err := p.current.WriteAt(p.buf, end-int64(len(p.buf)))
	p.buf = p.buf[:0]
	return err
}

func appendRecord(buf []byte, k key, data []byte) []byte {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(data)))
	buf = append(buf, k[:]...)
	binary.LittleEndian.PutUint32(buf[at:], crc32.Checksum(buf[at+4:], castagnoli))
	return append(buf, data...)
}

func parseRecord(head []byte) (k key, size int64, ok bool) {
	n := binary.LittleEndian.Uint32(head[4:])
	if n == 0 || n > diffupload.MaxBlockBytes || !diffupload.Hash(head[8]).Known() || head[8] == 0 || crc32.Checksum(head[4:recordHead], castagnoli) != binary.LittleEndian.Uint32(head) {
		return k, 0, false
	}
	return key(head[8:recordHead]), int64(n), true
}

// recordBytes is what a block of so many bytes has in a pack.
func recordBytes(size uint32) int64 { return recordHead + int64(size) }

// writable has current open with room in it.
func (p *packs) writable() error {
	if k := p.known[p.last]; p.current != nil && !k.sealed && k.size < p.max {
		return nil
	}
	p.stop()
	if k := p.known[p.last]; k != nil && !k.sealed && k.size < p.max && k.size >= int64(len(packMagic)) {
		f, err := p.open(p.path(p.last), os.O_RDWR)
		if err != nil {
			return err
		}
		p.current = f
		return nil
	}
	if p.last == 1<<32-1 {
		return errors.New("no more packs can be made")
	}
	n := p.last + 1
	f, err := p.open(p.path(n), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt([]byte(packMagic), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = ondisk.SyncDir(p.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(p.path(n)))
	}
	p.current, p.last = f, n
	p.known[n] = &packed{size: int64(len(packMagic))}
	p.disk.Add(int64(len(packMagic)))
	return nil
}

// finish has a pack take no more blocks.
func (p *packs) finish(n uint32) { p.known[n].sealed = true }

// stop closes current.
func (p *packs) stop() {
	if p.current != nil {
		p.current.Close() // everything in it was synced
		p.current = nil
	}
}

// remove deletes a pack.
func (p *packs) remove(n uint32) error {
	if n == p.last {
		p.stop()
	}
	p.disk.Add(-p.known[n].size)
	delete(p.known, n)
	p.mu.Lock()
	if h := p.handles[n]; h != nil && h.refs == 0 {
		h.f.Close()
		delete(p.handles, n)
	}
	p.mu.Unlock()
	return os.Remove(p.path(n))
}

// read returns a block's data, or fs.ErrNotExist where there is no such pack:
// it may have moved.
func (p *packs) read(at place, size uint32) ([]byte, error) {
	h, err := p.acquire(at.pack)
	if err != nil {
		return nil, err
	}
	defer p.release(at.pack, h)
	data := make([]byte, size)
	_, err = h.f.ReadAt(data, at.off+recordHead)
	if err == io.EOF {
		err = diffupload.ErrCorrupt
	}
	return data, err
}

func (p *packs) acquire(n uint32) (*handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	h := p.handles[n]
	if h == nil {
		f, err := p.open(p.path(n), os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		h = &handle{f: f}
		p.handles[n] = h
	}
	h.refs++
	return h, nil
}

func (p *packs) release(n uint32, h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.refs--; h.refs == 0 && (p.closed || len(p.handles) > maxHandles) {
		h.f.Close()
		delete(p.handles, n)
	}
}

func (p *packs) close() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for n, h := range p.handles {
		if h.refs == 0 {
			h.f.Close()
			delete(p.handles, n)
		}
	}
}

// found is a whole block that lies in a pack.
type found struct {
	key   key
	data  []byte // until the next one
	place place
}

// scan yields the blocks in a pack from a record's offset on and returns where
// the last whole one ends. A block whose data is damaged is passed over; where a
// record's head is damaged nothing behind it can be found.
func (p *packs) scan(n uint32, from int64, each func(found) error) (end int64, err error) {
	f, err := p.open(p.path(n), os.O_RDONLY)
	if err != nil {
		return from, err
	}
	defer f.Close()
	size := p.known[n].size
	magic := make([]byte, len(packMagic))
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != packMagic {
		return 0, nil
	}
	head := make([]byte, recordHead)
	var data []byte
	for at := max(from, int64(len(packMagic))); ; {
		if at+recordHead > size {
			return at, nil
		}
		if _, err := f.ReadAt(head, at); err != nil {
			return at, err
		}
		k, length, ok := parseRecord(head)
		if !ok || at+recordHead+length > size {
			return at, nil
		}
		data = slices.Grow(data[:0], int(length))[:length]
		if _, err := f.ReadAt(data, at+recordHead); err != nil {
			return at, err
		}
		if diffupload.VerifyBlock(k.cid(), data) == nil {
			if err := each(found{k, data, place{n, at}}); err != nil {
				return at, err
			}
		}
		at += recordHead + length
	}
}

// cut takes off what lies behind end in the pack that was written last.
func (p *packs) cut(n uint32, end int64) error {
	if end < int64(len(packMagic)) {
		return p.remove(n)
	}
	k := p.known[n]
	if k.size <= end {
		return nil
	}
	f, err := p.open(p.path(n), os.O_RDWR)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(end), f.Sync(), f.Close())
	if err == nil {
		p.disk.Add(end - k.size)
		k.size = end
	}
	return err
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
