package blendfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Outline returns a hash over a .blend in which the numbers count for nothing
// that artists turn while they work: where things stand, what shape and what
// colour they have, when keyframes are. Two files of one outline read the same
// files when they are rendered and have the same settings, so that what was
// found out about one holds for the other.
//
// What counts for nothing is the closed list in this file; whatever is not in
// it counts. Errors are those of Canonical.
func Outline(ctx context.Context, f io.ReaderAt, size int64) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	c, _, err := openContent(f, size, "")
	if err != nil {
		return sum, err
	}
	p, err := planOf(ctx, c, size)
	if err == nil {
		o := outliner{writer: writer{plan: p, c: c, w: newWindow(c, windowBytes)}, sum: sha256.New()}
		err = o.write(ctx)
		o.sum.Sum(sum[:0])
	}
	return sum, errors.Join(err, c.close())
}

// outliner walks a file as writer does and keeps nothing but a hash.
type outliner struct {
	writer
	sum hash.Hash
}

func (o *outliner) write(ctx context.Context) error {
	b, err := o.w.peek(0, o.header)
	if err != nil {
		return err
	}
	o.sum.Write(b)
	s := -1
	return o.blocks(o.w, func(i int, h head, _ []byte, at int64) error {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i >= len(o.olds) || o.olds[i] != h.old {
			return errChanged
		}
		if s+1 < len(o.scopes) && int(o.scopes[s+1].first) == i {
			s++
		}
		sc := &o.scopes[s]
		if sc.dropped || o.isDropped(uint32(i)) || h.code == "ENDB" {
			return nil
		}
		return o.block(uint32(s), uint32(i), h, at)
	})
}

func (o *outliner) block(s, i uint32, h head, at int64) error {
	sc := &o.scopes[s]
	l, err := o.blockLayout(h)
	if err != nil {
		return err
	}
	if h.code == "DNA1" {
		l = nil
	}
	if l != nil && keys[l.name] {
		return nil // however many there are
	}
	old := uint64(0)
	if h.old != 0 {
		old = o.address(i, s)
	}
	fmt.Fprintf(o.sum, "%s %d %d %d %d %x\n", h.code, h.size, h.sdna, h.count, old, sc.key)
	if l != nil && geometry[l.name] || l == nil && h.code == "DATA" && bulky[sc.code] && !o.arrays.has(i) {
		return nil // as much of it, whatever it says
	}
	r := &blockReader{writer: &o.writer, scope: s, layout: l, array: l == nil && o.arrays.has(i), tail: int(o.tails[i]), at: at, left: h.size}
	for r.left > 0 {
		b, err := r.next()
		if err != nil {
			return err
		}
		if l != nil {
			for e := b; len(e) > 0 && len(l.loose)+len(l.selected) > 0; e = e[l.size:] {
				for _, z := range l.loose {
					clear(e[z.at:][:z.size])
				}
				for _, at := range l.selected {
					o.order.PutUint16(e[at:], o.order.Uint16(e[at:])&^1)
				}
			}
		}
		o.sum.Write(b)
	}
	return nil
}

// keys are structs of animation curves, of which the number counts for nothing
// either.
var keys = map[string]bool{"BezTriple": true, "FPoint": true}

// geometry are structs of geometry: that there are so many counts, and nothing
// else.
var geometry = map[string]bool{
	"MVert": true, "MEdge": true, "MPoly": true, "MLoop": true, "MLoopTri": true, "MFace": true, "MTFace": true, "MCol": true,
	"MLoopCol": true, "MLoopUV": true, "MDeformVert": true, "MDeformWeight": true, "MPropCol": true, "MFloatProperty": true,
	"MIntProperty": true, "MInt8Property": true, "MBoolProperty": true, "MDisps": true, "GridPaintMask": true, "MVertSkin": true,
	"OrigSpaceLoop": true, "FreestyleEdge": true, "FreestyleFace": true, "BPoint": true, "vec2f": true, "vec3f": true, "vec4f": true,
	"vec2i": true, "bGPDspoint": true, "bGPDtriangle": true,
}

