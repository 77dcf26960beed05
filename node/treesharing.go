package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/blender"
	"idlewild/render/blender/install"
)

var _ localapi.Blenders = (*blenderTrees)(nil)

// Shared implements localapi.Blenders.
func (t *blenderTrees) Shared() []localapi.SharedBlender {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]localapi.SharedBlender{}, t.shared...)
}

// Share implements localapi.Blenders.
func (t *blenderTrees) Share(ctx context.Context, which string) (localapi.SharedBlender, error) {
	var none localapi.SharedBlender
	p, err := t.choose(which)
	if err != nil {
		return none, err
	}
	t.sharing.Lock()
	defer t.sharing.Unlock()
	if len(t.Shared()) >= maxTrees {
		return none, job.Refuse(which, fmt.Sprintf("%d Blenders are shared already", maxTrees), "let go of one with: idlewild blender unshare ROOT")
	}
	if !ownFolder(filepath.Dir(p.Path), p.Version) {
		return none, job.Refuse(p.Path, "it cannot be shared: its folder has more in it than a Blender, or less: there is no folder of version "+p.Version+" beside it",
			"share a Blender that was downloaded, in a folder of its own: idlewild blender add "+p.Version)
	}
	note := treeNote{V: 1, Build: p.Build, Version: p.Version, System: install.System(), Program: filepath.Base(p.Path)}
	files, err := treeFilesOf(filepath.Dir(p.Path))
	if err != nil {
		return none, job.Refuse(p.Path, "it cannot be shared: "+err.Error(), "share a Blender that was downloaded, in a folder of its own: idlewild blender add "+p.Version)
	}
	if i := slices.IndexFunc(files, func(f diffupload.File) bool { return f.Name == noteName }); i >= 0 {
		files = slices.Delete(files, i, i+1) // of the tree that this one came from
	}
	b, err := json.Marshal(note)
	if err != nil {
		return none, err
	}
	scratch, err := os.CreateTemp(t.noteDir(), "note-*")
	if err != nil {
		return none, err
	}
	defer os.Remove(scratch.Name())
	_, err = scratch.Write(b)
	if err = errors.Join(err, scratch.Close()); err != nil {
		return none, err
	}
	if err := os.Chmod(scratch.Name(), 0o644); err != nil {
		return none, err
	}
	files = append(files, diffupload.File{Path: scratch.Name(), Name: noteName, Exact: true})
	// Its root is known only when it is stored: it is kept by another name until then.
	const meanwhile = "blender stored"
	defer t.store.Unpin(context.WithoutCancel(ctx), meanwhile)
	r, err := diffupload.Snapshot(ctx, t.store, files, diffupload.Options{Exact: true, Owner: meanwhile})
	if err != nil {
		return none, err
	}
	s := localapi.SharedBlender{Root: r.Root.String(), Build: p.Build, Version: p.Version, System: note.System, Files: r.Files, Bytes: r.Bytes}
	ids, err := diffupload.All(ctx, t.store, r.Root)
	if err == nil {
		err = t.store.Pin(ctx, sharedTree(s.Root), ids)
	}
	if err == nil {
		err = t.set(func(all []localapi.SharedBlender) []localapi.SharedBlender {
			return append(slices.DeleteFunc(all, func(x localapi.SharedBlender) bool { return x.Root == s.Root }), s)
		})
	}
	if err != nil {
		return none, err
	}
	t.log.Info("members may fetch a Blender", "root", s.Root, "build", s.Build, "files", s.Files, "bytes", s.Bytes)
	return s, nil
}

// choose finds the Blender that is meant.
func (t *blenderTrees) choose(which string) (blender.Program, error) {
	var found []blender.Program
	var names []string
	for _, p := range t.have() {
		if p.Error != "" || p.Python {
			continue
		}
		names = append(names, p.Build)
		if which == "" || which == p.Version || which == p.Build || which == p.Path || install.IsVersion(which) && strings.HasPrefix(p.Version, which+".") {
			found = append(found, p)
		}
	}
	switch {
	case len(names) == 0:
		return blender.Program{}, job.Refuse(which, "there is no Blender here that can be shared; a Python with bpy cannot", "idlewild blender add VERSION")
	case len(found) == 0:
		return blender.Program{}, job.Refuse(which, "that Blender is not here, only "+strings.Join(names, ", "), "idlewild blender list shows them")
	case len(found) > 1:
		return blender.Program{}, job.Refuse(which, "several Blenders could be meant: "+strings.Join(names, ", "), "name the build or the path of one")
	}
	return found[0], nil
}

