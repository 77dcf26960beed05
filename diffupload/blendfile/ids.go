package blendfile

import (
	"context"
	"io"
)

// ID is a datablock of a canonical .blend and where it lies.
type ID struct {
	// Key is its type and name, "OBCube". A datablock of a library has "\x00"
	// and the library's own name behind it, "OBCube\x00LIprops.blend", and the
	// place that holds it in the file that links it begins with "ID". Blocks
	// that are no datablocks have their code, "GLOB" or "DNA1". The second of
	// one key has "\x00#2" behind it.
	Key string
	// Offset and Length are of its block and those that belong to it, in bytes.
	Offset, Length int64
}

// IDs lists the datablocks of the canonical .blend in r, which has size bytes,
// in the order of the file. It reads the heads of blocks and skips their data.
func IDs(ctx context.Context, r io.ReaderAt, size int64) ([]ID, error) {
	c := content{ReaderAt: r, size: size}
	f, err := formatOf(c)
	if err != nil {
		return nil, err
	}
	p := &plan{format: f, ids: map[uint64]uint32{}}
	if err := p.readHeads(ctx, c, size); err != nil {
		return nil, err
	}
	p.filter = newFilter(0)
	if err := p.readIDs(newWindow(c, 64<<10)); err != nil {
		return nil, err
	}
	out := make([]ID, len(p.scopes))
	met := map[string]int{}
	end := size
	for i := range p.scopes {
		s := &p.scopes[i]
		text := p.text(s, 0)
		n := met[text]
		met[text]++
		if n > 0 {
			text = p.text(s, n)
		}
		out[i].Key, out[i].Offset = text, s.at
		if i > 0 {
			out[i-1].Length = s.at - out[i-1].Offset
		}
	}
	last := &out[len(out)-1] // ENDB
	last.Length = min(end-last.Offset, int64(p.headBytes))
	return out, nil
}
