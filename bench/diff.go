package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
)

func init() {
	benchmarks["diff"] = benchmark{"bytes that an edit moves, beside rsync, casync, restic, borg, xdelta3 and zstd --patch-from", diffBench}
}

const scenesFolder = "../shared/scenes"

// diffBench runs `idlewild diff` and its peers on the same two files: on
// successive saves of a folder, on edits that it makes with Blender, on a brush
// stroke in a PNG, and on fine-tunes of models.
func diffBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("diff", flag.ContinueOnError)
	pairs := fs.String("pairs", "", "folder of successive saves, name__00*.blend, name__01*.blend (default "+scenesFolder+" where it is)")
	edits := fs.Bool("edits", false, "edits of scenes made with Blender")
	strokes := fs.Bool("stroke", false, "a brush stroke in a painted 4k PNG")
	models := fs.Bool("models", false, "fine-tunes of model files")
	scenes := fs.String("scenes", "", "of the edits: only these scenes, of small, big, project")
	project := fs.String("project", "", "folder of go run ./bench project: its main scene is edited as well")
	only := fs.String("only", "", "of the edits: only these, separated by commas")
	alone := fs.Bool("ours", false, "without the peers, for work on the encoder")
	quick := fs.Bool("quick", false, "small scene, picture and models only")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q: see --help", fs.Arg(0))
	}
	all := *pairs == "" && !*edits && !*strokes && !*models
	d, err := newDiffer(ctx, *alone)
	if err != nil {
		return nil, err
	}
	defer d.close()

	var figures []Figure
	if *pairs == "" && all {
		if fi, err := os.Stat(scenesFolder); err == nil && fi.IsDir() {
			*pairs = scenesFolder
		} else {
			fmt.Fprintf(os.Stderr, "NOT RUN: successive saves: there is no %s; name a folder with --pairs\n", scenesFolder)
		}
	}
	if *pairs != "" {
		got, err := d.pairs(ctx, *pairs)
		figures = append(figures, got...)
		if err != nil {
			return figures, err
		}
	}
	if *edits || all {
		got, err := d.edits(ctx, editChoice{scenes: list(*scenes), edits: list(*only), project: *project, quick: *quick})
		figures = append(figures, got...)
		if err != nil {
			return figures, err
		}
	}
	if *strokes || all {
		got, err := d.stroke(ctx, *quick)
		figures = append(figures, got...)
		if err != nil {
			return figures, err
		}
	}
	if *models || all {
		got, err := d.models(ctx, *quick)
		figures = append(figures, got...)
		if err != nil {
			return figures, err
		}
	}
	return figures, nil
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// differ compares two files by every means, in a folder that goes with it.
type differ struct {
	dir   string
	bin   string
	peers []peer
}

func newDiffer(ctx context.Context, alone bool) (*differ, error) {
	d := &differ{}
	var err error
	if !alone {
		if d.peers, err = findPeers(); err != nil {
			return nil, err
		}
	}
	if d.dir, err = os.MkdirTemp("", "idlewild-bench-"); err != nil {
		return nil, err
	}
	d.bin = filepath.Join(d.dir, "idlewild")
	if err := buildProgram(ctx, d.bin); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *differ) close() {
	if os.Getenv("IDLEWILD_BENCH_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept:", d.dir)
		return
	}
	os.RemoveAll(d.dir)
}

// diffReport is what `idlewild diff --json` prints, as far as it is read here.
type diffReport struct {
	NewBytes      int64    `json:"new_bytes"`
	WireBytes     int64    `json:"wire_bytes"`
	Method        string   `json:"method"`
	EncodeSeconds float64  `json:"encode_s"`
	Verified      bool     `json:"verified"`
	Warnings      []string `json:"warnings"`
}

// ours runs the program itself. before is put in front of the command line.
func (d *differ) ours(ctx context.Context, old, fresh string, before ...string) (diffReport, error) {
	dir, err := os.MkdirTemp(d.dir, "ours-")
	if err != nil {
		return diffReport{}, err
	}
	defer os.RemoveAll(dir)
	b, err := command(ctx, dir, append(before, d.bin, "diff", old, fresh, "--json")...)
	if err != nil {
		return diffReport{}, err
	}
	var r diffReport
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("idlewild diff printed %q: %w", b, err)
	}
	if !r.Verified {
		return r, fmt.Errorf("idlewild diff %s %s: not verified", old, fresh)
	}
	return r, nil
}

// comparison is one pair of files by every means.
type comparison struct {
	name  string
	size  int64 // of the new file
	ours  diffReport
	peers map[string]int64
}

// best is what the cheapest peer moves.
func (c comparison) best() int64 {
	var best int64
	for _, n := range c.peers {
		if best == 0 || n < best {
			best = n
		}
	}
	return best
}

// compare runs ours and every peer.
func (d *differ) compare(ctx context.Context, name, old, fresh string) (comparison, error) {
	c := comparison{name: name, peers: map[string]int64{}}
	fi, err := os.Stat(fresh)
	if err != nil {
		return c, err
	}
	c.size = fi.Size()
	if c.ours, err = d.ours(ctx, old, fresh); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range d.peers {
		dir, err := os.MkdirTemp(d.dir, "peer-")
		if err != nil {
			return c, err
		}
		n, err := p.bytes(ctx, dir, old, fresh)
		os.RemoveAll(dir)
		if err != nil {
			return c, fmt.Errorf("%s: %s: %w", name, p.name, err)
		}
		c.peers[p.name] = n
	}
	return c, nil
}

// compareAll runs two comparisons at a time, since sizes do not depend on
// speed, and shows each as it is done.
func (d *differ) compareAll(ctx context.Context, what []filePair) ([]comparison, error) {
	out, errs := make([]comparison, len(what)), make([]error, len(what))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range next {
				if out[i], errs[i] = d.compare(ctx, what[i].name, what[i].old, what[i].fresh); errs[i] != nil {
					cancel()
					continue
				}
				fmt.Fprintf(os.Stderr, "  %-44s %10d of %10d, best peer %10d\n", out[i].name, out[i].ours.WireBytes, out[i].size, out[i].best())
			}
		})
	}
	for i := range what {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	return out, errors.Join(errs...)
}

type filePair struct{ name, old, fresh string }

// table shows comparisons in bytes on stderr.
func (d *differ) table(title string, all []comparison) {
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s\tnew file\tidlewild\t", title)
	for _, p := range d.peers {
		fmt.Fprintf(w, "%s\t", p.name)
	}
	fmt.Fprintln(w)
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t", c.name, c.size, c.ours.WireBytes)
		for _, p := range d.peers {
			fmt.Fprintf(w, "%d\t", c.peers[p.name])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// command runs a program in a folder that is its home and its place for
// temporary files as well, and returns its stdout.
func command(ctx context.Context, dir string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "XDG_CACHE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "IDLEWILD_DATA_DIR="+dir)
	c.Env = append(c.Env, peerSettings...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		said := strings.TrimSpace(stderr.String() + stdout.String())
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said[max(0, len(said)-1000):])
	}
	return stdout.Bytes(), nil
}
