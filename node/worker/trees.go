package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// trees keeps job content unpacked: one folder per requester and root,
// dir/<requester>/<cid>-<n>, with a file <cid>-<n>.complete beside it once what
// the first lease reads of it is there. What others read is added later, file
// by file. Content is not shared between requesters: knowing a root must
// not open what another one sent. A folder that was removed is never made again
// under the same name, because a warm process may still look at the old one.
type trees struct {
	dir  string
	max  int64
	boot string // names this start of the operating system
	// sound reports why a complete folder may not be used any more.
	sound func(dir string) error
	log   *slog.Logger

	fills sync.WaitGroup

	mu   sync.Mutex
	of   map[treeKey]*tree
	size int64
}

type treeKey struct {
	requester peer.ID
	root      cid.Cid
}

// tree is one folder. Its fields but dir and key are guarded by trees.mu.
type tree struct {
	key   treeKey
	dir   string
	refs  int
	bytes int64
	made  time.Time // when it was complete; its files are not younger
	used  time.Time
	ready chan struct{} // closed when it is complete or err is set
	err   error
	end   context.CancelFunc // of the unpacking
	stale bool               // it is in no map any more, and goes with its last user
	apart bool               // some of its files are elsewhere: it does not outlive the process
	holds map[string]bool    // what was wanted of it (job.Wanted.Key) and is there
	subs  map[int]func(float64)
	sub   int

	fraction float64 // unpacked so far
}

func (t *tree) done() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

const completeSuffix = ".complete"

