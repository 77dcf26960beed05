package media

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestNamesOfViews(t *testing.T) {
	views := []string{"left", "right"}
	for name, want := range map[string]string{
		"Layer.Combined.left.R":   "Layer.left.Combined.R",
		"A.Layer.Depth.right.Z":   "A.Layer.right.Depth.Z",
		"Layer.Combined.R":        "Layer.Combined.R",
		"Layer.Combined.centre.R": "Layer.Combined.centre.R",
		"right.R":                 "right.R", // a file of one layer
		"Combined.left.R":         "Combined.left.R",
		"R":                       "R",
		".left.R":                 ".left.R",
		"Layer.left.Combined.X":   "Layer.left.Combined.X",
	} {
		if have := viewed(name, views); want != have {
			t.Errorf("%q is known as %q, want %q", name, have, want)
		}
	}
	if have := viewed("Layer.Combined.left.R", nil); have != "Layer.Combined.left.R" {
		t.Errorf("a file without views has a channel %q", have)
	}
}

// Blender 5.0 gives each view parts of its own, in which channels of several views
// have the same names, or all views one part, as earlier versions did.
func TestViewsInPartsOfTheirOwn(t *testing.T) {
	var files []*Image
	for _, name := range []string{"views-parts.exr", "views-interleaved.exr"} {
		m, err := DecodeFile(filepath.Join("testdata", name), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Layers(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"ViewLayer.left", "ViewLayer.right"}) {
			t.Errorf("%s: layers %q", name, got)
		}
		files = append(files, m)
	}
	if len(files[0].Channels) != 8 {
		t.Errorf("%d channels", len(files[0].Channels))
	}
	for _, c := range files[0].Channels {
		other, ok := files[1].Channel(c.Name)
		if !ok || !slices.Equal(c.Data, other.Data) {
			t.Errorf("%s is not the same in both, there %v", c.Name, ok)
		}
	}
	left, here := files[0].Channel("ViewLayer.left.Combined.R")
	right, there := files[0].Channel("ViewLayer.right.Combined.R")
	if !here || !there || slices.Equal(left.Data, right.Data) {
		t.Error("both views are one picture")
	}
}
