package ai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/torch"
)

// Params are a task's parameters: JSON with the fields in this order.
type Params struct {
	Op string `json:"op"`
	// Model is the file below model/ of the content, SHA256 its hash.
	Model  string `json:"model,omitempty"`
	SHA256 string `json:"sha256,omitempty"`

	// Of a batch: Count items of which the first has the number First, counted
	// from 1. They are Length bytes of Input, a file below input/, from Offset
	// on, or Files, pictures or recordings. Numbered: each of these lies in the
	// folder of its number, so that a worker fetches no other's.
	Format   string   `json:"format,omitempty"` // "jsonl", "csv" or "pictures"
	Input    string   `json:"input,omitempty"`
	Files    []string `json:"files,omitempty"`
	Offset   int64    `json:"offset,omitempty"`
	Length   int64    `json:"length,omitempty"`
	First    int      `json:"first,omitempty"`
	Count    int      `json:"count,omitempty"`
	Column   int      `json:"column,omitempty"` // of a CSV, from 0
	Numbered bool     `json:"numbered,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	// Only are the numbers of the items that are run: those of a check. Empty: all.
	Only    []int    `json:"only,omitempty"`
	Outputs []string `json:"outputs,omitempty"` // of the model; empty: all
	Seed    *int64   `json:"seed,omitempty"`    // given to a model that has an input of that name, plus the item's number

	// Of a picture: what becomes of Input, number First. A task's Part is a tile of the
	// result.
	Width   int        `json:"width,omitempty"` // of the result
	Height  int        `json:"height,omitempty"`
	Scale   int        `json:"scale,omitempty"`   // the result's width over the input's
	Overlap int        `json:"overlap,omitempty"` // of tiles, pixels of the input; 0: as far as the model reaches
	Deep    bool       `json:"deep,omitempty"`    // 16 bits a sample
	Crops   []job.Rect `json:"crops,omitempty"`   // of the result: those of a check

	Picture Picture `json:"picture,omitzero"`

	// Of requests as OpenAI's API has them, one a line of Input or, where that
	// is empty, of the predecessor's RequestsFile: the path of their URL, what
	// runs the model ("llm"; nothing: onnx), and what it is called in answers.
	Endpoint string `json:"endpoint,omitempty"`
	Runtime  string `json:"runtime,omitempty"`
	Called   string `json:"called,omitempty"`
	// Commit: answers come with commitments, media.Writing; Choices: those with
	// several choices as well. Of a replay, whose predecessor is the claim or, where
	// Input is empty, has the claims beside the requests, Draw are the numbers by
	// which places are drawn.
	Commit  bool  `json:"commit,omitempty"`
	Choices bool  `json:"choices,omitempty"`
	Draw    []int `json:"draw,omitempty"`
	// Day is what the template of a model's chats is told as today, as
	// time.DateOnly has it; nothing: what its machine has.
	Day string `json:"day,omitempty"`

	// Of a model that the runtime "torch" runs: what it is put to, and how. Such
	// a model is a folder, and SHA256 the hash of its files' names and hashes.
	// A picture of words is made of the item whose number Only has.
	Pipeline string   `json:"pipeline,omitempty"`
	Generate Generate `json:"generate,omitzero"`

	// Of a picture that the first predecessor left: its file there, in place of
	// Input. The model's files are then the second one's.
	Prior string `json:"prior,omitempty"`
}

// Picture says how a picture becomes numbers. The zero value is red, green and
// blue from 0 to 1.
type Picture struct {
	Mean []float64 `json:"mean,omitempty" toml:"mean"` // taken off, per channel
	Std  []float64 `json:"std,omitempty" toml:"std"`   // then divided by
}

// The operations of Params.Op.
const (
	opItems    = "items"    // the model on a batch of items: one record each
	opRequests = "requests" // the model on requests: one record each
	opReplay   = "replay"   // the model on requests and their claimed answers: one record each
	opJoin     = "join"     // the records of the predecessors, one after the other
	opPicture  = "picture"  // a picture out of a picture
	opFinish   = "finish"   // the joined tiles as a picture's file
	opModel    = "model"    // the model: Files below Input, for tasks that come after
)

// Formats of inputs.
const (
	formatJSONL    = "jsonl"
	formatCSV      = "csv"
	formatPictures = "pictures"
	formatRequests = "requests" // OpenAI's batches
	formatAudio    = "audio"    // files of sound
)

// Files that tasks leave.
const (
	recordsFile = "records.jsonl"
	// RequestsFile holds what somebody who waits asks for.
	RequestsFile = "requests.jsonl"
	pictureFile  = "picture.png"
	tileFile     = "frame.exr" // as render/assemble reads it
)

// Bounds of what a task may ask for.
const (
	maxBatch  = 4096
	maxSide   = 1 << 16
	maxPixels = media.ResultSamples / 4 // of a picture that is made
	maxScale  = 16
	maxCrops  = job.MaxOutputs
	maxColumn = 1 << 16
)

// tooLarge says what about a picture of that size is more than can be made, or "".
func tooLarge(width, height int) string {
	switch {
	case width > maxSide || height > maxSide:
		return fmt.Sprintf("more than %d a side", maxSide)
	case width*height > maxPixels:
		return fmt.Sprintf("%.0f million, of at most %.0f", float64(width)*float64(height)/1e6, maxPixels/1e6)
	}
	return ""
}

// models reports whether the task needs the runtime.
func (p Params) models() bool {
	return p.Op == opItems || p.Op == opPicture || p.Op == opRequests || p.Op == opReplay
}

// live reports whether somebody waits for the answers.
func (p Params) live() bool { return p.Op == opRequests && p.Input == "" }

// encode returns the bytes that go into Task.Params.
func (p Params) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("ai params: %v", err)) // its fields always encode
	}
	return b
}

// decode reads and checks the parameters of a task that may come from a
// stranger.
func decode(b []byte) (Params, error) {
	var p Params
	if len(b) > job.MaxTaskBytes {
		return p, fmt.Errorf("ai task: %d bytes of parameters", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("ai task: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return p, fmt.Errorf("ai task: bytes after the end")
	}
	if err := p.validate(); err != nil {
		return p, fmt.Errorf("ai task: %w", err)
	}
	return p, nil
}

func (p Params) validate() error {
	for _, name := range append([]string{p.Model, p.Input, p.Prior}, p.Files...) {
		if name != "" {
			if err := job.SafeName(name); err != nil {
				return err
			}
		}
	}
	if p.Numbered && p.First < 1 {
		return fmt.Errorf("files from number %d on", p.First)
	}
	if err := p.Picture.validate(); err != nil {
		return err
	}
	if err := p.validatePipeline(); err != nil {
		return err
	}
	if _, err := time.Parse(time.DateOnly, p.Day); err != nil && p.Day != "" {
		return fmt.Errorf("day: %w", err)
	}
	if p.models() && (p.Model == "" || len(p.SHA256) != 64) {
		return fmt.Errorf("no model is named")
	}
	if p.Prior != "" && (p.Op != opPicture || p.Input != "") {
		return fmt.Errorf("a picture of a predecessor for the operation %q", p.Op)
	}
	switch p.Op {
	case opModel:
		if len(p.SHA256) != 64 || p.Input == "" {
			return fmt.Errorf("a model without a hash or a folder")
		}
		return checkFiles(p.Files)
	case opJoin:
		if p.Format == formatRequests && !slices.Contains(Endpoints, p.Endpoint) {
			return fmt.Errorf("answers of %q", p.Endpoint)
		}
		return nil
	case opFinish, opPicture:
		if p.Width <= 0 || p.Height <= 0 || tooLarge(p.Width, p.Height) != "" {
			return fmt.Errorf("a picture of %dx%d", p.Width, p.Height)
		}
		if p.Op == opFinish {
			return nil
		}
		if p.Pipeline == torch.Draw {
			return p.validateDrawn()
		}
		switch {
		case p.Input == "" && p.Prior == "":
			return fmt.Errorf("no picture is named")
		case p.Scale < 1 || p.Scale > maxScale || p.Width%p.Scale != 0 || p.Height%p.Scale != 0:
			return fmt.Errorf("a picture of %dx%d, %d times as large as its source", p.Width, p.Height, p.Scale)
		case p.Overlap < 0 || p.Overlap > 1<<14 || len(p.Crops) > maxCrops:
			return fmt.Errorf("an overlap of %d, %d crops", p.Overlap, len(p.Crops))
		}
		return p.validateCrops()
	case opItems:
		return p.validateItems()
	case opRequests:
		return p.validateRequests()
	case opReplay:
		if !p.Commit || len(p.Draw) != drawn || (p.Input == "") != (len(p.Only) == 0) {
			return fmt.Errorf("a replay of %d items, drawn by %d numbers", len(p.Only), len(p.Draw))
		}
		return p.validateRequests()
	}
	return fmt.Errorf("operation %q", p.Op)
}

// inputFile is where a file of the items lies below the content; n is its number.
func (p Params) inputFile(name string, n int) string {
	if p.Numbered {
		return "input/" + strconv.Itoa(n) + "/" + name
	}
	return "input/" + name
}

func (p Params) validateCrops() error {
	for _, c := range p.Crops {
		if c.X0 < 0 || c.Y0 < 0 || c.Dx() <= 0 || c.Dy() <= 0 || c.X1 > p.Width || c.Y1 > p.Height {
			return fmt.Errorf("crop %v of a picture of %dx%d", c, p.Width, p.Height)
		}
	}
	return nil
}

func (p Params) validateItems() error {
	switch p.Format {
	case formatJSONL, formatCSV:
		if p.Input == "" || p.Offset < 0 || p.Length <= 0 || len(p.Files) > 0 {
			return fmt.Errorf("%d bytes of items from %d on", p.Length, p.Offset)
		}
	case formatPictures, formatAudio:
		if len(p.Files) != p.Count {
			return fmt.Errorf("%d files where there are %d items", len(p.Files), p.Count)
		}
	default:
		return fmt.Errorf("items of the format %q", p.Format)
	}
	return p.validateNumbers()
}

func (p Params) validateRequests() error {
	switch {
	case !slices.Contains(Endpoints, p.Endpoint):
		return fmt.Errorf("requests of %q", p.Endpoint)
	case p.Runtime == runtimeTorch && endpointOf[p.Pipeline] != p.Endpoint:
		return fmt.Errorf("%s of a model for %q", p.Endpoint, p.Pipeline)
	case p.Runtime != "" && p.Runtime != runtimeLLM && p.Runtime != runtimeTorch:
		return fmt.Errorf("runtime %q", p.Runtime)
	case p.Runtime == "" && p.Endpoint != Embeddings:
		return fmt.Errorf("%s of a model that writes nothing", p.Endpoint)
	case len(p.Called) > job.MaxNameBytes || len(p.Files) > 0:
		return fmt.Errorf("a model that is called so at length")
	case p.Commit && (p.Endpoint != Chat || p.Runtime != runtimeLLM):
		return fmt.Errorf("commitments of %s of the runtime %q", p.Endpoint, p.Runtime)
	case p.Choices && !p.Commit:
		return fmt.Errorf("several choices of answers without commitments")
	case p.Input == "" && (p.Offset != 0 || p.Length != 0 || len(p.Only) > 0), p.Input != "" && (p.Offset < 0 || p.Length <= 0):
		return fmt.Errorf("%d bytes of requests from %d on", p.Length, p.Offset)
	}
	return p.validateNumbers()
}

// validateNumbers checks which items there are.
func (p Params) validateNumbers() error {
	switch {
	case p.Count <= 0 || p.Count > job.MaxItemsPerTask || p.First < 1:
		return fmt.Errorf("%d items from %d on", p.Count, p.First)
	case p.Batch < 1 || p.Batch > maxBatch || p.Column < 0 || p.Column > maxColumn:
		return fmt.Errorf("batches of %d, column %d", p.Batch, p.Column)
	case len(p.Outputs) > job.MaxOutputs:
		return fmt.Errorf("%d outputs", len(p.Outputs))
	}
	last := p.First - 1
	for _, n := range p.Only {
		if n <= last || n >= p.First+p.Count {
			return fmt.Errorf("item %d among those of %d to %d", n, p.First, p.First+p.Count-1)
		}
		last = n
	}
	return nil
}

func (p Picture) validate() error {
	for _, v := range [][]float64{p.Mean, p.Std} {
		if n := len(v); n != 0 && n != 1 && n != 3 {
			return fmt.Errorf("picture: %d numbers where one or three are taken", n)
		}
	}
	for _, s := range p.Std {
		if !(s > 1e-9 && s < 1e9) {
			return fmt.Errorf("picture: std %v", s)
		}
	}
	for _, m := range p.Mean {
		if !(m > -1e9 && m < 1e9) {
			return fmt.Errorf("picture: mean %v", m)
		}
	}
	return nil
}

// channel is the mean and std of a channel.
func (p Picture) channel(c int) (mean, std float32) {
	pick := func(v []float64, otherwise float64) float32 {
		switch len(v) {
		case 0:
			return float32(otherwise)
		case 1:
			return float32(v[0])
		}
		return float32(v[c%3])
	}
	return pick(p.Mean, 0), pick(p.Std, 1)
}
