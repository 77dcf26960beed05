package diffupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/chunker"
	"idlewild/diffupload/blendfile"
)

// ErrChanged is returned for a file that was written to while it was read,
// twice in a row.
var ErrChanged = errors.New("file changes while it is read")

// ErrNotRegular is returned for a folder, pipe, device or socket.
var ErrNotRegular = errors.New("not a regular file")

// File is a file of this machine and its name in the manifest.
type File struct {
	Path string
	Name string // slash-separated, relative; see SafeName
}

// Options of a snapshot. The zero value works.
type Options struct {
	Chunk chunker.Params
	// Exact stores every file's own bytes. Otherwise a .blend is stored
	// without its compression.
	Exact bool
	// Progress is told how many bytes of how many are done, from one
	// goroutine at a time.
	Progress func(done, total int64)
	// Cache saves reading files again that have not changed.
	Cache *StatCache
	// Owner, where it is not empty, is the job under which each block is
	// pinned as it is found, so that nothing of the snapshot can be collected
	// before the snapshot is complete.
	Owner string
}

// Result of a snapshot.
type Result struct {
	Root      cid.Cid // of the manifest: a tree, or the one file
	Files     int
	Bytes     int64 // of the files, as stored
	NewBytes  int64 // of blocks that the store had not, nodes included
	NewBlocks int
	Blocks    []cid.Cid // every block of the manifest, each once
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
		if err := SafeName(f.Name); err != nil {
			return Result{}, fmt.Errorf("%s: %w", f.Path, err)
		}
		if i > 0 && files[i-1].Name == f.Name {
			return Result{}, fmt.Errorf("%s and %s are both named %q", files[i-1].Path, f.Path, f.Name)
		}
	}
	return run(ctx, store, o, func(s *snapshot) (cid.Cid, error) {
		for _, f := range files {
			if st, err := os.Stat(f.Path); err == nil {
				s.total += st.Size()
			}
		}
		entries := make([]Entry, len(files))
		next := make(chan int)
		var wg sync.WaitGroup
		for range min(runtime.GOMAXPROCS(0), 4, max(len(files), 1)) {
			wg.Go(func() {
				for i := range next {
					e, err := s.file(files[i].Path)
					if err != nil {
						s.cancel(err)
						continue
					}
					e.Name = files[i].Name
					entries[i] = e
				}
			})
		}
	feed:
		for i := range files {
			select {
			case next <- i:
			case <-s.ctx.Done():
				break feed
			}
		}
		close(next)
		wg.Wait()
		if err := context.Cause(s.ctx); err != nil {
			return cid.Undef, err
		}
		s.files = len(files)
		root, err := s.tree(entries, 0)
		s.bytes = root.Size
		return root.CID.Cid, err
	})
}

// SnapshotFile stores one file; Root is its file node, which MaterializeFile
// takes.
func SnapshotFile(ctx context.Context, store Store, path string, o Options) (Result, error) {
	return run(ctx, store, o, func(s *snapshot) (cid.Cid, error) {
		s.single = true
		if st, err := os.Stat(path); err == nil {
			s.total = st.Size()
		}
		e, err := s.file(path)
		s.files, s.bytes = 1, e.Size
		return e.CID.Cid, err
	})
}

