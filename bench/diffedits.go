package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// editGoal is one edit of edit.py and what it may cost, in bytes; 0: no goal.
type editGoal struct {
	name, what string
	most       float64
}

var scriptedEdits = []editGoal{
	{"none", "save without an edit", 64},
	{"move", "move an object", 150},
	{"material", "material value", 150},
	{"render", "render setting", 150},
	{"vertex", "one vertex", 150},
	{"rename", "rename an object", 500},
	{"delete", "delete an object", 500},
	{"keyframes", "three keyframes", 500},
	{"sculpt", "sculpt 5 % of a mesh", 0}, // twice the entropy of what changed
	{"add", "add a mesh", 0},
	{"texture", "swap a packed texture", 0}, // 1.02 times the new one by zstd -19
}

// editChoice is what of the edits is measured; empty lists: all.
type editChoice struct {
	scenes, edits []string
	project       string // folder of `bench project`; empty: none
	quick         bool
}

// editScene is a scene that is edited.
type editScene struct {
	name    string
	texture int // pixels along each side of the packed texture
	file    string
}

// edits makes each edit in a Blender process of its own that has just loaded
// the base file, which another process saved, and compares.
func (d *differ) edits(ctx context.Context, c editChoice) ([]Figure, error) {
	b, err := newBlender(d.dir)
	if err != nil {
		return nil, err
	}
	scenes := []editScene{{name: "small", texture: 512}, {name: "big", texture: 2048}}
	if c.project != "" {
		scenes = append(scenes, editScene{name: "project", texture: 2048, file: filepath.Join(c.project, projectMain)})
	} else if !c.quick {
		fmt.Fprintln(os.Stderr, "NOT RUN: edits of the project's main scene: name its folder with --project")
	}
	var figures []Figure
	for _, s := range scenes {
		if len(c.scenes) > 0 && !slices.Contains(c.scenes, s.name) || c.quick && s.name != "small" {
			continue
		}
		got, err := d.editScene(ctx, b, s, c.edits)
		figures = append(figures, got...)
		if err != nil {
			return figures, fmt.Errorf("%s scene: %w", s.name, err)
		}
	}
	return figures, nil
}

