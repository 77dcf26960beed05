package recordlog

import (
	"io"
	"os"
	"path/filepath"

	"idlewild/internal/ondisk"
)

// Disk is what a log does to a folder. Tests put one in its place that forgets,
// as a power cut does, what was not synced; see recordlog/faulty.
type Disk interface {
	MkdirAll(dir string) error
	List(dir string) ([]string, error)
	Read(path string) ([]byte, error)
	Open(path string, flag int) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	RemoveAll(dir string) error
	SyncDir(dir string) error
}

// File is an open file of a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// System is the machine's own.
type System struct{}

func (System) MkdirAll(dir string) error        { return os.MkdirAll(dir, 0o700) }
func (System) Read(path string) ([]byte, error) { return os.ReadFile(path) }
func (System) Rename(from, to string) error     { return os.Rename(from, to) }
func (System) Remove(path string) error         { return os.Remove(path) }
func (System) RemoveAll(dir string) error       { return os.RemoveAll(dir) }
func (System) SyncDir(dir string) error         { return ondisk.SyncDir(dir) }
func (System) Open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (System) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// WriteFileOn replaces a file on a Disk as ondisk.WriteFile does, for a folder
// that nobody else writes to.
func WriteFileOn(d Disk, path string, data []byte) error {
	tmp := path + ".new"
	f, err := d.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.Rename(tmp, path)
	}
	if err != nil {
		d.Remove(tmp)
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}
