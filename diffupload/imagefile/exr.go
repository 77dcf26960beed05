package imagefile

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
)

const (
	exrMagic = "\x76\x2f\x31\x01"
	// exrForm begins an opened OpenEXR file; its digit is the version.
	exrForm = "idlewild exr 1\n"

	maxEXRHeader     = 4 << 20 // bytes of all headers, preview image included
	maxEXRParts      = 1 << 10
	maxEXRAttributes = 1 << 12  // of a part
	maxEXRSampled    = 16       // channels of a part that are not in every line
	maxEXRChunks     = 1 << 19  // of all parts
	maxEXRChunk      = 20 << 20 // pixel bytes of one chunk
)

// Flags in the version field.
const (
	exrVersion   = 2
	exrTiled     = 0x200
	exrLongNames = 0x400
	exrDeep      = 0x800
	exrMultipart = 0x1000
)

// exrLines of a scanline chunk, by the compressions that are opened.
var exrLines = map[byte]int64{exrNone: 1, exrZIPS: 1, exrZIP: 16}

const (
	exrNone = 0
	exrZIPS = 2
	exrZIP  = 3
)

// exrHeader is what the headers of a file say about its chunks.
type exrHeader struct {
	multipart bool
	parts     []exrPart
	chunks    int   // of all parts
	pixels    int64 // bytes of all chunks
}

// exrPart is one image of the file.
type exrPart struct {
	zip                    bool // chunks are deflated
	lines                  int64
	xMin, yMin, xMax, yMax int64
	channels               []exrChannel
	sampled                []exrChannel // those that are not in every line
	pixel                  int64        // bytes of a pixel that has all channels
	line                   int64        // bytes of the channels that are in every line
	tiled                  bool
	tileW, tileH           int64
	mode                   byte // levels: 0 one, 1 mipmap, 2 ripmap
	roundUp                bool
}

type exrChannel struct{ bytes, dx, dy int64 }

// parseEXR reads the magic and the headers at the beginning of b. It returns
// how many bytes they take, 0 if b ends before they do, or what is wrong.
func parseEXR(b []byte) (h exrHeader, n int, wrong string) {
	p := &exrParser{b: b}
	p.take(4)
	version := uint32(p.i32())
	if p.short {
		return h, 0, ""
	}
	if version&0xff != exrVersion || version&^(0xff|exrTiled|exrLongNames|exrDeep|exrMultipart) != 0 || version&exrDeep != 0 {
		return h, 0, "version or deep data that is not opened"
	}
	h.multipart = version&exrMultipart != 0
	for {
		if h.multipart && len(h.parts) > 0 && len(p.b) > 0 && p.b[0] == 0 {
			p.take(1)
			break
		}
		if len(h.parts) == maxEXRParts {
			return h, 0, "too many parts"
		}
		part, chunks, pixels, wrong := p.part(version)
		if p.short || wrong != "" {
			return h, 0, wrong
		}
		h.parts = append(h.parts, part)
		h.chunks += chunks
		h.pixels += pixels
		if h.chunks > maxEXRChunks || h.pixels > maxInflated {
			return h, 0, "too many pixels or chunks"
		}
		if !h.multipart {
			break
		}
	}
	for _, part := range h.parts {
		if part.zip {
			return h, len(b) - len(p.b), ""
		}
	}
	return h, 0, "nothing in it is deflated"
}

// exrParser reads fields off b; short is set where b ends before a field does.
type exrParser struct {
	b     []byte
	short bool
}

