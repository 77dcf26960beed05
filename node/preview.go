package node

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // Blender writes it
	"image/png"
	"os"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	_ "golang.org/x/image/bmp" // Blender writes it
	"golang.org/x/image/draw"
	_ "golang.org/x/image/tiff" // Blender writes it
	_ "golang.org/x/image/webp" // Blender writes it

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/node/localapi"
)

// estimator is what previews need of a dispatch.Dispatcher.
type estimator interface {
	Inspect(context.Context, job.Spec) (job.Inspection, error)
	Status(job.ID) (job.Status, error)
	List() []job.Status
	Facts(job.ID) []byte
	Workers() []dispatch.WorkerView
}

// previews is localapi.Previews.
type previews struct {
	jobs  estimator
	kinds map[job.Kind]dispatch.Kind
	cache *diffupload.StatCache
	how   func() diffupload.Options
	// onDisk reports whether a file's own bytes are stored in any case.
	onDisk func(path string) bool
}

// Estimate implements localapi.Previews.
func (p previews) Estimate(ctx context.Context, s job.Spec) (localapi.Estimate, error) {
	in, err := p.jobs.Inspect(ctx, s)
	if err != nil {
		return localapi.Estimate{}, err
	}
	e := localapi.Estimate{Facts: in.Facts, Problems: in.Problems, Files: len(in.Deps)}
	if e.Problems == nil {
		e.Problems = []job.Problem{}
	}
	how := p.how()
	for _, d := range in.Deps {
		fi, err := os.Stat(d.Path)
		if err != nil {
			continue // gone since the inspection, which will say so at the next
		}
		e.SizeBytes += fi.Size()
		how.Exact = s.Policy.Exact || p.onDisk(d.Path)
		if !p.cache.Unchanged(d.Path, how) {
			e.ChangedBytes += fi.Size()
		}
	}
	if len(in.Refused()) == 0 {
		if err := p.count(&e, s, in); err != nil {
			return e, err
		}
	}
	p.time(&e, s)
	return e, nil
}

// count plans the job, to know how much there is to do.
func (p previews) count(e *localapi.Estimate, s job.Spec, in job.Inspection) error {
	nothing, err := multihash.Sum(nil, multihash.SHA2_256, -1)
	if err != nil {
		return err
	}
	tasks, err := p.kinds[s.Kind].Plan(s, in, cid.NewCidV1(cid.Raw, nothing))
	if err != nil {
		e.Problems = append(e.Problems, job.Problem{Severity: job.SeverityError, Message: err.Error()})
		return nil
	}
	for _, t := range tasks {
		if !slices.ContainsFunc(t.Outputs, func(o job.OutputRule) bool { return o.Final != "" }) {
			continue
		}
		e.Tasks++
		if s.Policy.OnlyMissing && s.Output != "" && (folderSink{}).Delivered(s, t) {
			e.Skipped++
		}
	}
	return nil
}

// weigher is a kind that says how much more one job's tasks are to do than
// another's of the same file: a number that the time is about proportional to,
// and what it stands for. 0: it cannot say.
type weigher interface {
	Weigh(facts []byte) (float64, string)
}

// time takes from the last job of the same file what a task costs.
func (p previews) time(e *localapi.Estimate, s job.Spec) {
	e.Basis = "nothing of this file was rendered on this farm yet"
	for _, w := range p.jobs.Workers() {
		if w.Leaving == "" {
			e.Devices += len(w.Devices)
		}
	}
	for _, j := range p.jobs.List() {
		if j.File != s.File() || j.Kind != s.Kind || j.Delivered == 0 || j.RenderSeconds == 0 {
			continue
		}
		e.TaskSeconds = j.RenderSeconds / float64(j.Delivered)
		e.Basis = fmt.Sprintf("the %d frames of this file that were rendered last, as it was then", j.Delivered)
		if j.Delivered == 1 {
			e.Basis = "the frame of this file that was rendered last, as it was then"
		}
		if k, ok := p.kinds[s.Kind].(weigher); ok {
			was, wasText := k.Weigh(p.jobs.Facts(j.Job))
			now, nowText := k.Weigh(e.Facts)
			if was > 0 && now > 0 && wasText != nowText {
				e.TaskSeconds *= now / was
				e.Basis += ", at " + wasText + ", reckoned for " + nowText
			}
		}
		if n := min(e.Devices, e.Tasks-e.Skipped); n > 0 {
			rounds := (e.Tasks - e.Skipped + n - 1) / n
			e.LeftSeconds = float64(rounds) * e.TaskSeconds
		}
		return
	}
}

// maxPixels bounds a picture that is made small.
const maxPixels = 1 << 28

// Thumbnail implements localapi.Previews. The files are those that this
// machine's own programs wrote, or, in the one format that workers write
// themselves, of a decoder that is made for strangers' files.
func (p previews) Thumbnail(_ context.Context, id job.ID, label string, side int) ([]byte, error) {
	s, err := p.jobs.Status(id)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Frames, func(f job.TaskStatus) bool { return f.Label == label })
	if i < 0 {
		return nil, job.Refuse("frame "+label, "the job has no such frame", "see: idlewild status "+string(id))
	}
	if len(s.Frames[i].Files) == 0 {
		return nil, job.Refuse("frame "+label, "it is not delivered yet", "wait for it")
	}
	file := s.Frames[i].Files[0]
	img, err := picture(file)
	if err != nil {
		return nil, job.Refuse(file, "no preview of it: "+rootCause(err), "open the file itself")
	}
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if long := max(w, h); long > side {
		w, h = max(1, w*side/long), max(1, h*side/long)
	}
	small := image.NewNRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(small, small.Bounds(), img, b, draw.Src, nil)
	var out bytes.Buffer
	if err := png.Encode(&out, small); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func picture(file string) (image.Image, error) {
	if strings.HasSuffix(strings.ToLower(file), ".exr") {
		m, err := media.DecodeFile(file, media.Limits{})
		if err != nil {
			return nil, err
		}
		layer, pass := shown(m)
		return media.View(m, layer, pass)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, err
	}
	if c.Width < 1 || c.Height < 1 || c.Width*c.Height > maxPixels {
		return nil, fmt.Errorf("it has %dx%d pixels", c.Width, c.Height)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(f)
	return img, err
}

// shown is the pass that people mean by the picture: Combined, or else the
// first there is.
func shown(m *media.Image) (layer, pass string) {
	for i, c := range m.Channels {
		l, p, _ := media.Split(c.Name)
		if i == 0 || p == "Combined" {
			layer, pass = l, p
		}
		if p == "Combined" {
			break
		}
	}
	return layer, pass
}
