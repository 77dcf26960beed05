package diffupload

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	"github.com/ipfs/go-cid"
)

// The file of a stat cache:
//
//	file   = "idlewild statcache 3\n" n entry* crc
//	entry  = text(key) size mtime ctime dev inode mode seen what
//	what   = 0 stored xmode text(data)                            inline
//	       | 1 stored xmode text(cid)                             chunk
//	       | 2 stored xmode text(cid)                             file
//	text   = length byte*
//
// Numbers are unsigned varints, times zigzag; crc is CRC-32C of all before it,
// u32le. Text of all files makes the file: it is read at every start, so it is
// no CBOR.
const statCacheMagic = "idlewild statcache 3\n"

var errStatFile = errors.New("stat cache: damaged")

var statKinds = []EntryKind{KindInline, KindChunk, KindFile}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeStatFile(entries map[string]cacheEntry) []byte {
	b := binary.AppendUvarint([]byte(statCacheMagic), uint64(len(entries)))
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for key, e := range entries {
		text(key)
		b = binary.AppendUvarint(b, uint64(e.Stamp.Size))
		b = binary.AppendVarint(b, e.Stamp.Mtime)
		b = binary.AppendVarint(b, e.Stamp.Ctime)
		b = binary.AppendUvarint(b, e.Stamp.Dev)
		b = binary.AppendUvarint(b, e.Stamp.Inode)
		b = binary.AppendUvarint(b, uint64(e.Stamp.Mode))
		b = binary.AppendVarint(b, e.Seen)
		b = append(b, byte(slices.Index(statKinds, e.Entry.Kind)))
		b = binary.AppendUvarint(b, uint64(e.Entry.Size))
		b = append(b, byte(e.Entry.Mode))
		if e.Entry.Kind == KindInline {
			text(string(e.Entry.Data))
		} else {
			text(e.Entry.CID.KeyString())
		}
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeStatFile(b []byte) (map[string]cacheEntry, error) {
	if len(b) < len(statCacheMagic)+4 || string(b[:len(statCacheMagic)]) != statCacheMagic {
		return nil, errStatFile
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errStatFile
	}
	r := statReader{b: body[len(statCacheMagic):]}
	n := r.number()
	if n > maxStatEntries || n > uint64(len(r.b)) {
		return nil, errStatFile
	}
	out := make(map[string]cacheEntry, n)
	for range n {
		var e cacheEntry
		key := string(r.text())
		e.Stamp.Size = int64(r.number())
		e.Stamp.Mtime = r.signed()
		e.Stamp.Ctime = r.signed()
		e.Stamp.Dev = r.number()
		e.Stamp.Inode = r.number()
		e.Stamp.Mode = uint32(r.number())
		e.Seen = r.signed()
		kind := r.byte()
		e.Entry.Size = int64(r.number())
		e.Entry.Mode = int(r.byte())
		what := r.text()
		if r.bad || int(kind) >= len(statKinds) {
			return nil, errStatFile
		}
		if e.Entry.Kind = statKinds[kind]; e.Entry.Kind == KindInline {
			e.Entry.Data = slices.Clone(what)
		} else if id, err := cid.Cast(what); err == nil {
			e.Entry.CID = Ref{id}
		}
		if e.Entry.validate() != nil {
			return nil, errStatFile
		}
		out[key] = e
	}
	if len(r.b) > 0 {
		return nil, errStatFile
	}
	return out, nil
}

// statReader reads what is left of b; bad once there was too little.
type statReader struct {
	b   []byte
	bad bool
}

func (r *statReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	return took(r, v, n)
}

func (r *statReader) signed() int64 {
	v, n := binary.Varint(r.b)
	return took(r, v, n)
}

func took[T any](r *statReader, v T, n int) T {
	if n <= 0 {
		r.bad, r.b = true, nil
		return v
	}
	r.b = r.b[n:]
	return v
}

func (r *statReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *statReader) text() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}
