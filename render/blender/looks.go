package blender

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"idlewild/job"
)

// Bounds of what is remembered of looks at files.
const (
	maxLooks  = 32
	maxLooked = 20_000 // of one look
)

// settled is how long a file must have been as it is for its times to tell of
// the next change: clocks of file systems tick slowly.
const settled = 2 * time.Second

// looks remember what Blender found in a file. Opening one takes Blender
// seconds, and an artist submits the same project again and again after moving
// something: as long as the outline of the .blend is the same, and with it
// every other file and folder that was looked at, Blender would find the same.
// Only a look that found nothing to refuse is remembered.
type looks struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*look
	order [][sha256.Size]byte // the oldest first
}

// look is what was found, and on what it depends.
type look struct {
	found  survey
	load   loadLog
	input  string            // the .blend that was looked at
	stamps map[string]*stamp // of everything else
}

// stamp is a file or folder as it was; nil info: it was not there.
type stamp struct{ info fs.FileInfo }

func stampOf(path string) *stamp {
	info, err := os.Stat(path)
	if err != nil {
		return &stamp{}
	}
	return &stamp{info}
}

func (s *stamp) same(o *stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// key names the looks that are the same question: false where the file has no
// outline.
func (k *Kind) lookKey(ctx context.Context, p able, s job.Spec) (key [sha256.Size]byte, ok bool) {
	if k.opts.Outline == nil {
		return key, false
	}
	outline, err := k.opts.Outline(ctx, s.Input)
	if err != nil {
		return key, false
	}
	params, err := DecodeSpec(s.Params)
	if err != nil {
		return key, false
	}
	params.Upscale, params.UpscaleBy = "", 0 // which Blender does not look at
	b, err := json.Marshal([]any{outline, params, s.File(), p.path, p.Build, k.runners, k.ocio(s)})
	if err != nil {
		return key, false
	}
	return sha256.Sum256(b), true
}

// recall returns what a look at the file would find.
func (l *looks) recall(key [sha256.Size]byte, input string) (survey, *loadLog, bool) {
	l.mu.Lock()
	known := l.known[key]
	l.mu.Unlock()
	if known == nil {
		return survey{}, nil, false
	}
	for path, was := range known.stamps {
		if !was.same(stampOf(path)) {
			return survey{}, nil, false
		}
	}
	found, load := known.found, known.load
	found.Files, found.Problems = slices.Clone(found.Files), slices.Clone(found.Problems)
	for i := range found.Files {
		if found.Files[i].Path == known.input {
			found.Files[i].Path = input
		}
	}
	return found, &load, true
}

// remember keeps what was found in the file, began being when the look did.
func (l *looks) remember(key [sha256.Size]byte, input string, began time.Time, found survey, load *loadLog) {
	if len(found.Files)+len(found.Folders) > maxLooked {
		return
	}
	for _, p := range found.Problems {
		if p.Severity == job.SeverityError {
			return // it is about to be mended
		}
	}
	k := &look{found: found, load: *load, input: input, stamps: map[string]*stamp{}}
	see := func(path string) bool {
		s := stampOf(path)
		k.stamps[path] = s
		return s.info == nil || s.info.ModTime().Before(began.Add(-settled))
	}
	for _, f := range found.Files {
		if f.Path != input && !see(f.Path) {
			return
		}
	}
	for _, f := range found.Folders {
		if !see(f) {
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[[sha256.Size]byte]*look{}
	}
	if l.known[key] == nil {
		l.order = append(l.order, key)
	}
	l.known[key] = k
	if len(l.order) > maxLooks {
		delete(l.known, l.order[0])
		l.order = l.order[1:]
	}
}
