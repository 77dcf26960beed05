package main

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"sort"

	"github.com/mrjoshuak/go-openexr/half"
)

// A small writer of OpenVDB files, since no Blender writes one without a
// simulation. It knows what a cloud needs: one float grid that is zero outside
// its leaves, 16-bit, zlib, in the layout of file version 224 (openvdb/io and
// openvdb/tree of OpenVDB 10: Archive.cc, GridDescriptor.cc, Compression.h,
// RootNode.h, InternalNode.h, LeafNode.h).

const (
	vdbMagic   = 0x56444220
	vdbVersion = 224
	vdbZip     = 1 // compression flags of a grid
	vdbActive  = 2
	leafSide   = 8
	lowerSide  = 16 // leaves along the side of a lower inner node
	upperSide  = 32 // lower nodes along the side of an upper one
)

// vdbGrid is a sparse field of floats. All voxels lie between 0 and 4095 on
// each axis.
type vdbGrid struct {
	name   string
	voxel  float64                  // its side, in Blender's units
	leaves map[[3]int]*[512]float32 // by the leaf's place, in leaves
}

// write makes a file of one grid.
func (g vdbGrid) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &vdbWriter{w: bufio.NewWriter(f)}
	g.encode(w)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if err := f.Close(); w.err == nil {
		w.err = err
	}
	if w.err != nil {
		return fmt.Errorf("%s: %w", path, w.err)
	}
	return nil
}

type vdbWriter struct {
	w   *bufio.Writer
	at  int64
	err error
}

func (w *vdbWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(b)
	w.at += int64(n)
	w.err = err
	return n, err
}

func (w *vdbWriter) put(values ...any) {
	for _, v := range values {
		if s, ok := v.(string); ok {
			binary.Write(w, binary.LittleEndian, uint32(len(s)))
			io.WriteString(w, s)
			continue
		}
		binary.Write(w, binary.LittleEndian, v)
	}
}

func (g vdbGrid) encode(w *vdbWriter) {
	w.put(int64(vdbMagic), uint32(vdbVersion), uint32(10), uint32(0), byte(1))
	io.WriteString(w, "00000000-0000-4000-8000-000000000001")
	w.put(uint32(0)) // metadata of the file
	w.put(int32(1))  // grids
	// Where the grid's parts lie is said before them, so that they are made
	// first.
	start := w.at + int64(4+len(g.name)+4+len(vdbType)+4+3*8)
	var head, blocks bytes.Buffer
	hw := &vdbWriter{w: bufio.NewWriter(&head)}
	g.topology(hw)
	hw.w.Flush()
	bw := &vdbWriter{w: bufio.NewWriter(&blocks)}
	for _, k := range g.order() {
		leaf := g.leaves[k]
		bw.Write(leafMask(leaf))
		compressed(bw, leaf)
	}
	bw.w.Flush()
	w.put(g.name, vdbType, "")
	w.put(start, start+int64(head.Len()), start+int64(head.Len()+blocks.Len()))
	w.Write(head.Bytes())
	w.Write(blocks.Bytes())
}

const vdbType = "Tree_float_5_4_3_HalfFloat"

// topology is everything of a grid but the values of its leaves.
func (g vdbGrid) topology(w *vdbWriter) {
	w.put(uint32(vdbZip | vdbActive))
	w.put(uint32(3),
		"class", "string", "fog volume",
		"is_saved_as_half_float", "bool", uint32(1), byte(1),
		"name", "string", g.name)
	v := g.voxel
	w.put("UniformScaleMap")
	for _, x := range []float64{v, v, 1 / v, 1 / (v * v), 1 / (2 * v)} {
		w.put([3]float64{x, x, x})
	}
	w.put(int32(1))                         // buffers of a leaf
	w.put(float32(0), uint32(0), uint32(1)) // root: background, tiles, children
	w.put([3]int32{})                       // the child's origin
	lowers := map[[3]int][][3]int{}
	for _, k := range g.order() {
		at := [3]int{k[0] / lowerSide, k[1] / lowerSide, k[2] / lowerSide}
		lowers[at] = append(lowers[at], k)
	}
	var children []int
	for at := range lowers {
		children = append(children, index(at, upperSide))
	}
	inner(w, children, upperSide)
	for _, at := range sortedPlaces(lowers, upperSide) {
		children = children[:0]
		for _, k := range lowers[at] {
			children = append(children, index([3]int{k[0] % lowerSide, k[1] % lowerSide, k[2] % lowerSide}, lowerSide))
		}
		inner(w, children, lowerSide)
		for _, k := range lowers[at] {
			w.Write(leafMask(g.leaves[k]))
		}
	}
}

