package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"idlewild/diffupload"
)

// key is the multihash code of a block's address and the digest: a chunk and a
// node of equal bytes are one block.
type key [1 + digestBytes]byte

const digestBytes = 32

// keyOf needs an id that diffupload.CheckID accepts.
func keyOf(id cid.Cid) (k key) {
	b := id.KeyString()
	k[0] = b[2]
	copy(k[1:], b[4:])
	return k
}

// cid is the address as a chunk.
func (k key) cid() cid.Cid {
	id, err := cid.Cast(append([]byte{1, cid.Raw, k[0], digestBytes}, k[1:]...))
	if err != nil {
		panic(err) // the bytes are right
	}
	return id
}

// index is the bbolt file.
//
//	meta    "version" -> 3; "clean" -> 1 where the store was closed in order
//	blocks  key -> size u32, last use in unix seconds u64, pack u32, offset of
//	        its record u64, big-endian
//	pins    owner -> bucket of key -> nothing
//	refs    key -> number of owners u32
//	owned   owner -> bucket of the keys of roots -> nothing
//	roots   key of a root -> last use in unix seconds u64
//	whole   key of a node -> nothing: it was here with everything below it, and
//	        nothing was dropped since
//
// New blocks wait in memory until there are many, or something else is asked
// than where one lies: after a crash they are found in the packs.
type index struct {
	db     *bolt.DB
	blocks atomic.Int64
	bytes  atomic.Int64

	writing sync.Mutex // one flush at a time
	mu      sync.RWMutex
	waiting map[key]entry
}

// maxWaiting bounds what a crash leaves to be found.
const maxWaiting = 4096

var (
	bucketMeta   = []byte("meta")
	bucketBlocks = []byte("blocks")
	bucketPins   = []byte("pins")
	bucketRefs   = []byte("refs")
	bucketOwned  = []byte("owned")
	bucketRoots  = []byte("roots")
	bucketWhole  = []byte("whole")
	keyVersion   = []byte("version")
	keyClean     = []byte("clean")
)

type entry struct {
	size  uint32
	used  int64
	place place
}

const indexVersion = 3

func (e entry) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, e.size)
	b = binary.BigEndian.AppendUint64(b, uint64(e.used))
	b = binary.BigEndian.AppendUint32(b, e.place.pack)
	return binary.BigEndian.AppendUint64(b, uint64(e.place.off))
}

func decodeEntry(b []byte) (entry, error) {
	if len(b) != 24 {
		return entry{}, fmt.Errorf("index: entry of %d bytes", len(b))
	}
	e := entry{
		size: binary.BigEndian.Uint32(b), used: int64(binary.BigEndian.Uint64(b[4:])),
		place: place{binary.BigEndian.Uint32(b[12:]), int64(binary.BigEndian.Uint64(b[16:]))},
	}
	if e.size > diffupload.MaxBlockBytes || e.place.off < 0 {
		return entry{}, fmt.Errorf("index: a block of %d bytes at %d", e.size, e.place.off)
	}
	return e, nil
}

func openIndex(path string) (*index, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 200 * time.Millisecond, FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	} else if err != nil {
		return nil, err
	}
	ix := &index{db: db, waiting: map[key]entry{}}
	ready := false
	err = db.View(func(tx *bolt.Tx) error {
		m := tx.Bucket(bucketMeta)
		ready = m != nil && bytes.Equal(m.Get(keyVersion), []byte{indexVersion})
		return nil
	})
	if err == nil && ready {
		return ix, nil // without a write
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketBlocks, bucketPins, bucketRefs, bucketOwned, bucketRoots, bucketWhole} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		m := tx.Bucket(bucketMeta)
		if v := m.Get(keyVersion); v != nil && !bytes.Equal(v, []byte{indexVersion}) {
			return fmt.Errorf("it was written by another version of idlewild (format %d, this one has %d): move the folder away", v, indexVersion)
		}
		return m.Put(keyVersion, []byte{indexVersion})
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return ix, nil
}

// load counts the blocks and shows each of their entries.
func (ix *index) load(each func(entry)) error {
	return ix.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketBlocks).ForEach(func(_, v []byte) error {
			e, err := decodeEntry(v)
			if err != nil {
				return err
			}
			ix.blocks.Add(1)
			ix.bytes.Add(int64(e.size))
			each(e)
			return nil
		})
	})
}

// clean reports whether the store was closed in order.
func (ix *index) clean() (ok bool, err error) {
	err = ix.db.View(func(tx *bolt.Tx) error {
		ok = tx.Bucket(bucketMeta).Get(keyClean) != nil
		return nil
	})
	return ok, err
}

