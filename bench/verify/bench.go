package verify

import (
	"context"
	"io"
	"path/filepath"
)

// Options of a run.
type Options struct {
	Dir    string // where renders are kept
	Quick  bool   // four small scenes instead of twelve
	Render bool   // only render
	Log    io.Writer
}

// Run renders what is missing and prints the table.
func Run(ctx context.Context, o Options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	st := studio{dir: dir, log: o.Log}
	return st.run(ctx, scenes(o.Quick))
}
