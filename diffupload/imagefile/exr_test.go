package imagefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zlib"

	"idlewild/diffupload/imagefile"
)

// part of an OpenEXR file that a test makes.
type part struct {
	compression byte
	w, h        int
	x, y        int32 // where the data window begins
	tile        int   // 0: scanlines
	mode        byte  // of levels
	noise       bool  // deflate cannot shrink it
	sampled     bool  // a channel at half resolution
}

type exrChunk struct {
	place []byte
	raw   []byte
}

func le(values ...int32) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func attribute(name, kind string, value []byte) []byte {
	b := append([]byte(name+"\x00"+kind+"\x00"), le(int32(len(value)))...)
	return append(b, value...)
}

func (p part) header(chunks int, multipart bool) []byte {
	var c []byte
	for _, name := range []string{"A", "B", "G", "Z"} {
		kind, step := int32(1), int32(1)
		if name == "Z" {
			kind = 2
		}
		if name == "A" && p.sampled {
			step = 2
		}
		c = append(append(c, name+"\x00"...), le(kind, 0, step, step)...)
	}
	b := attribute("channels", "chlist", append(c, 0))
	b = append(b, attribute("compression", "compression", []byte{p.compression})...)
	b = append(b, attribute("dataWindow", "box2i", le(p.x, p.y, p.x+int32(p.w)-1, p.y+int32(p.h)-1))...)
	b = append(b, attribute("comment", "string", []byte("kept as it is"))...)
	if p.tile > 0 {
		b = append(b, attribute("tiles", "tiledesc", append(le(int32(p.tile), int32(p.tile)), p.mode))...)
	}
	if multipart {
		kind := "scanlineimage"
		if p.tile > 0 {
			kind = "tiledimage"
		}
		b = append(b, attribute("type", "string", []byte(kind))...)
		b = append(b, attribute("chunkCount", "int", le(int32(chunks)))...)
	}
	return append(b, 0)
}

// chunks of the part with their pixels, in the order of the offset table.
func (p part) chunks(rng *rand.Rand) (out []exrChunk) {
	pixels := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i / 9)
			if p.noise {
				b[i] = byte(rng.Uint32())
			}
		}
		return b
	}
	if p.tile == 0 {
		lines := map[byte]int{0: 1, 2: 1, 3: 16}[p.compression]
		for y := 0; y < p.h; y += lines {
			n := 0
			for l := y; l < min(y+lines, p.h); l++ {
				n += p.w * 8
				if p.sampled {
					if (int(p.y)+l)%2 == 0 {
						for x := range p.w {
							if (int(p.x)+x)%2 == 0 {
								n += 2
							}
						}
					}
				} else {
					n += p.w * 2
				}
			}
			out = append(out, exrChunk{le(p.y + int32(y)), pixels(n)})
		}
		return out
	}
	levels := func(n int) (sizes []int) {
		for sizes = []int{n}; p.mode != 0 && n > 1; {
			if p.mode>>4 == 1 {
				n++
			}
			n /= 2
			sizes = append(sizes, n)
		}
		return sizes
	}
	ws, hs := levels(p.w), levels(p.h)
	if p.mode&15 == 1 { // both directions have as many, of at least one pixel
		for len(ws) < len(hs) {
			ws = append(ws, 1)
		}
		for len(hs) < len(ws) {
			hs = append(hs, 1)
		}
	}
	for ly, h := range hs {
		for lx, w := range ws {
			if p.mode&15 == 1 && lx != ly {
				continue
			}
			for y := 0; y < h; y += p.tile {
				for x := 0; x < w; x += p.tile {
					n := min(p.tile, w-x) * min(p.tile, h-y) * 10
					place := le(int32(x/p.tile), int32(y/p.tile), int32(lx), int32(ly))
					out = append(out, exrChunk{place, pixels(n)})
				}
			}
		}
	}
	return out
}

