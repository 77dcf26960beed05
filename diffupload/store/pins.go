package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"idlewild/diffupload"
)

func (ix *index) pin(owner string, ids []cid.Cid) error {
	want := make(map[key]bool, len(ids))
	for _, id := range ids {
		if err := diffupload.CheckID(id); err != nil {
			return fmt.Errorf("pin: %w", err)
		}
		want[keyOf(id)] = true
	}
	return ix.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bucketPins).CreateBucketIfNotExists([]byte(owner))
		if err != nil {
			return err
		}
		refs := tx.Bucket(bucketRefs)
		for _, k := range sorted(want) {
			if b.Get(k[:]) != nil {
				continue
			}
			if err := b.Put(k[:], []byte{}); err != nil {
				return err
			}
			if err := count(refs, k, 1); err != nil {
				return err
			}
		}
		return nil
	})
}

func (ix *index) unpin(owner string, now int64) error {
	return ix.db.Update(func(tx *bolt.Tx) error {
		pins, refs := tx.Bucket(bucketPins), tx.Bucket(bucketRefs)
		if owner == "" {
			return nil
		}
		if err := disown(tx, owner, now); err != nil || pins.Bucket([]byte(owner)) == nil {
			return err
		}
		err := pins.Bucket([]byte(owner)).ForEach(func(k, _ []byte) error { return count(refs, key(k), -1) })
		if err != nil {
			return err
		}
		return pins.DeleteBucket([]byte(owner))
	})
}

// count changes how many owners pinned k.
func count(refs *bolt.Bucket, k key, by int) error {
	n := by
	if v := refs.Get(k[:]); len(v) == 4 {
		n += int(binary.BigEndian.Uint32(v))
	}
	if n <= 0 {
		return refs.Delete(k[:])
	}
	return refs.Put(k[:], binary.BigEndian.AppendUint32(nil, uint32(n)))
}

func (ix *index) pinned(owner string, id cid.Cid) (ok bool, err error) {
	if err := diffupload.CheckID(id); err != nil {
		return false, err
	}
	err = ix.db.View(func(tx *bolt.Tx) error {
		if owner == "" {
			return nil
		}
		k := keyOf(id)
		b := tx.Bucket(bucketPins).Bucket([]byte(owner))
		ok = b != nil && b.Get(k[:]) != nil
		return nil
	})
	return ok, err
}

func (ix *index) owners() (out []string, err error) {
	err = ix.db.View(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketPins, bucketOwned} {
			err := tx.Bucket(b).ForEachBucket(func(k []byte) error {
				out = append(out, string(k))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}
