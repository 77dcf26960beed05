package ai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render/ai/torch"
)

// Generate is how a pipeline makes what it makes; an item may say its own.
type Generate struct {
	Size        string   `json:"size,omitempty" toml:"size"`               // of pictures: "512x512"
	Steps       int      `json:"steps,omitempty" toml:"steps"`             // of pictures; 0: 30
	Guidance    *float64 `json:"guidance,omitempty" toml:"guidance"`       // of pictures; as the pipeline has it where it is left out
	MaxTokens   int      `json:"max_tokens,omitempty" toml:"max_tokens"`   // of texts; 0: 256
	Temperature *float64 `json:"temperature,omitempty" toml:"temperature"` // of texts; 0: always the likeliest word; 1 where it is left out
	Language    string   `json:"language,omitempty" toml:"language"`       // of sounds, as "en"; found out where it is left out
}

// Bounds of what is generated.
const (
	maxDrawnSide = 2048
	maxSteps     = 250
	maxTokens    = 1 << 15
	maxPrompt    = 1 << 20
	// maxDrawnPrompt bounds the words of a picture, of which a model looks at some
	// hundreds: cutting a word of a megabyte into tokens takes minutes.
	maxDrawnPrompt = 1 << 14
	maxSoundBytes  = 4 << 30
	maxAtOnceDrawn = 5 << 18 // pixels of the pictures of one request, because an answer is bounded
	usualSteps     = 30
	usualTokens    = 256
	usualSize      = "512x512"
)

// precisionDrawn is that of pictures that are made in many steps.
const precisionDrawn = "drawn"

func (g Generate) validate() error {
	if _, _, err := sizeOf(g.Size); err != nil {
		return err
	}
	switch {
	case g.Steps < 0 || g.Steps > maxSteps:
		return fmt.Errorf("%d steps, at most %d are made", g.Steps, maxSteps)
	case g.Guidance != nil && !(*g.Guidance >= 0 && *g.Guidance <= 100):
		return fmt.Errorf("a guidance of %v is not within 0 and 100", *g.Guidance)
	case g.MaxTokens < 0 || g.MaxTokens > maxTokens:
		return fmt.Errorf("max_tokens of %d are not within 1 and %d", g.MaxTokens, maxTokens)
	case g.Temperature != nil && !(*g.Temperature >= 0 && *g.Temperature <= 10):
		return fmt.Errorf("a temperature of %v is not within 0 and 10", *g.Temperature)
	case len(g.Language) > 32:
		return fmt.Errorf("language %.32q", g.Language)
	}
	return nil
}

// ofTask are the settings that stay in a task: the size stands beside them.
func (g Generate) ofTask() Generate {
	g.Size = ""
	return g
}

// sizeOf reads the size of pictures that are drawn.
func sizeOf(s string) (width, height int, err error) {
	if s == "" || s == "auto" {
		s = usualSize
	}
	w, h, ok := strings.Cut(s, "x")
	width, err = strconv.Atoi(w)
	height, herr := strconv.Atoi(h)
	if !ok || err != nil || herr != nil {
		return 0, 0, fmt.Errorf("size %.40q is none: say one as 512x512", s)
	}
	return width, height, drawable(width, height)
}

func drawable(width, height int) error {
	if width < 8 || height < 8 || width > maxDrawnSide || height > maxDrawnSide || width%8 != 0 || height%8 != 0 {
		return fmt.Errorf("pictures of %dx%d are not drawn: sides are multiples of 8 up to %d", width, height, maxDrawnSide)
	}
	return nil
}

