package diffupload

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"
)

// flatFile is a file as a list of leaves, without the nodes above them.
type flatFile struct {
	size     int64
	mode     int
	encoding Encoding
	leaves   []leaf
}

// leaf is a chunk, or the bytes of a file that stands in its folder.
type leaf struct {
	id   cid.Cid // undefined: data is all of it
	size int64
	data string
}

// leafKey is what two equal leaves have in common.
type leafKey struct {
	id   cid.Cid
	data string
}

func (l leaf) key() leafKey { return leafKey{l.id, l.data} }

// form is mode and encoding as documents of edits number them.
func (f flatFile) form() int {
	for i, e := range encodings {
		if e == f.encoding {
			return f.mode + 2*i
		}
	}
	panic("encoding " + f.encoding + " has no number") // a decoded node has a known one
}

func (l leaf) bytes(ctx context.Context, store Store) ([]byte, error) {
	if !l.id.Defined() {
		return []byte(l.data), nil
	}
	b, err := Get(ctx, store, l.id)
	if err == nil && int64(len(b)) != l.size {
		err = fmt.Errorf("chunk %s has %d bytes, its link says %d", l.id, len(b), l.size)
	}
	return b, err
}

// readLeaves puts leaves together, and says where each ends.
func readLeaves(ctx context.Context, store Store, leaves []leaf) (data []byte, ends []int, err error) {
	var size int64
	ends = make([]int, len(leaves))
	places := make(map[cid.Cid][]int, len(leaves))
	var wants []Want
	for i, l := range leaves {
		size += l.size
		ends[i] = int(size)
		if l.id.Defined() {
			if places[l.id] == nil {
				wants = append(wants, Want{ID: l.id})
			}
			places[l.id] = append(places[l.id], i)
		}
	}
	data = make([]byte, size)
	put := func(i int, b []byte) error {
		if int64(len(b)) != leaves[i].size {
			return fmt.Errorf("chunk %s has %d bytes, its link says %d", leaves[i].id, len(b), leaves[i].size)
		}
		copy(data[ends[i]-len(b):], b)
		return nil
	}
	for i, l := range leaves {
		if !l.id.Defined() {
			if err := put(i, []byte(l.data)); err != nil {
				return nil, nil, err
			}
		}
	}
	const atOnce = 256 // chunks in memory twice
	for len(wants) > 0 {
		part := wants[:min(atOnce, len(wants))]
		wants = wants[len(part):]
		err := fetchAll(ctx, store, part, func(b Block) error {
			for _, i := range places[b.ID] {
				if err := put(i, b.Data); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return data, ends, nil
}

// flatten lists a file's leaves.
func flatten(ctx context.Context, store Store, e Entry) (flatFile, error) {
	f := flatFile{size: e.Size, mode: e.Mode, encoding: Plain}
	switch e.Kind {
	case KindInline:
		if e.Size > 0 {
			f.leaves = []leaf{{size: e.Size, data: string(e.Data)}}
		}
		return f, nil
	case KindChunk:
		f.leaves = []leaf{{id: e.CID.Cid, size: e.Size}}
		return f, nil
	}
	nodes, err := fetchNodes(ctx, store, []cid.Cid{e.CID.Cid})
	if err != nil {
		return flatFile{}, err
	}
	n, ok := nodes[0].(*FileNode)
	if !ok || n.Size != e.Size {
		return flatFile{}, fmt.Errorf("file %q of the manifest is not what its entry says", e.Name)
	}
	f.mode, f.encoding = n.Mode, n.Encoding
	err = eachLink(ctx, store, n.Depth, n.Links, func(l Link) error {
		if len(f.leaves) == maxEditLeaves {
			return fmt.Errorf("%w: file %q has more than %d chunks", ErrNoEdits, e.Name, maxEditLeaves)
		}
		f.leaves = append(f.leaves, leaf{id: l.CID.Cid, size: l.Size})
		return nil
	})
	return f, err
}

// eachLink calls f for the links to chunks below links, in order.
func eachLink(ctx context.Context, store Store, depth int, links []Link, f func(Link) error) error {
	if depth == 0 {
		for _, l := range links {
			if err := f(l); err != nil {
				return err
			}
		}
		return nil
	}
	for len(links) > 0 {
		batch := links[:min(partsAhead, len(links))]
		links = links[len(batch):]
		ids := make([]cid.Cid, len(batch))
		for i, l := range batch {
			ids[i] = l.CID.Cid
		}
		nodes, err := fetchNodes(ctx, store, ids)
		if err != nil {
			return err
		}
		for i, l := range batch {
			n, ok := nodes[i].(*PartNode)
			if !ok || n.Size != l.Size || n.Depth != depth-1 {
				return fmt.Errorf("part %s is not what its link says", l.CID)
			}
			if err := eachLink(ctx, store, n.Depth, n.Links, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// partsAhead is how many part nodes are asked for at once: some 250 kB.
const partsAhead = 4

// entry stores the nodes of a file that is known by its leaves, and those of
// them that are only bytes as chunks, as content and linked do. An error
// matches ErrEdits: a file that should stand in its folder is given by an address.
func (s *snapshot) entry(f flatFile) (Entry, error) {
	if f.encoding == Plain && f.size <= MaxInlineBytes {
		var data []byte
		for _, l := range f.leaves {
			if l.id.Defined() {
				return Entry{}, editsf("a small file that is no part of its folder")
			}
			data = append(data, l.data...)
		}
		return Entry{Size: f.size, Kind: KindInline, Mode: f.mode, Data: data}, nil
	}
	links := s.links()
	for _, l := range f.leaves {
		if !l.id.Defined() {
			b := Block{ID: s.Hash.ChunkID([]byte(l.data)), Data: []byte(l.data)}
			s.sink.add(b)
			l.id = b.ID
		}
		if err := links.add(Link{CID: Ref{l.id}, Size: l.size}); err != nil {
			return Entry{}, err
		}
	}
	return s.linked(links, f.size, f.encoding, f.mode)
}
