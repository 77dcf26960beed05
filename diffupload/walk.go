package diffupload

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
)

// walkBatch is how many nodes are asked for at once.
const walkBatch = 64

// fetchNodes gets and decodes nodes; ids may repeat. The answer is in their
// order. Nodes are checked against their CID here too: all that follows trusts
// them.
func fetchNodes(ctx context.Context, store Store, ids []cid.Cid) ([]Node, error) {
	var wants []Want
	got := make(map[cid.Cid]Node, len(ids))
	for _, id := range ids {
		if _, ok := got[id]; !ok {
			got[id] = nil
			wants = append(wants, Want{ID: id})
		}
	}
	err := fetchAll(ctx, store, wants, func(b Block) error {
		if err := VerifyBlock(b.ID, b.Data); err != nil {
			return err
		}
		n, err := DecodeNode(b.Data)
		if err != nil {
			return fmt.Errorf("node %s: %w", b.ID, err)
		}
		got[b.ID] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]Node, len(ids))
	for i, id := range ids {
		out[i] = got[id]
	}
	return out, nil
}

// fetchAll calls f once for each wanted block, or fails.
func fetchAll(ctx context.Context, store Store, wants []Want, f func(Block) error) error {
	if len(wants) == 0 {
		return nil
	}
	open := make(map[cid.Cid]bool, len(wants))
	for _, w := range wants {
		open[w.ID] = true
	}
	for b, err := range store.Fetch(ctx, wants) {
		switch {
		case err != nil && !b.ID.Defined():
			return err
		case err != nil && open[b.ID]:
			return fmt.Errorf("fetch block %s: %w", b.ID, err)
		case err != nil || !open[b.ID]:
			continue // had it already, or never asked for it
		}
		delete(open, b.ID)
		if err := f(b); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, w := range wants {
		if open[w.ID] {
			return fmt.Errorf("fetch block %s: %w", w.ID, ErrNotFound)
		}
	}
	return nil
}

// Blocks yields the address of every block of the manifest at root, a tree or
// file node, each once and each node before what it links to. It reads the
// nodes from store, not the chunks. An error is the last thing yielded.
func Blocks(ctx context.Context, store Store, root cid.Cid) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		seen := map[cid.Cid]bool{}
		for id, err := range Walk(ctx, store, root) {
			if id.Type() == cid.Raw {
				if seen[id] {
					continue
				}
				seen[id] = true
			}
			if !yield(id, err) {
				return
			}
		}
	}
}

// Walk is Blocks where a chunk that is there twice is yielded twice: so its
// memory is that of the nodes' addresses, some hundredth of all.
func Walk(ctx context.Context, store Store, root cid.Cid) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		seen := map[cid.Cid]bool{root: true}
		if !yield(root, nil) {
			return
		}
		nodes := []cid.Cid{root}
		for len(nodes) > 0 {
			// From the end: depth first keeps the list short.
			batch := nodes[max(0, len(nodes)-walkBatch):]
			nodes = nodes[:len(nodes)-len(batch)]
			got, err := fetchNodes(ctx, store, batch)
			if err != nil {
				yield(cid.Undef, err)
				return
			}
			for _, n := range got {
				for _, id := range Children(n) {
					node := id.Type() == cid.DagCBOR
					if node && seen[id] {
						continue
					}
					if !yield(id, nil) {
						return
					}
					if node {
						seen[id] = true
						nodes = append(nodes, id)
					}
				}
			}
		}
	}
}

// Children returns what a node links to, in its order.
func Children(n Node) []cid.Cid {
	var out []cid.Cid
	switch n := n.(type) {
	case *FileNode:
		for _, l := range n.Links {
			out = append(out, l.CID.Cid)
		}
	case *PartNode:
		for _, l := range n.Links {
			out = append(out, l.CID.Cid)
		}
	case *TreeNode:
		for _, e := range n.Entries {
			if e.Kind != KindInline {
				out = append(out, e.CID.Cid)
			}
		}
	}
	return out
}

