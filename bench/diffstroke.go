package main

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
)

// stroke paints one stroke of a brush into a painted 4k picture and compares
// the file before with the file after: saved by the program that had saved it
// before (Blender, in another process), and by another one (ffmpeg).
func (d *differ) stroke(ctx context.Context, quick bool) ([]Figure, error) {
	b, err := newBlender(d.dir)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		return nil, fmt.Errorf("ffmpeg is missing: make setup: %w", err)
	}
	dir, err := os.MkdirTemp(d.dir, "stroke-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	width, height := 3840, 2160
	if quick {
		width, height = 1280, 720
	}
	say("a brush stroke in a PNG of %dx%d", width, height)
	img := painted(7, width, height)
	if err := writePNG(in("painted.png"), img); err != nil {
		return nil, err
	}
	canvas := newCanvas(img, newNoise(rand.New(rand.NewPCG(3, 4))))
	canvas.lay(stroke{
		from: point{0.3 * float64(width), 0.35 * float64(height)}, heading: 0.4, bend: 0.0012,
		length: float64(width) / 5, radius: float64(width) / 160,
		colour: [3]float64{0.75, 0.2, 0.1}, strength: 0.7, bristles: 0.4,
	})
	if err := writePNG(in("stroked.png"), img); err != nil {
		return nil, err
	}
	for _, name := range []string{"painted", "stroked"} {
		if _, err := b.run(ctx, "", "resave.py", "--from", in(name+".png"), "--to", in(name+"-blender.png")); err != nil {
			return nil, err
		}
	}
	if _, err := command(ctx, dir, "ffmpeg", "-v", "error", "-i", in("stroked.png"), "-pred", "mixed", in("stroked-ffmpeg.png")); err != nil {
		return nil, err
	}
	pixels, err := samePixels(in("stroked-blender.png"), img)
	if err != nil {
		return nil, err
	}
	if !pixels {
		return nil, fmt.Errorf("Blender did not save the pixels that it read")
	}
	all, err := d.compareAll(ctx, []filePair{
		{"brush stroke, same encoder", in("painted-blender.png"), in("stroked-blender.png")},
		{"brush stroke, another encoder", in("painted-blender.png"), in("stroked-ffmpeg.png")},
	})
	if err != nil {
		return nil, err
	}
	d.table("picture", all)
	var figures []Figure
	for _, c := range all {
		f := atMost(c.name, 100*float64(c.ours.WireBytes)/float64(c.size), "% of file", 1)
		for _, p := range d.peers {
			f.Peers = append(f.Peers, Peer{p.name, 100 * float64(c.peers[p.name]) / float64(c.size)})
		}
		figures = append(figures, plain(c.name+": size of the PNG", float64(c.size), "B"), f)
	}
	return figures, nil
}

// samePixels reports whether a PNG holds a picture that has no transparency.
func samePixels(path string, want *image.NRGBA) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	got, err := png.Decode(f)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if got.Bounds() != want.Bounds() {
		return false, nil
	}
	for y := range want.Rect.Dy() {
		for x := range want.Rect.Dx() {
			r, g, b, _ := got.At(x, y).RGBA()
			p := want.NRGBAAt(x, y)
			if uint8(r>>8) != p.R || uint8(g>>8) != p.G || uint8(b>>8) != p.B {
				return false, nil
			}
		}
	}
	return true, nil
}