// deflated is what OpenEXR's zip makes of raw.
func deflated(raw []byte) []byte {
	var t []byte
	for i := 0; i < len(raw); i += 2 {
		t = append(t, raw[i])
	}
	for i := 1; i < len(raw); i += 2 {
		t = append(t, raw[i])
	}
	for i := len(t) - 1; i > 0; i-- {
		t[i] -= t[i-1] + 128
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write(t)
	z.Close()
	if b.Len() >= len(raw) {
		return raw
	}
	return b.Bytes()
}

func inflated(t *testing.T, data []byte, n int) []byte {
	t.Helper()
	if len(data) == n {
		return data
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || len(b) != n {
		t.Fatalf("chunk of %d bytes, want %d: %v", len(b), n, err)
	}
	for i := 1; i < n; i++ {
		b[i] += b[i-1] + 128
	}
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = b[i/2+i%2*((n+1)/2)]
	}
	return raw
}

// makeEXR writes a file of one or more parts, its chunks in the order that
// shuffle makes of them. It shares no code with the package.
func makeEXR(rng *rand.Rand, shuffle func([]int), parts ...part) (file []byte, chunks []exrChunk) {
	version, multipart := int32(2), len(parts) > 1
	if multipart {
		version |= 0x1000
	} else if parts[0].tile > 0 {
		version |= 0x200
	}
	file = append([]byte("\x76\x2f\x31\x01"), le(version)...)
	var packs [][]byte
	for i, p := range parts {
		cs := p.chunks(rng)
		file = append(file, p.header(len(cs), multipart)...)
		for _, c := range cs {
			data := c.raw
			if p.compression != 0 {
				data = deflated(c.raw)
			}
			if multipart {
				c.place = append(le(int32(i)), c.place...)
			}
			packs = append(packs, data)
			chunks = append(chunks, c)
		}
	}
	if multipart {
		file = append(file, 0)
	}
	order := make([]int, len(chunks))
	for i := range order {
		order[i] = i
	}
	shuffle(order)
	table := len(file)
	file = append(file, make([]byte, 8*len(chunks))...)
	for _, i := range order {
		binary.LittleEndian.PutUint64(file[table+8*i:], uint64(len(file)))
		file = append(append(file, chunks[i].place...), le(int32(len(packs[i])))...)
		file = append(file, packs[i]...)
	}
	return file, chunks
}

func inOrder([]int) {}

var exrFiles = map[string][]part{
	"zip":           {{compression: 3, w: 301, h: 83}},
	"zips":          {{compression: 2, w: 300, h: 20, x: -7, y: -33}},
	"noise":         {{compression: 3, w: 99, h: 40, noise: true}},
	"sampled":       {{compression: 3, w: 101, h: 51, x: -3, y: -5, sampled: true}},
	"tiles":         {{compression: 3, w: 130, h: 70, tile: 32}},
	"mipmap":        {{compression: 3, w: 130, h: 70, tile: 32, mode: 1}},
	"mipmap up":     {{compression: 2, w: 70, h: 131, tile: 16, mode: 1 | 1<<4}},
	"ripmap":        {{compression: 3, w: 130, h: 70, tile: 64, mode: 2}},
	"ripmap up":     {{compression: 3, w: 129, h: 71, tile: 64, mode: 2 | 1<<4}},
	"parts":         {{compression: 3, w: 99, h: 40}, {compression: 2, w: 20, h: 10, tile: 16}, {compression: 0, w: 7, h: 9}},
	"part of noise": {{compression: 0, w: 40, h: 30}, {compression: 3, w: 40, h: 50, noise: true}},
}

func TestEXRComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, parts := range exrFiles {
		for order, shuffle := range map[string]func([]int){
			"in order": inOrder, "backwards": slices.Reverse[[]int],
			"random": func(o []int) { rng.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] }) },
		} {
			t.Run(name+" "+order, func(t *testing.T) {
				file, chunks := makeEXR(rng, shuffle, parts...)
				form, rebuilt := roundTrip(t, file, imagefile.EXR)
				if n := len(form); n < len(chunks) {
					t.Fatalf("form of %d bytes", n)
				}
				table := bytes.Index(file, le(int32(binary.LittleEndian.Uint32(rebuilt[4:]))))
				if table != 4 {
					t.Fatal("other version")
				}
				// The headers are the same, and behind every offset is the
				// chunk that was behind it.
				head := headLength(file, chunks)
				if !bytes.Equal(file[:head], rebuilt[:head]) {
					t.Fatal("headers differ")
				}
				var last uint64
				for i, c := range chunks {
					off := binary.LittleEndian.Uint64(rebuilt[head+8*i:])
					at := rebuilt[off:]
					if !bytes.HasPrefix(at, c.place) {
						t.Fatalf("chunk %d is elsewhere", i)
					}
					at = at[len(c.place):]
					data := at[4 : 4+binary.LittleEndian.Uint32(at)]
					if !bytes.Equal(inflated(t, data, len(c.raw)), c.raw) {
						t.Fatalf("pixels of chunk %d differ", i)
					}
					if order == "in order" && off <= last || order == "backwards" && last > 0 && off >= last {
						t.Fatal("order of chunks differs")
					}
					last = off
				}
			})
		}
	}
}

