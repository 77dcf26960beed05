package recordlog

import (
	"io"
	"os"
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

// system is the machine's own.
type system struct{}

func (system) MkdirAll(dir string) error        { return os.MkdirAll(dir, 0o700) }
func (system) Read(path string) ([]byte, error) { return os.ReadFile(path) }
func (system) Rename(from, to string) error     { return os.Rename(from, to) }
func (system) Remove(path string) error         { return os.Remove(path) }
func (system) SyncDir(dir string) error         { return SyncDir(dir) }
func (system) Open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (system) List(dir string) ([]string, error) {
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
