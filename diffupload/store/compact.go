package store

import (
	"bytes"
	"fmt"

	"idlewild/diffupload"
)

// deadShare: with one in so many bytes of a pack in dropped blocks, what is left
// is written to another pack. So the disk holds at most a third more than the
// blocks, and to win back a byte at most three are written.
const deadShare = 4

// compact wins back the space of dropped blocks. Only the writer calls it.
func (l *Local) compact() error {
	for _, n := range l.packs.wasteful() {
		if err := l.empty(n); err != nil {
			return fmt.Errorf("compact pack %d: %w", n, err)
		}
	}
	return nil
}

// empty moves what the index names in a pack to others and removes it.
func (l *Local) empty(n uint32) error {
	if err := l.soil(); err != nil {
		return err
	}
	l.packs.finish(n)
	var some []found
	size := 0
	flush := func() error {
		live, err := l.index.here(some)
		some, size = nil, 0
		if err != nil || len(live) == 0 {
			return err
		}
		blocks := make([]diffupload.Block, len(live))
		for i, f := range live {
			blocks[i] = diffupload.Block{ID: f.key.cid(), Data: f.data}
		}
		places, err := l.packs.append(blocks)
		if err != nil {
			return err
		}
		to := make(map[key]place, len(live))
		for i, f := range live {
			to[f.key] = places[i]
		}
		if err := l.index.move(to); err != nil {
			return err
		}
		for i, f := range live {
			l.packs.count(entry{size: uint32(len(f.data)), place: places[i]})
		}
		return nil
	}
	if l.packs.known[n].live > 0 {
		_, err := l.packs.scan(n, 0, func(f found) error {
			f.data = bytes.Clone(f.data)
			some, size = append(some, f), size+len(f.data)
			if len(some) < groupBlocks && size < groupBytes {
				return nil
			}
			return flush()
		})
		if err == nil {
			err = flush()
		}
		if err != nil {
			return err
		}
	}
	// The index that names the new places is on disk. What it still names here
	// is damaged, and a read finds it missing.
	return l.packs.remove(n)
}

// recover enters blocks that are in a pack and not in the index, after a run
// that did not end in order, and cuts off what was not written whole.
func (l *Local) recover() error {
	clean, err := l.index.clean()
	if err != nil {
		return err
	}
	if !clean {
		return l.adopt()
	}
	l.clean = true
	return nil
}

// soil notes, before anything is written to a pack, that the store was not
// closed in order.
func (l *Local) soil() error {
	if !l.clean {
		return nil
	}
	if err := l.index.setClean(false); err != nil {
		return err
	}
	l.clean = false
	return nil
}

func (l *Local) adopt() error {
	fresh := map[key]entry{}
	enter := func() error {
		for k := range fresh {
			_, ok, err := l.index.find(k)
			if err != nil {
				return err
			}
			if ok {
				delete(fresh, k)
			}
		}
		if err := l.index.add(fresh); err != nil {
			return err
		}
		for _, e := range fresh {
			l.packs.count(e)
		}
		clear(fresh)
		return nil
	}
	now := l.opts.Now().Unix()
	for _, n := range l.packs.numbers() {
		end, err := l.packs.scan(n, l.packs.known[n].end, func(f found) error {
			if _, twice := fresh[f.key]; !twice {
				fresh[f.key] = entry{uint32(len(f.data)), now, f.place}
			}
			if len(fresh) < 4096 {
				return nil
			}
			return enter()
		})
		if err != nil {
			return err
		}
		if err := enter(); err != nil {
			return err
		}
		if err := l.packs.cut(n, end); err != nil {
			return err
		}
	}
	return nil
}
