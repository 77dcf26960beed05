package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"idlewild/internal/ondisk"
)

// Fetch installs a release below dir and returns its program. A download that
// was cut off before is gone on with; what is unpacked already is kept. The
// archive is removed at the end. Nothing of an archive is used before its hash
// is right, and a folder has its name when it is complete.
func Fetch(ctx context.Context, r Release, mirror, dir string, progress Progress) (string, error) {
	if !strings.HasPrefix(mirror, "https://") && !strings.HasPrefix(mirror, "http://") {
		return "", fmt.Errorf("blender.mirror is %q: it needs to begin with https:// or http://", mirror)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	final := filepath.Join(dir, r.Folder())
	if p := Resolve(final); p != final {
		return p, nil
	}
	held, err := ondisk.Lock(dir)
	if err != nil {
		return "", fmt.Errorf("another installation is under way: %w", err)
	}
	defer held.Close()
	archive := filepath.Join(dir, r.Archive())
	if err := download(ctx, r.URL(mirror), archive, r.SHA256, progress); err != nil {
		return "", err
	}
	left, _ := filepath.Glob(filepath.Join(dir, "unpacking-*")) // of one that was killed
	for _, old := range left {
		if err := os.RemoveAll(old); err != nil {
			return "", err
		}
	}
	tmp, err := os.MkdirTemp(dir, "unpacking-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(ctx, archive, tmp, r.Folder(), unpackBounds, progress); err != nil {
		return "", err
	}
	top := filepath.Join(tmp, r.Folder())
	if Resolve(top) == top {
		return "", fmt.Errorf("the archive %s holds no Blender", r.Archive())
	}
	if err := os.Rename(top, final); err != nil {
		return "", err
	}
	if err := os.Remove(archive); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return Resolve(final), nil
}