// editScene measures all edits of one scene, in both containers.
func (d *differ) editScene(ctx context.Context, b *blender, s editScene, only []string) ([]Figure, error) {
	dir, err := os.MkdirTemp(d.dir, s.name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	say("%s scene: making it", s.name)
	textures := []string{in("texture0.png"), in("texture1.png")}
	for i, t := range textures {
		if err := writePNG(t, painted(uint64(90+i), s.texture, s.texture)); err != nil {
			return nil, err
		}
	}
	if s.file == "" {
		s.file = in("scene.blend")
		if _, err := b.run(ctx, "", "scene.py", "--size", s.name, "--texture", textures[0], "--out", s.file); err != nil {
			return nil, err
		}
	}
	// The base is what a Blender saves that has loaded the scene, like every
	// edit after it. The scene itself is what a script left.
	if _, err := b.run(ctx, s.file, "edit.py", "--edit", "none", "--raw", in("base-raw.blend"), "--packed", in("base-packed.blend")); err != nil {
		return nil, err
	}
	goals := map[string]float64{}
	var chosen []editGoal
	var todo []filePair
	for _, e := range scriptedEdits {
		if len(only) > 0 && !slices.Contains(only, e.name) {
			continue
		}
		chosen = append(chosen, e)
		fmt.Fprintf(os.Stderr, "  Blender: %s\n", e.what)
		args := []string{"--edit", e.name, "--raw", in(e.name + "-raw.blend"), "--packed", in(e.name + "-packed.blend"), "--texture", textures[1]}
		if e.name == "sculpt" {
			args = append(args, "--coordinates", in("hero"))
		}
		if _, err := b.run(ctx, in("base-raw.blend"), "edit.py", args...); err != nil {
			return nil, err
		}
		if goals[e.name], err = d.editGoal(ctx, e, dir, textures[1]); err != nil {
			return nil, err
		}
		for _, container := range []string{"raw", "packed"} {
			name := fmt.Sprintf("%s, %s: %s", s.name, container, e.what)
			todo = append(todo, filePair{name, in("base-" + container + ".blend"), in(e.name + "-" + container + ".blend")})
		}
	}
	all, err := d.compareAll(ctx, todo)
	if err != nil {
		return nil, err
	}
	d.table("edit", all)
	var figures []Figure
	for i, c := range all {
		e := chosen[i/2]
		f := plain(c.name, float64(c.ours.WireBytes), "B")
		if goals[e.name] > 0 {
			f = atMost(c.name, f.Value, "B", float64(int(goals[e.name])))
		}
		for _, p := range d.peers {
			f.Peers = append(f.Peers, Peer{p.name, float64(c.peers[p.name])})
		}
		figures = append(figures, f)
	}
	times, err := d.encodeTimes(ctx, s.name, todo)
	return append(figures, times...), err
}

// editGoal is what an edit may cost where that depends on the edit.
func (d *differ) editGoal(ctx context.Context, e editGoal, dir, texture string) (float64, error) {
	switch e.name {
	case "sculpt":
		var co [2][]byte
		for i, name := range []string{"hero.old", "hero.new"} {
			var err error
			if co[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return 0, err
			}
		}
		n, err := changedEntropy(co[0], co[1])
		fmt.Fprintf(os.Stderr, "  the changed coordinates carry %.0f bytes\n", n)
		return 2 * n, err
	case "texture":
		tmp, err := os.MkdirTemp(dir, "zstd-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(tmp)
		n, err := wholeBytes(ctx, tmp, "", texture)
		fmt.Fprintf(os.Stderr, "  the new texture takes %d bytes by zstd -19\n", n)
		return 1.02 * float64(n), err
	}
	return e.most, nil
}

// encodeTimes measures the encoder on one core, with the edit that an artist
// would do between two submissions, and how long two peers take on that core.
func (d *differ) encodeTimes(ctx context.Context, scene string, pairs []filePair) ([]Figure, error) {
	const core, runs = "0", 3
	var figures []Figure
	for _, p := range pairs {
		if filepath.Base(p.fresh) != "move-raw.blend" && filepath.Base(p.fresh) != "move-packed.blend" {
			continue
		}
		var ours, rsync, xdelta []float64
		for range runs {
			r, err := d.ours(ctx, p.old, p.fresh, "taskset", "-c", core)
			if err != nil {
				return nil, err
			}
			ours = append(ours, r.EncodeSeconds)
			if len(d.peers) == 0 {
				continue
			}
			for _, peer := range []struct {
				times *[]float64
				run   func(dir string) error
			}{
				{&rsync, func(dir string) error {
					if err := copyFile(filepath.Join(dir, "file"), p.old); err != nil {
						return err
					}
					_, err := command(ctx, dir, "taskset", "-c", core, "rsync", "-z", "--ignore-times", "--no-whole-file", p.fresh, filepath.Join(dir, "file"))
					return err
				}},
				{&xdelta, func(dir string) error {
					_, err := command(ctx, dir, "taskset", "-c", core, "xdelta3", "-e", "-9", "-B", "536870912", "-s", p.old, p.fresh, "patch")
					return err
				}},
			} {
				dir, err := os.MkdirTemp(d.dir, "peer-")
				if err != nil {
					return nil, err
				}
				begun := time.Now()
				err = peer.run(dir)
				*peer.times = append(*peer.times, time.Since(begun).Seconds())
				os.RemoveAll(dir)
				if err != nil {
					return nil, err
				}
			}
		}
		slices.Sort(ours)
		name := p.name + ": encode on one core"
		f := plain(name, ours[runs/2], "s")
		if scene == "big" {
			f = atMost(name, ours[runs/2], "s", 2)
		}
		for _, p := range []struct {
			name  string
			times []float64
		}{{"rsync -z, both sides", rsync}, {"xdelta3 -9", xdelta}} {
			if slices.Sort(p.times); len(p.times) == runs {
				f.Peers = append(f.Peers, Peer{p.name, p.times[runs/2]})
			}
		}
		figures = append(figures, f)
	}
	return figures, nil
}
