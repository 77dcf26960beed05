package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
	"idlewild/job"
	"idlewild/render/blender/install"
)

const howToAllow = "on a machine that has it: idlewild blender share; here: idlewild blender allow ROOT, with the root that is printed there; or idlewild blender add"

// get fetches a build and takes it up.
func (t *blenderTrees) get(ctx context.Context, build string) error {
	if why := t.paused(); why != "" {
		return &notYet{"it is not fetched while this machine rests (" + why + ")", "idlewild resume"}
	}
	roots, keep := t.allowed()
	if len(roots) == 0 {
		return &notYet{"blender.trees allows no tree", howToAllow}
	}
	var trouble error
	for _, text := range roots {
		root, err := treeRoot(text)
		if err != nil {
			return err
		}
		from := &holders{blocks: t.blocks, near: t.near}
		store := &diffupload.Tiered{Local: t.store, Remote: from, Owner: fetchedTree(text)}
		note, err := t.note(ctx, store, root)
		if err != nil {
			trouble = cmp.Or(trouble, fmt.Errorf("tree %s: %w", text, err))
			continue
		}
		if note.Build != build || note.System != install.System() {
			continue
		}
		t.mu.Lock()
		f := t.failed[text]
		t.mu.Unlock()
		if time.Since(f.at) < treeFailed {
			return errors.New(f.why)
		}
		err = t.install(ctx, store, from, root, note, keep)
		var n *notYet
		if err != nil && ctx.Err() == nil && !errors.As(err, &n) && !errors.Is(err, diffupload.ErrNotFound) {
			t.mu.Lock()
			t.failed[text] = failedTree{time.Now(), fmt.Sprintf("tree %s: %v", text, err)}
			t.mu.Unlock()
		}
		if err != nil {
			return fmt.Errorf("tree %s: %w", text, err)
		}
		return nil
	}
	if trouble != nil {
		return &notYet{trouble.Error(), "let a member that shares it be connected, or: idlewild blender add"}
	}
	return &notYet{"no tree of blender.trees is that Blender", howToAllow}
}

// note is what a tree says of itself.
func (t *blenderTrees) note(ctx context.Context, store diffupload.Store, root cid.Cid) (treeNote, error) {
	t.mu.Lock()
	n, ok := t.notes[root.String()]
	t.mu.Unlock()
	if ok {
		return n, nil
	}
	files, err := diffupload.List(ctx, store, root, diffupload.Limits{Bytes: maxTreeNote, Only: func(name string) bool { return name == noteName }})
	if err != nil {
		return n, away(err)
	}
	if len(files) != 1 {
		return n, errors.New("it is no Blender that idlewild blender share made")
	}
	dir, err := os.MkdirTemp("", "idlewild-*")
	if err != nil {
		return n, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "note")
	if err := diffupload.MaterializeEntry(ctx, store, files[0], path); err != nil {
		return n, away(err)
	}
	b, err := os.ReadFile(path)
	if err == nil {
		n, err = decodeNote(b)
	}
	if err != nil {
		return n, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.notes) >= 4*maxTrees {
		clear(t.notes)
	}
	t.notes[root.String()] = n
	return n, nil
}

// away says of blocks that nobody gave that nobody has them.
func away(err error) error {
	if errors.Is(err, diffupload.ErrNotFound) {
		return &notYet{"no member that is connected gives it", "let a member that shares it be connected"}
	}
	return err
}