// inner writes the masks of an inner node that has children and no values.
func inner(w *vdbWriter, children []int, side int) {
	mask := make([]byte, side*side*side/8)
	for _, c := range children {
		mask[c/8] |= 1 << (c % 8)
	}
	w.Write(mask)
	w.Write(make([]byte, len(mask))) // active tiles
	w.put(byte(0))                   // all that is inactive is background; no values follow
}

func index(at [3]int, side int) int { return (at[0]*side+at[1])*side + at[2] }

// order lists the leaves as the tree holds them: by lower node, then by place
// in it.
func (g vdbGrid) order() [][3]int {
	var keys [][3]int
	for k := range g.leaves {
		keys = append(keys, k)
	}
	rank := func(k [3]int) int {
		upper := index([3]int{k[0] / lowerSide, k[1] / lowerSide, k[2] / lowerSide}, upperSide)
		return upper*lowerSide*lowerSide*lowerSide + index([3]int{k[0] % lowerSide, k[1] % lowerSide, k[2] % lowerSide}, lowerSide)
	}
	sort.Slice(keys, func(i, j int) bool { return rank(keys[i]) < rank(keys[j]) })
	return keys
}

func sortedPlaces(m map[[3]int][][3]int, side int) [][3]int {
	var keys [][3]int
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return index(keys[i], side) < index(keys[j], side) })
	return keys
}

func leafMask(leaf *[512]float32) []byte {
	mask := make([]byte, 64)
	for i, v := range leaf {
		if v != 0 {
			mask[i/8] |= 1 << (i % 8)
		}
	}
	return mask
}

// compressed writes the active values of a leaf.
func compressed(w *vdbWriter, leaf *[512]float32) {
	w.put(byte(0)) // what is not active is background
	var raw []byte
	for _, v := range leaf {
		if v != 0 {
			raw = binary.LittleEndian.AppendUint16(raw, half.FromFloat32(v).Bits())
		}
	}
	if len(raw) == 0 {
		return
	}
	var packed bytes.Buffer
	z, _ := zlib.NewWriterLevel(&packed, zlib.BestSpeed) // a valid level
	z.Write(raw)
	z.Close()
	if packed.Len() < len(raw) {
		w.put(int64(packed.Len()))
		w.Write(packed.Bytes())
		return
	}
	w.put(-int64(len(raw)))
	w.Write(raw)
}

// smoke is a rising cloud at one moment of its 48 frames: noise at several
// scales that drifts upward, thinner towards the rim. side is in voxels.
func smoke(n *noise, side, frame int) vdbGrid {
	g := vdbGrid{name: "density", voxel: 4 / float64(side), leaves: map[[3]int]*[512]float32{}}
	s := float64(side)
	drift := float64(frame) * 0.06
	reach := 0.25 + 0.25*math.Min(1, float64(frame)/40)
	for x := range side {
		for y := range side {
			// The plane's noise makes a solid one by two cuts that are mixed.
			fx, fy := float64(x)/s, float64(y)/s
			cut := n.at(fx*7, fy*7)
			for z := range side {
				fz := float64(z) / s
				dx, dy := fx-0.5-0.1*math.Sin(fz*6+drift), fy-0.5-0.1*math.Cos(fz*5+drift)
				d := math.Sqrt(dx*dx+dy*dy) / (reach * (0.35 + 0.65*fz))
				if d >= 1 {
					continue
				}
				v := 0.6 - d + 0.5*cut*n.at(fz*9-drift*2, fx*5) + 0.45*n.at(fx*6+fz*5, fy*6-drift*2-fz*3) + 0.25*n.at(fx*17-fz*11, fz*15-drift*5) + 0.12*n.at(fy*41+fz*23, fx*37-drift*9)
				if v <= 0.02 {
					continue
				}
				k := [3]int{x / leafSide, y / leafSide, z / leafSide}
				leaf := g.leaves[k]
				if leaf == nil {
					leaf = new([512]float32)
					g.leaves[k] = leaf
				}
				leaf[index([3]int{x % leafSide, y % leafSide, z % leafSide}, leafSide)] = float32(v)
			}
		}
	}
	return g
}
