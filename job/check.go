package job

import "fmt"

// CropCheck is what a comparer of crops must know of the render it judges:
// Check.Params of a task whose method is CheckCrop, encoded by Encode. The
// kind's planner fills it from the settings that the task will render with.
type CropCheck struct {
	Layer   string `json:"layer" cbor:"layer"`     // channel prefix of the judged pixels: "ViewLayer", "Composite"; empty: any layer that has Pass
	Pass    string `json:"pass" cbor:"pass"`       // "Combined"
	Width   int    `json:"width" cbor:"width"`     // of the frame, pixels
	Height  int    `json:"height" cbor:"height"`   // of the frame, pixels
	Samples int    `json:"samples" cbor:"samples"` // per pixel; the maximum where Adaptive
	// Adaptive says that the renderer stops early on pixels that are clean
	// enough, so that sample ranges of it do not add up to the whole.
	Adaptive bool `json:"adaptive" cbor:"adaptive"`
	// Whole says that ranges do not add up although every pixel has all samples:
	// the pattern of each depends on how many there are.
	Whole bool `json:"whole,omitempty" cbor:"whole,omitempty"`
	Seed  int  `json:"seed" cbor:"seed"` // of the sampling pattern
	// Denoised says that the judged pixels went through a denoiser: noise
	// statistics do not apply to them.
	Denoised bool `json:"denoised,omitempty" cbor:"denoised,omitempty"`
	// Guided says that the result keeps what a denoiser was guided by beside the
	// noisy picture, in Layer and Others: what it made of them can be made again.
	Guided bool `json:"guided,omitempty" cbor:"guided,omitempty"`
	// Others are the other layers that have Pass and were sampled alike: a
	// checker draws one of them now and then.
	Others []string `json:"others,omitempty" cbor:"others,omitempty"`
}

// MaxCheckLayers is how many other layers a CropCheck names at most.
const MaxCheckLayers = 64

// Validate checks the bounds of a CropCheck that came from elsewhere.
func (c CropCheck) Validate() error {
	const maxSide, maxSamples = 1 << 17, 1 << 24
	switch {
	case len(c.Layer) > MaxNameBytes || len(c.Pass) > MaxNameBytes:
		return fmt.Errorf("crop check: layer or pass name too long")
	case len(c.Others) > MaxCheckLayers:
		return fmt.Errorf("crop check: %d layers", len(c.Others))
	case c.Pass == "":
		return fmt.Errorf("crop check: no pass named")
	case c.Width <= 0 || c.Height <= 0 || c.Width > maxSide || c.Height > maxSide:
		return fmt.Errorf("crop check: frame of %dx%d", c.Width, c.Height)
	case c.Samples <= 0 || c.Samples > maxSamples:
		return fmt.Errorf("crop check: %d samples", c.Samples)
	}
	for _, l := range c.Others {
		if l == "" || len(l) > MaxNameBytes {
			return fmt.Errorf("crop check: layer name of %d bytes", len(l))
		}
	}
	return nil
}

// RerunCheck is what a comparer of numbers must know of the result it judges:
// Check.Params of a task whose method is CheckRerun, encoded by Encode.
type RerunCheck struct {
	// Items says that the judged output is a file of records (media.ReadRecords)
	// about so many items, of which the first has the number First. 0: it is a
	// picture.
	Items int `json:"items,omitempty" cbor:"items,omitempty"`
	First int `json:"first,omitempty" cbor:"first,omitempty"`
	// Width and Height of the whole picture, pixels.
	Width  int `json:"width,omitempty" cbor:"width,omitempty"`
	Height int `json:"height,omitempty" cbor:"height,omitempty"`
	// Precision of the computation: "fp32", "fp16" or "int8"; "tokens" where
	// each number that was drawn decides about the next, "drawn" of a picture that
	// is made in many steps.
	Precision string `json:"precision" cbor:"precision"`
	// Tolerance that the job itself gives, as the root mean square of the
	// difference over that of the result; 0: as is usual for the precision and
	// the devices.
	Tolerance float64 `json:"tolerance,omitempty" cbor:"tolerance,omitempty"`
}

// Validate checks the bounds of a RerunCheck that came from elsewhere.
func (c RerunCheck) Validate() error {
	const maxSide = 1 << 17
	switch {
	case c.Items < 0 || c.Items > MaxItemsPerTask || c.First < 0:
		return fmt.Errorf("rerun check: %d items from %d", c.Items, c.First)
	case c.Items == 0 && (c.Width <= 0 || c.Height <= 0 || c.Width > maxSide || c.Height > maxSide):
		return fmt.Errorf("rerun check: picture of %dx%d", c.Width, c.Height)
	case !(c.Tolerance >= 0 && c.Tolerance <= 1) || len(c.Precision) > 32:
		return fmt.Errorf("rerun check: tolerance %v of %q", c.Tolerance, c.Precision)
	}
	return nil
}