// bulky are datablocks whose raw data, arrays of pointers aside, is geometry or
// the content of packed files.
var bulky = map[string]bool{
	"ME": true, "KE": true, "CU": true, "LT": true, "MB": true, "PT": true, "CV": true, "GD": true, "GP": true, "IM": true, "VF": true, "SO": true,
}

// looseFields are numbers by which no render reads other files, and that no
// setting of the farm depends on.
var looseFields = fieldsOf(map[string][]string{
	"Object": {
		"loc", "dloc", "size", "dsize", "dscale", "rot", "drot", "quat", "dquat", "rotAxis", "drotAxis", "rotAngle", "drotAngle",
		"obmat", "object_to_world", "parentinv", "constinv", "imat", "imat_ren", "world_to_object", "col", "color", "mode", "restore_mode", "empty_drawsize", "base_flag", "base_local_view_bits",
	},
	"Base": {"flag", "flag_legacy"}, // selection, and what the viewport shows
	"bNode": {
		"locx", "locy", "location", "width", "height", "miniwidth", "offsetx", "offsety", "ui_order",
	},
	"bNodeSocketValueFloat":    {"value"},
	"bNodeSocketValueVector":   {"value"},
	"bNodeSocketValueRGBA":     {"value"},
	"bNodeSocketValueRotation": {"value_euler"},
	"CBData":                   {"r", "g", "b", "a", "pos", "cur"},
	"CurveMapPoint":            {"x", "y", "flag", "shorty"},
	"RenderData":               {"cfra", "subframe"},
	"View3DCursor":             {"location", "rotation_quaternion", "rotation_euler", "rotation_axis", "rotation_angle", "rotation_mode"},
	"Camera": {
		"lens", "ortho_scale", "clip_start", "clip_end", "clipsta", "clipend", "drawsize", "shiftx", "shifty", "sensor_x", "sensor_y", "passepartalpha",
	},
	"CameraDOFSettings": {"focus_distance", "aperture_fstop", "aperture_rotation", "aperture_ratio"},
	"Lamp": {
		"r", "g", "b", "energy", "spotsize", "spotblend", "area_size", "area_sizey", "area_sizez", "area_spread", "sun_angle", "radius", "dist", "clipsta", "clipend",
	},
	"World":         {"horr", "horg", "horb"},
	"Material":      {"r", "g", "b", "a", "specr", "specg", "specb", "spec", "roughness", "metallic"},
	"FCurve":        {"totvert", "active_keyframe_index", "curval", "prev_norm_factor", "prev_offset", "color"},
	"bAction":       {"frame_start", "frame_end"},
	"bActionGroup":  {"flag"},
	"Action":        {"frame_start", "frame_end"},
	"KeyBlock":      {"curval"},
	"ChannelDriver": {"curval"},
	"DriverVar":     {"curval"},
	"Mesh":          {"loc", "size", "texspace_location", "texspace_size"},
	"Curve":         {"loc", "size", "texspace_location", "texspace_size"},
	"bPoseChannel": {
		"loc", "size", "eul", "quat", "rotAxis", "rotAngle", "chan_mat", "pose_mat", "pose_head", "pose_tail", "disp_mat", "disp_tail_mat", "constinv",
		"selectflag",
	},
})

// isSelected says whether the lowest bit of a field of 16 bits is that
// something is selected.
func isSelected(f field) bool {
	return f.owner == "Object" && f.name == "flag" && f.stars == 0 && f.size == 2 && f.count == 1
}

func fieldsOf(of map[string][]string) map[member]bool {
	all := map[member]bool{}
	for owner, names := range of {
		for _, n := range names {
			all[member{owner, n}] = true
		}
	}
	return all
}
