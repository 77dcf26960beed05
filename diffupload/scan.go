package diffupload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"

	"github.com/ipfs/go-cid"
)

// all stores files, which are sorted by name: first it asks the cache for each,
// then it reads those that the cache does not know. What the cache said is
// checked against the store once the root is known, because where the root is
// known to be whole nothing else need be asked.
func (s *snapshot) all(files []File) (Entry, error) {
	entries := make([]Entry, len(files))
	sizes := make([]int64, len(files)) // on disk, of those that are remembered
	todo, err := s.remembered(files, entries, sizes)
	if err != nil {
		return Entry{}, err
	}
	for {
		if err := s.readFiles(files, todo, entries, sizes); err != nil {
			return Entry{}, err
		}
		root, err := s.tree(entries, 0)
		if err != nil {
			return Entry{}, err
		}
		s.sink.flush() // what is asked of the store now is to be answered with it
		if err := context.Cause(s.ctx); err != nil {
			return Entry{}, err
		}
		if todo, err = s.keep(root.CID.Cid, entries, sizes); err != nil || len(todo) == 0 {
			return root, err
		}
	}
}

// remembered fills in the entries of files that the cache knows and returns
// the places of the others. A size is less than 0 where there is no entry.
func (s *snapshot) remembered(files []File, entries []Entry, sizes []int64) (todo []int, err error) {
	var known int64
	var mu sync.Mutex
	s.parallel(len(files), func(i int) error {
		st, err := s.stat(files[i].Path)
		if err != nil {
			return err
		}
		size := st.Size()
		sizes[i] = -1
		if s.Cache != nil {
			if e, ok := s.Cache.get(s.how[s.exact(files[i])], files[i].Path, StampOf(st)); ok {
				e.Name = files[i].Name
				entries[i], sizes[i] = e, size
			}
		}
		mu.Lock()
		defer mu.Unlock()
		s.total += size
		if sizes[i] >= 0 {
			known += size
		}
		return nil
	})
	if err := context.Cause(s.ctx); err != nil {
		return nil, err
	}
	if s.forged(files, entries, sizes) {
		// Something writes files so that it does not show: nothing is believed.
		s.warn("a file changed without its size or times showing it: all files are read again")
		known = 0
		for i := range sizes {
			sizes[i] = -1
		}
	}
	s.progress(known)
	for i, n := range sizes {
		if n < 0 {
			todo = append(todo, i)
		}
	}
	return todo, nil
}

// readFiles reads the files at the places todo.
func (s *snapshot) readFiles(files []File, todo []int, entries []Entry, sizes []int64) error {
	s.parallel(len(todo), func(n int) error {
		i := todo[n]
		e, err := s.file(files[i])
		if err != nil {
			return err
		}
		e.Name = files[i].Name
		entries[i], sizes[i] = e, -1
		return nil
	})
	s.read += len(todo)
	return context.Cause(s.ctx)
}

