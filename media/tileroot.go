package media

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// TileSide is the width and height of a hashed tile, in pixels.
const TileSide = 64

// TileRoot identifies the decoded pixels of an image, whatever file they came
// in: two files have the same root exactly if they decode to the same samples
// under the same channel names.
//
// The image is cut into tiles of 64x64 pixels from its top left corner; tiles
// at the right and lower edge are what remains. Tiles are numbered row by row
// from the top left. With sha256 the SHA-256 of a byte string, u32 a 32-bit
// unsigned integer in little-endian order and channels in ascending order of
// their names' bytes:
//
//	leaf = sha256( "idlewild tile 1\x00" u32(x) u32(y) u32(w) u32(h)
//	               channel* )
//	channel = u32(length of name) name sample*
//	root = sha256( "idlewild pixels 1\x00" u32(width) u32(height)
//	               u32(number of channels) leaf* )
//
// x, y is the tile's upper left pixel counted from the image's top left, w, h
// its size. A channel's samples are those of the tile row by row from the top,
// each the four bytes of an IEEE 754 binary32 in little-endian order. A
// half-float sample is widened first (exactly), an unsigned integer converted
// (rounded to nearest even), an n-bit PNG sample divided by 2^n-1 in binary32.
// Every NaN is written as 0x7fc00000, because files and processors disagree
// about a NaN's other bits; the two zeros stay distinct. Layer, frame and
// attributes of the file are not covered; the order of channels in the file
// does not matter.
//
// It returns the root and the leaves in order.
func TileRoot(m *Image) (root [32]byte, leaves [][32]byte, err error) {
	if err := m.check(); err != nil {
		return root, nil, fmt.Errorf("tile root: %w", err)
	}
	leaves = tileLeaves(m, 0)
	all := rootHead(m.Width, m.Height, len(m.Channels))
	for _, leaf := range leaves {
		all = append(all, leaf[:]...)
	}
	return sha256.Sum256(all), leaves, nil
}

// tileLeaves are those of a band of whole tiles that begins top rows below the
// image's top.
func tileLeaves(m *Image, top int) (leaves [][32]byte) {
	chans := slices.Clone(m.Channels)
	slices.SortFunc(chans, func(a, b Channel) int { return strings.Compare(a.Name, b.Name) })

	u32 := binary.LittleEndian.AppendUint32
	var buf []byte
	var line [4 * TileSide]byte
	for y := 0; y < m.Height; y += TileSide {
		for x := 0; x < m.Width; x += TileSide {
			w, h := min(TileSide, m.Width-x), min(TileSide, m.Height-y)
			sum := sha256.New()
			buf = append(buf[:0], "idlewild tile 1\x00"...)
			buf = u32(u32(u32(u32(buf, uint32(x)), uint32(top+y)), uint32(w)), uint32(h))
			for _, c := range chans {
				buf = append(u32(buf, uint32(len(c.Name))), c.Name...)
				sum.Write(buf)
				for row := y; row < y+h; row++ {
					line := line[:4*w]
					for i, v := range c.Data[row*m.Width+x : row*m.Width+x+w] {
						bits := math.Float32bits(v)
						if v != v {
							bits = 0x7fc00000
						}
						binary.LittleEndian.PutUint32(line[4*i:], bits)
					}
					sum.Write(line)
				}
				buf = buf[:0]
			}
			sum.Write(buf) // of an image without channels
			leaves = append(leaves, [32]byte(sum.Sum(nil)))
		}
	}
	return leaves
}
