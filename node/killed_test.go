package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/blender"
)

// daemonSettings names a file with the settings of a daemon that this test program
// is to be, daemonWants a build of Blender that it hears of.
const (
	daemonSettings = "NODE_TEST_SETTINGS"
	daemonWants    = "NODE_TEST_WANTS"
)

// daemonMain is a daemon until it is killed, where it is asked for.
func daemonMain() {
	file := os.Getenv(daemonSettings)
	if file == "" {
		return
	}
	err := func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var cfg Config
		if err := json.Unmarshal(b, &cfg); err != nil {
			return err
		}
		n, err := open(context.Background(), cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil, nil)
		if err != nil {
			return err
		}
		n.trees.lacking(job.Needs{Require: map[string]string{blender.FactBuild: os.Getenv(daemonWants)}}, "")
		return n.Run(context.Background())
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// startDaemon starts a daemon in a process of its own.
func startDaemon(t *testing.T, cfg Config, wants string) (kill func()) {
	t.Helper()
	b, err := json.Marshal(cfg)
	file := filepath.Join(t.TempDir(), "settings.json")
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := &testLog{t: t, prefix: cfg.Name + " (killed later)"}
	c := exec.Command(exe)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), daemonSettings+"="+file, daemonWants+"="+wants), log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		c.Process.Kill() // SIGKILL where there are signals
		c.Wait()
	}
	t.Cleanup(kill)
	return kill
}

// A daemon that is killed while it fetches a Blender leaves nothing that is taken
// for one, and the next goes on with what came.
func TestAFetchOfABlenderThatIsKilled(t *testing.T) {
	noShell(t)
	dir := blenderFolder(t, answeringAs(testBuild), 40_000_000)
	has, shared := sharer(t, dir)
	lacks := startNode(t, "lacks", func(c *Config) { c.Limits.DownBytes = 4 << 20 })
	join(t, has, lacks)
	lacks.end(t)
	cfg := lacks.cfg
	cfg.Blender.Trees = []string{shared.Root}
	blenders := filepath.Join(cfg.DataDir, "blenders")
	kill := startDaemon(t, cfg, testBuild)
	eventually(t, "a part of the tree came", func() error {
		v, err := daemonDoctor(t, cfg)
		if err != nil {
			return err
		}
		for _, f := range v.Findings {
			var percent int
			_, after, _ := strings.Cut(f.What, "it is being fetched from members: ")
			if n, _ := fmt.Sscanf(after, "%d %%", &percent); n == 1 && percent > 10 {
				return nil
			}
		}
		return fmt.Errorf("%+v", v.Findings)
	})
	kill()
	if whole, err := filepath.Glob(filepath.Join(blenders, "tree-*")); err != nil || len(whole) > 0 {
		t.Fatalf("taken for a Blender: %v, %v", whole, err)
	}
	// As if it had been killed while it wrote the files, and another while it
	// removed a tree that did not work.
	half := []string{filepath.Join(blenders, comingTree+shared.Root), filepath.Join(blenders, goingTree+shared.Root)}
	for _, path := range half {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "blender"), []byte("half of it"), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	lacks = runNode(t, cfg)
	came := blocksHere(t, has, lacks, shared.Root)
	if came == 0 {
		t.Error("nothing of what came stayed")
	}
	for _, path := range half {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", filepath.Base(path), err)
		}
	}
	lacks.needs(testBuild)
	lacks.hurry()
	eventually(t, "the Blender is here", func() error {
		if !lacks.hasBuild(testBuild) {
			return errors.New(lacks.needs(testBuild))
		}
		return nil
	})
	sameTree(t, dir, filepath.Join(blenders, "tree-"+shared.Root))
}

// daemonDoctor asks a daemon of another process.
func daemonDoctor(t *testing.T, cfg Config) (localapi.DoctorView, error) {
	c, err := localapi.Dial(cfg.DataDir)
	if err != nil {
		return localapi.DoctorView{}, err
	}
	return c.Doctor(t.Context(), false)
}

// blocksHere is how many blocks of a tree a node has.
func blocksHere(t *testing.T, has, n *testNode, tree string) int {
	t.Helper()
	root, err := treeRoot(tree)
	if err != nil {
		t.Fatal(err)
	}
	all, err := diffupload.All(t.Context(), has.blocks, root)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := n.blocks.Missing(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return len(all) - len(missing)
}

// sameTree fails where a tree does not hold what a Blender's folder does.
func sameTree(t *testing.T, dir, at string) {
	t.Helper()
	for _, name := range []string{"blender", "lib/libembree.so.4", "lib/libembree.so.4.3"} {
		want, err1 := os.ReadFile(filepath.Join(dir, name))
		got, err2 := os.ReadFile(filepath.Join(at, name))
		if err1 != nil || err2 != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, want %d: %v %v", name, len(got), len(want), err1, err2)
		}
	}
}