func (ix *index) setClean(clean bool) error {
	return ix.db.Update(func(tx *bolt.Tx) error {
		if clean {
			return tx.Bucket(bucketMeta).Put(keyClean, []byte{1})
		}
		return tx.Bucket(bucketMeta).Delete(keyClean)
	})
}

// split tells which ids are missing, in order, and the keys of the others.
func (ix *index) split(ids []cid.Cid) (missing []cid.Cid, have []key, err error) {
	ix.mu.RLock() // over the whole: what is flushed meanwhile would be in neither
	defer ix.mu.RUnlock()
	err = ix.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		for _, id := range ids {
			if diffupload.CheckID(id) != nil {
				missing = append(missing, id) // an address that no block here can have
				continue
			}
			k := keyOf(id)
			_, here := ix.waiting[k]
			if here || b.Get(k[:]) != nil {
				have = append(have, k)
			} else {
				missing = append(missing, id)
			}
		}
		return nil
	})
	return missing, have, err
}

// add enters blocks that are on disk and are not in the index. Only the writer
// calls it.
func (ix *index) add(fresh map[key]entry) error {
	ix.mu.Lock()
	for k, e := range fresh {
		ix.waiting[k] = e
		ix.bytes.Add(int64(e.size))
	}
	ix.blocks.Add(int64(len(fresh)))
	full := len(ix.waiting) >= maxWaiting
	ix.mu.Unlock()
	if full {
		return ix.flush()
	}
	return nil
}

// flush writes what waits.
func (ix *index) flush() error {
	ix.writing.Lock()
	defer ix.writing.Unlock()
	ix.mu.RLock()
	fresh := maps.Clone(ix.waiting)
	ix.mu.RUnlock()
	if len(fresh) == 0 {
		return nil
	}
	err := ix.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		for _, k := range sorted(fresh) {
			if err := b.Put(k[:], fresh[k].encode()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for k := range fresh {
		delete(ix.waiting, k)
	}
	return nil
}

// update and view are for all that has to see every block.
func (ix *index) update(f func(*bolt.Tx) error) error {
	if err := ix.flush(); err != nil {
		return err
	}
	return ix.db.Update(f)
}

func (ix *index) view(f func(*bolt.Tx) error) error {
	if err := ix.flush(); err != nil {
		return err
	}
	return ix.db.View(f)
}

// find returns what is known of a block.
func (ix *index) find(k key) (e entry, ok bool, err error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if e, ok := ix.waiting[k]; ok {
		return e, true, nil
	}
	err = ix.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketBlocks).Get(k[:])
		if ok = v != nil; !ok {
			return nil
		}
		var err error
		e, err = decodeEntry(v)
		return err
	})
	return e, ok && err == nil, err
}

// here returns those of some found blocks that the index says lie there.
func (ix *index) here(some []found) (out []found, err error) {
	err = ix.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		for _, f := range some {
			v := b.Get(f.key[:])
			if v == nil {
				continue
			}
			e, err := decodeEntry(v)
			if err != nil {
				return err
			}
			if e.place == f.place {
				out = append(out, f)
			}
		}
		return nil
	})
	return out, err
}

// move notes that blocks lie elsewhere now.
func (ix *index) move(to map[key]place) error {
	return ix.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		for _, k := range sorted(to) {
			v := b.Get(k[:])
			if v == nil {
				continue
			}
			e, err := decodeEntry(v)
			if err != nil {
				return err
			}
			e.place = to[k]
			if err := b.Put(k[:], e.encode()); err != nil {
				return err
			}
		}
		return nil
	})
}

// after returns up to n keys behind k, which it moves.
func (ix *index) after(k *key, n int) ([]key, error) {
	var out []key
	err := ix.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketBlocks).Cursor()
		for b, _ := seekPast(c, k); b != nil && len(out) < n; b, _ = c.Next() {
			out = append(out, key(b))
		}
		return nil
	})
	if len(out) > 0 {
		*k = out[len(out)-1]
	}
	return out, err
}

// seekPast moves to the first entry behind k; the zero key is before all.
func seekPast(c *bolt.Cursor, k *key) ([]byte, []byte) {
	b, v := c.Seek(k[:])
	if b != nil && *k != (key{}) && bytes.Equal(b, k[:]) {
		return c.Next()
	}
	return b, v
}

func sorted[V any](m map[key]V) []key {
	out := make([]key, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	return out
}
