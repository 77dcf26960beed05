package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Entry is a Blender that a person added.
type Entry struct {
	Path string `json:"path"` // of the program, or of a Python with bpy
}

// maxEntries and maxEntryBytes bound what is read of a shelf.
const (
	maxEntries    = 64
	maxEntryBytes = 8 << 10
)

// Shelf is the folder of what was added: a small file for each, so that two
// programs may add at once.
type Shelf struct{ dir string }

// OpenShelf is the shelf in dir, which need not be there yet.
func OpenShelf(dir string) Shelf { return Shelf{dir} }

const entryEnding = ".json"

func (s Shelf) file(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(s.dir, "added-"+hex.EncodeToString(sum[:8])+entryEnding)
}

// Entries lists what was added, by path.
func (s Shelf) Entries() ([]Entry, error) {
	names, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil // nothing can have been added
	}
	if err != nil {
		return nil, fmt.Errorf("list of added Blenders: %w", err)
	}
	var out []Entry
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), "added-") || !strings.HasSuffix(n.Name(), entryEnding) {
			continue
		}
		if len(out) == maxEntries {
			return nil, fmt.Errorf("list of added Blenders: more than %d in %s", maxEntries, s.dir)
		}
		name := filepath.Join(s.dir, n.Name())
		if st, err := os.Stat(name); err == nil && st.Size() > maxEntryBytes {
			return nil, fmt.Errorf("list of added Blenders: %s is damaged: remove it", name)
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // was removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list of added Blenders: %w", err)
		}
		var e Entry
		if json.Unmarshal(b, &e) != nil || !filepath.IsAbs(e.Path) {
			return nil, fmt.Errorf("list of added Blenders: %s is damaged: remove it", name)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Add puts a program on the shelf; it may be there already.
func (s Shelf) Add(e Entry) error {
	if !filepath.IsAbs(e.Path) {
		return fmt.Errorf("%s is no absolute path", e.Path)
	}
	have, err := s.Entries()
	if err != nil {
		return err
	}
	if len(have) >= maxEntries && !slices.Contains(have, e) {
		return fmt.Errorf("%d Blenders were added already: remove one with: idlewild blender remove PATH", len(have))
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.Write(b)
	if err := errors.Join(err, part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), s.file(e.Path))
}

// Remove takes a program off the shelf. Its files stay.
func (s Shelf) Remove(path string) error {
	err := os.Remove(s.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s was not added; see: idlewild blender list", path)
	}
	return err
}
