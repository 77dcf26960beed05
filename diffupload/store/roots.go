package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"idlewild/diffupload"
)

// A manifest is pinned by its root: what lies below is found out by walking it,
// when blocks are collected and when it is asked whether a block belongs to a
// job, and not each time that a job is submitted. That a node is whole, here
// with all below it, is noted when it is pinned and forgotten when anything is
// dropped.

// rooting is what Local keeps of roots in memory.
type rooting struct {
	mu    sync.Mutex
	state uint64 // counts the times when blocks were dropped
	holds map[int]int64
	next  int

	members members
}

// Hold implements diffupload.Rooter.
func (l *Local) Hold() (release func()) {
	r := &l.roots
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds == nil {
		r.holds = map[int]int64{}
	}
	n := r.next
	r.next++
	r.holds[n] = l.opts.Now().Unix()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.holds, n)
	}
}

// notHeld returns the last time before which a use does not protect a block,
// before or earlier.
func (r *rooting) notHeld(before int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, since := range r.holds {
		before = min(before, since-1)
	}
	return before
}

// Whole implements diffupload.Rooter.
func (l *Local) Whole(ctx context.Context, nodes []cid.Cid) (known []bool, state uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	l.roots.mu.Lock()
	defer l.roots.mu.Unlock()
	known, err = l.index.whole(nodes)
	return known, l.roots.state, l.wrap(err)
}

// PinRoot implements diffupload.Rooter.
func (l *Local) PinRoot(ctx context.Context, owner string, root cid.Cid, whole []cid.Cid, state uint64) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// Whoever collects counts the state up under the same lock before it looks
	// which roots there are.
	l.roots.mu.Lock()
	defer l.roots.mu.Unlock()
	if state != l.roots.state {
		return false, nil
	}
	err := l.index.pinRoot(owner, root, whole, l.opts.Now().Unix())
	return err == nil, l.wrap(err)
}

// below reports whether id is root or below a root that owner pinned.
func (l *Local) below(ctx context.Context, owner string, id cid.Cid) (bool, error) {
	roots, err := l.index.ownedBy(owner)
	if err != nil {
		return false, err
	}
	k := keyOf(id)
	for _, root := range roots {
		m, err := l.roots.members.of(root, func() (marks, error) {
			var m marks
			err := l.walk(ctx, root, func(k key) { m = append(m, k.tag()) })
			return m.sorted(), err
		})
		if err != nil || m.has(k) {
			return err == nil, err
		}
	}
	return false, nil
}

// walk calls f for a root and every block below it, some more than once. What
// is missing or damaged is passed over, with what is below it.
func (l *Local) walk(ctx context.Context, root key, f func(key)) error {
	f(root)
	seen := map[key]bool{root: true}
	for nodes := []key{root}; len(nodes) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := nodes[len(nodes)-1]
		nodes = nodes[:len(nodes)-1]
		data, err := l.read(k.cid())
		if errors.Is(err, diffupload.ErrNotFound) || errors.Is(err, diffupload.ErrCorrupt) {
			continue
		} else if err != nil {
			return err
		}
		n, err := diffupload.DecodeNode(data)
		if err != nil {
			continue
		}
		for _, id := range diffupload.Children(n) {
			k := keyOf(id)
			f(k)
			if id.Type() == cid.DagCBOR && !seen[k] {
				seen[k] = true
				nodes = append(nodes, k)
			}
		}
	}
	return nil
}

// members are the blocks below a few roots.
type members struct {
	mu    sync.Mutex
	sets  map[key]marks
	order []key // the one used last is last
}

// Bounds of members: some 500 GB of content.
const (
	maxMembers    = 16
	maxMemberTags = 8 << 20
)

// of returns the blocks below root, which build finds out.
func (m *members) of(root key, build func() (marks, error)) (marks, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.order, root); i >= 0 {
		m.order = append(slices.Delete(m.order, i, i+1), root)
		return m.sets[root], nil
	}
	set, err := build()
	if err != nil {
		return nil, err
	}
	if m.sets == nil {
		m.sets = map[key]marks{}
	}
	m.sets[root] = set
	m.order = append(m.order, root)
	total := 0
	for _, s := range m.sets {
		total += len(s)
	}
	for len(m.order) > 1 && (len(m.order) > maxMembers || total > maxMemberTags) {
		total -= len(m.sets[m.order[0]])
		delete(m.sets, m.order[0])
		m.order = m.order[1:]
	}
	return set, nil
}

// marks are the sorted tags of blocks.
type marks []uint64

func (m marks) sorted() marks {
	slices.Sort(m)
	return slices.Clip(slices.Compact(m))
}

func (m marks) has(k key) bool {
	_, ok := slices.BinarySearch(m, k.tag())
	return ok
}

// tag stands for a key. Nobody else can look for keys with the same one.
func (k key) tag() uint64 { return maphash.Bytes(tagSeed, k[:]) }

var tagSeed = maphash.MakeSeed()

