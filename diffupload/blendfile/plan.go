package blendfile

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sort"
)

// memory is how many bytes the plan of a file may take beyond the file's size.
const memory = 32 << 20

// Bytes that a block and a datablock count for.
const (
	blockCost = 20
	scopeCost = 160
)

// windowBytes is how much of a content is read at a time.
const windowBytes = 256 << 10

// plan is what has to be known of a whole file before its first block can be
// written in canonical form.
type plan struct {
	format
	dna *sdna

	olds   []uint64 // address of each block
	sizes  []uint32 // bytes of each block of structs, 0 for raw data
	sorted []uint32 // the DATA blocks of each scope, by address and number
	scopes []scope
	ids    map[uint64]uint32 // scope of an ID's address; the last of that address
	filter filter

	arrays  bitset   // blocks of raw data that are arrays of pointers
	dropped []uint32 // single blocks that go, ascending
	scene   uint32   // scope of the current scene, whose view layers GLOB points to

	tails map[uint32]uint8  // blocks of raw data whose last bytes mean nothing, and how many
	roomy map[uint32]uint64 // blocks that something leads into, and their canonical addresses
}

// scope is one block that is no DATA, and the DATA blocks behind it, which are
// its own: Blender looks up addresses among these and those of the IDs.
type scope struct {
	first   uint32 // its first block; the next scope's is its end
	at      int64  // of its first block's head
	code    string
	name    string // of an ID: "OBCube"
	lib     uint64 // address of the ID's library
	library int32  // its scope, -1 without
	key     uint64
	base    uint64 // canonical address before its first block
	twice   bool   // two DATA blocks have one address
	dropped bool
}

// text is the key that says which datablock it is, the n-th of that key.
func (p *plan) text(s *scope, n int) string {
	k := s.name
	if k == "" {
		k = s.code
	}
	if s.library >= 0 {
		k += "\x00" + p.scopes[s.library].name
	}
	if n > 0 {
		k += fmt.Sprintf("\x00#%d", n+1)
	}
	return k
}

func hashOf(text string) uint64 {
	h := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(h[:])
}

// newPlan reads the whole content.
func newPlan(ctx context.Context, c content, f format, fileSize int64) (*plan, error) {
	p := &plan{format: f, ids: map[uint64]uint32{}, roomy: map[uint32]uint64{}, tails: map[uint32]uint8{}}
	if err := p.readHeads(ctx, c, fileSize); err != nil {
		return nil, err
	}
	p.sort()
	w := newWindow(c, windowBytes)
	if err := p.readIDs(w); err != nil {
		return nil, err
	}
	if err := p.scan(ctx, w); err != nil {
		return nil, err
	}
	return p, p.place()
}

