package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
	"idlewild/job"
	"idlewild/node/idle/sense"
	"idlewild/node/localapi"
	"idlewild/p2p"
	"idlewild/render/blender"
	"idlewild/render/blender/install"
)

// treesJob stands in a request for blocks where these are of a Blender that a
// member shares, and of no job.
const treesJob job.ID = "0000000000000000000000TREE"

// Bounds of a Blender as a tree.
const (
	maxTrees     = 32
	maxTreeFiles = 200_000
	maxTreeBytes = 8 << 30
	maxTreeNote  = 4 << 10
	maxWanted    = 64              // builds that are remembered as lacking
	wantedFor    = 5 * time.Minute // after it was last offered: offers come every minute
	treeRetry    = 30 * time.Second
	treeFailed   = 10 * time.Minute // a tree that did not work is not tried again for so long
)

// noteName is the file of a tree that says what it is.
const noteName = "idlewild-blender.json"

// treeNote is the content of that file.
type treeNote struct {
	V       int    `json:"v"` // 1
	Build   string `json:"build"`
	Version string `json:"version"`
	System  string `json:"system"`  // install.System
	Program string `json:"program"` // in the tree
}

func decodeNote(b []byte) (n treeNote, err error) {
	if err = json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("%s: %w", noteName, err)
	}
	switch {
	case n.V != 1:
		return n, fmt.Errorf("%s: version %d, this program knows 1", noteName, n.V)
	case n.Build == "" || len(n.Build) > 256 || len(n.Version) > 64 || len(n.System) > 64 || job.SafeName(n.Program) != nil:
		return n, fmt.Errorf("%s: it makes no sense", noteName)
	}
	return n, nil
}

// checkTrees says what is wrong with blender.trees.
func checkTrees(roots []string) error {
	if len(roots) > maxTrees {
		return fmt.Errorf("blender.trees has %d roots; at most %d are read", len(roots), maxTrees)
	}
	for _, r := range roots {
		if _, err := treeRoot(r); err != nil {
			return fmt.Errorf("blender.trees: %w", err)
		}
	}
	return nil
}

// treeRoot reads a root as people write it.
func treeRoot(s string) (cid.Cid, error) {
	c, err := cid.Decode(s)
	if err == nil {
		err = diffupload.CheckID(c)
	}
	if err != nil || c.Type() != cid.DagCBOR || c.String() != s {
		return cid.Undef, fmt.Errorf("%q is no root of a tree; idlewild blender share prints one", s)
	}
	return c, nil
}

// AllowTree adds a root to blender.trees in the settings file. A daemon takes it
// up by itself.
func AllowTree(cfg Config, root string) error {
	if _, err := treeRoot(root); err != nil {
		return err
	}
	if slices.Contains(cfg.Blender.Trees, root) {
		return nil
	}
	if f := cfg.from["blender.trees"]; f == "flag" || strings.HasPrefix(f, "environment ") {
		return fmt.Errorf("blender.trees: %s decides it: take that away first", f)
	}
	if own := filepath.Join(cfg.DataDir, configFile); cfg.path() != own {
		return fmt.Errorf("the settings are in %s: add %q to blender.trees there", cfg.path(), root)
	}
	return WriteSettings(cfg.DataDir, map[string]string{"blender.trees": strings.Join(append(slices.Clone(cfg.Blender.Trees), root), ",")})
}

// blenderTrees shares Blenders with members, and fetches those that jobs need
// from them where the settings allow it.
type blenderTrees struct {
	self    peer.ID
	dir     string // of the Blenders that were added, for all farms of this machine
	list    string // the file that says which this farm's members are given
	store   blockStore
	blocks  p2p.Blocks
	near    func() []peer.ID
	member  func(peer.ID) bool
	allowed func() (roots []string, freeBytes int64)
	paused  func() string
	have    func() []blender.Program                            // of this machine, that work
	builds  func() []string                                     // that this machine says it has
	add     func(ctx context.Context, path, build string) error // tries a program, and takes it up
	free    func(dir string) (int64, error)
	log     *slog.Logger
	wake    chan struct{} // holds one
	sharing sync.Mutex    // held while something is stored or let go of

	mu     sync.Mutex
	shared []localapi.SharedBlender
	wanted map[string]time.Time // builds that jobs need, by when that was heard last
	states map[string]treeState // by build
	notes  map[string]treeNote  // of trees, by root
	failed map[string]failedTree
}

