package node

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/job"
)

// noteName is the file of a tree that says what it is.
const noteName = "idlewild-blender.json"

// treeNote is the content of that file.
type treeNote struct {
	V       int    `json:"v"` // 1
	Build   string `json:"build"`
	Version string `json:"version"`
	System  string `json:"system"`  // install.System
	Program string `json:"program"` // in the tree
}

func decodeNote(b []byte) (n treeNote, err error) {
	if err = json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("%s: %w", noteName, err)
	}
	switch {
	case n.V != 1:
		return n, fmt.Errorf("%s: version %d, this program knows 1", noteName, n.V)
	case n.Build == "" || len(n.Build) > 256 || len(n.Version) > 64 || len(n.System) > 64 || job.SafeName(n.Program) != nil:
		return n, fmt.Errorf("%s: it makes no sense", noteName)
	}
	return n, nil
}

// checkTrees says what is wrong with blender.trees.
func checkTrees(roots []string) error {
	if len(roots) > maxTrees {
		return fmt.Errorf("blender.trees has %d roots; at most %d are read", len(roots), maxTrees)
	}
	for _, r := range roots {
		if _, err := treeRoot(r); err != nil {
			return fmt.Errorf("blender.trees: %w", err)
		}
	}
	return nil
}

// treeRoot reads a root as people write it.
func treeRoot(s string) (cid.Cid, error) {
	c, err := cid.Decode(s)
	if err == nil {
		err = diffupload.CheckID(c)
	}
	if err != nil || c.Type() != cid.DagCBOR || c.String() != s {
		return cid.Undef, fmt.Errorf("%q is no root of a tree; idlewild blender share prints one", s)
	}
	return c, nil
}

// AllowTree adds a root to blender.trees in the settings file. A daemon takes it
// up by itself.
func AllowTree(cfg Config, root string) error {
	if _, err := treeRoot(root); err != nil {
		return err
	}
	if slices.Contains(cfg.Blender.Trees, root) {
		return nil
	}
	if f := cfg.from["blender.trees"]; f == "flag" || strings.HasPrefix(f, "environment ") {
		return fmt.Errorf("blender.trees: %s decides it: take that away first", f)
	}
	if own := filepath.Join(cfg.DataDir, configFile); cfg.path() != own {
		return fmt.Errorf("the settings are in %s: add %q to blender.trees there", cfg.path(), root)
	}
	return WriteSettings(cfg.DataDir, map[string]string{"blender.trees": strings.Join(append(slices.Clone(cfg.Blender.Trees), root), ",")})
}
