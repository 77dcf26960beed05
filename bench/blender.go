package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed project/*.py
var scripts embed.FS

// blender runs scripts of the folder project in Blender, from copies of them.
type blender struct{ dir string }

// newBlender needs Blender on the path. dir is a folder for the copies.
func newBlender(dir string) (*blender, error) {
	if _, err := exec.LookPath("blender"); err != nil {
		return nil, fmt.Errorf("blender is missing: make setup: %w", err)
	}
	b := &blender{dir: filepath.Join(dir, "scripts")}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := scripts.ReadDir("project")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := scripts.ReadFile("project/" + e.Name())
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(b.dir, e.Name()), data, 0o644); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// run starts a Blender of its own on file, or on its defaults where file is
// empty, and returns what it printed. args are given as --name value.
func (b *blender) run(ctx context.Context, file, script string, args ...string) (string, error) {
	line := []string{"-b", "--factory-startup"}
	if file != "" {
		line = append(line, file)
	}
	line = append(line, "--python-exit-code", "1", "-P", filepath.Join(b.dir, script), "--")
	c := exec.CommandContext(ctx, "blender", append(line, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		said := strings.TrimSpace(string(out))
		return "", fmt.Errorf("blender %s %s: %w: %s", script, strings.Join(args, " "), err, said[max(0, len(said)-1500):])
	}
	return string(out), nil
}
