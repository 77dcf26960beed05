package assemble

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/gorunner"
)

// RunnerMain never returns where the environment says that this process is
// the runner of this kind; else it does nothing. Every program that gives its
// own path to New calls it first in main.
func RunnerMain() { gorunner.Main(string(Name), answer) }

func answer(asked gorunner.Request) gorunner.Answer {
	done := gorunner.Answer{Device: "cpu", Build: "assemble " + Version}
	var r request
	err := json.Unmarshal(asked.JSON, &r)
	if err == nil {
		err = r.run(asked.Progress)
	}
	if err != nil {
		fmt.Fprintln(asked.Log, err)
		done.Outcome, done.Reason = job.Failed, err.Error()
	}
	return done
}

func (r request) run(progress func(phase string, fraction float64)) error {
	switch r.Params.Op {
	case OpDenoised:
		return r.denoised()
	case OpGuides:
		return r.guides()
	case OpReel:
		return r.reel(progress)
	case OpViews:
		return r.views()
	}
	frame, err := r.join(progress)
	if err != nil {
		return err
	}
	progress("saving", 0.9)
	if len(r.Params.Denoise) > 0 {
		guides, err := guidesOf(frame, r.Params.Denoise)
		if err != nil {
			return err
		}
		if err := media.WriteEXR(filepath.Join(r.Out, GuidesFile), guides, false); err != nil {
			return err
		}
	}
	return media.WriteEXR(filepath.Join(r.Out, FrameFile), frame, r.Params.Half)
}

// views writes a file of each view of the frame, with the names that channels
// have where there is one.
func (r request) views() error {
	m, err := media.DecodeFile(filepath.Join(r.Prior[0], FrameFile), media.Limits{})
	if err != nil {
		return err
	}
	p := r.Params
	if m.Width != p.Width || m.Height != p.Height {
		return fmt.Errorf("it has %dx%d pixels, not %dx%d", m.Width, m.Height, p.Width, p.Height)
	}
	for i, view := range p.Views {
		one := *m
		one.Channels = nil
		for _, c := range m.Channels {
			layer, pass, channel := media.Split(c.Name)
			if layer, ok := strings.CutSuffix(layer, "."+view); ok {
				c.Name = layer + "." + pass + "." + channel
				one.Channels = append(one.Channels, c)
			}
		}
		if len(one.Channels) == 0 {
			return fmt.Errorf("the frame has nothing of the view %q", view)
		}
		if err := media.WriteEXR(filepath.Join(r.Out, ViewFile(i)), &one, p.Half); err != nil {
			return err
		}
	}
	return nil
}

// join reads one part after the other into the frame.
func (r request) join(progress func(phase string, fraction float64)) (*media.Image, error) {
	p := r.Params
	frame := media.NewMosaic(p.Width, p.Height)
	for i := 0; i < len(p.Parts); {
		part := p.Parts[i]
		var sum media.Average
		end := i + 1
		for end < len(p.Parts) && p.Parts[end].Keep == part.Keep {
			end++
		}
		var picture *media.Image
		for j := i; j < end; j++ {
			progress("loading", 0.9*float64(j)/float64(len(p.Parts)))
			m, err := media.DecodeFile(filepath.Join(r.Prior[j], FrameFile), media.Limits{})
			if err != nil {
				return nil, fmt.Errorf("part %d: %w", j+1, err)
			}
			if picture, err = p.Parts[j].cut(m); err != nil {
				return nil, fmt.Errorf("part %d: %w", j+1, err)
			}
			if end == i+1 {
				break
			}
			if err := sum.Add(picture, p.Parts[j].Samples); err != nil {
				return nil, fmt.Errorf("part %d: %w", j+1, err)
			}
		}
		if end > i+1 {
			var err error
			if picture, err = sum.Image(); err != nil {
				return nil, err
			}
		}
		k := part.Keep
		if err := frame.Add(media.Tile{X0: k.X0, Y0: k.Y0, X1: k.X1, Y1: k.Y1, Image: picture}); err != nil {
			return nil, err
		}
		i = end
	}
	return frame.Image()
}

// cut is what of a part's picture becomes the frame's.
func (s Part) cut(m *media.Image) (*media.Image, error) {
	if m.Width != s.Tile.Dx() || m.Height != s.Tile.Dy() {
		return nil, fmt.Errorf("it has %dx%d pixels where its tile has %dx%d", m.Width, m.Height, s.Tile.Dx(), s.Tile.Dy())
	}
	if s.Keep == s.Tile {
		return m, nil
	}
	x, y := s.Tile.X0, s.Tile.Y0
	return m.Crop(s.Keep.X0-x, s.Keep.Y0-y, s.Keep.X1-x, s.Keep.Y1-y)
}

