package blender

import (
	"fmt"
	"math"
	"strings"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/assemble"
)

// piece is a part of a frame that one task renders.
type piece struct {
	part job.Part // its tile holds `keep` and what a filter looks at around it
	keep job.Rect
}

// What `auto` aims at. Work is pixels times samples: the most that can be
// known of a frame's length before one was rendered.
const (
	// pieceWork is what one task is given: ten to forty seconds of a few
	// cores, which is what a machine loses when its owner comes back, and on
	// a fast GPU still several times what it costs to begin a tile.
	pieceWork = 1 << 26
	// autoPieces bounds what a frame is cut into.
	autoPieces = 64
	// minSide of a tile, pixels.
	minSide = 96
)

// pieces cuts a frame as asked; one piece with a zero part is the whole.
func (f Facts) pieces(asked string, spec SpecParams, frames int) ([]piece, error) {
	c, err := job.ParseCut(asked)
	if err != nil {
		return nil, err
	}
	whole := []piece{{keep: job.Rect{X1: f.Width, Y1: f.Height}}}
	untiled := f.Untiled
	if f.Engine != cycles {
		untiled = append(untiled, f.Engine+" has effects that look at the whole picture")
	}
	if c.Auto {
		if len(untiled) > 0 || len(f.Uncheckable) > 0 {
			return whole, f.tooLarge(whole, untiled)
		}
		c.Columns, c.Rows = f.grid(spec, frames)
	}
	refuse := func(why, remedy string) error {
		return job.Refuse("parts "+asked, why, remedy)
	}
	tiled, sampled := c.Columns*c.Rows > 1, c.Ranges > 1
	samples := spec.Samples
	if samples == 0 {
		samples = f.Samples
	}
	switch {
	case (tiled || sampled) && len(untiled) > 0:
		return nil, refuse("a part of the frame would not look as the whole does: "+strings.Join(untiled, ", "), "leave --parts out")
	case c.Columns > f.Width || c.Rows > f.Height:
		return nil, refuse(fmt.Sprintf("a frame of %dx%d pixels has no so many tiles", f.Width, f.Height), "ask for fewer")
	case sampled && f.Adaptive:
		return nil, refuse("adaptive sampling is on, and ranges of its samples do not add up to the whole", "use tiles, as 4x2")
	case sampled && len(f.Unsampled) > 0:
		return nil, refuse("ranges of samples do not add up to the whole: "+strings.Join(f.Unsampled, ", "), "use tiles, as 4x2")
	case sampled && c.Ranges > samples:
		return nil, refuse(fmt.Sprintf("a frame of %d samples has no %d ranges", samples, c.Ranges), "ask for fewer")
	case !tiled && !sampled:
		return whole, f.tooLarge(whole, untiled)
	}
	var out []piece
	for row := range c.Rows {
		for column := range c.Columns {
			keep := job.Rect{
				X0: share(column, c.Columns, f.Width), X1: share(column+1, c.Columns, f.Width),
				Y0: share(row, c.Rows, f.Height), Y1: share(row+1, c.Rows, f.Height),
			}
			var p job.Part
			if tiled {
				p.Tile = keep
				if f.Adaptive {
					p.Tile = grown(keep, f.Width, f.Height)
				}
			}
			for i := range c.Ranges {
				if sampled {
					p.Samples = job.Range{From: share(i, c.Ranges, samples), To: share(i+1, c.Ranges, samples)}
				}
				out = append(out, piece{p, keep})
			}
		}
	}
	return out, f.tooLarge(out, untiled)
}

// mostPixels a piece may have: what a checker decodes of a result, at the four
// channels that there are at least.
const mostPixels = media.ResultSamples / 4

// tooLarge refuses pieces that no worker could deliver.
func (f Facts) tooLarge(pieces []piece, untiled []string) error {
	for _, p := range pieces {
		r := p.part.Tile
		if r == (job.Rect{}) {
			r = p.keep
		}
		if n := int64(r.X1-r.X0) * int64(r.Y1-r.Y0); n > mostPixels {
			remedy := fmt.Sprintf("use more tiles (--parts), %d or more", (int64(f.Width)*int64(f.Height)+mostPixels-1)/mostPixels)
			if len(untiled) > 0 {
				remedy = "render it smaller (--resolution); it cannot be cut into tiles: " + strings.Join(untiled, ", ")
			}
			return job.Refuse("the frame", fmt.Sprintf("%d million pixels in one piece are more than a result may hold (%d million)", n/1e6, mostPixels/1_000_000), remedy)
		}
	}
	return nil
}