// openTrees finds the complete trees below dir and removes the rest. A tree is
// trusted only until the machine is started again: it was not synced, so after
// a power cut its files may be shorter than they were.
func openTrees(dir string, max int64, log *slog.Logger, sound func(dir string) error) (*trees, error) {
	ts := &trees{dir: dir, max: max, boot: bootID(), sound: sound, log: log, of: map[treeKey]*tree{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	requesters, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, r := range requesters {
		sub := filepath.Join(dir, r.Name())
		id, err := peer.Decode(r.Name())
		if err != nil {
			if err := removeTree(sub); err != nil {
				return nil, err
			}
			continue
		}
		entries, err := os.ReadDir(sub)
		if err != nil {
			return nil, err
		}
		keep := map[string]bool{}
		for _, e := range entries {
			if t := ts.read(id, sub, e.Name()); t != nil && ts.of[t.key] == nil {
				ts.of[t.key] = t
				ts.size += t.bytes
				keep[filepath.Base(t.dir)] = true
			}
		}
		for _, e := range entries {
			if !keep[strings.TrimSuffix(e.Name(), completeSuffix)] {
				if err := removeTree(filepath.Join(sub, e.Name())); err != nil {
					return nil, err
				}
			}
		}
	}
	ts.mu.Lock()
	old := ts.evict()
	ts.mu.Unlock()
	ts.remove(old)
	return ts, nil
}

// read returns the tree that a mark of completeness speaks of.
func (ts *trees) read(id peer.ID, sub, mark string) *tree {
	name, ok := strings.CutSuffix(mark, completeSuffix)
	text, _, ok2 := strings.Cut(name, "-")
	root, err := cid.Decode(text)
	if !ok || !ok2 || err != nil || ts.boot == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(sub, mark))
	if err != nil || len(b) > 256 {
		return nil
	}
	var boot string
	var n, made int64 // nanoseconds since 1970
	if _, err := fmt.Sscanf(string(b), "%s %d %d", &boot, &n, &made); err != nil || n < 0 || boot != ts.boot {
		return nil
	}
	dir := filepath.Join(sub, name)
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() {
		return nil
	}
	used := fi.ModTime()
	if mi, err := os.Stat(filepath.Join(sub, mark)); err == nil {
		used = mi.ModTime()
	}
	t := &tree{key: treeKey{id, root}, dir: dir, bytes: n, made: time.Unix(0, made), used: used, ready: make(chan struct{}), holds: map[string]bool{}}
	if !strings.HasSuffix(string(b), partMark) {
		t.holds[""] = true
	}
	close(t.ready)
	return t
}

// acquire returns the tree of root, which stays until release. fillIt fills its
// folder with what wants names where it is not there; whoever else wants it
// meanwhile waits for the same one, and sees to the rest by more. progress may be
// called until acquire returns.
func (ts *trees) acquire(ctx context.Context, requester peer.ID, root job.Ref, wants string,
	fillIt func(ctx context.Context, dir string, progress func(float64)) (Content, error), progress func(float64)) (*tree, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	k := treeKey{requester, root.Cid}
	ts.look(k)
	ts.mu.Lock()
	t := ts.of[k]
	if t == nil {
		var n [4]byte
		rand.Read(n[:])
		mctx, end := context.WithCancel(context.WithoutCancel(ctx)) // others may want it longer than we
		t = &tree{
			key: k, dir: filepath.Join(ts.dir, requester.String(), root.String()+"-"+hex.EncodeToString(n[:])),
			ready: make(chan struct{}), end: end, subs: map[int]func(float64){}, holds: map[string]bool{},
		}
		ts.of[k] = t
		ts.fills.Go(func() { ts.fill(mctx, t, wants, fillIt) })
	}
	t.refs++
	t.sub++
	me := t.sub
	at := t.fraction
	if t.done() {
		progress = nil
	}
	if progress != nil {
		t.subs[me] = progress
	}
	ts.mu.Unlock()
	if progress != nil && at > 0 {
		progress(at) // who comes late hears where it is
	}

	var err error
	select {
	case <-t.ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ts.mu.Lock()
	delete(t.subs, me)
	if err == nil {
		err = t.err
	}
	t.used = time.Now()
	ts.mu.Unlock()
	if err != nil {
		ts.release(t)
		return nil, err
	}
	if terr := os.Chtimes(t.dir+completeSuffix, time.Time{}, time.Now()); terr != nil {
		ts.log.Debug("mark the use of a tree", "err", terr)
	}
	return t, nil
}

// look lets go of a tree that may not be used any more, so that the next one who
// wants it makes it anew.
func (ts *trees) look(k treeKey) {
	ts.mu.Lock()
	t := ts.of[k]
	ts.mu.Unlock()
	if t == nil || !t.done() {
		return
	}
	err := ts.sound(t.dir)
	if err == nil {
		return
	}
	ts.log.Warn("unpacked content is made anew", "requester", k.requester, "input", k.root, "reason", err)
	ts.drop(t)
}

// fill makes a tree and marks it as complete.
func (ts *trees) fill(ctx context.Context, t *tree, wants string, fillIt func(context.Context, string, func(float64)) (Content, error)) {
	defer t.end()
	var c Content
	err := os.MkdirAll(t.dir, 0o700)
	if err == nil {
		c, err = fillIt(ctx, t.dir, func(f float64) {
			ts.mu.Lock()
			t.fraction = f
			var subs []func(float64)
			for _, s := range t.subs {
				subs = append(subs, s)
			}
			ts.mu.Unlock()
			for _, s := range subs {
				s(f)
			}
		})
	}
	made := time.Now()
	var n int64
	if err == nil {
		n, err = diskUse(t.dir)
	}
	if err == nil && !c.Elsewhere {
		err = ts.mark(t, n, made, wants == "")
	}
	ts.mu.Lock()
	t.apart = c.Elsewhere
	t.holds[wants] = true
	if err == nil && ts.of[t.key] != t {
		err = context.Canceled // everybody gave it up meanwhile
	}
	t.bytes, t.made, t.err = n, made, err
	var old []*tree
	if err != nil {
		old = append(old, t)
		if ts.of[t.key] == t {
			delete(ts.of, t.key)
		}
	} else {
		ts.size += n
		t.used = time.Now()
	}
	old = append(old, ts.evict()...)
	if err == nil {
		close(t.ready)
	}
	ts.mu.Unlock()
	ts.remove(old)
	if err != nil {
		close(t.ready) // whoever hears of a failure may rely on nothing being left of it
	}
}

// mark writes down that a tree is complete: whole, or for some leases.
func (ts *trees) mark(t *tree, bytes int64, made time.Time, whole bool) error {
	text := fmt.Appendf(nil, "%s %d %d", ts.boot, bytes, made.UnixNano())
	if !whole {
		text = append(text, partMark...)
	}
	return os.WriteFile(t.dir+completeSuffix, text, 0o600)
}

// partMark ends the mark of a tree that lacks what no lease has read yet.
const partMark = " part"

// more has extend add what wants names to a tree that the caller holds, unless
// it is there. Several may add to it at once.
func (ts *trees) more(t *tree, wants string, extend func(room int64) error) error {
	ts.mu.Lock()
	there := t.holds[wants] || t.holds[""]
	room := ts.max - t.bytes
	ts.mu.Unlock()
	if there {
		return nil
	}
	if err := extend(max(room, 0)); err != nil {
		return err
	}
	made := time.Now()
	n, err := diskUse(t.dir)
	if err != nil {
		return err
	}
	ts.mu.Lock()
	if len(t.holds) >= maxHolds {
		clear(t.holds)
	}
	t.holds[wants] = true
	if !t.stale {
		ts.size += n - t.bytes
	}
	t.bytes, t.made = n, made
	if !t.apart && !t.stale {
		if err := ts.mark(t, n, made, t.holds[""]); err != nil {
			// The old mark tells of a smaller one: that costs room, not files.
			ts.log.Debug("mark a tree", "err", err)
		}
	}
	old := ts.evict()
	ts.mu.Unlock()
	ts.remove(old)
	return nil
}

// maxHolds bounds what is remembered of one tree.
const maxHolds = 4096

// drop lets go of a tree, so that the next one who wants it makes it anew; it
// goes with its last user.
func (ts *trees) drop(t *tree) {
	ts.mu.Lock()
	var old []*tree
	if ts.of[t.key] == t {
		delete(ts.of, t.key)
		ts.size -= t.bytes
		if t.stale = true; t.refs == 0 {
			old = append(old, t)
		}
	}
	ts.mu.Unlock()
	ts.remove(old)
}

// release ends a use; the last one who waits for an unfinished tree ends its
// making.
func (ts *trees) release(t *tree) {
	ts.mu.Lock()
	t.refs--
	t.used = time.Now()
	var old []*tree
	if t.stale && t.refs == 0 {
		old = append(old, t)
	} else if t.refs > 0 || t.done() {
		old = ts.evict()
	} else if ts.of[t.key] == t {
		delete(ts.of, t.key) // nobody new must wait for what is being given up
		t.end()
	}
	ts.mu.Unlock()
	ts.remove(old)
}

// has reports whether the tree is complete.
func (ts *trees) has(requester peer.ID, root job.Ref) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.of[treeKey{requester, root.Cid}]
	return t != nil && t.done() && t.err == nil
}

// hold returns the folder of a complete tree and when it was completed; it stays
// until release. Empty: there is none.
func (ts *trees) hold(requester peer.ID, root job.Ref) (dir string, since time.Time, release func()) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.of[treeKey{requester, root.Cid}]
	if t == nil || !t.done() || t.err != nil {
		return "", time.Time{}, nil
	}
	t.refs++
	return t.dir, t.made, func() { ts.release(t) }
}

// evict forgets trees that nobody uses, least recently used first, until the
// rest is within bounds; the caller removes them once mu is no longer held. mu
// is held.
func (ts *trees) evict() []*tree {
	var out []*tree
	for ts.size > ts.max {
		var old *tree
		for _, t := range ts.of {
			if t.refs == 0 && t.done() && (old == nil || t.used.Before(old.used)) {
				old = t
			}
		}
		if old == nil {
			break
		}
		delete(ts.of, old.key)
		ts.size -= old.bytes
		out = append(out, old)
	}
	return out
}

// remove removes folders of trees. The mark goes first: what is half removed
// is not complete.
func (ts *trees) remove(list []*tree) {
	for _, t := range list {
		os.Remove(t.dir + completeSuffix)
		if err := removeTree(t.dir); err != nil {
			ts.log.Warn("a folder of content stays", "dir", t.dir, "err", err)
		}
	}
}

// removeTree removes dir although folders in it may be read-only.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// diskUse sums the sizes of the files below dir.
func diskUse(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		n += fi.Size()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("size of unpacked content: %w", err)
	}
	return n, nil
}

// bootID names this start of the operating system, or is empty where there is
// no such name: then no tree outlives the process.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