// readHeads notes every block's address and the scopes, and reads DNA1.
func (p *plan) readHeads(ctx context.Context, c content, fileSize int64) error {
	w := newWindow(c, 64<<10)
	var dna span64
	budget := memory + fileSize
	err := p.blocks(w, func(i int, h head, _ []byte, at int64) error {
		if i%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		budget -= blockCost
		if h.code != "DATA" || len(p.scopes) == 0 {
			budget -= scopeCost
			p.scopes = append(p.scopes, scope{first: uint32(i), at: at - int64(p.headBytes), code: h.code, library: -1, dropped: droppedBlocks[h.code]})
		}
		if budget < 0 || i >= 1<<31 {
			return fmt.Errorf("%w: more than %d blocks in %d bytes", ErrNotVouched, i, fileSize)
		}
		p.olds = append(p.olds, h.old)
		size := uint32(0)
		if h.sdna > 0 {
			size = uint32(min(h.size, 1<<32-1))
		}
		p.sizes = append(p.sizes, size)
		if h.code == "DNA1" {
			if dna.size > 0 {
				return fmt.Errorf("%w: two blocks DNA1", ErrNotVouched)
			}
			dna = span64{at, h.size}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if dna.size == 0 || dna.size > maxDNA-largeHeadBytes {
		return fmt.Errorf("%w: block DNA1 of %d bytes", ErrNotVouched, dna.size)
	}
	d, err := newWindow(c, int(dna.size)).peek(dna.at, int(dna.size))
	if err != nil {
		return err
	}
	p.dna, err = parseDNA(d, p.order, p.pointer)
	return err
}

type span64 struct{ at, size int64 }

// end is the block behind scope s.
func (p *plan) end(s int) uint32 {
	if s+1 < len(p.scopes) {
		return p.scopes[s+1].first
	}
	return uint32(len(p.olds))
}

// sort makes addresses findable.
func (p *plan) sort() {
	p.sorted = make([]uint32, len(p.olds))
	p.arrays = newBitset(len(p.olds))
	p.filter = newFilter(len(p.olds))
	for i := range p.sorted {
		p.sorted[i] = uint32(i)
	}
	for s := range p.scopes {
		sc := &p.scopes[s]
		if sc.dropped {
			continue
		}
		data := p.sorted[sc.first+1 : p.end(s)]
		slices.SortFunc(data, func(a, b uint32) int {
			switch x, y := p.olds[a], p.olds[b]; {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return int(int64(a) - int64(b))
		})
		for i, b := range data {
			p.filter.add(p.olds[b])
			sc.twice = sc.twice || i > 0 && p.olds[data[i-1]] == p.olds[b]
		}
	}
}

// find returns the block that address leads to from scope s, as Blender finds
// it: the last DATA block of that address in the scope, or else the last ID.
// near is a guess of the block.
func (p *plan) find(s uint32, address uint64, near uint32) (block, owner uint32, ok bool) {
	if address == 0 {
		return 0, 0, false
	}
	sc := &p.scopes[s]
	end := p.end(int(s))
	if near > sc.first && near < end && !sc.twice && p.olds[near] == address {
		return near, s, true
	}
	if !p.filter.has(address) {
		return 0, 0, false
	}
	if b, ok := p.findData(s, address); ok {
		return b, s, true
	}
	if o, ok := p.ids[address]; ok {
		return p.scopes[o].first, o, true
	}
	if sc.code == "GLOB" && p.scene != 0 {
		b, ok := p.findData(p.scene, address)
		return b, p.scene, ok
	}
	return 0, 0, false
}

func (p *plan) findData(s uint32, address uint64) (block uint32, ok bool) {
	b, ok := p.before(s, address)
	return b, ok && p.olds[b] == address
}

// before is the last DATA block of scope s whose address is at most that.
func (p *plan) before(s uint32, address uint64) (block uint32, ok bool) {
	data := p.sorted[p.scopes[s].first+1 : p.end(int(s))]
	i := sort.Search(len(data), func(i int) bool { return p.olds[data[i]] > address })
	if i == 0 {
		return 0, false
	}
	return data[i-1], true
}

// into finds the block of scope s that address leads into, behind its first
// byte. Blender makes sense of some such pointers: to the strips that are shown
// of a sequence, which are a part of a meta strip, or to the active point of a
// mask, which is one of many in a block.
func (p *plan) into(s uint32, address uint64) (block uint32, ok bool) {
	if address == 0 || address%4 != 0 {
		return 0, false
	}
	first := p.scopes[s].first
	if d := address - p.olds[first]; p.olds[first] != 0 && d > 0 && d < uint64(p.sizes[first]) {
		return first, true
	}
	b, ok := p.before(s, address)
	return b, ok && p.olds[b] != 0 && address-p.olds[b] < uint64(p.sizes[b])
}

// readIDs reads the names of the IDs, and of what library each is.
func (p *plan) readIDs(w *window) error {
	nameAt, nameSize, err := p.dna.offset("ID", "name", p.order)
	if err != nil {
		return err
	}
	libAt, _, err := p.dna.offset("ID", "lib", p.order)
	if err != nil {
		return err
	}
	var scene uint64
	for i := range p.scopes {
		s := &p.scopes[i]
		if s.dropped || s.code == "DNA1" || s.code == "ENDB" {
			continue
		}
		b, err := w.peek(s.at, p.headBytes)
		if err != nil {
			return err
		}
		h := p.head(b)
		l, err := p.blockLayout(h)
		if err != nil {
			return err
		}
		if l == nil || !l.id && h.code != "GLOB" {
			continue
		}
		if b, err = w.peek(s.at+int64(p.headBytes), l.size); err != nil {
			return err
		}
		if h.code == "GLOB" {
			at, _, err := p.dna.offset("FileGlobal", "curscene", p.order)
			if err == nil && l.name == "FileGlobal" && at+p.pointer <= len(b) {
				scene = p.word(b[at:])
			}
			continue
		}
		if len(b) < max(nameAt+nameSize, libAt+p.pointer) {
			return fmt.Errorf("%w: DNA1: struct %q is smaller than the ID that it begins with", ErrNotVouched, l.name)
		}
		name, _, _ := bytes.Cut(b[nameAt:nameAt+nameSize], []byte{0})
		s.name, s.lib = string(name), p.word(b[libAt:])
		if h.code == "ID" {
			s.name = "ID" + s.name
		}
		p.ids[h.old] = uint32(i)
		p.filter.add(h.old)
	}
	delete(p.ids, 0)
	p.scene = p.ids[scene]
	for i := range p.scopes {
		s := &p.scopes[i]
		if o, ok := p.ids[s.lib]; ok && p.scopes[o].code == "LI" && int(o) != i {
			s.library = int32(o)
		}
	}
	return nil
}

// scan looks into all blocks for what decides about others: which raw data is
// an array of pointers, which previews there are.
func (p *plan) scan(ctx context.Context, w *window) error {
	x := newScanner(p, w)
	s := -1
	err := p.blocks(w, func(i int, h head, _ []byte, at int64) error {
		if i%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s+1 < len(p.scopes) && int(p.scopes[s+1].first) == i {
			s++
		}
		if p.scopes[s].dropped || h.code == "DNA1" || h.code == "ENDB" {
			return nil
		}
		return x.block(uint32(s), uint32(i), h, at)
	})
	if err != nil {
		return err
	}
	return x.finish()
}

// blockLayout returns the layout of a block's struct, nil where it is raw data.
// Index 0 stands for that: Blender writes no block of its list's first struct.
func (p *plan) blockLayout(h head) (*layout, error) {
	if h.sdna == 0 || h.size == 0 {
		return nil, nil
	}
	if h.sdna < 0 || h.sdna >= len(p.dna.structs) {
		return nil, fmt.Errorf("%w: block %q has struct %d of %d", ErrNotVouched, h.code, h.sdna, len(p.dna.structs))
	}
	l, err := p.dna.layout(h.sdna, p.order)
	if err != nil {
		return nil, err
	}
	if l.size == 0 || h.size%int64(l.size) != 0 {
		return nil, fmt.Errorf("%w: block %q of %d bytes for structs %q of %d", ErrNotVouched, h.code, h.size, l.name, l.size)
	}
	return l, nil
}

// place gives every scope its key and canonical addresses.
func (p *plan) place() error {
	space := newSpace(p.pointer)
	met := map[string]int{}
	for i := range p.scopes {
		s := &p.scopes[i]
		if s.dropped {
			continue
		}
		text := p.text(s, 0)
		n := met[text]
		met[text]++
		if n > 0 {
			text = p.text(s, n)
		}
		s.key = hashOf(text)
		var err error
		if s.base, err = space.take(s.key, int(p.end(i)-s.first)); err != nil {
			return err
		}
	}
	return p.placeRoomy(space)
}

// placeRoomy gives the blocks that something leads into addresses that are as
// far from each other as they are long.
func (p *plan) placeRoomy(space *space) error {
	blocks := slices.Sorted(maps.Keys(p.roomy))
	for len(blocks) > 0 {
		i, _ := slices.BinarySearchFunc(p.scopes, blocks[0], func(s scope, b uint32) int { return cmp.Compare(int64(s.first), int64(b)+1) })
		s := &p.scopes[i-1]
		n, room := 0, 0
		for n < len(blocks) && blocks[n] < p.end(i-1) {
			room += int(p.sizes[blocks[n]]+15) / 16
			n++
		}
		at, err := space.take(hashOf(fmt.Sprintf("%d", s.key)), room)
		if err != nil {
			return err
		}
		at += 16
		for _, b := range blocks[:n] {
			p.roomy[b] = at
			at += (uint64(p.sizes[b]) + 15) &^ 15
		}
		blocks = blocks[n:]
	}
	return nil
}

// address is the canonical address of a block that is kept.
func (p *plan) address(block, owner uint32) uint64 {
	if len(p.roomy) > 0 {
		if a, ok := p.roomy[block]; ok {
			return a
		}
	}
	s := &p.scopes[owner]
	n := block - s.first
	if len(p.dropped) > 0 {
		n -= uint32(p.droppedBefore(block) - p.droppedBefore(s.first))
	}
	return s.base + 16*uint64(n+1)
}

func (p *plan) droppedBefore(block uint32) int {
	i, _ := slices.BinarySearch(p.dropped, block)
	return i
}

func (p *plan) isDropped(block uint32) bool {
	if len(p.dropped) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(p.dropped, block)
	return ok
}

// canonical is what stands in a canonical file for address, found from scope s.
func (p *plan) canonical(s uint32, address uint64, near *uint32) uint64 {
	b, owner, ok := p.find(s, address, *near)
	if ok {
		*near = b + 1
		if p.isDropped(b) {
			return 0
		}
		return p.address(b, owner)
	}
	if b, ok := p.into(s, address); ok {
		if a, ok := p.roomy[b]; ok {
			return a + address - p.olds[b]
		}
	}
	return 0
}
