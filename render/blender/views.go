package blender

import (
	"strings"

	"idlewild/job"
	"idlewild/render/assemble"
)

// View is one of several pictures of a frame: an eye, or a camera.
type View struct {
	Name   string `json:"name"`   // as Blender calls it: "left"
	Suffix string `json:"suffix"` // of its file's name, before the extension: "_L"
}

// viewsMulti is Blender's name for all views in one OpenEXR file, viewsIndividual
// for a file of each.
const (
	viewsMulti      = "MULTIVIEW"
	viewsIndividual = "INDIVIDUAL"
)

// viewNames are the views that a render task renders.
func (f Facts) viewNames() []string {
	var out []string
	for _, v := range f.Views {
		out = append(out, v.Name)
	}
	return out
}

// suffixes of the artist's files of a frame: one empty one where all is in one.
func (f Facts) suffixes() []string {
	if len(f.Views) == 0 || f.ViewsFormat != viewsIndividual {
		return []string{""}
	}
	var out []string
	for _, v := range f.Views {
		out = append(out, v.Suffix)
	}
	return out
}

// layersOfViews are the names by which package media knows these view layers in
// a file that has the views.
func (f Facts) layersOfViews(layers []string) []string {
	if len(f.Views) == 0 {
		return layers
	}
	var out []string
	for _, l := range layers {
		for _, v := range f.Views {
			out = append(out, l+"."+v.Name)
		}
	}
	return out
}

// withoutView takes such a name apart.
func withoutView(layer string, views []string) (viewLayer string, view []string) {
	for _, v := range views {
		if name, ok := strings.CutSuffix(layer, "."+v); ok {
			return name, []string{v}
		}
	}
	return layer, nil
}

// apart is the task that makes a file of each view of what render left: where
// the artist's own format is the multilayer EXR, with individual views.
func (f Facts) apart(render job.Task, p Params, stem string) job.Task {
	a := assemble.Params{Op: assemble.OpViews, Width: f.Width, Height: f.Height, Half: p.Depth == "16", Views: f.viewNames()}
	t := job.Task{
		Kind:  assemble.Name,
		After: []job.TaskKey{render.Key()},
		Label: strings.TrimSuffix(render.Label, " render"),
		Needs: f.afterwards(map[string]string{string(assemble.Name): assemble.VersionViews}),
		Place: f.at,
		Rank:  render.Rank,
	}
	for i, s := range f.suffixes() {
		t.Outputs = append(t.Outputs, job.OutputRule{Name: assemble.ViewFile(i), Media: job.MediaEXR, Final: stem + s + ".exr"})
	}
	t.Check = f.again(t.Outputs[0].Name)
	t.Params = a.Encode()
	return t
}
