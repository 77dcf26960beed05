package store

import (
	"slices"

	bolt "go.etcd.io/bbolt"
)

// useStep is how many seconds apart two uses of a block are told apart.
const useStep = 30

// touch notes uses that are so much later than what is noted that it matters.
func (ix *index) touch(used map[key]int64) error {
	if len(used) == 0 {
		return nil
	}
	late := false
	err := ix.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		for k, at := range used {
			if v := b.Get(k[:]); v != nil && !late {
				e, err := decodeEntry(v)
				if err != nil {
					return err
				}
				late = at >= e.used+useStep
			}
		}
		return nil
	})
	if err != nil || !late {
		return err
	}
	return ix.update(func(tx *bolt.Tx) error { return touchIn(tx.Bucket(bucketBlocks), used) })
}

func touchIn(b *bolt.Bucket, used map[key]int64) error {
	for _, k := range sorted(used) {
		v := b.Get(k[:])
		if v == nil {
			continue
		}
		e, err := decodeEntry(v)
		if err != nil {
			return err
		}
		if used[k] < e.used+useStep {
			continue
		}
		e.used = used[k]
		if err := b.Put(k[:], e.encode()); err != nil {
			return err
		}
	}
	return nil
}

// remove takes keys off the index; with pinned false those that somebody
// pinned, or that were used after before, stay. It returns what it removed.
func (ix *index) remove(keys []key, pinned bool, before int64) (gone []entry, size int64, err error) {
	err = ix.update(func(tx *bolt.Tx) error {
		gone, size = nil, 0
		b, refs := tx.Bucket(bucketBlocks), tx.Bucket(bucketRefs)
		for _, k := range keys {
			v := b.Get(k[:])
			if v == nil {
				continue
			}
			e, err := decodeEntry(v)
			if err != nil {
				return err
			}
			if !pinned && (refs.Get(k[:]) != nil || e.used > before) {
				continue
			}
			if err := b.Delete(k[:]); err != nil {
				return err
			}
			gone = append(gone, e)
			size += int64(e.size)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	ix.blocks.Add(-int64(len(gone)))
	ix.bytes.Add(-size)
	return gone, size, nil
}

// cutoff returns the time of last use such that the unpinned blocks used no
// later have at least want bytes, or before where there are not so many. Its
// memory depends on the hours that are between uses and not on the blocks.
func (ix *index) cutoff(want, before int64, kept marks) (int64, error) {
	perMinute := map[int64]int64{}
	err := ix.view(func(tx *bolt.Tx) error {
		refs := tx.Bucket(bucketRefs)
		return tx.Bucket(bucketBlocks).ForEach(func(k, v []byte) error {
			e, err := decodeEntry(v)
			if err != nil || e.used > before || refs.Get(k) != nil || kept.has(key(k)) {
				return err
			}
			perMinute[e.used/60] += int64(e.size)
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	minutes := make([]int64, 0, len(perMinute))
	for m := range perMinute {
		minutes = append(minutes, m)
	}
	slices.Sort(minutes)
	for _, m := range minutes {
		if want -= perMinute[m]; want <= 0 {
			return min(before, m*60+59), nil
		}
	}
	return before, nil
}

// oldest returns up to n keys of unpinned blocks used no later than before,
// from after on, which it moves.
func (ix *index) oldest(after *key, n int, before int64, kept marks) ([]aged, error) {
	var out []aged
	err := ix.view(func(tx *bolt.Tx) error {
		refs := tx.Bucket(bucketRefs)
		c := tx.Bucket(bucketBlocks).Cursor()
		for k, v := seekPast(c, after); k != nil && len(out) < n; k, v = c.Next() {
			e, err := decodeEntry(v)
			if err != nil {
				return err
			}
			*after = key(k)
			if e.used <= before && refs.Get(k) == nil && !kept.has(key(k)) {
				out = append(out, aged{key(k), e})
			}
		}
		return nil
	})
	return out, err
}

type aged struct {
	key
	entry
}
