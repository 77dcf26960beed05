package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"idlewild/job"
)

// copyLimits bound a tree that a process left.
type copyLimits struct {
	files int
	bytes int64
}

// maxDepth bounds the folders inside folders that a process left.
const maxDepth = 16

// errUnsafe is matched by the errors of a tree that is not just files.
var errUnsafe = errors.New("not allowed in an output folder")

// copyTree copies the regular files below the folder name of root into the
// folder dstName of dst, which exists. Links, devices and pipes are refused.
//
// Everything, on both sides, is reached through a Root and compared after it
// was opened: a process that may write to one of them may be running still and
// swap folders for links under us. It is a copy and not a move for the same
// reason: who has a file open can change it after it was looked at. File
// systems that can, share the blocks.
func copyTree(root *os.Root, name string, dst *os.Root, dstName string, left copyLimits) error {
	var walk func(rel string, depth int) error
	walk = func(rel string, depth int) error {
		if depth > maxDepth {
			return fmt.Errorf("%s: folders more than %d deep: %w", rel, maxDepth, errUnsafe)
		}
		entries, err := readDir(root, path.Join(name, rel), left.files+1)
		if err != nil {
			return err
		}
		for _, e := range entries {
			child := path.Join(rel, e)
			if err := job.SafeName(child); err != nil {
				return fmt.Errorf("%w: %w", err, errUnsafe)
			}
			if left.files--; left.files < 0 {
				return fmt.Errorf("more files than are allowed: %w", errUnsafe)
			}
			fi, err := root.Lstat(path.Join(name, child))
			if err != nil {
				return err
			}
			to := path.Join(dstName, child)
			switch {
			case fi.IsDir():
				if err := dst.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
				if err := walk(child, depth+1); err != nil {
					return err
				}
			case fi.Mode().IsRegular():
				n, err := copyFile(root, path.Join(name, child), fi, dst, to, left.bytes)
				if err != nil {
					return fmt.Errorf("%s: %w", child, err)
				}
				left.bytes -= n
			default:
				return fmt.Errorf("%s is a %s: %w", child, describe(fi.Mode()), errUnsafe)
			}
		}
		return nil
	}
	return walk("", 0)
}

// readDir lists a folder, at most limit names of it.
func readDir(root *os.Root, name string, limit int) ([]string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(max(limit, 1))
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// copyFile copies the regular file that fi describes, if it still is that
// file, and returns its size.
func copyFile(root *os.Root, name string, fi fs.FileInfo, dst *os.Root, to string, limit int64) (int64, error) {
	src, err := root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	if now, err := src.Stat(); err != nil || !os.SameFile(fi, now) {
		return 0, fmt.Errorf("it changed while it was collected: %w", errUnsafe)
	}
	if fi.Size() > limit {
		return 0, fmt.Errorf("%d bytes where %d more are allowed: %w", fi.Size(), limit, errUnsafe)
	}
	out, err := dst.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(src, limit+1))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil && n > limit {
		err = fmt.Errorf("more than %d bytes: %w", limit, errUnsafe)
	}
	return n, err
}

// describe names what is no regular file.
func describe(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// empty removes everything inside dir, and leaves dir.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