// Names of Cycles' passes.
const (
	passCombined = "Combined"
	passNoisy    = "Noisy Image"
	passAlbedo   = "Denoising Albedo"
	passNormal   = "Denoising Normal"
	passDepth    = "Denoising Depth"
	passVector   = "Vector"
)

// guidesOf is what Blender's operator for denoising files needs of a frame: per
// layer the noisy picture, albedo, normal, and motion vectors, without which
// it refuses the file although its denoiser for single pictures does not look
// at them. The picture is upside down: Cycles keeps rows from the bottom up,
// files from the top down, and a denoiser is not symmetric in that. Turned
// over, the result equals to the last bit what Cycles makes when it denoises
// at the end of a render.
func guidesOf(frame *media.Image, layers []string) (*media.Image, error) {
	out := media.New(frame.Width, frame.Height)
	out.Attributes = frame.Attributes // the operator wants to know the number of samples
	for _, layer := range layers {
		for _, pass := range []string{passCombined, passAlbedo, passNormal, passDepth} {
			chans, ok := frame.Pass(layer, pass)
			if !ok && pass != passDepth {
				return nil, fmt.Errorf("layer %q has no pass %q to denoise it by", layer, pass)
			}
			for _, c := range chans {
				copy(out.Add(c.Name, c.Sample), c.Data)
			}
		}
		for _, c := range []string{"X", "Y", "Z", "W"} {
			out.Add(layer+"."+passVector+"."+c, media.Float)
		}
	}
	out.Flip()
	return out, nil
}

// guides writes what prior[0]'s frame was denoised by.
func (r request) guides() error {
	frame, err := media.DecodeFile(filepath.Join(r.Prior[0], FrameFile), media.Limits{})
	if err != nil {
		return err
	}
	p := r.Params
	if frame.Width != p.Width || frame.Height != p.Height {
		return fmt.Errorf("a picture of %dx%d where the frame has %dx%d", frame.Width, frame.Height, p.Width, p.Height)
	}
	noisy(frame)
	guides, err := guidesOf(frame, p.Denoise)
	if err != nil {
		return err
	}
	return media.WriteEXR(filepath.Join(r.Out, GuidesFile), guides, false)
}

// noisy makes frame what it was before a renderer denoised it.
func noisy(frame *media.Image) {
	var out []media.Channel
	for _, c := range frame.Channels {
		layer, pass, name := media.Split(c.Name)
		if _, denoised := frame.Pass(layer, passNoisy); denoised && pass == passCombined {
			continue
		}
		if pass == passNoisy {
			c.Name = layer + "." + passCombined + "." + name
		}
		out = append(out, c)
	}
	frame.Channels = out
}

// denoised writes prior[0]'s frame with the pictures of prior[1].
func (r request) denoised() error {
	if len(r.Prior) < 2 {
		return fmt.Errorf("no denoised picture to put into the frame")
	}
	frame, err := media.DecodeFile(filepath.Join(r.Prior[0], FrameFile), media.Limits{})
	if err != nil {
		return err
	}
	clean, err := media.DecodeFile(filepath.Join(r.Prior[1], DenoisedFile), media.Limits{})
	if err != nil {
		return err
	}
	p := r.Params
	if frame.Width != p.Width || frame.Height != p.Height || clean.Width != p.Width || clean.Height != p.Height {
		return fmt.Errorf("pictures of %dx%d and %dx%d where the frame has %dx%d", frame.Width, frame.Height, clean.Width, clean.Height, p.Width, p.Height)
	}
	clean.Flip()
	if err := replaceLayers(frame, clean, p.Denoise, p.Guided); err != nil {
		return err
	}
	return media.WriteEXR(filepath.Join(r.Out, FrameFile), frame, p.Half)
}

// replaceLayers makes frame what a renderer leaves that denoised it itself: the
// clean pictures of the layers are Combined, the noisy ones Noisy Image, and
// guiding passes are there only in the layers `guided`.
func replaceLayers(frame, clean *media.Image, layers, guided []string) error {
	var out []media.Channel
	for _, c := range frame.Channels {
		layer, pass, name := media.Split(c.Name)
		if !slices.Contains(layers, layer) {
			out = append(out, c)
			continue
		}
		switch pass {
		case passCombined:
			now, ok := clean.Channel(c.Name)
			if !ok {
				return fmt.Errorf("the denoiser left no %s", c.Name)
			}
			out = append(out,
				media.Channel{Name: layer + "." + passNoisy + "." + name, Sample: c.Sample, Data: c.Data},
				media.Channel{Name: c.Name, Sample: c.Sample, Data: now.Data})
		case passNoisy: // the same as Combined
		case passAlbedo, passNormal, passDepth:
			if slices.Contains(guided, layer) {
				out = append(out, c)
			}
		default:
			out = append(out, c)
		}
	}
	frame.Channels = out
	return nil
}
