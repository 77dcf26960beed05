package diffupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/chunker"
)

// ErrChanged is returned for a file that was written to while it was read,
// twice in a row.
var ErrChanged = errors.New("file changes while it is read")

// ErrNotRegular is returned for a folder, pipe, device or socket.
var ErrNotRegular = errors.New("not a regular file")

// File is a file of this machine and its name in the manifest.
type File struct {
	Path string
	Name string // slash-separated, relative, and of names that every system can have
	// Exact stores this file's own bytes, whatever the Options say of others.
	// A .blend is stored as they say in any case.
	Exact bool
}

// Options of a snapshot. The zero value works.
type Options struct {
	Chunk chunker.Params
	// Exact stores every file's own bytes. Otherwise a .blend is stored in its
	// canonical form (package blendfile), which renders the same, and PNG and
	// OpenEXR images without their compression (package imagefile), of which
	// Materialize makes files that decode to the same pixels.
	Exact bool
	// Progress is told how many bytes of how many are done, from one
	// goroutine at a time.
	Progress func(done, total int64)
	// Cache saves reading files again that have not changed.
	Cache *StatCache
	// Owner, where it is not empty, is the job for which the content is kept.
	// Nothing of it can be collected before the snapshot is complete either.
	Owner string
	// Hash is that of the addresses; 0 is SHA256.
	Hash Hash
}

// Result of a snapshot.
type Result struct {
	Root      cid.Cid // of the manifest: a tree, or the one file
	Files     int
	Bytes     int64 // of the files, as stored
	NewBytes  int64 // of blocks that the store had not, nodes included
	NewBlocks int
	Blocks    int // of what was read; one that is there twice counts twice
	Read      int // files that were read, the others being remembered
	// Warnings are for people: files that were stored otherwise than they
	// would be expected to.
	Warnings []string
}

// Snapshot stores files as a manifest. Files are read in parallel, hashed off
// the reading, and only blocks that store lacks are put. An error names the
// file it is about.
func Snapshot(ctx context.Context, store Store, files []File, o Options) (Result, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if len(files) > MaxTreeFiles {
		return Result{}, fmt.Errorf("%d files, at most %d are possible", len(files), MaxTreeFiles)
	}
	for i, f := range files {
		if err := safeName(f.Name); err != nil {
			return Result{}, fmt.Errorf("%s: %w", f.Path, err)
		}
		if i > 0 && files[i-1].Name == f.Name {
			return Result{}, fmt.Errorf("%s and %s are both named %q", files[i-1].Path, f.Path, f.Name)
		}
	}
	return run(ctx, store, o, false, func(s *snapshot) (cid.Cid, error) {
		s.files = len(files)
		s.names(files)
		s.models = modelsOf(files)
		root, err := s.all(files)
		s.bytes = root.Size
		return root.CID.Cid, err
	})
}

// names warns of names that Windows has not.
func (s *snapshot) names(files []File) {
	bad, first := 0, ""
	for _, f := range files {
		if slices.ContainsFunc(strings.Split(f.Name, "/"), notOnWindows) {
			if bad++; bad == 1 {
				first = f.Name
			}
		}
	}
	if bad > 0 {
		s.warn(fmt.Sprintf("%d file names cannot be on Windows, where this content cannot be unpacked: %q", bad, first))
	}
}

// SnapshotFile stores one file; Root is its file node, which MaterializeFile
// takes.
func SnapshotFile(ctx context.Context, store Store, path string, o Options) (Result, error) {
	return run(ctx, store, o, true, func(s *snapshot) (cid.Cid, error) {
		if st, err := os.Stat(path); err == nil {
			s.total = st.Size()
		}
		e, err := s.file(File{Path: path})
		s.read = 1
		s.files, s.bytes = 1, e.Size
		return e.CID.Cid, err
	})
}

// SnapshotReader stores what r holds as one file, byte for byte.
func SnapshotReader(ctx context.Context, store Store, r io.Reader, o Options) (Result, error) {
	return run(ctx, store, o, true, func(s *snapshot) (cid.Cid, error) {
		e, err := s.content(r, Plain, 0)
		s.files, s.bytes, s.read = 1, e.Size, 1
		return e.CID.Cid, err
	})
}

