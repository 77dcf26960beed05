package blender

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render/assemble"
)

// TestWhoseFramesAreDenoisedAgain: guides cost bytes, and are asked for where a
// checker makes something of them.
func TestWhoseFramesAreDenoisedAgain(t *testing.T) {
	zero, some := 0.0, 0.1
	for name, c := range map[string]struct {
		change func(*Facts, *job.Policy)
		params string // Params.Denoise
		guided bool
	}{
		"as Cycles has it":     {func(*Facts, *job.Policy) {}, denoiseGuided, true},
		"checked now and then": {func(_ *Facts, p *job.Policy) { p.Recheck = &some }, denoiseGuided, true},
		"never checked":        {func(_ *Facts, p *job.Policy) { p.Recheck = &zero }, "", false},
		"on a GPU":             {func(f *Facts, _ *job.Policy) { f.DenoisedAlike = false }, "", false},
		"within a border":      {func(f *Facts, _ *job.Policy) { f.Framed = true }, "", false},
		"the artist's own file": {func(f *Facts, _ *job.Policy) {
			f.Multilayer, f.Depth, f.Codec, f.Extension = true, "32", "ZIP", ".exr"
		}, "", false},
		"the artist's own file, with guides": {func(f *Facts, _ *job.Policy) {
			f.Multilayer, f.Depth, f.Codec, f.Extension, f.GuideLayers = true, "32", "ZIP", ".exr", []string{"B", "C"}
		}, denoiseGuided, true},
	} {
		f := sampleFacts()
		f.ViewLayers, f.Denoise, f.DenoisedAlike, f.Denoisers, f.DenoiseLayers = []string{"A", "B", "C"}, true, true, []string{"openimagedenoise"}, []string{"B", "C"}
		var pol job.Policy
		c.change(&f, &pol)
		facts, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := new(Kind).Plan(job.Spec{Kind: Name, Params: []byte(`{"frames":"1"}`), Policy: pol}, job.Inspection{Facts: facts}, cid.Undef)
		if err != nil {
			t.Fatal(err)
		}
		p, err := DecodeParams(tasks[0].Params)
		if err != nil {
			t.Fatal(err)
		}
		var check job.CropCheck
		if err := job.Decode(tasks[0].Check.Params, job.MaxTaskBytes, &check); err != nil {
			t.Fatal(err)
		}
		// The first layer is not denoised, and has no noisy picture.
		if p.Denoise != c.params || check.Guided != c.guided || check.Layer != "B" || !slices.Equal(check.Others, []string{"C"}) {
			t.Errorf("%s: %q, %+v", name, p.Denoise, check)
		}
		again, err := new(Kind).Denoise(tasks[0])
		if err != nil || len(again) != 2 {
			t.Fatal(len(again), err)
		}
		guides, clean := again[0], again[1]
		if !slices.Equal(guides.After, []job.TaskKey{tasks[0].Key()}) || !slices.Equal(clean.After, []job.TaskKey{guides.Key()}) {
			t.Errorf("%s: %v after %v", name, clean.After, guides.After)
		}
		q, err := DecodeParams(clean.Params)
		if err != nil || q.Op != opDenoise || q.Denoise != "" || q.ViewLayer != "" || clean.Input != tasks[0].Input || clean.Needs.Require[FactBuild] != f.Build {
			t.Errorf("%s: %+v %+v, %v", name, q, clean.Needs, err)
		}
		for i, want := range []string{"", assemble.DenoisedFile} {
			if file, ok := Denoised(again[i]); !ok || file != want {
				t.Errorf("%s: %q, %v", again[i].Label, file, ok)
			}
		}
		crops, err := new(Kind).Challenge(tasks[0], []job.Rect{{X1: 8, Y1: 8}}, []job.Range{{To: check.Samples}})
		if err != nil {
			t.Fatal(err)
		}
		if p, err = DecodeParams(crops[0].Params); err != nil || (p.Denoise == denoiseLater) != c.guided {
			t.Errorf("%s: its crops are denoised %q, %v", name, p.Denoise, err)
		}
		if _, ok := Denoised(crops[0]); ok {
			t.Errorf("%s: crops are taken for a denoised picture", name)
		}
	}
}
