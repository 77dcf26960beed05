package node

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/blender"
)

// answeringAs is a program that answers as a Blender of that build does.
func answeringAs(build string) string {
	return `#!/bin/sh
while [ "$1" != "--" ]; do shift; done
echo '{"version":"4.9.1","build":"` + build + `","engines":["CYCLES"],"rendered":["CYCLES"],"denoisers":["openimagedenoise"]}' > "$2"
: > "$2.blend"
`
}

// blenderFolder makes a folder with a program in it, a large file and a link to
// that.
func blenderFolder(t *testing.T, script string, size int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blender-4.9")
	for _, sub := range []string{"lib", "4.9"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := os.WriteFile(filepath.Join(dir, "blender"), []byte(script), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "lib", "libembree.so.4.3"), bytesOf(5, size), 0o644)
	}
	if err == nil {
		err = os.Symlink("libembree.so.4.3", filepath.Join(dir, "lib", "libembree.so.4"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const testBuild = "4.9.1 abcdef test"

// sharer is a node that shares a Blender, and what it shares.
func sharer(t *testing.T, dir string) (*testNode, localapi.SharedBlender) {
	t.Helper()
	n := startNode(t, "has", func(c *Config) { c.Blender.Path = filepath.Join(dir, "blender") })
	s, err := n.client.ShareBlender(t.Context(), "4.9")
	if err != nil {
		t.Fatal(err)
	}
	return n, s
}

// needs has a node hear of work for a build, and returns why it takes none.
func (n *testNode) needs(build string) string {
	return n.trees.lacking(job.Needs{Require: map[string]string{blender.FactBuild: build}}, "it lacks something")
}

func (n *testNode) hasBuild(build string) bool {
	return slices.Contains(n.kit.now().Facts[blender.FactBuild], build)
}

// saysOf waits until the reason why a build is not here has a text.
func (n *testNode) saysOf(t *testing.T, build, text string) string {
	t.Helper()
	said := ""
	eventually(t, "it says "+text, func() error {
		if said = n.needs(build); !strings.Contains(said, text) {
			return errors.New(said)
		}
		return nil
	})
	return said
}

// hurry has a node look at once.
func (n *testNode) hurry() {
	select {
	case n.trees.wake <- struct{}{}:
	default:
	}
}

func noShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: its programs are shell scripts")
	}
}

// A Blender that the settings allow comes from a member once work needs it, whole
// and by nothing but its root; it is used at once and after a restart.
func TestABlenderComesFromAMember(t *testing.T) {
	noShell(t)
	dir := blenderFolder(t, answeringAs(testBuild), 3_000_000)
	has, shared := sharer(t, dir)
	if shared.Build != testBuild || shared.Files != 4 || shared.Bytes < 6_000_000 {
		t.Errorf("shared: %+v", shared)
	}
	if again, err := has.client.ShareBlender(t.Context(), testBuild); err != nil || again != shared {
		t.Errorf("shared again: %+v, %v", again, err)
	}
	if list, err := has.client.SharedBlenders(t.Context()); err != nil || len(list) != 1 || list[0] != shared {
		t.Errorf("list: %+v, %v", list, err)
	}
	lacks := startNode(t, "lacks", nil)
	join(t, has, lacks)
	if lacks.hasBuild(testBuild) {
		t.Fatal("it is there already")
	}
	if why := lacks.trees.lacking(job.Needs{Device: "gpu"}, "needs a gpu"); why != "needs a gpu" {
		t.Errorf("of other work: %s", why)
	}

	// Not allowed: it says so, and what allows it.
	why := lacks.saysOf(t, testBuild, "idlewild blender allow ROOT")
	if !strings.Contains(why, "needs Blender "+testBuild+", which is not here") {
		t.Error(why)
	}
	v, err := lacks.client.Doctor(t.Context(), false)
	if err != nil || !slices.ContainsFunc(v.Findings, func(f localapi.Finding) bool {
		return strings.Contains(f.What, testBuild) && strings.Contains(f.Remedy, "idlewild blender allow ROOT")
	}) {
		t.Errorf("the doctor does not say it: %+v, %v", v.Findings, err)
	}

	if err := AllowTree(lacks.cfg, shared.Root); err != nil {
		t.Fatal(err)
	}
	lacks.hurry()
	eventually(t, "the Blender is here", func() error {
		if !lacks.hasBuild(testBuild) {
			return errors.New(lacks.needs(testBuild))
		}
		return nil
	})
	if why := lacks.needs(testBuild); why != "it lacks something" {
		t.Errorf("of what is here: %s", why)
	}
	at := filepath.Join(lacks.cfg.DataDir, "blenders", "tree-"+shared.Root)
	sameTree(t, dir, at)
	if fi, err := os.Stat(filepath.Join(at, "blender")); err != nil || fi.Mode()&0o100 == 0 {
		t.Errorf("the program: %v, %v", fi, err)
	}
	root, err := treeRoot(shared.Root)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the blocks may go", func() error {
		if ok, err := lacks.blocks.Pinned(t.Context(), fetchedTree(shared.Root), root); err != nil || ok {
			return errors.Join(errors.New("pinned still"), err)
		}
		return nil
	})
	lacks.end(t)
	lacks = runNode(t, lacks.cfg)
	if !lacks.hasBuild(testBuild) {
		t.Error("it is gone after a restart")
	}

	// Members may have it, others not, and nobody once it is shared no more.
	allowed := newGrants(has.self, has.blocks, has.jobs.Allows)
	allowed.trees = has.trees.allows
	_, stranger, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	ask := func() [3]bool {
		return [3]bool{
			allowed.Allow(lacks.self, has.self, treesJob, job.Signed{}, root), allowed.Allow(stranger, has.self, treesJob, job.Signed{}, root),
			allowed.Allow(lacks.self, lacks.self, treesJob, job.Signed{}, root),
		}
	}
	if got := ask(); got != [3]bool{true, false, false} {
		t.Errorf("may read: %v", got)
	}
	if err := has.client.UnshareBlender(t.Context(), shared.Root); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != [3]bool{} {
		t.Errorf("may read what is not shared: %v", got)
	}
	if err := has.client.UnshareBlender(t.Context(), shared.Root); err == nil {
		t.Error("let go of twice")
	}
}

