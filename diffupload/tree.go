package diffupload

import (
	"fmt"
	"slices"
	"strings"
)

// tree stores a folder of files, sorted by their whole names, which share their
// first skip bytes. Whoever has the same entries makes the same nodes.
func (s *snapshot) tree(files []Entry, skip int) (Entry, error) {
	// Sorted by whole names is not sorted by components ("a-b" < "a/b"), and a
	// name may not be file and folder at once.
	var entries []Entry
	for i := 0; i < len(files); {
		name := files[i].Name[skip:]
		dir, _, deeper := strings.Cut(name, "/")
		if !deeper {
			e := files[i]
			e.Name = name
			entries = append(entries, e)
			i++
			continue
		}
		n := i
		for n < len(files) && strings.HasPrefix(files[n].Name[skip:], dir+"/") {
			n++
		}
		sub, err := s.tree(files[i:n], skip+len(dir)+1)
		if err != nil {
			return Entry{}, err
		}
		entries = append(entries, Entry{Name: dir, CID: sub.CID, Size: sub.Size, Kind: KindTree})
		i = n
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(entries); i++ {
		if entries[i-1].Name == entries[i].Name {
			return Entry{}, fmt.Errorf("file name %q is also a folder", entries[i].Name)
		}
	}
	level := &leveled[Entry]{marks: entryMarks, weight: entryWeight, emit: func(depth int, run []Entry) (Entry, error) {
		e, err := s.treeNode(run, depth)
		e.Name, e.Kind = run[0].Name, KindShard
		return e, err
	}}
	for _, e := range entries {
		if err := level.add(e); err != nil {
			return Entry{}, err
		}
	}
	top, depth, err := level.finish()
	if err != nil {
		return Entry{}, err
	}
	return s.treeNode(top, depth)
}

func (s *snapshot) treeNode(entries []Entry, depth int) (Entry, error) {
	var size int64
	for _, e := range entries {
		size += e.Size
	}
	l, err := s.node(&TreeNode{V: 1, Type: "tree", Size: size, Depth: depth, Entries: entries}, size)
	return Entry{CID: l.CID, Size: size, Kind: KindTree}, err
}