func (p *exrParser) take(n int) []byte {
	if p.short || n < 0 || n > len(p.b) {
		p.short = true
		return make([]byte, min(max(n, 0), 64))
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *exrParser) i32() int64 { return int64(int32(binary.LittleEndian.Uint32(p.take(4)))) }

// text reads a string that ends in a NUL byte.
func (p *exrParser) text() string {
	i := bytes.IndexByte(p.b, 0)
	if i < 0 {
		p.short = true
		return ""
	}
	return string(p.take(i + 1)[:i])
}

// exrTypes are those of the attributes that must be there.
var exrTypes = map[string]string{"channels": "chlist", "compression": "compression", "dataWindow": "box2i", "type": "string"}

// part reads one header.
func (p *exrParser) part(version uint32) (part exrPart, chunks int, pixels int64, wrong string) {
	part.tiled = version&exrTiled != 0
	seen, known := map[string]bool{}, map[string]bool{}
	declared := int64(-1)
	for {
		name := p.text()
		if p.short || name == "" {
			break
		}
		kind, size := p.text(), p.i32()
		if size < 0 || size > maxEXRHeader {
			return part, 0, 0, "an attribute is too long"
		}
		if seen[name] || len(seen) == maxEXRAttributes {
			return part, 0, 0, "an attribute stands twice, or too many of them"
		}
		v := exrParser{b: p.take(int(size))}
		if p.short {
			break
		}
		seen[name] = true
		// An attribute of another type than its own is none.
		known[name] = exrTypes[name] == kind
		switch name + " " + kind {
		case "channels chlist":
			if wrong := part.setChannels(&v); wrong != "" {
				return part, 0, 0, wrong
			}
		case "compression compression":
			c := v.take(1)[0]
			part.zip = c != exrNone
			if part.lines = exrLines[c]; part.lines == 0 {
				return part, 0, 0, "compression that is not opened"
			}
		case "dataWindow box2i":
			part.xMin, part.yMin, part.xMax, part.yMax = v.i32(), v.i32(), v.i32(), v.i32()
		case "tiles tiledesc":
			part.tileW, part.tileH = v.i32(), v.i32()
			m := v.take(1)[0]
			part.mode, part.roundUp = m&15, m>>4 == 1
			if m>>4 > 1 || part.mode > 2 {
				return part, 0, 0, "unknown levels"
			}
		case "type string":
			switch string(v.b) {
			case "scanlineimage":
				part.tiled = false
			case "tiledimage":
				part.tiled = true
			default:
				return part, 0, 0, "type of part that is not opened"
			}
		case "chunkCount int":
			declared = v.i32()
		}
		if v.short {
			return part, 0, 0, "an attribute is too short"
		}
	}
	if p.short {
		return part, 0, 0, ""
	}
	for _, need := range []string{"channels", "compression", "dataWindow"} {
		if !known[need] {
			return part, 0, 0, need + " is missing"
		}
	}
	if version&exrMultipart != 0 && (!known["type"] || declared < 0) {
		return part, 0, 0, "type or chunkCount is missing"
	}
	count, pixels, wrong := part.measure()
	if wrong == "" && declared >= 0 && declared != count {
		wrong = "chunkCount is wrong"
	}
	return part, int(count), pixels, wrong
}

func (part *exrPart) setChannels(v *exrParser) (wrong string) {
	for {
		if name := v.text(); v.short || name == "" {
			return ""
		}
		kind := v.i32()
		v.take(4)
		c := exrChannel{bytes: 4, dx: v.i32(), dy: v.i32()}
		switch kind {
		case 0, 2:
		case 1:
			c.bytes = 2
		default:
			return "unknown type of channel"
		}
		if c.dx < 1 || c.dy < 1 {
			return "impossible sampling"
		}
		part.channels = append(part.channels, c)
		part.pixel += c.bytes
	}
}

// measure returns the number of chunks and the bytes in them, uncompressed.
func (part *exrPart) measure() (chunks, pixels int64, wrong string) {
	w, h := part.xMax-part.xMin+1, part.yMax-part.yMin+1
	if w < 1 || h < 1 || part.pixel == 0 {
		return 0, 0, "no pixels"
	}
	// One row first, so that no product overflows.
	if w*part.pixel > maxEXRChunk || h > maxInflated/(w*part.pixel) {
		return 0, 0, "too many pixels"
	}
	for _, c := range part.channels {
		if c.dy == 1 {
			part.line += samples(part.xMin, part.xMax, c.dx) * c.bytes
		} else {
			part.sampled = append(part.sampled, c)
		}
	}
	if len(part.sampled) > maxEXRSampled {
		return 0, 0, "too many sampled channels"
	}
	if !part.tiled {
		if w*part.pixel*min(part.lines, h) > maxEXRChunk {
			return 0, 0, "chunks are too large"
		}
		return (h + part.lines - 1) / part.lines, w * h * part.pixel, ""
	}
	if part.tileW < 1 || part.tileH < 1 || min(part.tileW, w)*part.pixel > maxEXRChunk ||
		min(part.tileW, w)*min(part.tileH, h)*part.pixel > maxEXRChunk {
		return 0, 0, "impossible tiles"
	}
	for _, c := range part.channels {
		if c.dx != 1 || c.dy != 1 {
			return 0, 0, "tiles with sampled channels"
		}
	}
	nx, ny := part.levels()
	for ly := range ny {
		for lx := range nx {
			if part.mode == 1 && lx != ly {
				continue
			}
			lw, lh := part.level(w, lx), part.level(h, ly)
			tx, ty := (lw+part.tileW-1)/part.tileW, (lh+part.tileH-1)/part.tileH
			if tx > maxEXRChunks || ty > maxEXRChunks {
				return 0, 0, "too many chunks"
			}
			chunks += tx * ty
			pixels += lw * lh * part.pixel
			if chunks > maxEXRChunks || pixels > maxInflated {
				return 0, 0, "too many pixels or chunks"
			}
		}
	}
	return chunks, pixels, ""
}

// levels of resolution in both directions.
func (part *exrPart) levels() (nx, ny int64) {
	w, h := part.xMax-part.xMin+1, part.yMax-part.yMin+1
	switch part.mode {
	case 0:
		return 1, 1
	case 1:
		n := part.log2(max(w, h)) + 1
		return n, n
	}
	return part.log2(w) + 1, part.log2(h) + 1
}

func (part *exrPart) log2(n int64) int64 {
	if part.roundUp {
		return int64(bits.Len64(uint64(n - 1)))
	}
	return int64(bits.Len64(uint64(n)) - 1)
}

// level is the size at a level of what has size n at level 0.
func (part *exrPart) level(n, level int64) int64 {
	if part.roundUp {
		n += 1<<level - 1
	}
	return max(1, n>>level)
}

// headBytes of a chunk before its size: part and place.
func (h *exrHeader) headBytes(part int) int {
	n := 4
	if h.parts[part].tiled {
		n = 16
	}
	if h.multipart {
		n += 4
	}
	return n
}

// partOf is the part that a chunk's first four bytes name.
func (h *exrHeader) partOf(first []byte) (int, bool) {
	if !h.multipart {
		return 0, true
	}
	n := binary.LittleEndian.Uint32(first)
	return int(n), uint64(n) < uint64(len(h.parts))
}

// chunkBytes is the uncompressed size of the chunk of a part whose place, after
// the part's number, is at. It is 0 for a place that is none.
func (part *exrPart) chunkBytes(at []byte) int64 {
	p := exrParser{b: at}
	if part.tiled {
		tx, ty, lx, ly := p.i32(), p.i32(), p.i32(), p.i32()
		nx, ny := part.levels()
		if tx < 0 || ty < 0 || lx < 0 || ly < 0 || lx >= nx || ly >= ny || part.mode == 1 && lx != ly {
			return 0
		}
		lw, lh := part.level(part.xMax-part.xMin+1, lx), part.level(part.yMax-part.yMin+1, ly)
		w, h := min(part.tileW, lw-tx*part.tileW), min(part.tileH, lh-ty*part.tileH)
		if w < 1 || h < 1 {
			return 0
		}
		return w * h * part.pixel
	}
	y := p.i32()
	if y < part.yMin || y > part.yMax || (y-part.yMin)%part.lines != 0 {
		return 0
	}
	var n int64
	for line := y; line <= min(part.yMax, y+part.lines-1); line++ {
		n += part.line
		for _, c := range part.sampled {
			if line%c.dy == 0 {
				n += samples(part.xMin, part.xMax, c.dx) * c.bytes
			}
		}
	}
	return n
}

// samples counts the multiples of step from lo to hi.
func samples(lo, hi, step int64) int64 {
	floor := func(n int64) int64 {
		if n < 0 {
			return (n+1)/step - 1
		}
		return n / step
	}
	return floor(hi) - floor(lo-1)
}

// exrPredict sets out to raw as OpenEXR's zip deflates it: the even bytes, then
// the odd ones, each as the difference to the one before, plus 128.
func exrPredict(out, raw []byte) {
	even, odd := out[:(len(raw)+1)/2], out[(len(raw)+1)/2:len(raw)]
	for i := range odd {
		even[i], odd[i] = raw[2*i], raw[2*i+1]
	}
	if len(even) > len(odd) {
		even[len(odd)] = raw[len(raw)-1]
	}
	last := byte(0)
	for i, v := range out[:len(raw)] {
		if i > 0 {
			out[i] = v - last + 128
		}
		last = v
	}
}

// exrRestore undoes exrPredict. It changes form.
func exrRestore(raw, form []byte) {
	for i := 1; i < len(form); i++ {
		form[i] += form[i-1] - 128
	}
	even, odd := form[:(len(form)+1)/2], form[(len(form)+1)/2:]
	for i := range odd {
		raw[2*i], raw[2*i+1] = even[i], odd[i]
	}
	if len(even) > len(odd) {
		raw[len(form)-1] = even[len(odd)]
	}
}

// exrReadHeader reads the headers at the beginning of r, which is asked for
// more as they turn out longer.
func exrReadHeader(r io.ReaderAt, size int64) (h exrHeader, raw []byte, err error) {
	for n := int64(8 << 10); ; n *= 8 {
		b := make([]byte, min(n, size, maxEXRHeader))
		if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
			return h, nil, err
		}
		h, used, wrong := parseEXR(b)
		if wrong != "" {
			return h, nil, notOpened("OpenEXR: %s", wrong)
		}
		if used > 0 {
			return h, b[:used], nil
		}
		if int64(len(b)) < n {
			return h, nil, notOpened("OpenEXR: header is cut short or too long")
		}
	}
}