// grid is how many columns and rows of tiles a frame is best cut into.
func (f Facts) grid(spec SpecParams, frames int) (columns, rows int) {
	samples := spec.Samples
	if samples == 0 {
		samples = f.Samples
	}
	n := float64(f.Width) * float64(f.Height) * float64(samples) / pieceWork
	n = min(n, autoPieces, float64(job.MaxTasksPerJob/2/max(frames, 1)))
	if n < 2 {
		return 1, 1
	}
	// Tiles as square as may be: they have the least border.
	columns = int(math.Round(math.Sqrt(n * float64(f.Width) / float64(f.Height))))
	columns = max(1, min(columns, f.Width/minSide))
	rows = max(1, min(int(math.Round(n/float64(columns))), f.Height/minSide))
	return columns, rows
}

// share is where the i-th of n equal shares of a length begins.
func share(i, n, length int) int { return int(int64(i) * int64(length) / int64(n)) }

// grown is r and what is rendered around it where adaptive sampling looks at a
// pixel's neighbours.
func grown(r job.Rect, width, height int) job.Rect {
	return job.Rect{
		X0: max(r.X0-margin, 0), Y0: max(r.Y0-margin, 0),
		X1: min(r.X1+margin, width), Y1: min(r.Y1+margin, height),
	}
}

// denoising is the task that denoises what the task `after` left of a frame that
// whole renders with p.
func denoising(whole job.Task, p Params, after job.TaskKey) job.Task {
	return job.Task{
		Kind: Name,
		Params: Params{
			Op: opDenoise, Main: p.Main, Frame: p.Frame, Build: p.Build, Scene: p.Scene, ViewLayer: p.ViewLayer, OCIO: p.OCIO,
		}.encode(),
		Input:   whole.Input,
		Outputs: []job.OutputRule{{Name: assemble.DenoisedFile, Media: job.MediaEXR}},
		After:   []job.TaskKey{after},
		Rank:    whole.Rank,
		Reads:   whole.Reads,
	}
}

// inParts is render cut into pieces, and what puts them together: tasks whose
// last one leaves what render would have left.
func (f Facts) inParts(whole job.Task, p Params, spec SpecParams, pieces []piece) []job.Task {
	denoise := f.denoises(spec)
	join := assemble.Params{Op: assemble.OpJoin, Width: f.Width, Height: f.Height}
	half := p.Depth == "16"
	final := whole.Outputs[0].Final
	if denoise {
		p.Denoise = denoiseLater
		join.Denoise = f.DenoiseLayers
	} else {
		join.Half = half
	}
	// What is put together is precise; how it is delivered is decided then.
	// Tiles that are only laid side by side lose nothing by having it already,
	// and halves may be asked for. Averages are always made of floats.
	p.Depth, p.Codec = "", ""
	if half && (join.Half || !f.Multilayer) && pieces[0].part.Samples == (job.Range{}) {
		p.Depth = "16"
	}
	var tasks []job.Task
	gather := job.Task{
		Kind:    assemble.Name,
		Outputs: []job.OutputRule{{Name: assemble.FrameFile, Media: job.MediaEXR}},
		Label:   fmt.Sprintf("%d join", p.Frame),
		Needs:   f.afterwards(map[string]string{string(assemble.Name): assemble.Version}),
		Check:   f.again(assemble.FrameFile),
		Place:   f.at,
		Rank:    whole.Rank,
	}
	for i, c := range pieces {
		t := whole
		t.Params, t.Part = p.encode(), c.part
		t.Outputs = []job.OutputRule{{Name: claimFile, Media: job.MediaEXR}}
		t.Label = fmt.Sprintf("%d part %d of %d", p.Frame, i+1, len(pieces))
		tasks = append(tasks, t)
		s := c.part.Samples
		tile := c.part.Tile
		if tile == (job.Rect{}) {
			tile = c.keep
		}
		join.Parts = append(join.Parts, assemble.Part{Tile: tile, Keep: c.keep, Samples: s.To - s.From})
		gather.After = append(gather.After, t.Key())
	}
	if pieces[0].part.Samples != (job.Range{}) {
		gather.Check = job.Check{} // averages may differ in their last bit from one sort of processor to another
	}
	gather.Params = join.Encode()
	if !denoise {
		gather.Outputs[0].Final = final
		return append(tasks, gather)
	}
	gather.Outputs = append(gather.Outputs, job.OutputRule{Name: assemble.GuidesFile, Media: job.MediaEXR})
	clean := denoising(whole, p, gather.Key())
	clean.Label, clean.Needs, clean.Place = fmt.Sprintf("%d denoise", p.Frame), f.afterwards(whole.Needs.Require), f.at
	put := gather
	put.Check = f.again(assemble.FrameFile)
	put.Params = assemble.Params{
		Op: assemble.OpDenoised, Width: f.Width, Height: f.Height,
		Denoise: f.DenoiseLayers, Guided: f.GuideLayers, Half: half,
	}.Encode()
	put.Outputs = []job.OutputRule{{Name: assemble.FrameFile, Media: job.MediaEXR, Final: final}}
	put.After = []job.TaskKey{gather.Key(), clean.Key()}
	put.Label = fmt.Sprintf("%d denoised", p.Frame)
	return append(tasks, gather, clean, put)
}
