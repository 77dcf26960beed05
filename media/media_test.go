package media

import (
	"bytes"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mrjoshuak/go-openexr/exr"
	"pgregory.net/rapid"
)

// sampleImage is a frame as Blender names its channels, with values that are
// easy to get wrong: negative, tiny, huge, not finite.
func sampleImage(w, h int) *Image {
	m := New(w, h)
	m.PixelAspect = 1
	m.Attributes = map[string]string{"cryptomatte/542cafa/manifest": `{"Cube":"a8fce865"}`, "Frame": "012"}
	for k, name := range []string{
		"ViewLayer.Combined.R", "ViewLayer.Combined.G", "ViewLayer.Combined.B", "ViewLayer.Combined.A",
		"ViewLayer.Depth.Z", "View.Layer 2.Debug Sample Count.X",
	} {
		d := m.Add(name, Float)
		for i := range d {
			d[i] = float32(math.Sin(float64(i*(k+1)))) * float32(math.Exp2(float64(i%37-18)))
		}
	}
	d := m.Channels[4].Data
	d[0], d[1], d[2], d[3] = 1e10, float32(math.Inf(1)), float32(math.Copysign(0, -1)), float32(math.NaN())
	return m
}

var sameFloats = cmp.Comparer(func(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || (a != a && b != b)
})