// parallel calls f with each number below n, until there is an error, which
// ends the snapshot.
func (s *snapshot) parallel(n int, f func(i int) error) {
	const portion = 16 // of quick ones
	workers := min(runtime.GOMAXPROCS(0), 4)
	step := 1
	if n > workers*portion {
		step = portion
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, max(n, 1)) {
		wg.Go(func() {
			for from := range next {
				for i := from; i < min(from+step, n) && s.ctx.Err() == nil; i++ {
					if err := f(i); err != nil {
						s.cancel(err)
						return
					}
				}
			}
		})
	}
feed:
	for i := 0; i < n; i += step {
		select {
		case next <- i:
		case <-s.ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
}

// forgedTries is of how many remembered files one run looks at a piece.
const forgedTries = 3

// forged looks at random pieces of remembered files and reports whether one is
// not what the cache says.
func (s *snapshot) forged(files []File, entries []Entry, sizes []int64) bool {
	if s.Cache == nil || len(files) == 0 {
		return false
	}
	for range forgedTries {
		if i := rand.IntN(len(files)); sizes[i] >= 0 && s.differs(files[i].Path, entries[i]) {
			return true
		}
	}
	return false
}

// differs reports whether a random chunk of a file, or all of it where it is
// small, is certainly not what its entry says. Of files that are not stored as
// they are, and where a node is not at hand, it says nothing.
func (s *snapshot) differs(path string, e Entry) bool {
	size, off := e.Size, int64(0)
	want := e.CID.Cid
	if e.Kind == KindFile {
		var ok bool
		if want, off, size, ok = s.randomChunk(e.CID.Cid); !ok {
			return false
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return false // whoever reads it will tell
	}
	defer f.Close()
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, off); int64(n) < size {
		return true
	}
	if e.Kind == KindInline {
		return string(b) != string(e.Data)
	}
	return s.Hash.ChunkID(b) != want
}

func (s *snapshot) randomChunk(id cid.Cid) (chunk cid.Cid, off, size int64, ok bool) {
	for {
		nodes, err := fetchNodes(s.ctx, s.store, []cid.Cid{id})
		if err != nil {
			return cid.Undef, 0, 0, false
		}
		var links []Link
		depth := 0
		switch n := nodes[0].(type) {
		case *FileNode:
			if n.Encoding != Plain {
				return cid.Undef, 0, 0, false
			}
			links, depth = n.Links, n.Depth
		case *PartNode:
			links, depth = n.Links, n.Depth
		}
		if len(links) == 0 {
			return cid.Undef, 0, 0, false
		}
		i := rand.IntN(len(links))
		for _, l := range links[:i] {
			off += l.Size
		}
		id = links[i].CID.Cid
		if depth == 0 {
			return id, off, links[i].Size, true
		}
	}
}

// keep pins what was stored and returns the places of files of which the store
// has lost something since the cache learnt of them.
func (s *snapshot) keep(root cid.Cid, entries []Entry, sizes []int64) (lost []int, err error) {
	rooter, ok := s.store.(Rooter)
	if !ok {
		return s.lost(entries, sizes, nil)
	}
	for range 5 {
		known, state, err := rooter.Whole(s.ctx, []cid.Cid{root})
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		whole := []cid.Cid{root}
		if !known[0] {
			nodes := make([]cid.Cid, 0, len(entries))
			for _, e := range entries {
				if e.Kind == KindFile {
					nodes = append(nodes, e.CID.Cid)
				}
			}
			if known, state, err = rooter.Whole(s.ctx, nodes); err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
			if lost, err := s.lost(entries, sizes, known); err != nil || len(lost) > 0 {
				return lost, err
			}
			for i, id := range nodes {
				if !known[i] {
					whole = append(whole, id)
				}
			}
		}
		if ok, err := rooter.PinRoot(s.ctx, s.Owner, root, whole, state); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		} else if ok {
			return nil, nil
		}
		// Blocks were dropped meanwhile, maybe some that were believed in.
	}
	return nil, fmt.Errorf("store: %w: blocks are dropped as fast as they are found", ErrFull)
}

// lost returns the places of remembered files that are not wholly in the store;
// the rest of them is pinned where there is no other way. known says of each
// file with a node, where it is not nil, that it is.
func (s *snapshot) lost(entries []Entry, sizes []int64, known []bool) ([]int, error) {
	var out []int
	var chunks []cid.Cid // of the files at places
	var places []int
	owner := s.sink.owner
	ask := func() error {
		if len(chunks) == 0 {
			return nil
		}
		// Pinned first: what is there stays.
		if err := pin(s.ctx, s.store, owner, chunks); err != nil {
			return err
		}
		missing, err := s.store.Missing(s.ctx, chunks)
		if err != nil {
			return err
		}
		gone := make(map[cid.Cid]bool, len(missing))
		for _, id := range missing {
			gone[id] = true
		}
		for i, id := range chunks {
			if gone[id] && (len(out) == 0 || out[len(out)-1] != places[i]) {
				out = append(out, places[i])
			}
		}
		chunks, places = chunks[:0], places[:0]
		return nil
	}
	add := func(place int, id cid.Cid) error {
		chunks, places = append(chunks, id), append(places, place)
		if len(chunks) < 4096 {
			return nil
		}
		return ask()
	}
	node := -1
	for i, e := range entries {
		if e.Kind == KindFile {
			node++
		}
		if sizes[i] < 0 || e.Kind == KindInline || e.Kind == KindFile && known != nil && known[node] {
			continue
		}
		if e.Kind == KindChunk {
			if err := add(i, e.CID.Cid); err != nil {
				return nil, err
			}
			continue
		}
		for id, err := range Walk(s.ctx, s.store, e.CID.Cid) {
			if err == nil {
				err = add(i, id)
			} else if s.ctx.Err() == nil {
				if aerr := ask(); aerr != nil {
					return nil, aerr
				}
				if len(out) == 0 || out[len(out)-1] != i {
					out = append(out, i)
				}
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return out, ask()
}
