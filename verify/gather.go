package verify

import (
	"fmt"

	"idlewild/job"
	"idlewild/media"
)

// Rendered is the result of one of Challenge's parts: the image, or why there
// is none.
type Rendered struct {
	Part  job.Part
	Image *media.Image
	Err   error
}

// Gather puts the results of a challenge together to crops, in the order in
// which their rectangles first appear. Every trouble with them is the checker's:
// give it to Unverified.
func Gather(c job.CropCheck, claimed job.Part, results []Rendered) ([]Crop, error) {
	var crops []Crop
	index := map[job.Rect]int{}
	for _, r := range results {
		if r.Err != nil {
			return nil, fmt.Errorf("crop %v: %w", r.Part.Tile, r.Err)
		}
		if r.Image == nil {
			return nil, fmt.Errorf("crop %v is missing", r.Part.Tile)
		}
		i, ok := index[r.Part.Tile]
		if !ok {
			i = len(crops)
			index[r.Part.Tile] = i
			crops = append(crops, Crop{Rect: r.Part.Tile})
		}
		if r.Part.Samples == claimed.Samples {
			crops[i].Image = r.Image
			continue
		}
		crops[i].Ranges = append(crops[i].Ranges, SampleRange{From: r.Part.Samples.From, To: r.Part.Samples.To, Image: r.Image})
	}
	want := claimed.Samples
	if want == (job.Range{}) {
		want = job.Range{To: c.Samples}
	}
	for _, crop := range crops {
		at := want.From
		for _, s := range crop.Ranges {
			if s.From != at {
				return nil, fmt.Errorf("crop %v: samples %d to %d are missing", crop.Rect, at, s.From)
			}
			at = s.To
		}
		if crop.Ranges != nil && at != want.To {
			return nil, fmt.Errorf("crop %v: samples %d to %d are missing", crop.Rect, at, want.To)
		}
	}
	return crops, nil
}