// validatePipeline checks what a task says of a pipeline.
func (p Params) validatePipeline() error {
	if p.Runtime != runtimeTorch {
		if p.Pipeline != "" || p.Generate != (Generate{}) {
			return fmt.Errorf("pipeline %q of a model that has none", p.Pipeline)
		}
		return nil
	}
	if err := p.Generate.validate(); err != nil {
		return err
	}
	ok := false
	switch p.Pipeline {
	case torch.Embed, torch.Write:
		ok = p.Op == opRequests || p.Op == opItems && (p.Format == formatJSONL || p.Format == formatCSV)
	case torch.Draw:
		ok = p.Op == opRequests || p.Op == opPicture && (p.Format == formatJSONL || p.Format == formatCSV)
	case torch.Transcribe:
		ok = p.Op == opItems && p.Format == formatAudio
	case torch.Depth:
		ok = p.Op == opPicture && p.Scale == 1 && p.Overlap == 0
	}
	if !ok || p.Prior != "" {
		return fmt.Errorf("operation %q on %q for the pipeline %q", p.Op, p.Format, p.Pipeline)
	}
	return nil
}

// validateDrawn checks a task that makes one picture of words.
func (p Params) validateDrawn() error {
	switch {
	case p.Input == "" || p.Offset < 0 || p.Length <= 0 || len(p.Files) > 0:
		return fmt.Errorf("%d bytes of items from %d on", p.Length, p.Offset)
	case len(p.Only) != 1:
		return fmt.Errorf("a picture of %d items", len(p.Only))
	case len(p.Crops) > maxCrops:
		return fmt.Errorf("%d crops", len(p.Crops))
	}
	return errors.Join(drawable(p.Width, p.Height), p.validateCrops(), p.validateNumbers())
}