// leftOfTrees is what stands in the folder of Blenders, but for the lock.
func leftOfTrees(t *testing.T, n *testNode) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "blenders", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == fetchingDir })
}

// Two farms of one machine may want the same Blender at once: one fetches it, and
// the other leaves alone what comes, waits, and takes up what came.
func TestTwoFarmsFetchTheSameBlender(t *testing.T) {
	noShell(t)
	src := blenderFolder(t, answeringAs(testBuild), 50_000)
	files, err := treeFilesOf(src)
	if err != nil {
		t.Fatal(err)
	}
	store := &diffupload.Memory{}
	snap, err := diffupload.Snapshot(t.Context(), store, files, diffupload.Options{Exact: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "blenders")
	added := make(chan string, 2)
	farm := func(name string) *blenderTrees {
		return &blenderTrees{
			dir: dir, list: filepath.Join(filepath.Dir(dir), name, "shared.json"), store: store, log: slog.New(slog.DiscardHandler),
			paused: func() string { return "" }, free: func(string) (int64, error) { return 1 << 40, nil }, states: map[string]treeState{},
			add: func(_ context.Context, path, _ string) error {
				added <- name
				_, err := os.Stat(path)
				return err
			},
		}
	}
	note := treeNote{V: 1, Build: testBuild, Version: "4.9.1", Program: "blender"}
	one, two := farm("one"), farm("two")
	// The first is in the middle of it while the second comes, starts anew and sweeps.
	midway, go1 := make(chan struct{}), make(chan struct{})
	slow := &stopping{Store: store, at: func() { close(midway); <-go1 }}
	done := make(chan error, 1)
	go func() { done <- one.install(t.Context(), slow, &holders{}, snap.Root, note, 0) }()
	<-midway
	two.sweep()
	var n *notYet
	if err := two.install(t.Context(), store, &holders{}, snap.Root, note, 0); !errors.As(err, &n) || !strings.Contains(err.Error(), "another farm") {
		t.Errorf("both fetch it: %v", err)
	}
	close(go1)
	if err := <-done; err != nil {
		t.Fatalf("the one that was first: %v", err)
	}
	if err := two.install(t.Context(), &stopping{Store: store, at: func() { t.Error("it is fetched again") }}, &holders{}, snap.Root, note, 0); err != nil {
		t.Fatal(err)
	}
	if a, b := <-added, <-added; a != "one" || b != "two" {
		t.Errorf("taken up by %s and %s", a, b)
	}
	sameTree(t, src, filepath.Join(dir, wholeTree+snap.Root.String()))
}

// stopping is a store that calls at once when it is asked for something.
type stopping struct {
	diffupload.Store
	once sync.Once
	at   func()
}

func (s *stopping) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	for _, w := range wants {
		if w.ID.Type() == cid.Raw {
			s.once.Do(s.at)
		}
	}
	return s.Store.Fetch(ctx, wants)
}

