package diffupload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload/blendfile"
	"idlewild/diffupload/delta"
)

// manyLeaves puts a manifest of one file of n chunks of one byte into m.
func manyLeaves(t *testing.T, m *Memory, n int) cid.Cid {
	t.Helper()
	r, err := run(t.Context(), m, Options{}, false, func(s *snapshot) (cid.Cid, error) {
		b := Block{ID: s.Hash.ChunkID([]byte("x")), Data: []byte("x")}
		s.sink.add(b)
		f := flatFile{size: int64(n), encoding: Plain}
		for range n {
			f.leaves = append(f.leaves, leaf{id: b.ID, size: 1})
		}
		e, err := s.entry(f)
		if err != nil {
			return cid.Undef, err
		}
		e.Name = "a"
		top, err := s.tree([]Entry{e}, 0)
		return top.CID.Cid, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Root
}

// packedDoc is a document of a structure alone.
func packedDoc(structure []byte, rest ...byte) []byte {
	z := packedEnc.EncodeAll(structure, nil)
	return append(append(binary.AppendUvarint([]byte{flagPacked}, uint64(len(z))), z...), rest...)
}

// costOf refuses doc and says how long that took and what it allocated.
func costOf(t *testing.T, m Store, have cid.Cid, doc []byte) (time.Duration, uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	_, err := Rebuild(t.Context(), m, have, NodeID([]byte("nowhere")), doc, Limits{})
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrEdits) {
		t.Errorf("%v", err)
	}
	return took, after.TotalAlloc - before.TotalAlloc
}

// Many new files that have one long file as base cost what they are, not that
// often the base.
func TestRebuildListsABaseOnce(t *testing.T) {
	m := &Memory{}
	have := manyLeaves(t, m, 100_000)
	var s []byte
	const n = 2000
	for i := range n {
		name := fmt.Sprintf("b%06d", i)
		s = append(s, fileAdd, 0, byte(len(name)))
		s = append(s, name...)
		s = append(s, 1, 1) // base 0, no leaves
	}
	took, bytes := costOf(t, m, have, packedDoc(append([]byte{1<<2 | fileKeep}, s...)))
	if took > time.Minute || bytes > 256<<20 {
		t.Errorf("%v and %d MB for %d files", took, bytes>>20, n)
	}
}

// Operations on no leaves, and those that only move the cursor, take no memory.
func TestRebuildRefusesEmptyOperations(t *testing.T) {
	m := &Memory{}
	have := manyLeaves(t, m, 5000)
	head := []byte{formSame<<2 | fileChange}
	for what, ops := range map[string]string{
		"of no leaves":  strings.Repeat(string([]byte{leafSame}), 4_000_000),
		"to and fro":    strings.Repeat(string([]byte{2<<3 | leafMove, 1<<3 | leafMove}), 2_000_000),
		"no new leaves": strings.Repeat(string([]byte{leafSized}), 4_000_000),
	} {
		took, bytes := costOf(t, m, have, packedDoc(append(head, ops+"\x01"...)))
		if took > time.Minute || bytes > 64<<20 {
			t.Errorf("%s: %v and %d MB", what, took, bytes>>20)
		}
	}
}

// A byte of difference in many files does not read a large chunk for each.
func TestRebuildReadsLittleForDifferences(t *testing.T) {
	m := &Memory{}
	big := noise(3, 1<<20)
	r, err := run(t.Context(), m, Options{}, false, func(s *snapshot) (cid.Cid, error) {
		b := Block{ID: s.Hash.ChunkID(big), Data: big}
		s.sink.add(b)
		e, err := s.entry(flatFile{size: int64(len(big)), encoding: EXROpen, leaves: []leaf{{id: b.ID, size: int64(len(big))}}})
		if err != nil {
			return cid.Undef, err
		}
		e.Name = "a"
		top, err := s.tree([]Entry{e}, 0)
		return top.CID.Cid, err
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	s := []byte{1<<2 | fileKeep}
	for i := range n {
		name := fmt.Sprintf("b%06d", i)
		s = append(s, fileAdd, 0, byte(len(name)))
		s = append(s, name...)
		s = append(s, 1)                                                                // base 0
		s = append(binary.AppendUvarint(append(s, 1<<3|leafSized), zigzag(1-1<<20)), 1) // one of one byte
	}
	doc := packedDoc(s)
	doc[0] |= flagLess
	less := packedEnc.EncodeAll(make([]byte, n), nil)
	doc = append(binary.AppendUvarint(doc, uint64(len(less))), less...)
	c := &Counting{Store: m}
	costOf(t, c, r.Root, doc)
	if _, bytes := c.Fetched(); bytes > 2<<30 {
		t.Errorf("%d MB were read for %d new bytes", bytes>>20, n)
	}
}

// Chunks that have nothing but sizes in common are compared in time that grows
// with their number.
func TestAlignIsNotQuadratic(t *testing.T) {
	const n = 200_000
	f := &newFile{}
	id := func(i int) cid.Cid { return ChunkID(binary.LittleEndian.AppendUint64(nil, uint64(i))) }
	for i := range n {
		f.flat.leaves = append(f.flat.leaves, leaf{id: id(i), size: []int64{7, 9}[i%2]})
	}
	for i := range 2 * n {
		f.from.leaves = append(f.from.leaves, leaf{id: id(n + i), size: []int64{8, 9}[i%2]})
	}
	begin := time.Now()
	f.align(nil)
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("%v", took)
	}
}

// One datablock of many chunks that all changed gives hints that together are
// not much longer than it.
func TestHintsOfALargeDatablockAreBounded(t *testing.T) {
	const n, size = 8000, 8 << 10
	f := &newFile{base: 0}
	b := newBaseBytes(true)
	var fresh []delta.Span
	for i := range n {
		f.from.leaves = append(f.from.leaves, leaf{size: size})
		fresh = append(fresh, delta.Span{Off: i * size, Len: size})
		b.at[leafPlace{0, i}] = delta.Span{Off: i * size, Len: size}
	}
	ids := []blendfile.ID{{Key: "IMbig", Length: n * size}}
	sum := 0
	for _, h := range f.match(fresh, 0, ids, ids, b) {
		sum += h.Base.Len
	}
	if sum > 256*n*size {
		t.Errorf("%d MB of base are to be looked at for %d MB", sum>>20, n*size>>20)
	}
}

// TestStructureIsBounded: the largest structure is opened, one a byte longer is not.
func TestStructureIsBounded(t *testing.T) {
	for size, opened := range map[int]bool{maxStructure: true, maxStructure + 1: false, maxFreshBytes: false} {
		b, err := unpackStructure(packedEnc.EncodeAll(make([]byte, size), nil))
		if opened != (err == nil) || opened && len(b) != size || !opened && !errors.Is(err, ErrEdits) {
			t.Errorf("%d bytes: %d, %v", size, len(b), err)
		}
	}
}
