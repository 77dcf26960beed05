// Package ondisk is what programs ask of a file system beside reading and
// writing: names and content that a power cut leaves, and a folder that is one
// process's alone.
package ondisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// SyncDir makes the names in a folder survive a power cut. Where a folder cannot
// be synced (some network disks say EINVAL), or the system keeps names by itself
// (Windows), there is nothing to do and no error.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrPermission) {
		return nil // it may be written, and not read
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// WriteFile replaces a file: the old or the new content is there, whenever the
// power is cut, and the new one once it returned.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(perm)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ErrLocked is returned by Lock where another process, or another part of this
// one, holds the folder.
var ErrLocked = errors.New("in use by another process")

// Lock takes a folder for this process until the closer is closed or the
// process ends.
func Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(dir, "lock"))
}
