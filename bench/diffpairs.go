package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

var saveName = regexp.MustCompile(`^(.+)__([0-9]+)[^/]*\.blend$`)

// save is one of several of the same file.
type save struct {
	path, family string
	number       int
	version      string // of the Blender that wrote it
}

// pairs compares every save in a folder with the one before it.
func (d *differ) pairs(ctx context.Context, folder string) ([]Figure, error) {
	saves, err := findSaves(folder)
	if err != nil {
		return nil, err
	}
	var todo []filePair
	same := map[string]bool{}
	for i := 1; i < len(saves); i++ {
		a, b := saves[i-1], saves[i]
		if a.family != b.family {
			continue
		}
		name := fmt.Sprintf("%s %d-%d", b.family, a.number, b.number)
		todo = append(todo, filePair{name, a.path, b.path})
		same[name] = a.version == b.version
	}
	if len(todo) == 0 {
		return nil, fmt.Errorf("%s: no two saves of one file (name__00.blend, name__01.blend)", folder)
	}
	say("%d pairs of successive saves", len(todo))
	all, err := d.compareAll(ctx, todo)
	if err != nil {
		return nil, err
	}
	d.table("pair", all)
	var equal []comparison
	for _, c := range all {
		if same[c.name] {
			equal = append(equal, c)
		}
	}
	return append(d.summary("saves, same Blender", equal, true), d.summary("saves, all", all, false)...), nil
}

// summary gives quantiles in percent of the new file. Only saves by one
// version of Blender have goals.
func (d *differ) summary(name string, all []comparison, goals bool) []Figure {
	if len(all) == 0 {
		return nil
	}
	percents := func(bytes func(comparison) int64) (sorted []float64, together float64) {
		var moved, size int64
		for _, c := range all {
			moved, size = moved+bytes(c), size+c.size
			sorted = append(sorted, 100*float64(bytes(c))/float64(c.size))
		}
		slices.Sort(sorted)
		return sorted, 100 * float64(moved) / float64(size)
	}
	ours, together := percents(func(c comparison) int64 { return c.ours.WireBytes })
	var medians, lows, highs, totals []Peer
	for _, p := range d.peers {
		theirs, all := percents(func(c comparison) int64 { return c.peers[p.name] })
		medians = append(medians, Peer{p.name, quantile(theirs, 0.5)})
		lows = append(lows, Peer{p.name, quantile(theirs, 0.25)})
		highs = append(highs, Peer{p.name, quantile(theirs, 0.75)})
		totals = append(totals, Peer{p.name, all})
	}
	var ratios []float64
	for _, c := range all {
		ratios = append(ratios, float64(c.best())/float64(c.ours.WireBytes))
	}
	slices.Sort(ratios)
	lowest := func(name string, v, goal float64, peers []Peer) Figure {
		f := Figure{Name: name, Value: v, Unit: "% of file", Holds: true, Peers: peers}
		if goals && goal > 0 {
			f = atMost(name, v, f.Unit, goal, peers...)
		}
		return f
	}
	ratio := plain(name+": best peer over ours, median", quantile(ratios, 0.5), "x")
	if goals {
		ratio = atLeast(ratio.Name, ratio.Value, ratio.Unit, 20)
	}
	figures := []Figure{
		plain(name+": pairs", float64(len(all)), ""),
		lowest(name+": median", quantile(ours, 0.5), 1.9, medians),
		lowest(name+": p25", quantile(ours, 0.25), 0, lows),
		lowest(name+": p75", quantile(ours, 0.75), 4, highs),
		lowest(name+": all bytes together", together, 5.5, totals),
	}
	if len(d.peers) > 0 {
		figures = append(figures, ratio)
	}
	return figures
}

// findSaves lists the saves in a folder, each file's by number.
func findSaves(folder string) ([]save, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var saves []save
	for _, e := range entries {
		m := saveName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		path, err := filepath.Abs(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		v, err := blendVersion(path)
		if err != nil {
			return nil, err
		}
		saves = append(saves, save{path, m[1], n, v})
	}
	slices.SortFunc(saves, func(a, b save) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.number, b.number))
	})
	return saves, nil
}

// blendVersion is the version in the header of a .blend, whatever it is
// packed in.
func blendVersion(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 17)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	var r io.Reader = f
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		if r, err = gzip.NewReader(f); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(f)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		defer z.Close()
		r = z
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	// "BLENDER-v304" has 12 bytes, "BLENDER17-01v0502" 17.
	if _, v, ok := bytes.Cut(head, []byte("v")); ok && bytes.HasPrefix(head, []byte("BLENDER")) && len(v) >= 3 {
		if len(head)-len(v) == 9 {
			v = v[:3]
		}
		return string(v), nil
	}
	if i := bytes.IndexByte(head, 'V'); bytes.HasPrefix(head, []byte("BLENDER")) && i == 8 {
		return string(head[9:12]), nil
	}
	return "", errors.New(path + ": no header of a .blend")
}
