package assemble

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"idlewild/job"
)

// maxFirst bounds the number of a reel's first frame.
const maxFirst = 1 << 24

func (p Params) checkReel() error {
	switch {
	case p.Count < 1 || p.Count > MaxParts || p.First < 0 || p.First > maxFirst:
		return fmt.Errorf("assemble task: reel of %d frames from %d", p.Count, p.First)
	case p.Width != 0 || p.Height != 0 || len(p.Parts)+len(p.Denoise)+len(p.Guided) > 0 || p.Half:
		return fmt.Errorf("assemble task: reel of parts")
	}
	if err := job.SafeName(p.Frame); err != nil {
		return fmt.Errorf("assemble task: %w", err)
	}
	return nil
}

// reel packs the predecessors' frames, as they are, into one file: a task
// cannot have more predecessors than that.
func (r request) reel(progress func(phase string, fraction float64)) (err error) {
	p := r.Params
	out, err := os.OpenFile(filepath.Join(r.Out, ReelFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	w := tar.NewWriter(out)
	for i := range p.Count {
		progress("packing", float64(i)/float64(p.Count))
		if err := add(w, fmt.Sprintf("%06d%s", p.First+i, filepath.Ext(p.Frame)), filepath.Join(r.Prior[i], filepath.FromSlash(p.Frame))); err != nil {
			return fmt.Errorf("frame %d of the reel: %w", i+1, err)
		}
	}
	return w.Close()
}

// add puts a file into w. Nothing but name and bytes is kept: equal frames
// make equal reels.
func add(w *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() == 0 {
		return fmt.Errorf("%s is no picture", filepath.Base(path))
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: fi.Size(), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