// snapshot is one run.
type snapshot struct {
	Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	store  Store
	sink   *sink
	hash   *hashing
	zeros  zeros
	models *models         // among the files
	how    map[bool]string // of cache keys, by whether the own bytes are stored
	single bool            // the root is a file: it has a node whatever its size
	total  int64
	files  int
	read   int
	bytes  int64

	mu       sync.Mutex
	done     int64
	shown    int64 // progress does not go back when a file is read again
	warnings []string
}

func run(ctx context.Context, store Store, o Options, single bool, f func(*snapshot) (cid.Cid, error)) (Result, error) {
	if err := o.Chunk.Validate(); err != nil {
		return Result{}, err
	}
	if !o.Hash.Known() {
		return Result{}, fmt.Errorf("hash %#x is not one that blocks here can have", uint64(o.Hash))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &snapshot{Options: o, ctx: ctx, cancel: cancel, store: store, models: &models{}}
	s.zeros.s = s
	s.how = map[bool]string{o.Exact: cacheHow(o)}
	o.Exact = !o.Exact
	s.how[o.Exact] = cacheHow(o)
	owner := o.Owner
	if r, ok := store.(Rooter); ok {
		release := r.Hold()
		defer release()
		if !single {
			owner = "" // the root is pinned at the end
		}
	}
	s.single = single
	s.sink = newSink(ctx, cancel, store, owner)
	s.hash = newHashing(s.sink, o.Hash)
	root, err := f(s)
	if err == nil {
		s.sink.flush()
	}
	s.hash.close()
	s.sink.close()
	// The first trouble is the cause; what f saw may be its consequence.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return Result{}, err
	}
	slices.Sort(s.warnings)
	return Result{
		Root: root, Files: s.files, Bytes: s.bytes,
		NewBytes: s.sink.newBytes, NewBlocks: s.sink.newBlocks,
		Blocks: s.sink.blocks, Read: s.read, Warnings: s.warnings,
	}, nil
}

// file stores a file and returns an entry without a name.
func (s *snapshot) file(f File) (Entry, error) {
	for attempt := 1; ; attempt++ {
		e, err := s.fileOnce(f.Path, s.exact(f))
		if err == nil || !errors.Is(err, ErrChanged) || attempt == 2 || s.ctx.Err() != nil {
			return e, err
		}
	}
}

// exact reports whether a file's own bytes are stored.
func (s *snapshot) exact(f File) bool { return s.Exact || f.Exact && !IsBlendName(f.Path) }

func (s *snapshot) fileOnce(path string, exact bool) (Entry, error) {
	// Asked before it is opened: opening a pipe would wait for its writer.
	if _, err := s.stat(path); err != nil {
		return Entry{}, err
	}
	scan := time.Now()
	if s.Cache != nil {
		scan = s.Cache.clock()
	}
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Entry{}, err
	}
	if err := s.readable(path, before); err != nil {
		return Entry{}, err
	}
	mode := 0
	if before.Mode()&0o100 != 0 {
		mode = 1
	}
	in := &progressReader{r: f, s: s, f: f, size: before.Size(), holes: hasHoles(before)}
	e, err := s.open(path, in, f, before, mode, exact)
	after, serr := f.Stat()
	switch {
	case serr != nil:
		err = serr
	case StampOf(before) != StampOf(after):
		err = ErrChanged // whatever else was found
	}
	if err != nil {
		s.progress(-in.n)
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	s.progress(before.Size() - in.n)
	if s.Cache != nil {
		s.Cache.put(s.how[exact], path, StampOf(before), scan, e)
	}
	return e, nil
}

// stat looks at a file that is to be read; its error names the path.
func (s *snapshot) stat(path string) (os.FileInfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return st, s.readable(path, st)
}

func (s *snapshot) readable(path string, st os.FileInfo) error {
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	if st.Size() > MaxFileBytes {
		return fmt.Errorf("%s: %d bytes, at most %d are possible", path, st.Size(), int64(MaxFileBytes))
	}
	return nil
}

func (s *snapshot) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, text)
}

func (s *snapshot) progress(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += n
	if now := min(s.done, s.total); s.Progress != nil && now > s.shown {
		s.shown = now
		s.Progress(now, s.total)
	}
}
