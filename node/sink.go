package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"idlewild/internal/ondisk"
	"idlewild/job"
)

// folderSink delivers finished files into the folder that the person chose.
// Nothing has its final name before it is complete and on disk.
type folderSink struct{}

// Check reports whether the output folder can be written at all, or made where
// it is not there. It makes nothing: the job may yet be refused.
func (folderSink) Check(s job.Spec) error {
	if s.Output == "" {
		return job.Refuse("output folder", "none was given", "name one with -o FOLDER")
	}
	dir := s.Output
	for {
		fi, err := os.Stat(dir)
		if err == nil && !fi.IsDir() {
			err = fmt.Errorf("%s is no folder", dir)
		}
		if err == nil {
			break
		}
		if up := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && up != dir {
			dir = up
			continue
		}
		return job.Refuse("output folder "+s.Output, rootCause(err), "choose a folder that you may write to")
	}
	f, err := os.CreateTemp(dir, ".idlewild-*")
	if err != nil {
		return job.Refuse("output folder "+s.Output, rootCause(err), "choose a folder that you may write to")
	}
	// A full disk often still allows an empty file.
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	f.Close()
	os.Remove(f.Name())
	if err != nil {
		return job.Refuse("output folder "+s.Output, rootCause(err), "make room or choose another folder")
	}
	return nil
}

// Housed implements dispatch.Housed: a folder that was renamed, or whose disk was
// taken off, is not made a second time.
func (folderSink) Housed(s job.Spec) error {
	if _, err := os.Stat(s.Output); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the output folder %s is not there any more: put it back where it was, or make a new one", s.Output)
	}
	return nil
}

// Delivered reports whether every final file of t is there and not empty.
func (folderSink) Delivered(s job.Spec, t job.Task) bool {
	any := false
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		any = true
		fi, err := os.Stat(filepath.Join(s.Output, filepath.FromSlash(o.Final)))
		if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
			return false
		}
	}
	return any
}

// Deliver copies the outputs that have a final name beside their place, makes
// them durable and renames them. It returns the final paths.
func (folderSink) Deliver(ctx context.Context, s job.Spec, t job.Task, dir string) ([]string, error) {
	var files []string
	folders := map[string]bool{}
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return files, err
		}
		to := filepath.Join(s.Output, filepath.FromSlash(o.Final))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return files, fmt.Errorf("deliver %s: %w", o.Final, err)
		}
		if err := place(filepath.Join(dir, filepath.FromSlash(o.Name)), to); err != nil {
			return files, fmt.Errorf("deliver %s: %w", o.Final, err)
		}
		folders[filepath.Dir(to)] = true
		files = append(files, to)
	}
	for d := range folders {
		if err := ondisk.SyncDir(d); err != nil {
			return files, err
		}
	}
	return files, nil
}

// place puts a file that is on disk for good at another path as well. On the
// same disk that is a second name for it, and costs nothing.
func place(from, to string) error {
	tmp := filepath.Join(filepath.Dir(to), ".idlewild-"+rand.Text())
	if err := os.Link(from, tmp); err != nil {
		return copyDurably(from, to)
	}
	defer os.Remove(tmp)
	if err := os.Chmod(tmp, 0o666&^umask()); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// copyDurably copies a file beside its place and renames it over it.
func copyDurably(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".idlewild-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o666 &^ umask())
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// rootCause is the system's own word for what went wrong, without the path
// that the sentence around it names already.
func rootCause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