// SnapshotReader stores what r holds as one file, byte for byte.
func SnapshotReader(ctx context.Context, store Store, r io.Reader, o Options) (Result, error) {
	return run(ctx, store, o, func(s *snapshot) (cid.Cid, error) {
		s.single = true
		e, err := s.content(r, Plain, 0)
		s.files, s.bytes = 1, e.Size
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
	single bool // the root is a file: it has a node whatever its size
	total  int64
	files  int
	bytes  int64

	mu       sync.Mutex
	done     int64
	shown    int64 // progress does not go back when a file is read again
	warnings []string
}

func run(ctx context.Context, store Store, o Options, f func(*snapshot) (cid.Cid, error)) (Result, error) {
	if err := o.Chunk.Validate(); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &snapshot{Options: o, ctx: ctx, cancel: cancel, store: store}
	s.sink = newSink(ctx, cancel, store, o)
	s.hash = newHashing(s.sink)
	root, err := f(s)
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
		Blocks: s.sink.ids, Warnings: s.warnings,
	}, nil
}

// file stores the file at path and returns an entry without a name.
func (s *snapshot) file(path string) (Entry, error) {
	for attempt := 1; ; attempt++ {
		e, err := s.fileOnce(path)
		if err == nil || !errors.Is(err, ErrChanged) || attempt == 2 || s.ctx.Err() != nil {
			return e, err
		}
	}
}

func (s *snapshot) fileOnce(path string) (Entry, error) {
	// Asked before it is opened: opening a pipe would wait for its writer.
	if st, err := os.Stat(path); err != nil {
		return Entry{}, err // names the path
	} else if !st.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	scan := time.Now()
	if s.Cache != nil {
		scan = s.Cache.now()
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
	if !before.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	if before.Size() > MaxFileBytes {
		return Entry{}, fmt.Errorf("%s: %d bytes, at most %d are possible", path, before.Size(), int64(MaxFileBytes))
	}
	key := cacheKey(path, s.Chunk, s.Exact, s.single)
	if e, ok := s.cached(key, before); ok {
		s.progress(before.Size())
		return e, nil
	}
	mode := 0
	if before.Mode()&0o100 != 0 {
		mode = 1
	}
	in := &progressReader{r: f, s: s}
	e, err := s.open(path, in, f, before, mode)
	after, serr := f.Stat()
	switch {
	case serr != nil:
		err = serr
	case stampOf(before) != stampOf(after):
		err = ErrChanged // whatever else was found
	}
	if err != nil {
		s.progress(-in.n)
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	s.progress(before.Size() - in.n)
	if s.Cache != nil {
		s.Cache.put(key, stampOf(before), scan, e)
	}
	return e, nil
}

// open stores the bytes of a file, a .blend without its container.
func (s *snapshot) open(path string, in *progressReader, f *os.File, st os.FileInfo, mode int) (Entry, error) {
	if !isBlendName(path) {
		return s.whole(in, st, mode)
	}
	r, info, err := blendfile.NewReader(in, st.Size())
	switch {
	case errors.Is(err, blendfile.ErrNotBlend):
		s.warn(fmt.Sprintf("%s is not a .blend file and is sent as it is", path))
	case err != nil:
		return Entry{}, err
	case info.Container == blendfile.Raw:
		defer r.Close()
		// The walk sees a file that is cut short; the bytes are the file's own.
		return s.content(r, Plain, mode)
	case !s.Exact:
		defer r.Close()
		return s.content(r, BlendOpen, mode)
	default:
		// Exact: the artist's bytes, but only where they are whole.
		_, err := io.Copy(io.Discard, r)
		r.Close()
		if err != nil && !errors.Is(err, blendfile.ErrTooLarge) {
			return Entry{}, err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Entry{}, err
	}
	s.progress(-in.n)
	in.n = 0
	return s.whole(in, st, mode)
}

func (s *snapshot) whole(in io.Reader, st os.FileInfo, mode int) (Entry, error) {
	e, err := s.content(in, Plain, mode)
	if err == nil && e.Size != st.Size() {
		err = ErrChanged
	}
	return e, err
}

// isBlendName: .blend and its numbered backups.
func isBlendName(path string) bool {
	return strings.HasSuffix(strings.TrimRight(strings.ToLower(path), "0123456789"), ".blend")
}

func (s *snapshot) cached(key string, st os.FileInfo) (Entry, bool) {
	if s.Cache == nil {
		return Entry{}, false
	}
	e, ok := s.Cache.get(key, stampOf(st))
	if !ok {
		return Entry{}, false
	}
	// A cache that is older than the store may name blocks that are gone.
	// Pinned first, as in sink.
	var ids []cid.Cid
	switch e.Kind {
	case KindInline:
		return e, true
	case KindChunk:
		ids = []cid.Cid{e.CID.Cid}
	default:
		if missing, err := s.store.Missing(s.ctx, []cid.Cid{e.CID.Cid}); err != nil || len(missing) > 0 {
			return Entry{}, false
		}
		for id, err := range Blocks(s.ctx, s.store, e.CID.Cid) {
			if err != nil {
				return Entry{}, false
			}
			ids = append(ids, id)
		}
	}
	if err := pin(s.ctx, s.store, s.Owner, ids); err != nil {
		return Entry{}, false
	}
	if missing, err := s.store.Missing(s.ctx, ids); err != nil || len(missing) > 0 {
		return Entry{}, false
	}
	s.sink.know(ids)
	return e, true
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

// progressReader counts what is read of a file's own bytes.
type progressReader struct {
	r io.Reader
	s *snapshot
	n int64
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	p.s.progress(int64(n))
	return n, err
}