func TestEXRRoundTrip(t *testing.T) {
	want := sampleImage(70, 33)
	want.Left, want.Top, want.FrameWidth, want.FrameHeight = 5, 7, 100, 90
	path := filepath.Join(t.TempDir(), "a.exr")
	if err := WriteEXR(path, want, false); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeFile(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	byName := cmp.Transformer("byName", func(in []Channel) map[string][]float32 {
		out := map[string][]float32{}
		for _, c := range in {
			out[c.Name] = c.Data
		}
		return out
	})
	if d := cmp.Diff(want, got, byName, sameFloats); d != "" {
		t.Error(d)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestHalfKeepsDataPasses(t *testing.T) {
	want := sampleImage(16, 16)
	want.Channels[0].Data[0] = 1e6 // more than a half can hold
	path := filepath.Join(t.TempDir(), "a.exr")
	if err := WriteEXR(path, want, true); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeFile(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range want.Channels {
		g, ok := got.Channel(c.Name)
		if !ok {
			t.Fatalf("%s is missing", c.Name)
		}
		light := strings.Contains(c.Name, "Combined")
		if (g.Sample == Half) != light {
			t.Errorf("%s stored as %v", c.Name, g.Sample)
		}
		for i, v := range c.Data {
			if light {
				v = float32(math.Max(-65504, math.Min(float64(v), 65504)))
				if d := math.Abs(float64(g.Data[i] - v)); d > 1e-3*math.Abs(float64(v))+1e-7 {
					t.Fatalf("%s[%d] = %g, want about %g", c.Name, i, g.Data[i], v)
				}
			} else if g.Data[i] != v && v == v {
				t.Fatalf("%s[%d] = %g, want exactly %g", c.Name, i, g.Data[i], v)
			}
		}
	}
}

func TestPassesAndLayers(t *testing.T) {
	m := sampleImage(4, 4)
	if d := cmp.Diff([]string{"ViewLayer", "View.Layer 2"}, m.Layers()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"Combined", "Depth"}, m.Passes("ViewLayer")); d != "" {
		t.Error(d)
	}
	names := func(layer, pass string) string {
		chans, _ := m.Pass(layer, pass)
		var s string
		for _, c := range chans {
			_, _, n := Split(c.Name)
			s += n
		}
		return s
	}
	m.Channels[0], m.Channels[3] = m.Channels[3], m.Channels[0]
	if got := names("ViewLayer", "Combined"); got != "RGBA" {
		t.Errorf("order %q", got)
	}
	if got := names("", "Debug Sample Count"); got != "X" {
		t.Errorf("any layer: %q", got)
	}
	if _, ok := m.Pass("ViewLayer", "Normal"); ok {
		t.Error("found a pass that is not there")
	}
	for name, want := range map[string][3]string{
		"R": {"", "Combined", "R"}, "Z": {"", "Depth", "Z"}, "Depth.V": {"", "Depth", "V"},
		"a.b.c.d": {"a.b", "c", "d"}, "": {"", "Combined", ""},
	} {
		l, p, c := Split(name)
		if got := [3]string{l, p, c}; got != want {
			t.Errorf("Split(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestCropCountsFromTheBottom(t *testing.T) {
	m := New(4, 3)
	d := m.Add("R", Float)
	for i := range d {
		d[i] = float32(i)
	}
	c, err := m.Crop(1, 0, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]float32{5, 6, 9, 10}, c.Channels[0].Data); d != "" {
		t.Error(d)
	}
	for _, r := range [][4]int{{-1, 0, 2, 2}, {0, 0, 5, 1}, {0, 0, 1, 4}, {2, 0, 2, 1}} {
		if _, err := m.Crop(r[0], r[1], r[2], r[3]); err == nil {
			t.Errorf("crop %v accepted", r)
		}
	}
}

func TestLimitsAreCheckedBeforeAllocation(t *testing.T) {
	// Headers that claim far more than the few bytes behind them.
	huge := func(w, h int, channels int) []byte {
		hd := exr.NewScanlineHeader(64, 64)
		hd.SetDataWindow(box(0, 0, w, h))
		hd.SetDisplayWindow(box(0, 0, w, h))
		cl := exr.NewChannelList()
		for i := range channels {
			cl.Add(exr.NewChannel("c"+strings.Repeat("x", i%50)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), exr.PixelTypeFloat))
		}
		hd.SetChannels(cl)
		b := append([]byte{0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0}, hd.SerializeForTest()...)
		return append(b, make([]byte, 1<<20)...) // room for the table of offsets
	}
	var big bytes.Buffer
	if err := png.Encode(&big, image.NewGray(image.Rect(0, 0, 3000, 3000))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b []byte
		l Limits
	}{
		"exr pixels":   {huge(60000, 60000, 4), Limits{}},
		"exr samples":  {huge(10000, 10000, 4), Limits{}},
		"exr side":     {huge(100000, 1, 1), Limits{}},
		"exr channels": {huge(8, 8, 1500), Limits{}},
		"png pixels":   {big.Bytes(), Limits{Samples: 1 << 20}},
		"file":         {big.Bytes(), Limits{FileBytes: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(c.b, c.l)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrTooLarge) {
				t.Fatalf("got %v", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

func TestBrokenFilesAreErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.exr")
	if err := WriteEXR(path, sampleImage(40, 40), false); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 1 + n/40 {
		if _, err := Decode(b[:n], Limits{}); err == nil {
			t.Errorf("truncated to %d of %d bytes: no error", n, len(b))
		}
	}
	for _, junk := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0}, 100), magicEXR, magicPNG} {
		if _, err := Decode(junk, Limits{}); err == nil {
			t.Errorf("%q: no error", junk)
		}
	}
	if _, err := DecodeFile(dir, Limits{}); err == nil {
		t.Error("a folder decoded")
	}
}

func TestPNG(t *testing.T) {
	deep := image.NewNRGBA64(image.Rect(0, 0, 3, 2))
	deep.SetNRGBA64(1, 1, color.NRGBA64{R: 65535, G: 32768, B: 1, A: 16384})
	flat := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	for i := range flat.Pix {
		flat.Pix[i] = 255
	}
	flat.SetNRGBA(2, 0, color.NRGBA{R: 10, G: 20, B: 30, A: 255})
	for _, c := range []struct {
		src      image.Image
		channels int
		i        int
		want     []float32
	}{
		{deep, 4, 4, []float32{1, 32768. / 65535, 1. / 65535, 16384. / 65535}},
		{flat, 3, 2, []float32{10. / 255, 20. / 255, 30. / 255}},
	} {
		b, err := EncodePNG(c.src)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Channels) != c.channels || m.Encoding != SRGB || m.Width != 3 || m.Height != 2 {
			t.Fatalf("%d channels of %dx%d", len(m.Channels), m.Width, m.Height)
		}
		for k, w := range c.want {
			if g := m.Channels[k].Data[c.i]; g != w {
				t.Errorf("channel %d: %g, want %g", k, g, w)
			}
		}
	}
}

// Every kind of PNG decodes to what Go's colour models say of each pixel.
func TestEveryKindOfPNG(t *testing.T) {
	const w, h = 5, 3
	r := image.Rect(0, 0, w, h)
	rng := rand.New(rand.NewPCG(1, 2))
	fill := func(pix []byte, alpha, wide int) { // alpha: where an opaque one is kept; 0: none is
		for i := range pix {
			pix[i] = byte(rng.Uint32())
			if alpha > 0 && i/wide%4 == alpha {
				pix[i] = 255
			}
		}
	}
	solid, solid64, clear, clear64 := image.NewNRGBA(r), image.NewNRGBA64(r), image.NewNRGBA(r), image.NewNRGBA64(r)
	grey, grey16 := image.NewGray(r), image.NewGray16(r)
	fill(solid.Pix, 3, 1)
	fill(solid64.Pix, 3, 2)
	fill(clear.Pix, 0, 1)
	fill(clear64.Pix, 0, 2)
	fill(grey.Pix, 0, 1)
	fill(grey16.Pix, 0, 2)
	few := image.NewPaletted(r, color.Palette{color.NRGBA{R: 9, G: 8, B: 7, A: 255}, color.NRGBA{R: 200, G: 100, B: 50, A: 20}})
	for i := range few.Pix {
		few.Pix[i] = byte(i & 1)
	}
	for _, src := range []image.Image{solid, solid64, clear, clear64, grey, grey16, few} {
		b, err := EncodePNG(src)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range w * h {
			at := src.At(i%w, i/w)
			c := color.NRGBAModel.Convert(at).(color.NRGBA)
			want, most := []uint16{uint16(c.R), uint16(c.G), uint16(c.B), uint16(c.A)}, float32(255)
			switch src.(type) {
			case *image.NRGBA64, *image.Gray16:
				c := color.NRGBA64Model.Convert(at).(color.NRGBA64)
				want, most = []uint16{c.R, c.G, c.B, c.A}, 65535
			}
			for k, c := range m.Channels {
				if v := float32(want[k]) / most; c.Data[i] != v {
					t.Fatalf("%T, pixel %d, channel %s: %g, want %g", src, i, c.Name, c.Data[i], v)
				}
			}
		}
	}
}

func TestViewShowsWhatPeopleSee(t *testing.T) {
	m := New(3, 1)
	copy(m.Add("ViewLayer.Combined.R", Float), []float32{0, 0.2158605, 7})
	copy(m.Add("ViewLayer.Combined.G", Float), []float32{-1, 0.2158605, float32(math.NaN())})
	copy(m.Add("ViewLayer.Combined.B", Float), []float32{1, 0.2158605, 0.001})
	v, err := View(m, "", "Combined")
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{0, 0, 255, 255, 128, 128, 128, 255, 255, 0, 3, 255}
	if !bytes.Equal(v.Pix, want) {
		t.Errorf("%v, want %v", v.Pix, want)
	}
}

func TestTileRootIsAsDocumented(t *testing.T) {
	m := New(65, 2)
	copy(m.Add("b", Float), []float32{1, 2, 3})
	a := m.Add("a", Float)
	a[64] = float32(math.NaN())
	root, leaves, err := TileRoot(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(leaves) != 2 {
		t.Fatalf("%d leaves", len(leaves))
	}
	// Made by the 15 lines of Python in testdata/tileroot.py from the text of
	// TileRoot's comment alone.
	want, err := os.ReadFile("testdata/tileroot.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(root[:]); got != strings.TrimSpace(string(want)) {
		t.Errorf("root %s, want %s", got, want)
	}

	// The order of channels and the bits of a NaN do not matter.
	m.Channels[0], m.Channels[1] = m.Channels[1], m.Channels[0]
	a[64] = math.Float32frombits(0xffc12345)
	if again, _, _ := TileRoot(m); again != root {
		t.Error("order or NaN bits changed the root")
	}
	// A sample, a name and the sign of a zero do.
	for _, change := range []func(){
		func() { a[3] = float32(math.Copysign(0, -1)) },
		func() { a[3] = 1 },
		func() { m.Channels[0].Name = "A" },
	} {
		before, _, _ := TileRoot(m)
		change()
		if after, _, _ := TileRoot(m); after == before {
			t.Error("a change did not change the root")
		}
	}
}

func mosaic(w, h int, tiles []Tile) (*Image, error) {
	m := NewMosaic(w, h)
	for _, t := range tiles {
		if err := m.Add(t); err != nil {
			return nil, err
		}
	}
	return m.Image()
}

type weighted struct {
	samples int
	image   *Image
}

func average(parts []weighted) (*Image, error) {
	var a Average
	for _, p := range parts {
		if err := a.Add(p.image, p.samples); err != nil {
			return nil, err
		}
	}
	return a.Image()
}

// sameRoot holds PixelRoot of a file to the root of what it decodes to.
func sameRoot(t *testing.T, path string, m *Image) {
	t.Helper()
	want, _, err := TileRoot(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := PixelRoot(path, Limits{}); err != nil || got != want {
		t.Errorf("%s: root %x, %v; of the whole image it is %x", filepath.Base(path), got, err, want)
	}
}

func TestPixelRootReadsBands(t *testing.T) {
	for _, size := range [][2]int{{2, 2}, {130, 64}, {70, 65}, {200, 300}} {
		for _, half := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "a.exr")
			m := sampleImage(size[0], size[1])
			m.FrameWidth, m.FrameHeight, m.Left, m.Top = m.Width+20, m.Height+30, 7, 9
			if err := WriteEXR(path, m, half); err != nil {
				t.Fatal(err)
			}
			read, err := DecodeFile(path, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			sameRoot(t, path, read)
		}
	}
	// A PNG is read whole.
	path := filepath.Join(t.TempDir(), "a.png")
	b, err := EncodePNG(image.NewNRGBA64(image.Rect(0, 0, 70, 65)))
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	read, err := DecodeFile(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sameRoot(t, path, read)
}

// A broken chunk is an error in whichever band it lies, and leaves no root.
func TestPixelRootOfABrokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.exr")
	if err := WriteEXR(path, sampleImage(100, 500), false); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)*9/10], 0o600); err != nil {
		t.Fatal(err)
	}
	if root, err := PixelRoot(path, Limits{}); err == nil || root != [32]byte{} {
		t.Errorf("root %x, %v", root, err)
	}
	if _, err := PixelRoot(path, Limits{Samples: 100}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a picture over its limits: %v", err)
	}
}

func TestFlipTwiceIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(2, 9).Draw(t, "w"), rapid.IntRange(2, 9).Draw(t, "h")
		m, again := sampleImage(w, h), sampleImage(w, h)
		m.Flip()
		for i, c := range m.Channels {
			for y := range h {
				if !slices.EqualFunc(c.Data[y*w:(y+1)*w], again.Channels[i].Data[(h-1-y)*w:(h-y)*w], sameBits) {
					t.Fatalf("row %d of %s is not row %d from the bottom", y, c.Name, y)
				}
			}
		}
		m.Flip()
		a, _, _ := TileRoot(m)
		if b, _, _ := TileRoot(again); a != b {
			t.Fatal("two flips changed the picture")
		}
	})
}