// headLength finds where the offset table begins: it holds an offset per chunk,
// and the smallest is where it ends.
func headLength(file []byte, chunks []exrChunk) int {
	for n := 8; ; n++ {
		least := uint64(1 << 62)
		for i := range chunks {
			least = min(least, binary.LittleEndian.Uint64(file[n+8*i:]))
		}
		if least == uint64(n+8*len(chunks)) {
			return n
		}
	}
}

func TestEXRNotOpened(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	good, chunks := makeEXR(rng, inOrder, part{compression: 3, w: 301, h: 83})
	head := headLength(good, chunks)
	change := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	after := func(name string) int { return bytes.Index(good, []byte(name)) + len(name) }
	plain, _ := makeEXR(rng, inOrder, part{compression: 0, w: 301, h: 83})
	window := after("dataWindow\x00box2i\x00") + 4
	for name, b := range map[string][]byte{
		"nothing deflated":    plain,
		"deep":                change(5, 0x08),
		"version 3":           change(4, 3),
		"unknown flag":        change(5, 0x20),
		"piz":                 change(after("compression\x00compression\x00")+4, 4),
		"no window":           change(after("\x00")-1+len("dataWindow"), 'x'),
		"huge window":         change(window+8, 0xff, 0xff, 0xff, 0x7f),
		"high window":         change(window+12, 0xff, 0xff, 0xff, 0x7f),
		"negative window":     change(window+12, 0xff, 0xff, 0xff, 0xff),
		"long attribute":      change(after("dataWindow\x00box2i\x00"), 0xff, 0xff, 0xff, 0x7f),
		"sampling of 0":       change(after("channels\x00chlist\x00")+4+10, 0, 0, 0, 0),
		"kind of channel":     change(after("channels\x00chlist\x00")+4+2, 9),
		"not complete":        change(head, 0, 0, 0, 0, 0, 0, 0, 0),
		"offset outside":      change(head+4, 1),
		"offset twice":        change(head, good[head+8:head+16]...),
		"size of a chunk":     change(head+8*len(chunks)+4, 0xff, 0xff),
		"place of a chunk":    change(head+8*len(chunks), 1),
		"damaged pixels":      change(head+8*len(chunks)+60, ^good[head+8*len(chunks)+60]),
		"cut short":           good[:len(good)-1],
		"bytes after the end": append(bytes.Clone(good), 0),
		"header without end":  append(bytes.Clone(good[:8]), bytes.Repeat([]byte("ab\x00c\x00\x01\x00\x00\x00x"), 2000)...),
	} {
		if name == "no window" {
			b = bytes.Replace(good, []byte("dataWindow"), []byte("dataWindov"), 1)
		}
		if _, _, err := open(b); !errors.Is(err, imagefile.ErrNotOpened) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := open(good); err != nil {
		t.Fatal(err)
	}
}

func TestEXRRebuildRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	file, _ := makeEXR(rng, inOrder, part{compression: 2, w: 130, h: 40, tile: 32, mode: 1})
	form, _, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(form); n += 1 + n/20 {
		if _, err := rebuild(form[:n], imagefile.EXR); !errors.Is(err, imagefile.ErrForm) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, err := rebuild(append(bytes.Clone(form), 0), imagefile.EXR); !errors.Is(err, imagefile.ErrForm) {
		t.Errorf("a byte more: %v", err)
	}
	first := len("idlewild exr 1\n") + 4 + int(binary.LittleEndian.Uint32(form[len("idlewild exr 1\n"):]))
	twice := bytes.Clone(form)
	copy(twice[first+20+32*32*10:], form[first:first+4]) // the second chunk says that it is the first
	if _, err := rebuild(twice, imagefile.EXR); !errors.Is(err, imagefile.ErrForm) {
		t.Errorf("a chunk twice: %v", err)
	}
	if err := imagefile.Rebuild(struct{ io.Writer }{io.Discard}, bytes.NewReader(form), imagefile.EXR, 1<<30); err == nil {
		t.Error("rebuilt into what cannot seek")
	}
	var out seekable
	if err := imagefile.Rebuild(&out, bytes.NewReader(form), imagefile.EXR, 1000); !errors.Is(err, imagefile.ErrTooLarge) || len(out.b) > 1000 {
		t.Errorf("limit: %d bytes, %v", len(out.b), err)
	}
	// A rebuilt file may begin anywhere in what it is written to.
	out = seekable{b: []byte("before"), at: 6}
	if err := imagefile.Rebuild(&out, bytes.NewReader(form), imagefile.EXR, 1<<30); err != nil {
		t.Fatal(err)
	}
	if again, _, err := open(out.b[6:]); err != nil || !bytes.Equal(again, form) || out.at != len(out.b) {
		t.Errorf("behind other bytes: %v", err)
	}
}
