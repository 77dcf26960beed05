package imagefile

import (
	"encoding/binary"
	"math"
)

const (
	pngMagic = "\x89PNG\r\n\x1a\n"
	// pngForm begins an opened PNG; its digit is the version.
	pngForm = "idlewild png 1\n"
	// maxRow bounds the bytes of one row.
	maxRow = 4 << 20
)

// pngHeader is what IHDR says.
type pngHeader struct {
	width, height int64
	depth, colour int
	interlaced    bool
}

// samples of a pixel, by colour type; 0 is no colour type.
var pngSamples = [7]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

// parseIHDR checks the 13 bytes of an IHDR chunk against the PNG specification
// and our bounds. It returns what is wrong, "" if nothing.
func parseIHDR(b []byte) (h pngHeader, wrong string) {
	h.width = int64(binary.BigEndian.Uint32(b))
	h.height = int64(binary.BigEndian.Uint32(b[4:]))
	h.depth, h.colour = int(b[8]), int(b[9])
	h.interlaced = b[12] == 1
	if h.width == 0 || h.height == 0 || h.width > math.MaxInt32 || h.height > math.MaxInt32 {
		return h, "size of nothing"
	}
	if h.colour > 6 || pngSamples[h.colour] == 0 {
		return h, "unknown colour type"
	}
	switch h.depth {
	case 1, 2, 4:
		if h.colour != 0 && h.colour != 3 {
			return h, "depth does not go with the colour type"
		}
	case 8:
	case 16:
		if h.colour == 3 {
			return h, "depth does not go with the colour type"
		}
	default:
		return h, "unknown depth"
	}
	if b[10] != 0 || b[11] != 0 || b[12] > 1 {
		return h, "unknown compression, filter or interlace method"
	}
	if h.rowBytes(h.width) > maxRow {
		return h, "rows are too long"
	}
	// A pass has at most the whole's rows, and all passes at most eight bytes
	// of padding and filters more per row.
	if h.height > maxInflated/(h.rowBytes(h.width)+1) || h.inflated() > maxInflated {
		return h, "too many pixels"
	}
	return h, ""
}

// rowBytes of width pixels, without the filter byte.
func (h pngHeader) rowBytes(width int64) int64 {
	return (width*int64(pngSamples[h.colour]*h.depth) + 7) / 8
}

// predicted says whether rows are predicted; indices and packed bits are not
// numbers that neighbours foretell.
func (h pngHeader) predicted() bool { return h.depth >= 8 && h.colour != 3 }

// pass is a rectangle of pixels that is stored row by row: the whole image, or
// one of the seven of Adam7.
type pass struct{ width, height int64 }

var adam7 = [7]struct{ x0, y0, dx, dy int64 }{
	{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2},
}

// passes of the image that hold pixels, in file order.
func (h pngHeader) passes() []pass {
	if !h.interlaced {
		return []pass{{h.width, h.height}}
	}
	var out []pass
	for _, a := range adam7 {
		p := pass{(h.width - a.x0 + a.dx - 1) / a.dx, (h.height - a.y0 + a.dy - 1) / a.dy}
		if p.width > 0 && p.height > 0 {
			out = append(out, p)
		}
	}
	return out
}

// inflated is the number of bytes in the deflate stream.
func (h pngHeader) inflated() (n int64) {
	for _, p := range h.passes() {
		n += p.height * (h.rowBytes(p.width) + 1)
	}
	return n
}

// pngOrder checks which chunks follow each other. Both ways use it, so that
// what is opened can be rebuilt and the other way round.
type pngOrder struct {
	h       pngHeader
	chunks  int
	palette bool
	data    bool // an IDAT was seen
	done    bool // IEND was seen
	last    string
}

// known critical chunks, and those that make an image that this package does
// not know: APNG's frames and Apple's headerless deflate.
var (
	pngCritical = map[string]bool{"IHDR": true, "PLTE": true, "IDAT": true, "IEND": true}
	pngForeign  = map[string]bool{"acTL": true, "fcTL": true, "fdAT": true, "CgBI": true}
)

// next is told of a chunk's type and length and returns what is wrong with it,
// "" if nothing.
func (o *pngOrder) next(kind string, length int64) string {
	for _, c := range []byte(kind) {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return "chunk type is not four letters"
		}
	}
	first := o.chunks == 0
	o.chunks++
	switch {
	case o.done:
		return "chunk after IEND"
	case length > math.MaxInt32:
		return "chunk is too long"
	case pngForeign[kind], kind[0] < 'a' && !pngCritical[kind]:
		return "has a " + kind + " chunk"
	case first != (kind == "IHDR"):
		return "IHDR is not the first chunk"
	case first && length != 13:
		return "IHDR has a wrong length"
	case kind == "PLTE" && (o.palette || o.data || length == 0 || length%3 != 0 || length > 768):
		return "PLTE out of place"
	case kind == "IDAT" && o.data && o.last != "IDAT":
		return "IDAT chunks are apart"
	case kind == "IDAT" && o.h.colour == 3 && !o.palette:
		return "palette is missing"
	case kind == "IEND" && (!o.data || length != 0):
		return "IEND out of place"
	}
	o.palette = o.palette || kind == "PLTE"
	o.data = o.data || kind == "IDAT"
	o.done = kind == "IEND"
	o.last = kind
	return ""
}