// All returns what Blocks yields.
func All(ctx context.Context, store Store, root cid.Cid) ([]cid.Cid, error) {
	var out []cid.Cid
	for id, err := range Blocks(ctx, store, root) {
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

// List returns the files of the manifest at root, a tree, by their whole names,
// sorted; where limits.Only is set, those. It checks that every folder is what its parent says: size, order,
// kind.
func List(ctx context.Context, store Store, root cid.Cid, limits Limits) ([]Entry, error) {
	limits = limits.filled()
	nodes, err := fetchNodes(ctx, store, []cid.Cid{root})
	if err != nil {
		return nil, err
	}
	top, ok := nodes[0].(*TreeNode)
	if !ok {
		return nil, fmt.Errorf("manifest %s is not a tree", root)
	}
	if limits.Only == nil && top.Size > limits.Bytes {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are allowed", top.Size, limits.Bytes)
	}
	var (
		files []Entry
		size  int64
		count int
		todo  = []folder{{node: top}}
		queue []pending
	)
	for len(todo) > 0 || len(queue) > 0 {
		for _, f := range todo {
			for i, e := range f.node.Entries {
				// Folders and shards count too: they can be nested to no end.
				if count++; count > 2*limits.Files+MaxLinks {
					return nil, fmt.Errorf("manifest with more than %d files", limits.Files)
				}
				name := f.prefix + e.Name
				if len(name) > MaxNameBytes {
					return nil, fmt.Errorf("file name of %d bytes in manifest", len(name))
				}
				switch e.Kind {
				case KindInline, KindChunk, KindFile:
					if len(files) == limits.Files {
						return nil, fmt.Errorf("manifest with more than %d files", limits.Files)
					}
					e.Name = name
					if limits.Only != nil && !limits.Only(name) {
						continue
					}
					if size += e.Size; size > limits.Bytes {
						return nil, fmt.Errorf("files of more than the %d bytes that are allowed", limits.Bytes)
					}
					files = append(files, e)
				case KindTree:
					queue = append(queue, pending{entry: e, prefix: name + "/"})
				case KindShard:
					p := pending{entry: e, prefix: f.prefix, depth: f.node.Depth - 1, next: f.next}
					if i+1 < len(f.node.Entries) {
						p.next = f.node.Entries[i+1].Name
					}
					queue = append(queue, p)
				}
			}
		}
		batch := queue[max(0, len(queue)-walkBatch):]
		queue = queue[:len(queue)-len(batch)]
		if todo, err = openFolders(ctx, store, batch); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// folder is a tree node that was fetched.
type folder struct {
	node   *TreeNode
	prefix string // of its entries' names
	next   string // of a shard: the name that all of its names come before
}

// pending is a tree node to be fetched.
type pending struct {
	entry  Entry
	prefix string
	depth  int    // of a shard
	next   string // of a shard
}

func openFolders(ctx context.Context, store Store, batch []pending) ([]folder, error) {
	ids := make([]cid.Cid, len(batch))
	for i, p := range batch {
		ids[i] = p.entry.CID.Cid
	}
	nodes, err := fetchNodes(ctx, store, ids)
	if err != nil {
		return nil, err
	}
	out := make([]folder, len(batch))
	for i, p := range batch {
		n, ok := nodes[i].(*TreeNode)
		switch {
		case !ok || n.Size != p.entry.Size || len(n.Entries) == 0:
			return nil, fmt.Errorf("folder %q of the manifest is not what its entry says", p.prefix)
		case p.entry.Kind == KindShard && (n.Depth != p.depth || n.Entries[0].Name != p.entry.Name ||
			p.next != "" && n.Entries[len(n.Entries)-1].Name >= p.next):
			return nil, fmt.Errorf("shard %q of the manifest is not what its entry says", p.prefix+p.entry.Name)
		}
		out[i] = folder{n, p.prefix, p.next}
	}
	return out, nil
}

// Limits of what a manifest may ask for. Zero fields mean the defaults.
type Limits struct {
	Bytes int64 // of all files; MaxTreeBytes
	Files int   // MaxTreeFiles
	// Only are the files that are meant, by their whole names; nil: all. Bytes
	// counts no other.
	Only func(name string) bool
}

func (l Limits) filled() Limits {
	if l.Bytes == 0 {
		l.Bytes = MaxTreeBytes
	}
	if l.Files == 0 {
		l.Files = MaxTreeFiles
	}
	return l
}
