package diffupload

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/internal/ondisk"
)

// Bounds of the memory of a materialisation: windows in flight, and the most
// blocks and bytes of one.
const (
	windows      = 2
	windowBlocks = 64
	windowBytes  = 16 << 20
)

// Materialize makes dir hold the files of the manifest at root. They are
// written beside it and dir appears complete or not at all; it must not be
// there before, unless empty. With a Tiered store a run that was cut off costs
// only what it had not fetched. The files are not synced: after a power cut a
// folder that was new is to be materialised again.
//
// progress, where it is not nil, is told how many bytes of how many are
// written, from one goroutine at a time.
func Materialize(ctx context.Context, store Store, root cid.Cid, dir string, progress func(done, total int64)) error {
	return MaterializeWithin(ctx, store, root, dir, Limits{}, progress)
}

// MaterializeWithin is Materialize with limits of its own.
func MaterializeWithin(ctx context.Context, store Store, root cid.Cid, dir string, limits Limits, progress func(done, total int64)) error {
	return MaterializeFrom(ctx, store, Earlier{}, Here{}, root, dir, limits, progress)
}

// MaterializeFrom is MaterializeWithin for who holds an earlier version of the
// manifest: its chunks are named as bases of those that are asked for, so that
// only what changed within a chunk need be sent, and files that did not change
// are shared with its folder, where there is one. What is here otherwise is not
// fetched at all, nor is what limits.Only leaves out.
func MaterializeFrom(ctx context.Context, store Store, earlier Earlier, here Here, root cid.Cid, dir string, limits Limits, progress func(done, total int64)) error {
	files, err := List(ctx, store, root, limits)
	if err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("materialize: %s is in the way: %w", dir, err)
	}
	tmp := beside(dir)
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return fmt.Errorf("materialize: %w", err)
	}
	defer os.RemoveAll(tmp)
	// A Root keeps names inside the folder, whatever lies there.
	at, err := os.OpenRoot(tmp)
	if err != nil {
		return fmt.Errorf("materialize: %w", err)
	}
	defer at.Close()
	m := newMaterializer(ctx, store, progress)
	m.here = here
	var mu sync.Mutex
	made := "." // files come sorted: most are in the folder of the one before
	m.create = func(name string, mode os.FileMode) (*os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		if d := path.Dir(name); d != made {
			if err := at.MkdirAll(d, 0o777); err != nil {
				return nil, err
			}
			made = d
		}
		return at.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	}
	if files, err = here.leave(files, m.create); err != nil {
		return err
	}
	if earlier.Store != nil && earlier.Root != root {
		files = earlier.reuse(ctx, files, at)
		m.bases = openBases(ctx, earlier, files)
	}
	m.scratch = func() string { return beside(dir) }
	if err := m.run(files); err != nil {
		return err
	}
	at.Close()
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("materialize: %w", err)
	}
	return nil
}

// MaterializeFile writes the file whose node is at file, as SnapshotFile
// returned it, to path: beside it, synced, then renamed over what was there. A
// file of more than max bytes is refused: who was told a size by the peer that
// names the file should hold it to that.
func MaterializeFile(ctx context.Context, store Store, file cid.Cid, path string, max int64) error {
	nodes, err := fetchNodes(ctx, store, []cid.Cid{file})
	if err != nil {
		return err
	}
	n, ok := nodes[0].(*FileNode)
	if !ok {
		return fmt.Errorf("manifest %s is not a file", file)
	}
	if n.Size > max {
		return fmt.Errorf("file of %d bytes, at most %d are allowed", n.Size, max)
	}
	return MaterializeEntry(ctx, store, Entry{CID: Ref{file}, Size: n.Size, Kind: KindFile}, path)
}

// MaterializeEntry writes a file that List found to path.
func MaterializeEntry(ctx context.Context, store Store, e Entry, path string) error {
	tmp := beside(path)
	defer os.Remove(tmp)
	m := newMaterializer(ctx, store, nil)
	m.sync = true
	m.scratch = func() string { return beside(path) }
	m.create = func(_ string, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	}
	e.Name = filepath.Base(path)
	if err := m.run([]Entry{e}); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("materialize: %w", err)
	}
	return ondisk.SyncDir(filepath.Dir(path))
}

// beside is a name next to path that nothing has. Unlike os.MkdirTemp's way it
// leaves the mode to the caller and the umask.
func beside(path string) string {
	return filepath.Join(filepath.Dir(path), ".idlewild-"+rand.Text())
}
