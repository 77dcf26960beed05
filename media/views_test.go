package media

import "testing"

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