func isFolder(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// refusedFolder says it as a refusal.
func refusedFolder(folder string, err error) error {
	var r *torch.RefusedError
	if !errors.As(err, &r) {
		return err
	}
	where := filepath.Base(folder)
	if r.File != "" {
		where += "/" + r.File
	}
	return job.Refuse(where, r.Reason, r.Remedy)
}

// CheckFolder refuses a folder that is no model, or more than data, and says which
// of its files belong to the model, and its hash. Nothing of it is run.
func CheckFolder(folder string) (files []string, sha256 string, err error) {
	m, err := torch.ReadFolder(folder)
	if err != nil {
		return nil, "", refusedFolder(folder, err)
	}
	sha256, err = m.Sum(folder)
	return m.Files, sha256, err
}

// lookFolder finds out what a model in a folder answers.
func lookFolder(folder string) (l Looked, err error) {
	m, err := torch.ReadFolder(folder)
	if err != nil {
		return l, refusedFolder(folder, err)
	}
	l = Looked{Name: filepath.Base(folder), Precision: m.Precision, Runtime: runtimeTorch, Pipeline: m.Pipeline, Is: m.Is()}
	if e := endpointOf[m.Pipeline]; e != "" {
		l.Endpoints = []string{e}
	}
	switch m.Pipeline {
	case torch.Draw:
		l.Precision = precisionDrawn
	case torch.Write, torch.Transcribe:
		l.Precision = precisionTokens
	}
	for _, name := range m.Files {
		l.Deps = append(l.Deps, job.Dep{Path: torch.Path(folder, name), Name: "model/" + l.Name + "/" + name})
	}
	l.SHA256, err = m.Sum(folder)
	return l, err
}

// inspectFolder looks at a job for a model in a folder.
func (k *Kind) inspectFolder(ctx context.Context, s Spec, parts string) (in job.Inspection, err error) {
	fi, err := os.Stat(s.Inputs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return in, job.Refuse(s.Inputs, "there is no such file or folder", "check the path")
	case err != nil:
		return in, job.Refuse(s.Inputs, err.Error(), "make it readable")
	}
	looked, err := lookFolder(s.Model)
	if err != nil {
		return in, err
	}
	if s.Pipeline != "" && s.Pipeline != looked.Pipeline {
		return in, job.Refuse("pipeline "+s.Pipeline, fmt.Sprintf("the model is %s", looked.Is), "name another model, or leave pipeline out")
	}
	f := facts{
		Model: looked.Name, SHA256: looked.SHA256, Precision: looked.Precision, Runtime: looked.Runtime, Pipeline: looked.Pipeline,
		Batch: s.Batch, Input: filepath.Base(s.Inputs),
	}
	in.Deps = looked.Deps
	wants := map[string]string{
		torch.Depth: "a folder of pictures", torch.Transcribe: "a folder of sounds",
	}[f.Pipeline]
	ext := strings.ToLower(filepath.Ext(f.Input))
	switch {
	case wants != "" && !fi.IsDir():
		return in, job.Refuse(s.Inputs, "is no folder, and a model for "+f.Pipeline+" is given "+wants, "name one")
	case f.Pipeline == torch.Depth:
		err = depthInputs(ctx, s, &f, &in)
	case f.Pipeline == torch.Transcribe:
		f.Format = formatAudio
		f.Batch = max(f.Batch, 1)
		f.Pictures, in.Problems, err = scanSounds(ctx, s.Inputs)
	case fi.IsDir() || ext != ".jsonl" && ext != ".ndjson" && ext != ".csv":
		return in, job.Refuse(s.Inputs, "is neither a .jsonl nor a .csv file", "a model for "+f.Pipeline+" is given one of these")
	default:
		err = textInputs(ctx, s, &f)
	}
	if err != nil {
		return in, err
	}
	if cut, err := job.ParseCut(parts); err != nil {
		return in, err
	} else if !cut.Auto && cut.Columns*cut.Rows*cut.Ranges > 1 {
		return in, job.Refuse("parts "+parts, "what a pipeline makes is not cut", "leave --parts out")
	}
	if f.Items+len(f.Pictures) == 0 {
		return in, job.Refuse(s.Inputs, "there is no item in it", "give at least one")
	}
	if f.Format == formatJSONL || f.Format == formatCSV {
		in.Deps = append(in.Deps, job.Dep{Path: s.Inputs, Name: "input/" + f.Input})
	}
	for i, p := range f.Pictures {
		in.Deps = append(in.Deps, job.Dep{Path: filepath.Join(s.Inputs, filepath.FromSlash(p.Name)), Name: Params{Numbered: true}.inputFile(p.Name, i+1)})
	}
	for _, d := range in.Deps {
		if err := job.SafeName(d.Name); err != nil {
			return in, job.Refuse(d.Path, err.Error(), "rename it")
		}
	}
	in.Facts, err = json.Marshal(f)
	return in, err
}

func depthInputs(ctx context.Context, s Spec, f *facts, in *job.Inspection) (err error) {
	f.Format, f.Scale, f.Whole = formatPictures, 1, true
	if f.Pictures, in.Problems, err = scanPictures(ctx, s.Inputs); err != nil {
		return err
	}
	for i, p := range f.Pictures {
		if large := tooLarge(p.Width, p.Height); large != "" {
			return job.Refuse(p.Name, fmt.Sprintf("%dx%d pixels are too many: %s", p.Width, p.Height, large), "leave it out")
		}
		f.Pictures[i].Deep = true // depth has more than 256 steps
	}
	return nil
}

func textInputs(ctx context.Context, s Spec, f *facts) (err error) {
	if f.Batch == 0 {
		f.Batch = 16
	}
	if f.Pipeline == torch.Draw {
		f.Batch = 1
	}
	if strings.EqualFold(filepath.Ext(s.Inputs), ".csv") {
		f.Format = formatCSV
		f.Chunks, f.Items, f.Column, err = scanCSV(ctx, s.Inputs, s.Column, f.Batch)
	} else {
		f.Format = formatJSONL
		f.Chunks, f.Items, err = scanJSONL(ctx, s.Inputs, f.Batch)
	}
	if err == nil && f.Pipeline == torch.Draw && f.Items > maxPictures {
		err = job.Refuse(s.Inputs, fmt.Sprintf("it has more than %d items", maxPictures), "submit it in several jobs")
	}
	return err
}

var soundNames = []string{".wav", ".flac", ".ogg", ".mp3"}

// scanSounds finds the sounds below a folder, in the order of their names. What
// has a sound's name and is none is left out, and said.
func scanSounds(ctx context.Context, dir string) (found []picture, problems []job.Problem, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() || !slices.Contains(soundNames, strings.ToLower(filepath.Ext(p))) || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if err = job.SafeName("input/" + rel); err == nil {
			err = isSound(p)
		}
		if err != nil {
			problems = append(problems, job.Problem{Severity: job.SeverityWarning, Where: rel, Message: "left out: " + err.Error(), Remedy: "mend or remove it"})
			if len(problems) > 20 {
				return job.Refuse(filepath.Base(dir), "more than 20 of its sounds are none", "mend or remove them")
			}
			return nil
		}
		if found = append(found, picture{Name: rel}); len(found) > maxPictures {
			return job.Refuse(filepath.Base(dir), fmt.Sprintf("there are more than %d sounds in it", maxPictures), "submit it in several jobs")
		}
		return nil
	})
	return found, problems, err
}

