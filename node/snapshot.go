package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/car"
	"idlewild/diffupload/store"
)

// SnapshotReport is what storing a file or folder comes to.
type SnapshotReport struct {
	Root      string   `json:"root"` // CID of the manifest
	Files     int      `json:"files"`
	Read      int      `json:"files_read"` // the others were as they were remembered
	Bytes     int64    `json:"bytes"`
	Blocks    int      `json:"blocks"`    // of what was read; one that is there twice counts twice
	NewBytes  int64    `json:"new_bytes"` // of blocks that this machine's store had not
	NewBlocks int      `json:"new_blocks"`
	CARBlocks int      `json:"car_blocks,omitempty"` // written to the archive
	Warnings  []string `json:"warnings,omitempty"`
}

// SnapshotOptions say what becomes of the content. The zero value looks only.
type SnapshotOptions struct {
	Keep bool   // put it into this machine's store, which no daemon may have open
	CAR  string // path of an archive to write it to
}

// Snapshot reports what would be stored of path, or was. Where this machine's
// store cannot be read and need not be, because a daemon has it or there is
// none, everything counts as new.
func Snapshot(ctx context.Context, cfg Config, path string, o SnapshotOptions) (report SnapshotReport, err error) {
	files, leftOut, err := filesBelow(path)
	if err != nil {
		return SnapshotReport{}, err
	}
	at := filepath.Join(cfg.DataDir, "store")
	var (
		to   diffupload.Store
		opts diffupload.Options
		shut = func() error { return nil }
	)
	switch {
	case o.Keep:
		s, err := store.Open(at, store.Options{QuotaBytes: cfg.Store.QuotaBytes})
		if err != nil {
			return SnapshotReport{}, err
		}
		to, shut = s, s.Close
		if opts.Cache, err = diffupload.OpenStatCache(filepath.Join(cfg.DataDir, "stat.cache")); err != nil {
			return SnapshotReport{}, errors.Join(err, shut())
		}
	case o.CAR != "":
		// Somewhere the blocks must lie until the root is known.
		dir, err := os.MkdirTemp(filepath.Dir(o.CAR), ".idlewild-*")
		if err != nil {
			return SnapshotReport{}, err
		}
		defer os.RemoveAll(dir)
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			return SnapshotReport{}, err
		}
		to, shut = s, s.Close
	default:
		m := &measure{Memory: &diffupload.Memory{}}
		if _, err := os.Stat(at); err == nil {
			if s, err := store.Open(at, store.Options{}); err == nil {
				m.behind, shut = s, s.Close
			}
		}
		to = m
	}
	defer func() {
		if cerr := shut(); err == nil {
			err = cerr
		}
	}()
	r, err := diffupload.Snapshot(ctx, to, files, opts)
	if err != nil {
		return SnapshotReport{}, err
	}
	report = SnapshotReport{
		Root: r.Root.String(), Files: r.Files, Read: r.Read, Bytes: r.Bytes, Blocks: r.Blocks,
		NewBytes: r.NewBytes, NewBlocks: r.NewBlocks, Warnings: append(leftOut, r.Warnings...),
	}
	if opts.Cache != nil {
		if err := opts.Cache.Save(); err != nil {
			return SnapshotReport{}, fmt.Errorf("remember what was read: %w", err)
		}
	}
	if o.CAR != "" {
		report.CARBlocks, err = writeCAR(ctx, to, r.Root, o.CAR)
	}
	return report, err
}

// writeCAR writes an archive beside its place, durably, and renames it.
func writeCAR(ctx context.Context, s diffupload.Store, root cid.Cid, path string) (blocks int, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".idlewild-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if blocks, err = car.Export(ctx, w, s, root); err != nil {
		return 0, err
	}
	if err := errors.Join(w.Flush(), f.Chmod(0o666&^umask()), f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	return blocks, os.Rename(f.Name(), path)
}

// ImportReport is what an archive held.
type ImportReport struct {
	Roots  []string `json:"roots"`
	Blocks int      `json:"blocks"`
	Bytes  int64    `json:"bytes"`
}

// ImportCAR puts the blocks of an archive into this machine's store, which no
// daemon may have open. No job holds them.
func ImportCAR(ctx context.Context, cfg Config, path string) (report ImportReport, err error) {
	f, err := os.Open(path)
	if err != nil {
		return ImportReport{}, err
	}
	defer f.Close()
	s, err := store.Open(filepath.Join(cfg.DataDir, "store"), store.Options{QuotaBytes: cfg.Store.QuotaBytes})
	if err != nil {
		return ImportReport{}, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	got, err := car.Import(ctx, bufio.NewReaderSize(f, 1<<20), s)
	if err != nil {
		return ImportReport{}, fmt.Errorf("%s: %w", path, err)
	}
	report = ImportReport{Blocks: got.Blocks, Bytes: got.Bytes}
	for _, root := range got.Roots {
		report.Roots = append(report.Roots, root.String())
	}
	return report, nil
}

// measure is a store that keeps of what is put nothing but that it was.
type measure struct {
	*diffupload.Memory
	behind diffupload.Store // nil: nothing is there yet

	mu  sync.Mutex
	put map[[8]byte]bool // the ends of addresses
}

func (m *measure) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	if m.behind != nil {
		var err error
		if ids, err = m.behind.Missing(ctx, ids); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []cid.Cid
	for _, id := range ids {
		if !m.put[endOf(id)] {
			out = append(out, id)
		}
	}
	return out, nil
}

func endOf(id cid.Cid) [8]byte {
	b := id.KeyString()
	return [8]byte([]byte(b[len(b)-8:]))
}

func (m *measure) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return m.PutMany(ctx, []diffupload.Block{{ID: id, Data: data}})
}

func (m *measure) PutMany(_ context.Context, blocks []diffupload.Block) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.put == nil {
		m.put = map[[8]byte]bool{}
	}
	for _, b := range blocks {
		m.put[endOf(b.ID)] = true
	}
	return nil
}

// filesBelow are the files of a folder, or the one file at path, and what is
// left out of it.
func filesBelow(path string) (files []diffupload.File, leftOut []string, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %s", path, rootCause(err))
	}
	if !fi.IsDir() {
		return []diffupload.File{{Path: path, Name: filepath.Base(path)}}, nil, nil
	}
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			// To a file it is one. A folder behind a link could be this one.
			switch fi, err := os.Stat(p); {
			case err != nil:
				return fmt.Errorf("%s: %s", p, rootCause(err))
			case fi.IsDir():
				leftOut = append(leftOut, p+" is left out: it is a link to a folder")
				return nil
			case !fi.Mode().IsRegular():
				leftOut = append(leftOut, p+" is left out: it is no regular file")
				return nil
			}
		} else if !d.Type().IsRegular() {
			leftOut = append(leftOut, p+" is left out: it is no regular file")
			return nil
		}
		rel, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		files = append(files, diffupload.File{Path: p, Name: filepath.ToSlash(rel)})
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no files in this folder", path)
	}
	return files, leftOut, err
}
