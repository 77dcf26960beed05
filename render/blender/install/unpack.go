package install

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/therootcompany/xz"
)

// bounds of what an archive may hold; an official one has 1.5 GB in 10,000 files.
type bounds struct {
	files int
	bytes int64
}

var unpackBounds = bounds{files: 100_000, bytes: 8 << 30}

const (
	maxDepth = 32
	// maxDictionary is the memory that xz may ask for: as much as its highest
	// setting.
	maxDictionary = 64 << 20
)

// unpacker writes an archive's entries below the root.
type unpacker struct {
	ctx      context.Context
	root     *os.Root
	top      string // the one folder that the archive holds
	left     bounds
	links    map[string]bool // that were made
	progress func()
}

// unpack writes what the archive at from holds into dir, which is empty. All of
// it has to lie in the folder top.
func unpack(ctx context.Context, from, dir, top string, limits bounds, progress Progress) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	u := &unpacker{ctx: ctx, root: root, top: top, left: limits, links: map[string]bool{}}
	if strings.HasSuffix(from, ".zip") {
		u.progress = func() {}
		return u.zip(f, st.Size(), progress)
	}
	counted := &counting{r: f}
	u.progress = func() { progress("unpacking", counted.n, st.Size()) }
	return u.tar(counted)
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (u *unpacker) tar(from io.Reader) error {
	plain, err := xz.NewReader(from, maxDictionary)
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	r := tar.NewReader(plain)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the archive is damaged: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeDir:
			err = u.folder(h.Name)
		case tar.TypeReg:
			err = u.file(h.Name, h.FileInfo().Mode(), r)
		case tar.TypeSymlink:
			err = u.link(h.Name, h.Linkname)
		default:
			err = fmt.Errorf("%q is neither a file, a folder nor a link", h.Name)
		}
		if err != nil {
			return u.refuse(err)
		}
	}
}

func (u *unpacker) zip(from io.ReaderAt, size int64, progress Progress) error {
	r, err := zip.NewReader(from, size)
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	for i, e := range r.File {
		progress("unpacking", int64(i), int64(len(r.File)))
		mode := e.Mode()
		switch {
		case mode.IsDir():
			err = u.folder(e.Name)
		case mode.IsRegular():
			var in io.ReadCloser
			if in, err = e.Open(); err == nil {
				err = u.file(e.Name, mode, in)
				in.Close()
			}
		default:
			err = fmt.Errorf("%q is neither a file nor a folder", e.Name)
		}
		if err != nil {
			return u.refuse(err)
		}
	}
	return nil
}

func (u *unpacker) refuse(err error) error {
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	return fmt.Errorf("the archive was not unpacked: %w", err)
}

// place checks an entry's name and makes its folder.
func (u *unpacker) place(name string) (string, error) {
	if u.ctx.Err() != nil {
		return "", context.Cause(u.ctx)
	}
	clean := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if u.left.files--; u.left.files < 0 {
		return "", errors.New("it holds too many files")
	}
	if !fs.ValidPath(clean) || strings.ContainsAny(clean, "\\:\x00") || strings.Count(clean, "/") > maxDepth {
		return "", fmt.Errorf("the name %q leads out of its folder", name)
	}
	if clean != u.top && !strings.HasPrefix(clean, u.top+"/") {
		return "", fmt.Errorf("%q is not in the folder %s", name, u.top)
	}
	// A name is where it says only where no folder above it is a link.
	for dir := path.Dir(clean); dir != "."; dir = path.Dir(dir) {
		if u.links[dir] {
			return "", fmt.Errorf("%q lies below a link", name)
		}
	}
	return clean, u.root.MkdirAll(path.Dir(clean), 0o755)
}

func (u *unpacker) folder(name string) error {
	name, err := u.place(name)
	if err != nil {
		return err
	}
	return u.root.MkdirAll(name, 0o755)
}

func (u *unpacker) file(name string, mode fs.FileMode, from io.Reader) error {
	name, err := u.place(name)
	if err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if u.left.bytes -= int64(n); u.left.bytes < 0 {
			return errors.New("it unpacks to more than a Blender has")
		}
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%q is damaged: %w", name, err)
		}
	}
	u.progress()
	return f.Close()
}

// link makes a link to what is below the archive's folder. In a target that
// goes up again after a name, that name could be a link to anywhere higher.
func (u *unpacker) link(name, target string) error {
	name, err := u.place(name)
	if err != nil {
		return err
	}
	to := path.Join(path.Dir(name), target)
	if path.IsAbs(target) || path.Clean(target) != target || !strings.HasPrefix(to, u.top+"/") || strings.ContainsAny(target, "\\:\x00") {
		return fmt.Errorf("the link %q leads to %q, out of its folder", name, target)
	}
	u.links[name] = true
	return u.root.Symlink(target, name)
}
