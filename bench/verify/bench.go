package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

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
	Honest   int    // checks of each honest frame, and of each with cheap tiles
	Kept     bool   // neither render nor judge: the table of the record that is kept
	Record   string // a file that gets the record of what was found
	Only     string // a part of the names of the scenes that are meant; empty: all
	Log      io.Writer
	Out      io.Writer // the table
}

// Run renders what is missing, judges, prints the table and returns the figures.
func Run(ctx context.Context, o Options) ([]Figure, error) {
	if o.Kept {
		r, err := Kept()
		if err != nil {
			return nil, err
		}
		t := r.table()
		t.print(o.Out)
		return t.figures(), nil
	}
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
	list = slices.DeleteFunc(list, func(sc scene) bool { return !strings.Contains(sc.name, o.Only) })
	if o.Have {
		list = slices.DeleteFunc(list, func(sc scene) bool { return !st.complete(sc) })
	} else if err := st.run(ctx, list); err != nil || o.Render {
		return nil, err
	}
	found := make([][]trial, len(list))
	failed := make([]error, len(list))
	var log sync.Mutex
	var wait sync.WaitGroup
	lane := make(chan struct{}, runtime.NumCPU())
	for i, sc := range list {
		lane <- struct{}{}
		wait.Go(func() {
			defer func() { <-lane }()
			s := &studioScene{scene: sc, studio: st, files: map[string]*media.Image{}}
			found[i], failed[i] = s.judge(ctx, o.Draws, o.Honest, verify.DefaultThresholds())
			log.Lock()
			defer log.Unlock()
			fmt.Fprintf(o.Log, "judged %s, %dx%d: %d checks\n", sc.name, sc.width, sc.height, len(found[i]))
		})
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	var t table
	for i, sc := range list {
		t.add(sc, found[i])
	}
	misses(o.Out, found)
	t.print(o.Out)
	if o.Record != "" {
		version, err := version(ctx)
		if err != nil {
			return nil, err
		}
		if err := t.record(version).save(o.Record); err != nil {
			return nil, err
		}
	}
	return t.figures(), nil
}