func TestTilesMergeToTheFrameTheyWereCutFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 40).Draw(t, "w"), rapid.IntRange(1, 40).Draw(t, "h")
		cut := func(n int, label string) []int {
			at := []int{0}
			for at[len(at)-1] < n {
				at = append(at, rapid.IntRange(at[len(at)-1]+1, n).Draw(t, label))
			}
			return at
		}
		frame := sampleImage(w+4, h+4)
		frame, err := frame.Crop(0, 0, w, h)
		if err != nil {
			t.Fatal(err)
		}
		xs, ys := cut(w, "x"), cut(h, "y")
		var tiles []Tile
		for i := range len(xs) - 1 {
			for j := range len(ys) - 1 {
				c, err := frame.Crop(xs[i], ys[j], xs[i+1], ys[j+1])
				if err != nil {
					t.Fatal(err)
				}
				tiles = append(tiles, Tile{xs[i], ys[j], xs[i+1], ys[j+1], c})
			}
		}
		merged, err := mosaic(w, h, tiles)
		if err != nil {
			t.Fatal(err)
		}
		a, _, _ := TileRoot(frame)
		b, _, _ := TileRoot(merged)
		if a != b {
			t.Fatal("merged frame differs")
		}
		if len(tiles) > 1 {
			if _, err := mosaic(w, h, tiles[1:]); err == nil {
				t.Error("a gap was accepted")
			}
			if _, err := mosaic(w, h, append(tiles, tiles[0])); err == nil {
				t.Error("an overlap was accepted")
			}
		}
	})
}

func TestSampleRangesMergeByWeightAndOnlyLight(t *testing.T) {
	part := func(v float32, pass string) *Image {
		m := New(2, 1)
		d := m.Add("ViewLayer."+pass+".R", Half)
		d[0], d[1] = v, 1
		return m
	}
	got, err := average([]weighted{{3, part(1, "Combined")}, {1, part(5, "Combined")}})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Channels[0]; c.Data[0] != 2 || c.Data[1] != 1 || c.Sample != Float {
		t.Errorf("%+v", c)
	}
	for _, pass := range []string{"Depth", "IndexOB", "CryptoObject00", "Position", "Normal", "Debug Sample Count", "my aov"} {
		_, err := average([]weighted{{1, part(1, pass)}, {1, part(2, pass)}})
		if err == nil || !strings.Contains(err.Error(), pass) {
			t.Errorf("%s: %v", pass, err)
		}
	}
	if _, err := average([]weighted{{1, part(1, "Combined")}, {1, part(1, "Emit")}}); err == nil {
		t.Error("different channels accepted")
	}
	if _, err := average([]weighted{{0, part(1, "Combined")}}); err == nil {
		t.Error("weight 0 accepted")
	}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
