package verify

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"idlewild/media"
	"idlewild/verify"
)

// Options of a run.
type Options struct {
	Dir      string // where renders are kept
	Quick    bool   // four small scenes instead of twelve
	Render   bool   // only render
	Small    bool   // test scenes that are not rendered yet at 320x180
	Have     bool   // render nothing, and judge the scenes of which all is there
	Training bool   // the training scenes, on which limits were fitted, instead of the test scenes
	Draws    int    // checks of each cheat
	Honest   int    // checks of each honest frame
	Log      io.Writer
	Out      io.Writer // the table
}

// Run renders what is missing, judges, prints the table and returns the figures.
func Run(ctx context.Context, o Options) ([]Figure, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	st := studio{dir: dir, log: o.Log}
	list := slices.DeleteFunc(scenes(o.Quick), func(sc scene) bool { return sc.test == o.Training })
	for i, sc := range list {
		if (o.Small || o.Have) && sc.test && !st.complete(sc) {
			list[i].width, list[i].height = 320, 180
		}
	}
	if o.Have {
		list = slices.DeleteFunc(list, func(sc scene) bool { return !st.complete(sc) })
	} else if err := st.run(ctx, list); err != nil || o.Render {
		return nil, err
	}
	var t table
	for _, sc := range list {
		s := &studioScene{scene: sc, studio: st, files: map[string]*media.Image{}}
		trials, err := s.judge(ctx, o.Draws, o.Honest, verify.DefaultThresholds())
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(o.Log, "judged %s, %dx%d: %d checks\n", sc.name, sc.width, sc.height, len(trials))
		t.add(sc, trials)
	}
	t.print(o.Out)
	return t.figures(), nil
}