// install fetches a tree, checks and tries it, and takes it up. What came stays
// in the store until then, so that it is gone on with.
func (t *blenderTrees) install(ctx context.Context, store diffupload.Store, from *holders, root cid.Cid, note treeNote, keep int64) error {
	held, err := t.hold()
	if err != nil {
		return err
	}
	defer held.Close()
	done := filepath.Join(t.dir, wholeTree+root.String())
	path := filepath.Join(done, filepath.FromSlash(note.Program))
	if _, err := os.Lstat(done); err == nil {
		// Complete: it was checked and renamed. It may have been taken off the list.
		return t.add(ctx, path, note.Build)
	}
	ctx, stop := t.whileAwake(ctx)
	defer stop()
	limits := diffupload.Limits{Bytes: maxTreeBytes, Files: maxTreeFiles}
	files, err := diffupload.List(ctx, store, root, limits)
	if err != nil {
		return away(err)
	}
	var size int64
	for _, f := range files {
		size += f.Size
	}
	// Once as blocks and once as files.
	if free, err := t.free(t.madeDir()); err == nil && free < 2*size+keep {
		return &notYet{fmt.Sprintf("it takes %s twice while it is fetched, and %s are free where %s is, of which %s stay free", job.Gigabytes(size), job.Gigabytes(free), t.dir, job.Gigabytes(keep)),
			"make room, or: idlewild blender add PATH"}
	}
	t.state(note.Build, treeState{text: fmt.Sprintf("it is being fetched from members (%s)", job.Gigabytes(size)), working: true})
	coming := filepath.Join(t.dir, comingTree+root.String())
	if err := removeTree(coming); err != nil {
		return err
	}
	defer removeTree(coming)
	err = diffupload.MaterializeWithin(ctx, store, root, coming, limits, func(have, total int64) {
		t.state(note.Build, treeState{text: fmt.Sprintf("it is being fetched from members: %d %% of %s", 100*have/max(total, 1), job.Gigabytes(total)), working: true})
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return away(err)
	}
	t.state(note.Build, treeState{text: "it is being checked", working: true})
	if err := t.check(ctx, coming, root); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	t.state(note.Build, treeState{text: "it is being tried", working: true})
	if err := os.Rename(coming, done); err != nil {
		return err
	}
	if err := errors.Join(ondisk.SyncDir(t.dir), t.add(ctx, path, note.Build)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause // nothing is known against it, and it is tried next time
		}
		return errors.Join(fmt.Errorf("it does not work here: %w", err), t.discard(done))
	}
	t.log.Info("a Blender came from members", "root", root, "build", note.Build, "bytes", size, "moved_bytes", from.moved.Load())
	return t.store.Unpin(context.WithoutCancel(ctx), fetchedTree(root.String()))
}

// hold keeps the other farms of this machine, and other programs, from the folders
// of trees that come and go: they are named for their roots, which two farms may
// allow.
func (t *blenderTrees) hold() (io.Closer, error) {
	held, err := ondisk.Lock(filepath.Join(t.dir, fetchingDir))
	if errors.Is(err, ondisk.ErrLocked) {
		return nil, &notYet{why: "another farm of this machine fetches a Blender just now"}
	}
	return held, err
}

// fetchingDir holds the lock.
const fetchingDir = "fetching"

// Beginnings of the names of folders: a tree has the first only while it is whole.
const (
	wholeTree  = "tree-"
	comingTree = "coming-"
	goingTree  = "going-"
)

// discard removes a whole tree. It loses its name first: what is left of it where
// the program is killed meanwhile must not be taken for a Blender.
func (t *blenderTrees) discard(done string) error {
	going := filepath.Join(t.dir, goingTree+strings.TrimPrefix(filepath.Base(done), wholeTree))
	if err := os.Rename(done, going); err != nil {
		return err
	}
	return removeTree(going)
}

// sweep removes what a program that was killed left of trees that came or went.
// Where another one fetches a tree it is left to that.
func (t *blenderTrees) sweep() {
	held, err := t.hold()
	if err != nil {
		t.log.Debug("what is left of Blenders stays for now", "reason", err)
		return
	}
	defer held.Close()
	for _, name := range []string{comingTree, goingTree, ".idlewild-"} { // the last: what diffupload writes
		t.removeAll(filepath.Join(t.dir, name+"*"))
	}
	t.removeAll(filepath.Join(t.noteDir(), "note-*"))
}

func (t *blenderTrees) removeAll(pattern string) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return // no such pattern
	}
	for _, path := range found {
		if err := removeTree(path); err != nil {
			t.log.Warn("what is left of a Blender stays", "path", path, "err", err)
		}
	}
}

// check reads a folder again, and has it on disk: it is the tree of that root or
// an error.
func (t *blenderTrees) check(ctx context.Context, dir string, root cid.Cid) error {
	files, err := treeFilesOf(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := syncFile(f.Path); err != nil {
			return err
		}
	}
	r, err := diffupload.Snapshot(ctx, nowhere{}, files, diffupload.Options{Exact: true})
	if err != nil {
		return err
	}
	if r.Root != root {
		return fmt.Errorf("what was written is another tree, %s: the disk is not to be trusted", r.Root)
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return ondisk.SyncDir(path)
	})
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// whileAwake ends with a pause of the machine.
func (t *blenderTrees) whileAwake(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if why := t.paused(); why != "" {
					cancel(&notYet{"it is not fetched while this machine rests (" + why + ")", "idlewild resume"})
				}
			}
		}
	})
	return ctx, func() { cancel(context.Canceled); wg.Wait() }
}
