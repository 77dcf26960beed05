package blender

import (
	"strconv"

	"idlewild/job"
)

// sequencerScenes is Facts.Sequencer where strips render scenes.
const sequencerScenes = "scenes"

// strips is the one task of a frame that is the sequencer's picture: Blender
// makes it from beginning to end, and the artist's file is what comes out.
// Without scenes to render it is as light as finishing, and runs where that
// does; with some it runs anywhere, on a CPU, and others of its class run it
// again where that is checked.
func (f Facts) strips(render job.Task, p Params, final string) job.Task {
	p.Op, p.Camera, p.ViewLayer = opStrips, "", ""
	t := f.finish(render, render, p, final)
	t.After, t.Label = nil, strconv.Itoa(p.Frame)
	if f.Sequencer != sequencerScenes {
		return t
	}
	t.Place = ""
	t.Needs = job.Needs{Require: map[string]string{FactVersion: f.Version, FactBuild: f.Build}, Device: "cpu"}
	engine := cycles
	for _, e := range f.StripEngines {
		if e != cycles { // one name fits: where an engine that needs OpenGL runs, Cycles does
			engine = e
		}
	}
	t.Needs.Require[FactEngine] = fact(f.Build, engine)
	if o := t.Outputs[0]; o.Media == job.MediaPNG || o.Media == job.MediaEXR {
		t.Check = job.Check{Method: job.CheckReplica, Output: o.Name, Params: []byte(engine)}
	}
	return t
}