// ownFolder reports whether a Blender's scripts and data lie beside its program, as
// in a folder of its own. A script of that name in a folder of many programs would
// have all of them given to every member.
func ownFolder(dir, version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	fi, err := os.Stat(filepath.Join(dir, parts[0]+"."+parts[1]))
	return err == nil && fi.IsDir()
}

// treeFilesOf lists the files of a Blender's folder. Links to files are taken as
// the files.
func treeFilesOf(dir string) ([]diffupload.File, error) {
	if dir == "/usr/bin" || dir == "/usr/local/bin" || dir == "/bin" {
		return nil, fmt.Errorf("its files lie in the system's folders, not in one of its own")
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	var out []diffupload.File
	var size int64
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		at, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("%s: %s", rel, rootCause(err))
		}
		if in, err := filepath.Rel(real, at); err != nil || in == ".." || strings.HasPrefix(in, ".."+string(filepath.Separator)) {
			return fmt.Errorf("%s is a link that leads out of its folder", rel)
		}
		fi, err := os.Stat(at)
		switch {
		case err != nil:
			return err
		case fi.IsDir():
			return fmt.Errorf("%s is a link to a folder", rel)
		case !fi.Mode().IsRegular():
			return fmt.Errorf("%s is no file", rel)
		}
		if size += fi.Size(); size > maxTreeBytes || len(out) == maxTreeFiles {
			return fmt.Errorf("its folder has more than %d GB or %d files", int64(maxTreeBytes)>>30, maxTreeFiles)
		}
		name := filepath.ToSlash(rel)
		if err := job.SafeName(name); err != nil {
			return err
		}
		out = append(out, diffupload.File{Path: path, Name: name, Exact: true})
		return nil
	})
	return out, err
}

// Unshare implements localapi.Blenders.
func (t *blenderTrees) Unshare(ctx context.Context, root string) error {
	t.sharing.Lock()
	defer t.sharing.Unlock()
	if !slices.ContainsFunc(t.Shared(), func(s localapi.SharedBlender) bool { return s.Root == root }) {
		return job.Refuse(root, "no such Blender is shared", "idlewild blender share --list shows them")
	}
	err := t.set(func(all []localapi.SharedBlender) []localapi.SharedBlender {
		return slices.DeleteFunc(all, func(s localapi.SharedBlender) bool { return s.Root == root })
	})
	if err != nil {
		return err
	}
	return t.store.Unpin(ctx, sharedTree(root))
}

// noteDir is this farm's own folder, made where it is not there.
func (t *blenderTrees) noteDir() string {
	dir := filepath.Dir(t.list)
	_ = os.MkdirAll(dir, 0o700) // whoever writes there says what is wrong
	return dir
}

// write keeps the list of what is shared.
func (t *blenderTrees) write(b []byte) error {
	if err := os.MkdirAll(filepath.Dir(t.list), 0o700); err != nil {
		return err
	}
	return ondisk.WriteFile(t.list, b, 0o600)
}

// set changes what is shared, on disk first. sharing is held.
func (t *blenderTrees) set(change func([]localapi.SharedBlender) []localapi.SharedBlender) error {
	next := change(t.Shared())
	b, err := json.Marshal(next)
	if err == nil {
		err = t.write(b)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.shared = next
	t.mu.Unlock()
	return nil
}

// allows reports whether a peer may have a block: members may have what is
// shared.
func (t *blenderTrees) allows(p peer.ID, block cid.Cid) bool {
	if !t.member(p) {
		return false
	}
	for _, s := range t.Shared() {
		if ok, err := t.store.Pinned(context.Background(), sharedTree(s.Root), block); err == nil && ok {
			return true
		}
	}
	return false
}