// What stands in the way is said, and nothing of it stays that could be taken
// for a Blender.
func TestABlenderThatCannotCome(t *testing.T) {
	noShell(t)
	for name, c := range map[string]struct {
		script string
		change func(t *testing.T, has, lacks *testNode, root string)
		says   string
	}{
		"nobody gives it": {answeringAs(testBuild), func(t *testing.T, has, _ *testNode, root string) {
			if err := has.client.UnshareBlender(t.Context(), root); err != nil {
				t.Fatal(err)
			}
		}, "no member that is connected gives it; let a member that shares it be connected"},
		"no room": {answeringAs(testBuild), func(t *testing.T, _, lacks *testNode, _ string) {
			lacks.trees.free = func(string) (int64, error) { return 1 << 20, nil }
		}, "1 MB are free"},
		"paused": {answeringAs(testBuild), func(t *testing.T, _, lacks *testNode, _ string) {
			if _, err := lacks.client.SetPaused(t.Context(), true, "I work"); err != nil {
				t.Fatal(err)
			}
		}, "I work); idlewild resume"},
		"does not start here": {"#!/bin/sh\n[ -e \"$(dirname \"$0\")/lib/libembree.so.4.3\" ] || exit 3\ncase \"$0\" in */tree-*) echo no such instruction; exit 3;; esac\n" + strings.TrimPrefix(answeringAs(testBuild), "#!/bin/sh\n"), nil, "it does not work here"},
		"is another": {"#!/bin/sh\ncase \"$0\" in */tree-*) build=other;; *) build=abcdef;; esac\n" +
			strings.ReplaceAll(strings.TrimPrefix(answeringAs(testBuild), "#!/bin/sh\n"), "abcdef", `'"$build"'`), nil, "it says that it is Blender 4.9.1 other test"},
	} {
		t.Run(name, func(t *testing.T) {
			has, shared := sharer(t, blenderFolder(t, c.script, 200_000))
			lacks := startNode(t, "lacks", nil)
			join(t, has, lacks)
			if c.change != nil {
				c.change(t, has, lacks, shared.Root)
			}
			if err := AllowTree(lacks.cfg, shared.Root); err != nil {
				t.Fatal(err)
			}
			lacks.saysOf(t, testBuild, c.says)
			if lacks.hasBuild(testBuild) {
				t.Error("it is taken nevertheless")
			}
			if left := leftOfTrees(t, lacks); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A pause while a Blender that came is tried says nothing against it.
func TestATryOfABlenderThatIsCutOff(t *testing.T) {
	noShell(t)
	has, shared := sharer(t, blenderFolder(t, answeringAs(testBuild), 200_000))
	lacks := startNode(t, "lacks", nil)
	join(t, has, lacks)
	add, first := lacks.trees.add, true
	lacks.trees.add = func(ctx context.Context, path, build string) error {
		if !first {
			return add(ctx, path, build)
		}
		first = false
		if _, err := lacks.client.SetPaused(t.Context(), true, "I work"); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	if err := AllowTree(lacks.cfg, shared.Root); err != nil {
		t.Fatal(err)
	}
	lacks.saysOf(t, testBuild, "I work")
	if _, err := os.Stat(filepath.Join(lacks.cfg.DataDir, "blenders", "tree-"+shared.Root)); err != nil {
		t.Errorf("what came is gone: %v", err)
	}
	if _, err := lacks.client.SetPaused(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}
	lacks.hurry()
	eventually(t, "the Blender is here", func() error {
		if !lacks.hasBuild(testBuild) {
			return errors.New(lacks.needs(testBuild))
		}
		return nil
	})
}

// A fetch that a pause cut off is gone on with: what came is not asked for again.
func TestAFetchOfABlenderThatIsCutOff(t *testing.T) {
	noShell(t)
	dir := blenderFolder(t, answeringAs(testBuild), 20_000_000)
	has, shared := sharer(t, dir)
	lacks := startNode(t, "lacks", func(c *Config) { c.Limits.DownBytes = 4 << 20 })
	join(t, has, lacks)
	if err := AllowTree(lacks.cfg, shared.Root); err != nil {
		t.Fatal(err)
	}
	said := lacks.saysOf(t, testBuild, "it is being fetched from members: ")
	if !strings.Contains(said, "% of ") {
		t.Errorf("no progress: %s", said)
	}
	if _, err := lacks.client.SetPaused(t.Context(), true, "I work"); err != nil {
		t.Fatal(err)
	}
	lacks.saysOf(t, testBuild, "it is not fetched while this machine rests")
	count := func() int { return blocksHere(t, has, lacks, shared.Root) }
	came := count()
	if came == 0 || lacks.hasBuild(testBuild) {
		t.Fatalf("%d blocks came", came)
	}
	if left := leftOfTrees(t, lacks); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// Another process goes on.
	lacks.end(t)
	lacks.cfg.Blender.Trees = []string{shared.Root} // as it would read it
	lacks = runNode(t, lacks.cfg)
	if _, err := lacks.client.SetPaused(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}
	if n := count(); n < came {
		t.Errorf("%d of %d blocks stayed", n, came)
	}
	eventually(t, "the Blender is here", func() error {
		if !lacks.hasBuild(testBuild) {
			return errors.New(lacks.needs(testBuild))
		}
		return nil
	})
}

func TestWhatCannotBeShared(t *testing.T) {
	noShell(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(dir string) error
		says   string
	}{
		"a link that leads out": {func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "lib", "x")) }, "lib/x is a link that leads out"},
		"a link to a folder":    {func(dir string) error { return os.Symlink("lib", filepath.Join(dir, "lib64")) }, "lib64 is a link to a folder"},
		"a broken link":         {func(dir string) error { return os.Symlink("none", filepath.Join(dir, "x")) }, "x: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := blenderFolder(t, "", 10)
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := treeFilesOf(dir); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := treeFilesOf("/usr/bin"); err == nil {
		t.Error("the system's programs")
	}
	has := startNode(t, "has", func(c *Config) {
		c.Blender.Path = filepath.Join(blenderFolder(t, answeringAs(testBuild), 10), "blender")
	})
	for _, which := range []string{"3.6", "4", "nonsense", outside} {
		if _, err := has.client.ShareBlender(t.Context(), which); err == nil || !strings.Contains(err.Error(), "only "+testBuild) {
			t.Errorf("%s: %v", which, err)
		}
	}
	// A script of that name among a person's other programs.
	bin := t.TempDir()
	for name, text := range map[string]string{"blender": answeringAs(testBuild), "upload-with-token": "secret"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	among := startNode(t, "among", func(c *Config) { c.Blender.Path = filepath.Join(bin, "blender") })
	if s, err := among.client.ShareBlender(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "folder of version 4.9.1") {
		t.Errorf("a folder of programs: %+v, %v", s, err)
	}
	none := startNode(t, "none", nil)
	if _, err := none.client.ShareBlender(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no Blender here that can be shared") {
		t.Errorf("without any: %v", err)
	}
}

func TestRootsOfTrees(t *testing.T) {
	root := diffupload.ChunkID([]byte("x"))
	for name, list := range map[string][]string{
		"nonsense": {"nonsense"}, "of a chunk": {root.String()}, "many": slices.Repeat([]string{cid.NewCidV1(cid.DagCBOR, root.Hash()).String()}, maxTrees+1),
		"empty": {""},
	} {
		if err := checkTrees(list); err == nil || !strings.Contains(err.Error(), "blender.trees") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkTrees([]string{cid.NewCidV1(cid.DagCBOR, root.Hash()).String()}); err != nil {
		t.Error(err)
	}
	for name, b := range map[string]string{
		"no json": "x", "version": `{"v":2,"build":"a","program":"b"}`, "no build": `{"v":1,"program":"b"}`, "leads out": `{"v":1,"build":"a","program":"../b"}`,
	} {
		if _, err := decodeNote([]byte(b)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// A real Blender in a folder of its own comes from the requester, and renders its
// job.
func TestARealBlenderComesFromAMember(t *testing.T) {
	t.Parallel()
	program := needBlender(t)
	if os.Getenv("IDLEWILD_SLOW") == "" {
		t.Skip("NOT RUN: make test-long has a whole Blender come from a member")
	}
	version := ""
	if b, err := exec.CommandContext(t.Context(), program, "--version").Output(); err == nil {
		version = strings.Join(strings.SplitN(strings.TrimPrefix(string(b), "Blender "), ".", 3)[:2], ".")
	}
	files := filepath.Join("/usr/share/blender", version)
	if _, err := os.Stat(filepath.Join(files, "datafiles")); err != nil {
		files = "/usr/share/blender"
	}
	if _, err := os.Stat(filepath.Join(files, "datafiles")); err != nil {
		t.Skip("NOT RUN: the files of this Blender lie elsewhere")
	}
	dir := filepath.Join(t.TempDir(), "blender-own")
	for _, sub := range []string{"datafiles", "scripts"} {
		copyTree(t, filepath.Join(files, sub), filepath.Join(dir, version, sub))
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(real)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "blender"), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	scene, script := filepath.Join(t.TempDir(), "scene.blend"), filepath.Join(t.TempDir(), "scene.py")
	if err := os.WriteFile(script, []byte(smallScene), 0o600); err != nil {
		t.Fatal(err)
	}
	blenderRun(t, program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene)

	has := startNode(t, "has", func(c *Config) {
		c.Blender.Path, c.Worker.Enabled, c.Worker.HomeThreads = filepath.Join(dir, "blender"), false, 1
	})
	lacks := startNode(t, "lacks", func(c *Config) { c.Worker.Threads, c.Sandbox.Mode = 1, "auto" })
	join(t, has, lacks)
	shared, err := has.client.ShareBlender(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := AllowTree(lacks.cfg, shared.Root); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	never := 0.0
	spec, err := SpecFor(scene, SpecOptions{Output: out, Recheck: &never})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	id, err := has.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := has.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 4 {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	t.Logf("Blender %s: %d files, %d MB; the job ended after %v", shared.Build, shared.Files, shared.Bytes>>20, time.Since(began).Round(time.Second))
	for _, w := range s.Workers {
		if w.Peer != lacks.self.String() && w.Peer != has.self.String() {
			t.Errorf("somebody else rendered: %+v", w)
		}
	}
	if !lacks.hasBuild(shared.Build) {
		t.Error("it renders without a Blender")
	}
}

// copyTree copies a folder; links are taken as what they lead to.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
			if err == nil && d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), 0o755)
			}
			return nil // a link to somewhere else of the system
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