// treeState is how far it is with a build that is wanted.
type treeState struct {
	text    string
	remedy  string // empty: it goes on by itself
	working bool
}

type failedTree struct {
	at  time.Time
	why string
}

func (n *Node) newBlenderTrees() (*blenderTrees, error) {
	t := &blenderTrees{
		self: n.self, dir: filepath.Join(n.machine().DataDir, "blenders"), list: filepath.Join(n.cfg.DataDir, "blenders", "shared.json"), store: n.blocks, blocks: n.host, near: n.near,
		member: n.host.Membership().Known, free: sense.DiskFree, log: n.log.With("part", "blenders"),
		allowed: func() ([]string, int64) {
			n.reread()
			cfg := n.settings()
			return cfg.Blender.Trees, cfg.Limits.FreeDiskBytes
		},
		paused: func() string { return n.owner.paused() },
		have: func() []blender.Program {
			list, err := n.kit.blenders[0].Programs(n.life)
			if err != nil {
				return nil
			}
			return list
		},
		builds: func() []string { return n.kit.now().Facts[blender.FactBuild] },
		add:    n.addTree,
	}
	return t, t.open()
}

// open reads what is shared.
func (t *blenderTrees) open() error {
	t.wake = make(chan struct{}, 1)
	t.wanted, t.states, t.notes, t.failed = map[string]time.Time{}, map[string]treeState{}, map[string]treeNote{}, map[string]failedTree{}
	b, err := os.ReadFile(t.list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(b) > 64<<10 {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = json.Unmarshal(b, &t.shared)
	}
	if err != nil {
		return fmt.Errorf("list of shared Blenders: %s: %w; remove it, and share them again", t.list, err)
	}
	t.shared = t.shared[:min(len(t.shared), maxTrees)]
	return nil
}

// addTree tries the program of a tree and takes it up, in this process and for
// later ones.
func (n *Node) addTree(ctx context.Context, path, build string) error {
	k, done, err := blenders(n.machine(), path, nil)
	if err != nil {
		return err
	}
	defer done()
	found, err := k.Programs(ctx)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		_, _, err := k.Probe(ctx)
		return err
	case found[0].Error != "":
		return errors.New(found[0].Error)
	case found[0].Build != build:
		return fmt.Errorf("it says that it is Blender %s", found[0].Build)
	}
	if err := shelf(n.machine()).Add(install.Entry{Path: path}); err != nil {
		return err
	}
	return n.kit.takeBlender(ctx, path)
}

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
	scratch, err := os.CreateTemp(t.madeDir(), "note-*")
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

