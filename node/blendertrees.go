package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/idle/sense"
	"idlewild/node/localapi"
	"idlewild/p2p"
	"idlewild/render/blender"
	"idlewild/render/blender/install"
)

// treesJob stands in a request for blocks where these are of a Blender that a
// member shares, and of no job.
const treesJob job.ID = "0000000000000000000000TREE"

// Bounds of a Blender as a tree.
const (
	maxTrees     = 32
	maxTreeFiles = 200_000
	maxTreeBytes = 8 << 30
	maxTreeNote  = 4 << 10
	maxWanted    = 64              // builds that are remembered as lacking
	wantedFor    = 5 * time.Minute // after it was last offered: offers come every minute
	treeRetry    = 30 * time.Second
	treeFailed   = 10 * time.Minute // a tree that did not work is not tried again for so long
)

// blenderTrees shares Blenders with members, and fetches those that jobs need
// from them where the settings allow it.
type blenderTrees struct {
	self    peer.ID
	dir     string // of the Blenders that were added, for all farms of this machine
	list    string // the file that says which this farm's members are given
	store   blockStore
	blocks  p2p.Blocks
	near    func() []peer.ID
	member  func(peer.ID) bool
	allowed func() (roots []string, freeBytes int64)
	paused  func() string
	have    func() []blender.Program                            // of this machine, that work
	builds  func() []string                                     // that this machine says it has
	add     func(ctx context.Context, path, build string) error // tries a program, and takes it up
	free    func(dir string) (int64, error)
	log     *slog.Logger
	wake    chan struct{} // holds one
	sharing sync.Mutex    // held while something is stored or let go of

	mu     sync.Mutex
	shared []localapi.SharedBlender
	wanted map[string]time.Time // builds that jobs need, by when that was heard last
	states map[string]treeState // by build
	notes  map[string]treeNote  // of trees, by root
	failed map[string]failedTree
}

// treeState is how far it is with a build that is wanted.
type treeState struct {
	text    string
	remedy  string // empty: it goes on by itself
	working bool
}

type failedTree struct {
	at  time.Time
	why string
}

func (n *Node) newBlenderTrees() (*blenderTrees, error) {
	t := &blenderTrees{
		self: n.self, dir: filepath.Join(n.machine().DataDir, "blenders"), list: filepath.Join(n.cfg.DataDir, "blenders", "shared.json"), store: n.blocks, blocks: n.host, near: n.near,
		member: n.host.Membership().Known, free: sense.DiskFree, log: n.log.With("part", "blenders"),
		allowed: func() ([]string, int64) {
			n.reread()
			cfg := n.settings()
			return cfg.Blender.Trees, cfg.Limits.FreeDiskBytes
		},
		paused: func() string { return n.owner.paused() },
		have: func() []blender.Program {
			list, err := n.kit.blenders[0].Programs(n.life)
			if err != nil {
				return nil
			}
			return list
		},
		builds: func() []string { return n.kit.now().Facts[blender.FactBuild] },
		add:    n.addTree,
	}
	return t, t.open()
}

// open reads what is shared.
func (t *blenderTrees) open() error {
	t.wake = make(chan struct{}, 1)
	t.wanted, t.states, t.notes, t.failed = map[string]time.Time{}, map[string]treeState{}, map[string]treeNote{}, map[string]failedTree{}
	b, err := os.ReadFile(t.list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(b) > 64<<10 {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = json.Unmarshal(b, &t.shared)
	}
	if err != nil {
		return fmt.Errorf("list of shared Blenders: %s: %w; remove it, and share them again", t.list, err)
	}
	t.shared = t.shared[:min(len(t.shared), maxTrees)]
	return nil
}

// addTree tries the program of a tree and takes it up, in this process and for
// later ones.
func (n *Node) addTree(ctx context.Context, path, build string) error {
	k, done, err := blenders(n.machine(), path, nil)
	if err != nil {
		return err
	}
	defer done()
	found, err := k.Programs(ctx)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		_, _, err := k.Probe(ctx)
		return err
	case found[0].Error != "":
		return errors.New(found[0].Error)
	case found[0].Build != build:
		return fmt.Errorf("it says that it is Blender %s", found[0].Build)
	}
	if err := shelf(n.machine()).Add(install.Entry{Path: path}); err != nil {
		return err
	}
	return n.kit.takeBlender(ctx, path)
}

// madeDir is the folder of Blenders, made where it is not there.
func (t *blenderTrees) madeDir() string {
	_ = os.MkdirAll(t.dir, 0o700) // whoever writes there says what is wrong
	return t.dir
}

// lacking is worker.Options.Unfit: it notes a Blender that an offer needs, and
// says how far it is with it.
func (t *blenderTrees) lacking(needs job.Needs, why string) string {
	build := needs.Require[blender.FactBuild]
	if build == "" || len(build) > 256 || slices.Contains(t.builds(), build) {
		return why
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.wanted[build]; known || len(t.wanted) < maxWanted {
		t.wanted[build] = time.Now()
		if !known {
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
	}
	text := "needs Blender " + build + ", which is not here"
	if s := t.states[build]; s.text != "" {
		text += ": " + s.text
		if s.remedy != "" {
			text += "; " + s.remedy
		}
	}
	return text
}

// findings are what idlewild doctor says of Blenders that are not here.
func (t *blenderTrees) findings() []localapi.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []localapi.Finding
	for build := range t.wanted {
		s := t.states[build]
		if s.text == "" {
			continue
		}
		f := localapi.Finding{Severity: "warning", What: fmt.Sprintf("a job needs Blender %s, which is not here: %s", build, s.text), Remedy: s.remedy}
		if s.working {
			f.Severity, f.Remedy = "note", "wait; idlewild pause stops it for so long"
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b localapi.Finding) int { return cmp.Compare(a.What, b.What) })
	return out
}

// state notes how far it is with a build.
func (t *blenderTrees) state(build string, s treeState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.states[build]; !s.working && was.text != s.text {
		t.log.Info("a Blender that a job needs is not here", "build", build, "reason", s.text)
	}
	t.states[build] = s
}

// run fetches what is wanted and allowed, until ctx ends.
func (t *blenderTrees) run(ctx context.Context) error {
	tick := time.NewTicker(treeRetry)
	defer tick.Stop()
	for {
		for _, build := range t.lacked() {
			if err := t.get(ctx, build); err == nil {
				t.mu.Lock()
				delete(t.wanted, build)
				delete(t.states, build)
				t.mu.Unlock()
			} else if ctx.Err() == nil {
				t.say(build, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-tick.C:
		}
	}
}

// lacked are the builds that are wanted still.
func (t *blenderTrees) lacked() []string {
	here := t.builds()
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for build, at := range t.wanted {
		if time.Since(at) > wantedFor || slices.Contains(here, build) {
			delete(t.wanted, build)
			delete(t.states, build)
			continue
		}
		out = append(out, build)
	}
	slices.Sort(out)
	return out
}

// notYet is why a Blender is not fetched, with what helps.
type notYet struct{ why, remedy string }

func (e *notYet) Error() string { return e.why }

func (t *blenderTrees) say(build string, err error) {
	s := treeState{text: err.Error()}
	var n *notYet
	if errors.As(err, &n) {
		s.remedy = n.remedy
	}
	t.state(build, s)
}
