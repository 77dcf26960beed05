package diffupload

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"
)

// Earlier is a manifest that the receiver holds whole. The zero value is none.
type Earlier struct {
	Store Store
	Root  cid.Cid
	// Dir, where it is not empty, is a folder in which Materialize put the
	// manifest, on the disk of the new one, before Since. Nobody may write to
	// its files: the new folder shares those that are the same.
	Dir   string
	Since time.Time
	// Without are files of the manifest that are not in Dir.
	Without map[string]bool
}

// reuse links those of files that lie unpacked and unchanged in the earlier
// folder into the new one, and returns the rest. What cannot be linked, because
// it is gone, was touched since, or the disk knows no links, is written.
func (x Earlier) reuse(ctx context.Context, files []Entry, to *os.Root) []Entry {
	if x.Dir == "" || !x.Root.Defined() {
		return files
	}
	list, err := List(ctx, x.Store, x.Root, Limits{})
	if err != nil {
		return files
	}
	from, err := os.OpenRoot(x.Dir)
	if err != nil {
		return files
	}
	defer from.Close()
	old := make(map[string]Entry, len(list))
	for _, e := range list {
		old[e.Name] = e
	}
	var rest []Entry
	made := "."
	for _, f := range files {
		e, ok := old[f.Name]
		if !ok || x.Without[f.Name] || !e.Same(f) || !x.untouched(from, f.Name) {
			rest = append(rest, f)
			continue
		}
		if d := path.Dir(f.Name); d != made {
			if to.MkdirAll(d, 0o777) != nil {
				rest = append(rest, f)
				continue
			}
			made = d
		}
		name := filepath.FromSlash(f.Name)
		if os.Link(filepath.Join(x.Dir, name), filepath.Join(to.Name(), name)) != nil {
			rest = append(rest, f)
		}
	}
	return rest
}

// untouched reports whether a file is still what was written, and in its folder:
// a link in its way would lead to a file of somebody else's. That somebody
// changed it and its time as well is not looked for: tasks see it read-only.
func (x Earlier) untouched(from *os.Root, name string) bool {
	st, err := from.Lstat(filepath.FromSlash(name))
	return err == nil && st.Mode().IsRegular() && !st.ModTime().After(x.Since)
}
