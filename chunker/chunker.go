// Package chunker cuts bytes into content-defined chunks: where a chunk ends
// depends on the bytes just before its end and on nothing else, so an edit
// changes the chunks around it and leaves the others as they were.
//
// Params hold the sizes and the key, a Chunk is one piece, Chunks cuts a
// stream. The cuts are a format: they decide what two machines have in common.
// Reference states them slowly and plainly, and testdata/golden.txt holds the
// cuts that every faster version has to meet bit for bit.
package chunker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/bits"
)

// Default sizes of chunks in bytes.
const (
	DefaultMin = 16 << 10
	DefaultAvg = 64 << 10
	DefaultMax = 256 << 10
)

// MaxChunkBytes is the largest Params.Max, and window the least Params.Min:
// the number of bytes that a cut depends on.
const (
	MaxChunkBytes = 1 << 20
	window        = 64
)

// PublicKey is the key of content that is meant to be shared between farms.
// It is a constant of the format: sha2-256 of "idlewild public chunker key 1".
var PublicKey = [32]byte(sha256.Sum256([]byte("idlewild public chunker key 1")))

// Params say how to cut. The zero value means the default sizes and PublicKey;
// each zero size means its default.
type Params struct {
	// Min, Avg and Max are sizes in bytes, 64 <= Min <= Avg <= Max <=
	// MaxChunkBytes. Only the last chunk of a stream is shorter than Min.
	Min, Avg, Max int
	// Key makes the cuts a farm's own: who does not know it cannot tell from
	// the sizes of chunks which known file they are of. Zero means PublicKey.
	Key [32]byte
}

func (p Params) filled() Params {
	if p.Min == 0 {
		p.Min = DefaultMin
	}
	if p.Avg == 0 {
		p.Avg = DefaultAvg
	}
	if p.Max == 0 {
		p.Max = DefaultMax
	}
	if p.Key == ([32]byte{}) {
		p.Key = PublicKey
	}
	return p
}

// Validate checks the sizes, after defaults.
func (p Params) Validate() error {
	p = p.filled()
	if p.Min < window || p.Avg < p.Min || p.Max < p.Avg || p.Max > MaxChunkBytes {
		return fmt.Errorf("chunk sizes %d/%d/%d: need %d <= min <= avg <= max <= %d", p.Min, p.Avg, p.Max, window, MaxChunkBytes)
	}
	return nil
}

// Chunk is a piece of a stream.
type Chunk struct {
	Offset int64
	// Data is valid until the next chunk is asked for.
	Data []byte
}

// Chunks cuts what r holds. Put together, the chunks are the stream. An error
// of r, or of p, is yielded last; the bytes after the last cut before it are
// not. Memory is 1 MiB beyond Params.Max, however long the stream is.
func Chunks(r io.Reader, p Params) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if err := p.Validate(); err != nil {
			yield(Chunk{}, err)
			return
		}
		c := newCutter(p)
		var (
			buf        = make([]byte, c.Max+1<<20)
			start, end int
			offset     int64
			eof        bool
		)
		for {
			if end-start < c.Max && !eof {
				end = copy(buf, buf[start:end])
				start = 0
				for idle := 0; end < len(buf) && !eof; {
					n, err := r.Read(buf[end:])
					end += n
					if n > 0 {
						idle = 0
					} else if idle++; err == nil && idle == 100 {
						err = io.ErrNoProgress
					}
					if err == io.EOF {
						eof = true
					} else if err != nil {
						yield(Chunk{}, err)
						return
					}
				}
			}
			if start == end {
				return
			}
			n := c.cut(buf[start:end])
			if !yield(Chunk{Offset: offset, Data: buf[start : start+n : start+n]}, nil) {
				return
			}
			start += n
			offset += int64(n)
		}
	}
}

// cutter finds cuts. It is constant after construction.
type cutter struct {
	Params
	gear        [256]uint64
	early, late uint64 // masks for lengths up to Avg and beyond
}

func newCutter(p Params) *cutter {
	p = p.filled()
	c := &cutter{Params: p, gear: gearTable(p.Key)}
	c.early, c.late = masks(p.Avg)
	return c
}

// gearTable derives the table of Gear from a key: entry i is the first eight
// bytes, little-endian, of HMAC-SHA-256(key, "idlewild gear 1" || byte(i)).
func gearTable(key [32]byte) (g [256]uint64) {
	mac := hmac.New(sha256.New, key[:])
	var sum [sha256.Size]byte
	for i := range g {
		mac.Reset()
		mac.Write([]byte("idlewild gear 1"))
		mac.Write([]byte{byte(i)})
		g[i] = binary.LittleEndian.Uint64(mac.Sum(sum[:0]))
	}
	return g
}

// masks are those of FastCDC's normalised chunking at level 2: a cut is four
// times less likely than 1/avg before the average and four times more likely
// after it. They take the top bits, which depend on the whole window.
func masks(avg int) (early, late uint64) {
	n := bits.Len(uint(avg)) - 1
	return ^uint64(0) << (64 - (n + 2)), ^uint64(0) << (64 - max(n-2, 1))
}

// cut returns the length of the first chunk of d, which holds at least Max
// bytes or all that is left.
func (c *cutter) cut(d []byte) int {
	n := min(len(d), c.Max)
	if n <= c.Min {
		return n
	}
	i := c.Min
	var h uint64
	for _, b := range d[i-window : i] {
		h = h<<1 + c.gear[b]
	}
	mid := min(c.Avg, n)
	h, k, found := scan(&c.gear, h, d[i:mid], c.early)
	if found {
		return i + k
	}
	_, k, found = scan(&c.gear, h, d[mid:n], c.late)
	if found {
		return mid + k
	}
	return n
}

// scan rolls h over s until it is zero under mask. It returns how many bytes
// it took, the one that made it so included.
func scan(g *[256]uint64, h uint64, s []byte, mask uint64) (_ uint64, n int, found bool) {
	// Eight at a time: the compiler drops the bounds checks, and this runs at
	// three times the speed of the plain loop.
	for len(s) >= 8 {
		t := s[:8:8]
		h = h<<1 + g[t[0]]
		if h&mask == 0 {
			return h, n + 1, true
		}
		h = h<<1 + g[t[1]]
		if h&mask == 0 {
			return h, n + 2, true
		}
		h = h<<1 + g[t[2]]
		if h&mask == 0 {
			return h, n + 3, true
		}
		h = h<<1 + g[t[3]]
		if h&mask == 0 {
			return h, n + 4, true
		}
		h = h<<1 + g[t[4]]
		if h&mask == 0 {
			return h, n + 5, true
		}
		h = h<<1 + g[t[5]]
		if h&mask == 0 {
			return h, n + 6, true
		}
		h = h<<1 + g[t[6]]
		if h&mask == 0 {
			return h, n + 7, true
		}
		h = h<<1 + g[t[7]]
		if h&mask == 0 {
			return h, n + 8, true
		}
		n += 8
		s = s[8:]
	}
	for _, b := range s {
		h = h<<1 + g[b]
		n++
		if h&mask == 0 {
			return h, n, true
		}
	}
	return h, n, false
}
