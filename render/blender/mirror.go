package blender

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"idlewild/job"
)

// maxMirror bounds the names in the folders above a file that is mirrored.
const maxMirror = 200_000

// mirror is a folder in which a copy of unsaved work seems to lie where the
// file lies that it stands for. Blender reads linked files while it opens one,
// from where the opened file lies, and it writes no other path into a copy
// that keeps its relative paths: so the neighbourhood has to come to the copy.
type mirror struct {
	root  string
	input string // the copy, in the mirror
	copy  string // the copy itself
	name  string // the file it stands for, below root
}

// mirrored makes the mirror: every folder above original again, with links to
// all that is in them. A problem says what the artist can do.
func mirrored(root, copy, original string) (mirror, *job.Problem) {
	volume := filepath.VolumeName(original)
	name := strings.TrimPrefix(filepath.Clean(original)[len(volume):], string(filepath.Separator))
	m := mirror{root: root, copy: copy, name: name, input: filepath.Join(root, name)}
	fail := func(err error) (mirror, *job.Problem) {
		p := problem(original, "its unsaved changes cannot be looked at here: "+err.Error(), "save the file and submit it again")
		return m, &p
	}
	steps := strings.Split(name, string(filepath.Separator))
	here, there, names := root, volume+string(filepath.Separator), 0
	for _, step := range steps {
		if err := os.MkdirAll(here, 0o700); err != nil {
			return fail(err)
		}
		entries, err := os.ReadDir(there)
		if err != nil && !os.IsPermission(err) { // a folder may let pass without being listed
			return fail(err)
		}
		if names += len(entries); names > maxMirror {
			return fail(fmt.Errorf("more than %d names in the folders above it", maxMirror))
		}
		for _, e := range entries {
			if e.Name() == step {
				continue
			}
			if err := os.Symlink(filepath.Join(there, e.Name()), filepath.Join(here, e.Name())); err != nil {
				return fail(err)
			}
		}
		here, there = filepath.Join(here, step), filepath.Join(there, step)
	}
	if err := os.Symlink(copy, m.input); err != nil {
		return fail(err)
	}
	return m, nil
}

// real turns paths of the mirror, in a path or a sentence, into those that the
// artist knows; the copy itself stays where it is read from.
func (m mirror) real(s string) string {
	if s == m.input {
		return m.copy
	}
	return strings.ReplaceAll(s, m.root+string(filepath.Separator), string(filepath.Separator))
}