// isSound looks at how a file begins.
func isSound(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > maxSoundBytes {
		return fmt.Errorf("it has more than %d GiB", maxSoundBytes>>30)
	}
	var b [12]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return errors.New("it is too short for a sound")
	}
	switch s := string(b[:]); {
	case strings.HasPrefix(s, "RIFF") && s[8:] == "WAVE", strings.HasPrefix(s, "RF64"), strings.HasPrefix(s, "fLaC"), strings.HasPrefix(s, "OggS"),
		strings.HasPrefix(s, "ID3"), b[0] == 0xff && b[1]&0xe0 == 0xe0:
		return nil
	}
	return errors.New("it is neither WAV nor FLAC nor Ogg nor MP3")
}

// drawn makes a task of each picture of words.
func (p planner) drawn() ([]job.Task, error) {
	width, height, err := sizeOf(p.spec.Generate.Size)
	if err != nil {
		return nil, err
	}
	digits := max(4, len(strconv.Itoa(p.facts.Items)))
	var tasks []job.Task
	for _, c := range p.facts.Chunks {
		for n := c.First; n < c.First+c.Count; n++ {
			q := Params{
				Op: opPicture, Model: p.facts.Model, SHA256: p.facts.SHA256, Format: p.facts.Format, Input: p.facts.Input, Column: p.facts.Column,
				Offset: c.Offset, Length: c.Length, First: c.First, Count: c.Count, Batch: 1, Only: []int{n}, Seed: p.spec.Seed,
				Width: width, Height: height, Runtime: p.facts.Runtime, Pipeline: p.facts.Pipeline, Generate: p.spec.Generate.ofTask(),
			}
			t := job.Task{
				Kind: Name, Params: q.encode(), Input: p.input, Needs: p.needs(), Label: fmt.Sprintf("picture %d", n), Rank: n - 1,
				Outputs: []job.OutputRule{{Name: pictureFile, Media: job.MediaPNG, Final: fmt.Sprintf("%0*d.png", digits, n)}},
			}
			if t.Check, err = p.check(pictureFile, job.RerunCheck{Width: width, Height: height}); err != nil {
				return nil, err
			}
			tasks = append(tasks, t)
		}
	}
	return tasks, nil
}

// Torch says which Python with PyTorch is used here and what it has, or why there
// is none.
func (k *Kind) Torch(ctx context.Context) (path, build string, on []string, err error) {
	k.findTorch(ctx)
	return k.python.Path, k.torchBuild, k.torchOn, k.missingTorch
}

func (k *Kind) findTorch(ctx context.Context) {
	k.onceTorch.Do(func() {
		if k.python, k.missingTorch = torch.Find(ctx, k.opts.Python, k.opts.Pythons...); k.missingTorch != nil {
			return
		}
		dir, err := os.MkdirTemp("", "idlewild-torch-")
		if err != nil {
			k.missingTorch = err
			return
		}
		defer os.RemoveAll(dir)
		if k.torchBuild, k.torchOn, k.missingTorch = torch.Look(torch.Options{Python: k.python.Path, Dir: dir, Threads: 1}); k.missingTorch != nil {
			k.missingTorch = fmt.Errorf("the Python %s has no PyTorch for pipelines: %w", k.python.Path, k.missingTorch)
			return
		}
		k.opts.Log.Info("pipelines are run here", "runtime", k.torchBuild, "devices", strings.Join(k.torchOn, ","), "python", k.python.Path)
	})
}
