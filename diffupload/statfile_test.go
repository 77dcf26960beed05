package diffupload

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
)

func statEntries() map[string]cacheEntry {
	s := Stamp{Size: 5, Mtime: -1, Ctime: 1 << 60, Dev: 3, Inode: 1 << 63, Mode: 0o644}
	return map[string]cacheEntry{
		"how /a":  {Stamp: s, Seen: 1e9, Entry: Entry{Size: 3, Kind: KindInline, Mode: 1, Data: []byte("abc")}},
		"how /b":  {Stamp: s, Seen: -5, Entry: Entry{CID: chunkLink(3).CID, Size: 3, Kind: KindChunk}},
		"how /c":  {Stamp: s, Entry: Entry{CID: Ref{BLAKE3.NodeID(nil)}, Size: 1 << 40, Kind: KindFile}},
		"how /日本": {Entry: Entry{Kind: KindInline, Data: []byte{}}},
	}
}

func TestStatFile(t *testing.T) {
	want := statEntries()
	b := encodeStatFile(want)
	got, err := decodeStatFile(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v: %v", got, err)
	}
	for n := range b {
		spoilt := append([]byte{}, b...)
		spoilt[n] ^= 0x10
		if _, err := decodeStatFile(spoilt); err == nil {
			t.Errorf("byte %d spoilt and not noticed", n)
		}
		if _, err := decodeStatFile(b[:n]); err == nil {
			t.Errorf("cut at %d and not noticed", n)
		}
	}
}

func FuzzDecodeStatFile(f *testing.F) {
	f.Add(encodeStatFile(statEntries())[len(statCacheMagic):])
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is no obstacle to whoever writes the file.
		b = append([]byte(statCacheMagic), b...)
		m, err := decodeStatFile(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
		if err != nil {
			return
		}
		if again, err := decodeStatFile(encodeStatFile(m)); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%v", err)
		}
	})
}