// mark returns the blocks below pinned roots, before blocks are collected.
// Blocks below other roots count as used when the root was. Only the writer
// calls it.
func (l *Local) mark() (marks, error) {
	// From here on PinRoot takes nobody's word from before, and nothing is
	// whole: what is pinned after this was looked for block by block.
	l.roots.mu.Lock()
	l.roots.state++
	pinned, others, err := l.index.roots()
	var whole []key
	if err == nil {
		whole, err = l.index.forgetWhole()
	}
	l.roots.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var kept marks
	for _, r := range pinned {
		if err := l.walk(context.Background(), r.key, func(k key) { kept = append(kept, k.tag()) }); err != nil {
			return nil, err
		}
	}
	kept = kept.sorted()
	for _, r := range others {
		used := map[key]int64{}
		var failed error
		err := l.walk(context.Background(), r.key, func(k key) {
			used[k] = r.used
			if len(used) >= maxUses && failed == nil {
				failed = l.index.touch(used)
				clear(used)
			}
		})
		if err = errors.Join(err, failed, l.index.touch(used)); err != nil {
			return nil, err
		}
	}
	// What is below a pinned root stays, so it stays whole.
	whole = slices.DeleteFunc(whole, func(k key) bool { return !kept.has(k) })
	return kept, l.index.marked(whole, others)
}

// doubt forgets what was whole: a block turned out to be damaged.
func (l *Local) doubt() error {
	l.roots.mu.Lock()
	defer l.roots.mu.Unlock()
	l.roots.state++
	_, err := l.index.forgetWhole()
	return err
}

// rooted is a root and when it was last used.
type rooted struct {
	key
	used int64
}

func (ix *index) pinRoot(owner string, root cid.Cid, whole []cid.Cid, now int64) error {
	if err := diffupload.CheckID(root); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return ix.db.Update(func(tx *bolt.Tx) error {
		w := tx.Bucket(bucketWhole)
		for _, id := range whole {
			if err := diffupload.CheckID(id); err != nil {
				return fmt.Errorf("pin: %w", err)
			}
			k := keyOf(id)
			if err := w.Put(k[:], []byte{}); err != nil {
				return err
			}
		}
		k := keyOf(root)
		if err := tx.Bucket(bucketRoots).Put(k[:], binary.BigEndian.AppendUint64(nil, uint64(now))); err != nil || owner == "" {
			return err
		}
		b, err := tx.Bucket(bucketOwned).CreateBucketIfNotExists([]byte(owner))
		if err != nil {
			return err
		}
		return b.Put(k[:], []byte{})
	})
}

// disown gives up the roots of owner.
func disown(tx *bolt.Tx, owner string, now int64) error {
	owned, roots := tx.Bucket(bucketOwned), tx.Bucket(bucketRoots)
	b := owned.Bucket([]byte(owner))
	if b == nil {
		return nil
	}
	err := b.ForEach(func(k, _ []byte) error {
		return roots.Put(k, binary.BigEndian.AppendUint64(nil, uint64(now)))
	})
	if err != nil {
		return err
	}
	return owned.DeleteBucket([]byte(owner))
}

func (ix *index) ownedBy(owner string) (out []key, err error) {
	if owner == "" {
		return nil, nil
	}
	err = ix.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketOwned).Bucket([]byte(owner))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error {
			out = append(out, key(k))
			return nil
		})
	})
	return out, err
}

// roots returns those that somebody owns, and the others.
func (ix *index) roots() (pinned, others []rooted, err error) {
	err = ix.db.View(func(tx *bolt.Tx) error {
		is := map[key]bool{}
		owned := tx.Bucket(bucketOwned)
		err := owned.ForEachBucket(func(owner []byte) error {
			return owned.Bucket(owner).ForEach(func(k, _ []byte) error {
				is[key(k)] = true
				return nil
			})
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketRoots).ForEach(func(k, v []byte) error {
			if len(v) != 8 {
				return fmt.Errorf("index: last use of %d bytes", len(v))
			}
			r := rooted{key(k), int64(binary.BigEndian.Uint64(v))}
			if is[r.key] {
				pinned = append(pinned, r)
			} else {
				others = append(others, r)
			}
			return nil
		})
	})
	return pinned, others, err
}

func (ix *index) whole(nodes []cid.Cid) ([]bool, error) {
	out := make([]bool, len(nodes))
	err := ix.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketWhole)
		for i, id := range nodes {
			if diffupload.CheckID(id) == nil {
				k := keyOf(id)
				out[i] = b.Get(k[:]) != nil
			}
		}
		return nil
	})
	return out, err
}

// forgetWhole empties the bucket and returns what was in it.
func (ix *index) forgetWhole() (was []key, err error) {
	err = ix.db.Update(func(tx *bolt.Tx) error {
		was = nil
		err := tx.Bucket(bucketWhole).ForEach(func(k, _ []byte) error {
			was = append(was, key(k))
			return nil
		})
		if err != nil || len(was) == 0 {
			return err
		}
		if err := tx.DeleteBucket(bucketWhole); err != nil {
			return err
		}
		_, err = tx.CreateBucket(bucketWhole)
		return err
	})
	return was, err
}

// marked notes what is whole, and forgets roots whose uses are in their blocks.
func (ix *index) marked(whole []key, gone []rooted) error {
	if len(whole) == 0 && len(gone) == 0 {
		return nil
	}
	return ix.db.Update(func(tx *bolt.Tx) error {
		w, roots := tx.Bucket(bucketWhole), tx.Bucket(bucketRoots)
		for _, k := range whole {
			if err := w.Put(k[:], []byte{}); err != nil {
				return err
			}
		}
		for _, r := range gone {
			v := roots.Get(r.key[:])
			if len(v) == 8 && int64(binary.BigEndian.Uint64(v)) == r.used {
				if err := roots.Delete(r.key[:]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
