package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"idlewild/diffupload/blendfile"
	"idlewild/render/blender"
	"idlewild/render/blender/install"
)

// shelf is the list of Blenders that were added to this data folder.
func shelf(cfg Config) install.Shelf {
	return install.OpenShelf(filepath.Join(cfg.DataDir, "blenders"))
}

// morePrograms are the Blenders beside blender.path: those that the settings
// name, those that were added, and, where blender.path does not say which one
// is meant, those in the usual places.
func morePrograms(cfg Config) ([]string, error) {
	out := append([]string(nil), cfg.Blender.Programs...)
	added, err := shelf(cfg).Entries()
	if err != nil {
		return nil, err
	}
	for _, e := range added {
		out = append(out, e.Path)
	}
	if cfg.Blender.Path == "" {
		out = append(out, install.Find()...)
	}
	return out, nil
}

// blenders is a kind that is only asked about programs.
func blenders(cfg Config, path string, more []string) (*blender.Kind, func(), error) {
	runners, done := filepath.Join(cfg.DataDir, "runners"), func() {}
	if writable(runners) != nil {
		dir, err := os.MkdirTemp("", "idlewild-once-*")
		if err != nil {
			return nil, nil, err
		}
		runners, done = dir, func() { os.RemoveAll(dir) }
	}
	k, err := blender.New(blender.Options{
		Blender: path, Programs: more, Scratch: runners, Private: []string{cfg.DataDir}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		done()
		return nil, nil, err
	}
	return k, done, nil
}

// Blenders lists this machine's Blenders, those that do not work too.
func Blenders(ctx context.Context, cfg Config) ([]blender.Program, error) {
	more, err := morePrograms(cfg)
	if err != nil {
		return nil, err
	}
	k, done, err := blenders(cfg, cfg.Blender.Path, more)
	if err != nil {
		return nil, err
	}
	defer done()
	return k.Programs(ctx)
}

// AddBlender registers a program, or a Python with the package bpy, that works.
// A daemon takes it up when it starts next.
func AddBlender(ctx context.Context, cfg Config, path string) (blender.Program, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return blender.Program{}, err
	}
	path = install.Resolve(path)
	if _, err := os.Stat(path); err != nil {
		return blender.Program{}, fmt.Errorf("%s: %s", path, rootCause(err))
	}
	k, done, err := blenders(cfg, path, nil)
	if err != nil {
		return blender.Program{}, err
	}
	defer done()
	found, err := k.Programs(ctx)
	if err != nil {
		return blender.Program{}, err
	}
	if len(found) == 0 { // it cannot be executed
		_, _, err := k.Probe(ctx)
		return blender.Program{}, err
	}
	if found[0].Error != "" {
		return blender.Program{}, errors.New(found[0].Error)
	}
	return found[0], shelf(cfg).Add(install.Entry{Path: path})
}

// InstallBlender downloads a release, unpacks it in the data folder and registers
// it. A version of two numbers is the newest known one.
func InstallBlender(ctx context.Context, cfg Config, version string, progress install.Progress) (blender.Program, error) {
	var more []install.Release
	for _, s := range cfg.Blender.Releases {
		r, err := install.ParseRelease(s)
		if err != nil {
			return blender.Program{}, err
		}
		more = append(more, r)
	}
	r, err := install.Choose(version, install.System(), more)
	if err != nil {
		return blender.Program{}, err
	}
	path, err := install.Fetch(ctx, r, cfg.Blender.Mirror, filepath.Join(cfg.DataDir, "blenders"), progress)
	if err != nil {
		return blender.Program{}, err
	}
	return AddBlender(ctx, cfg, path)
}

// RemoveBlender takes a program off the list that AddBlender adds to. Its files
// stay.
func RemoveBlender(cfg Config, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return shelf(cfg).Remove(install.Resolve(path))
}

// outline is blender.Options.Outline.
func outline(ctx context.Context, path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return sum, err
	}
	return blendfile.Outline(ctx, f, st.Size())
}