// madeDir is the folder of Blenders, made where it is not there.
func (t *blenderTrees) madeDir() string {
	_ = os.MkdirAll(t.dir, 0o700) // whoever writes there says what is wrong
	return t.dir
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

// lacking is worker.Options.Unfit: it notes a Blender that an offer needs, and
// says how far it is with it.
func (t *blenderTrees) lacking(needs job.Needs, why string) string {
	build := needs.Require[blender.FactBuild]
	if build == "" || len(build) > 256 || slices.Contains(t.builds(), build) {
		return why
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.wanted[build]; known || len(t.wanted) < maxWanted {
		t.wanted[build] = time.Now()
		if !known {
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
	}
	text := "needs Blender " + build + ", which is not here"
	if s := t.states[build]; s.text != "" {
		text += ": " + s.text
		if s.remedy != "" {
			text += "; " + s.remedy
		}
	}
	return text
}

// findings are what idlewild doctor says of Blenders that are not here.
func (t *blenderTrees) findings() []localapi.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []localapi.Finding
	for build := range t.wanted {
		s := t.states[build]
		if s.text == "" {
			continue
		}
		f := localapi.Finding{Severity: "warning", What: fmt.Sprintf("a job needs Blender %s, which is not here: %s", build, s.text), Remedy: s.remedy}
		if s.working {
			f.Severity, f.Remedy = "note", "wait; idlewild pause stops it for so long"
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b localapi.Finding) int { return cmp.Compare(a.What, b.What) })
	return out
}

// state notes how far it is with a build.
func (t *blenderTrees) state(build string, s treeState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.states[build]; !s.working && was.text != s.text {
		t.log.Info("a Blender that a job needs is not here", "build", build, "reason", s.text)
	}
	t.states[build] = s
}

// run fetches what is wanted and allowed, until ctx ends.
func (t *blenderTrees) run(ctx context.Context) error {
	tick := time.NewTicker(treeRetry)
	defer tick.Stop()
	for {
		for _, build := range t.lacked() {
			if err := t.get(ctx, build); err == nil {
				t.mu.Lock()
				delete(t.wanted, build)
				delete(t.states, build)
				t.mu.Unlock()
			} else if ctx.Err() == nil {
				t.say(build, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-tick.C:
		}
	}
}

// lacked are the builds that are wanted still.
func (t *blenderTrees) lacked() []string {
	here := t.builds()
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for build, at := range t.wanted {
		if time.Since(at) > wantedFor || slices.Contains(here, build) {
			delete(t.wanted, build)
			delete(t.states, build)
			continue
		}
		out = append(out, build)
	}
	slices.Sort(out)
	return out
}

// notYet is why a Blender is not fetched, with what helps.
type notYet struct{ why, remedy string }

func (e *notYet) Error() string { return e.why }

func (t *blenderTrees) say(build string, err error) {
	s := treeState{text: err.Error()}
	var n *notYet
	if errors.As(err, &n) {
		s.remedy = n.remedy
	}
	t.state(build, s)
}

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
func (t *blenderTrees) sweep() {
	for _, name := range []string{comingTree, goingTree, "note-"} {
		found, err := filepath.Glob(filepath.Join(t.dir, name+"*"))
		if err != nil {
			continue // no such pattern
		}
		for _, path := range found {
			if err := removeTree(path); err != nil {
				t.log.Warn("what is left of a Blender stays", "path", path, "err", err)
			}
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

// holders are the members that are connected, as a store of the Blenders that
// they share.
type holders struct {
	blocks p2p.Blocks
	near   func() []peer.ID
	moved  atomic.Int64

	mu   sync.Mutex
	gave peer.ID // who gave something last
}

var _ diffupload.Store = (*holders)(nil)

// Missing says that nothing is: only fetching shows what members share.
func (h *holders) Missing(context.Context, []cid.Cid) ([]cid.Cid, error) { return nil, nil }

// Put refuses.
func (h *holders) Put(context.Context, cid.Cid, []byte) error {
	return errors.New("members store no blocks")
}

// Fetch asks one member after the other, first the one that gave something last.
func (h *holders) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		open := map[cid.Cid]bool{}
		for _, w := range wants {
			open[w.ID] = true
		}
		h.mu.Lock()
		gave := h.gave
		h.mu.Unlock()
		peers := h.near()
		slices.SortStableFunc(peers, func(a, b peer.ID) int {
			return cmp.Compare(btoi(b == gave), btoi(a == gave))
		})
		for _, p := range peers {
			req := p2p.BlockRequest{Requester: p, Job: treesJob}
			for _, w := range wants {
				if open[w.ID] {
					req.Wants = append(req.Wants, p2p.BlockWant{ID: w.ID})
				}
			}
			if len(req.Wants) == 0 || ctx.Err() != nil {
				break
			}
			for b, err := range h.blocks.FetchFrom(ctx, p, req) {
				if err != nil {
					break
				}
				h.moved.Add(b.Moved)
				if b.Err != nil || !open[b.ID] {
					continue
				}
				delete(open, b.ID)
				h.mu.Lock()
				h.gave = p
				h.mu.Unlock()
				if !yield(diffupload.Block{ID: b.ID, Data: b.Data}, nil) {
					return
				}
			}
		}
		for _, w := range wants {
			if open[w.ID] {
				delete(open, w.ID)
				if !yield(diffupload.Block{ID: w.ID}, diffupload.ErrNotFound) {
					return
				}
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nowhere is a store that keeps nothing.
type nowhere struct{}

func (nowhere) Missing(_ context.Context, ids []cid.Cid) ([]cid.Cid, error) { return ids, nil }
func (nowhere) Put(context.Context, cid.Cid, []byte) error                  { return nil }
func (nowhere) Fetch(_ context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		for _, w := range wants {
			if !yield(diffupload.Block{ID: w.ID}, diffupload.ErrNotFound) {
				return
			}
		}
	}
}
