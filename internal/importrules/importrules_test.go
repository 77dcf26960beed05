package importrules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func TestThisRepositoryKeepsTheImportTable(t *testing.T) {
	broken, err := Check(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// The rules are worth something only if breaking each of them is seen.
func TestEachRuleIsSeenBroken(t *testing.T) {
	got, err := Check("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bench/b.go:8: the kind \"blender\" as a string literal: only in node/node.go, render/blender, render/ai",
		"cmd/idlewild/main.go:10: the kind \"blender\" as a string literal: only in node/node.go, render/blender, render/ai",
		"diffupload/d.go: diffupload may not import github.com/ipfs/boxo/blockstore: it stays inside p2p, bench",
		"job/job.go: job may not import media",
		"ledger/l_test.go: ledger may not import github.com/libp2p/go-libp2p/core/host: it stays inside p2p, bench",
		"node/dispatch/d.go: node/dispatch may not import node/worker",
		"node/dispatch/d.go:8: the kind \"ai\" as a string literal: only in node/node.go, render/blender, render/ai",
		"node/other.go: node may not import cmd/idlewild",
		"node/other.go: node may not import github.com/urfave/cli/v2: it stays inside cmd",
		"node/other.go: node may not import internal/farmtest",
		"node/other.go:11: the kind \"blender\" as a string literal: only in node/node.go, render/blender, render/ai",
		"utils/u.go: package utils is not in the import table",
		"verify/v.go: verify may not import github.com/NVIDIA/go-nvml/pkg/nvml: it stays inside render/gpu",
		"verify/v.go: verify may not import render/blender",
		"verify: package verify has no package comment",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWhatIsAllowedPasses(t *testing.T) {
	got, err := Check("testdata/kept")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// kad-dht at some versions downgrades boxo silently when it is added.
func TestBoxoIsNotDowngraded(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if err := boxoIsNew(string(mod)); err != nil {
		t.Error(err)
	}
	for _, old := range []string{"github.com/ipfs/boxo v0.39.0", "github.com/ipfs/boxo v0.5.12", "nothing"} {
		if boxoIsNew("require (\n\t"+old+"\n)\n") == nil {
			t.Errorf("%q passes", old)
		}
	}
}

func boxoIsNew(mod string) error {
	for line := range strings.Lines(mod) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "require" {
			f = f[1:]
		}
		if len(f) < 2 || f[0] != "github.com/ipfs/boxo" {
			continue
		}
		var major, minor, patch int
		if _, err := fmt.Sscanf(f[1], "v%d.%d.%d", &major, &minor, &patch); err != nil {
			return fmt.Errorf("boxo %s: %w", f[1], err)
		}
		if major == 0 && minor < 43 {
			return fmt.Errorf("go.mod asks for boxo %s, at least v0.43.0 is needed", f[1])
		}
		return nil
	}
	return fmt.Errorf("go.mod asks for no boxo")
}
