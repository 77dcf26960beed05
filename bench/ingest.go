package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	chunk "github.com/ipfs/boxo/chunker"
)

func init() {
	benchmarks["ingest"] = benchmark{"a folder stored for the first time, unchanged and edited, beside restic, borg, casync and rsync; and one file to addresses", ingest}
	benchmarks["rescan"] = benchmark{"an unchanged folder looked at again, beside restic, borg, casync and rsync; 100 GB in 5 000 sparse files", rescan}
}

// child is what one program cost.
type child struct {
	CPU  float64 `json:"cpu_s"`
	Wall float64 `json:"wall_s"`
	RSS  float64 `json:"rss_mib"`
}

// measured runs a program to its end, below a small one that tells what it
// cost: what the system says of the memory of a child begins with that of who
// started it.
func measured(ctx context.Context, dir string, env []string, name string, args ...string) (child, error) {
	c := exec.CommandContext(ctx, filepath.Join(dir, "scan"), append([]string{"-run", name}, args...)...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	var out, trouble bytes.Buffer
	c.Stdout, c.Stderr = &out, &trouble
	if err := c.Run(); err != nil {
		b := trouble.Bytes()
		return child{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, b[max(0, len(b)-1000):])
	}
	var m child
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		return child{}, fmt.Errorf("what %s cost: %w", filepath.Base(name), err)
	}
	return m, nil
}

// backup is a program that stores a folder, again and again in the same place.
type backup struct {
	name string
	// init makes a new place in at; nil: nothing need be made.
	init func(at string) (name string, args []string)
	run  func(at, src string, n int) (name string, args []string)
	env  func(at string) []string
}

func backups(scan string) []backup {
	none := func(string) []string { return nil }
	return []backup{
		{
			name: "idlewild", env: none,
			run: func(at, src string, _ int) (string, []string) {
				return scan, []string{"-compress", "-store", filepath.Join(at, "store"), "-cache", filepath.Join(at, "cache"), src}
			},
		},
		{
			name: "restic",
			env: func(at string) []string {
				return []string{"RESTIC_PASSWORD=x", "RESTIC_REPOSITORY=" + filepath.Join(at, "repo"), "RESTIC_CACHE_DIR=" + filepath.Join(at, "cache")}
			},
			init: func(string) (string, []string) { return "restic", []string{"init", "--quiet"} },
			run: func(_, src string, _ int) (string, []string) {
				return "restic", []string{"backup", "--quiet", src}
			},
		},
		{
			name: "borg",
			env: func(at string) []string {
				return []string{"BORG_BASE_DIR=" + at, "BORG_REPO=" + filepath.Join(at, "repo"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"}
			},
			init: func(string) (string, []string) { return "borg", []string{"init", "-e", "none"} },
			run: func(_, src string, n int) (string, []string) {
				return "borg", []string{"create", "--compression", "zstd,1", fmt.Sprintf("::n%d", n), src}
			},
		},
		{
			name: "casync", env: none,
			run: func(at, src string, n int) (string, []string) {
				return "casync", []string{"make", "--store=" + filepath.Join(at, "store"), filepath.Join(at, fmt.Sprintf("%d.caidx", n)), src}
			},
		},
		{
			name: "rsync -c", env: none,
			run: func(at, src string, _ int) (string, []string) {
				return "rsync", []string{"-ac", src + "/", filepath.Join(at, "copy")}
			},
		},
	}
}

// needed reports every program that is missing at once.
func needed(names ...string) error {
	var missing []string
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("peers that are not on this machine: %s (Debian packages of the same names)", strings.Join(missing, ", "))
	}
	return nil
}

// buildScan builds the child.
func buildScan(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "scan")
	b, err := exec.CommandContext(ctx, "go", "build", "-o", out, "./bench/scan").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the child: %w: %s", err, b)
	}
	return out, nil
}

// corpus copies files of this machine below dir until there are about want
// bytes: Blender's own, then the Go toolchain's.
func corpus(ctx context.Context, dir string, want int64) (files []string, size int64, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, 0, fmt.Errorf("find the Go toolchain: %w", err)
	}
	goroot := strings.TrimSpace(string(root))
	sources := []string{"/usr/share/blender", "/usr/bin/blender", filepath.Join(goroot, "bin"), filepath.Join(goroot, "pkg"), filepath.Join(goroot, "src")}
	full := errors.New("full")
	for i, src := range sources {
		err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // what is not there or may not be read is left out
			}
			if size >= want {
				return full
			}
			rel, _ := filepath.Rel(src, p)
			to := filepath.Join(dir, fmt.Sprint(i), rel)
			b, err := os.ReadFile(p)
			if err != nil {
				return nil
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			files, size = append(files, to), size+int64(len(b))
			return os.WriteFile(to, b, 0o644)
		})
		if err != nil && err != full {
			return nil, 0, err
		}
	}
	if size < want/4 {
		return nil, 0, fmt.Errorf("only %d bytes of files were found on this machine, %d are wanted", size, want)
	}
	return files, size, nil
}

// editFiles overwrites 16 KiB in every tenth file and inserts 100 bytes into every
// fiftieth.
func editFiles(files []string, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for i, path := range files {
		if i%10 != 0 || strings.HasSuffix(path, ".blend") { // which would be damaged
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			continue
		}
		at := r.IntN(len(b))
		noise := make([]byte, 16<<10)
		for j := range noise {
			noise[j] = byte(r.Uint32())
		}
		if i%50 == 0 {
			b = slices.Insert(b, at, noise[:100]...)
		} else {
			copy(b[at:], noise)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// settle is until the clock has left the files' times so far behind that they
// can be believed.
func settle(ctx context.Context) error {
	select {
	case <-time.After(2100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return quantile(v, 0.5)
}

func workDir() (string, func(), error) {
	dir, err := os.MkdirTemp("", "idlewild-bench-")
	return dir, func() { os.RemoveAll(dir) }, err
}

func ingest(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("ingest", flag.ContinueOnError)
	mib := fs.Int64("mib", 364, "size of the folder")
	rounds := fs.Int("rounds", 3, "rounds, of which the medians are told")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if err := needed("restic", "borg", "casync", "rsync"); err != nil {
		return nil, err
	}
	dir, clean, err := workDir()
	if err != nil {
		return nil, err
	}
	defer clean()
	scan, err := buildScan(ctx, dir)
	if err != nil {
		return nil, err
	}
	src := filepath.Join(dir, "src")
	files, size, err := corpus(ctx, src, *mib<<20)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%d files, %d MiB\n", len(files), size>>20)
	stages := []string{"first", "unchanged", "edited"}
	got := map[string]map[string][]child{} // stage, program
	for _, s := range stages {
		got[s] = map[string][]child{}
	}
	for round := range *rounds {
		at := filepath.Join(dir, fmt.Sprint("round", round))
		for n, stage := range stages {
			if stage == "edited" {
				if err := editFiles(files, uint64(round)); err != nil {
					return nil, err
				}
			}
			if err := settle(ctx); err != nil {
				return nil, err
			}
			for _, b := range backups(scan) {
				place := filepath.Join(at, strings.Fields(b.name)[0])
				if n == 0 {
					if err := os.MkdirAll(place, 0o700); err != nil {
						return nil, err
					}
					if b.init != nil {
						name, args := b.init(place)
						if _, err := measured(ctx, dir, b.env(place), name, args...); err != nil {
							return nil, err
						}
					}
				}
				name, args := b.run(place, src, n)
				c, err := measured(ctx, dir, b.env(place), name, args...)
				if err != nil {
					return nil, err
				}
				got[stage][b.name] = append(got[stage][b.name], c)
				fmt.Fprintf(os.Stderr, "  %-10s %-10s %6.2f CPU s %6.2f s %4.0f MiB\n", stage, b.name, c.CPU, c.Wall, c.RSS)
			}
		}
		os.RemoveAll(at)
	}
	var out []Figure
	cpu := func(stage, name string) float64 {
		return median(pick(got[stage][name], func(c child) float64 { return c.CPU }))
	}
	rss := func(stage, name string) float64 {
		return median(pick(got[stage][name], func(c child) float64 { return c.RSS }))
	}
	peers := func(of func(stage, name string) float64, stage string) (ps []Peer) {
		for _, b := range backups(scan)[1:] {
			ps = append(ps, Peer{b.name, of(stage, b.name)})
		}
		return ps
	}
	for _, stage := range stages {
		f := plain(stage+", CPU, compressed and stored", cpu(stage, "idlewild"), "s")
		f.Peers = peers(cpu, stage)
		out = append(out, f)
	}
	// What the program takes before it has done anything.
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(empty, "f"), []byte("x"), 0o600); err != nil {
		return nil, err
	}
	idle, err := measured(ctx, dir, nil, scan, "-store", filepath.Join(dir, "none"), empty)
	if err != nil {
		return nil, err
	}
	plainRSS := plain("memory of a first ingest, all of it", rss("first", "idlewild"), "MiB")
	plainRSS.Peers = peers(rss, "first")
	out = append(out,
		atMost("first ingest, CPU against restic", cpu("first", "idlewild")/cpu("first", "restic"), "x", 0.5),
		plainRSS)
	one, err := oneFile(ctx, dir, scan, files, *rounds, idle.RSS)
	return append(out, one...), err
}

func pick[T any](v []T, f func(T) float64) []float64 {
	out := make([]float64, len(v))
	for i, c := range v {
		out[i] = f(c)
	}
	return out
}

// oneFile measures one large file, read to addresses with nothing stored.
func oneFile(ctx context.Context, dir, scan string, files []string, rounds int, idle float64) ([]Figure, error) {
	big := filepath.Join(dir, "big")
	f, err := os.Create(big)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const want = 1 << 30
	var size int64
	for size < want {
		before := size
		for _, p := range files {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			n, err := f.Write(b)
			if size += int64(n); err != nil {
				return nil, err
			}
			if size >= want {
				break
			}
		}
		if size == before {
			return nil, errors.New("the files are empty")
		}
	}
	if _, err := measured(ctx, dir, nil, scan, big); err != nil { // into the page cache
		return nil, err
	}
	sets := []struct {
		name  string
		cores string
		args  []string
	}{
		{"sha2-256", "1", nil},
		{"blake3", "1", []string{"-blake3"}},
		{"two cores", "2", nil},
	}
	got := map[string][]child{}
	var boxo []float64
	for range rounds {
		for _, s := range sets {
			c, err := measured(ctx, dir, []string{"GOMAXPROCS=" + s.cores}, scan, append(slices.Clone(s.args), big)...)
			if err != nil {
				return nil, err
			}
			got[s.name] = append(got[s.name], c)
		}
		gb, err := buzhash(big)
		if err != nil {
			return nil, err
		}
		boxo = append(boxo, gb)
	}
	speed := func(name string) float64 {
		return float64(size) / 1e9 / median(pick(got[name], func(c child) float64 { return c.CPU }))
	}
	wall := func(name string) float64 { return median(pick(got[name], func(c child) float64 { return c.Wall })) }
	rss := median(pick(got["two cores"], func(c child) float64 { return c.RSS }))
	return []Figure{
		atLeast("file to addresses, sha2-256, one core", speed("sha2-256"), "GB/CPU s", 1.0, Peer{"boxo buzhash and sha2-256", median(boxo)}),
		atLeast("file to addresses, blake3, one core", speed("blake3"), "GB/CPU s", 1.4),
		atLeast("two cores against one, wall", wall("sha2-256")/wall("two cores"), "x", 1.8),
		atMost("memory for 1 GiB, beyond the idle program", rss-idle, "MiB", 24),
	}, nil
}

// buzhash is how fast boxo's importer cuts and hashes, in GB per CPU second.
func buzhash(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	before := ownCPU()
	var size int64
	s := chunk.NewBuzhash(f)
	for {
		b, err := s.NextBytes()
		if err == io.EOF {
			return float64(size) / 1e9 / (ownCPU() - before), nil
		} else if err != nil {
			return 0, err
		}
		sha256.Sum256(b)
		size += int64(len(b))
	}
}

func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func rescan(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("rescan", flag.ContinueOnError)
	mib := fs.Int64("mib", 200, "size of the folder that the peers look at too")
	rounds := fs.Int("rounds", 5, "rounds, of which the medians are told")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if err := needed("restic", "borg", "casync", "rsync"); err != nil {
		return nil, err
	}
	dir, clean, err := workDir()
	if err != nil {
		return nil, err
	}
	defer clean()
	scan, err := buildScan(ctx, dir)
	if err != nil {
		return nil, err
	}
	src := filepath.Join(dir, "src")
	files, size, err := corpus(ctx, src, *mib<<20)
	if err != nil {
		return nil, err
	}
	sparse := filepath.Join(dir, "sparse")
	const count, each = 5000, 20_000_000
	for i := range count {
		path := filepath.Join(sparse, fmt.Sprint(i/100), fmt.Sprintf("%05d.vdb", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := errors.Join(os.WriteFile(path, fmt.Appendf(nil, "volume %d", i), 0o600), os.Truncate(path, each)); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(os.Stderr, "%d files, %d MiB; %d sparse ones, %d GB\n", len(files), size>>20, count, count*each/1_000_000_000)
	if err := settle(ctx); err != nil {
		return nil, err
	}
	ours := func(of, src string) (child, error) {
		return measured(ctx, dir, nil, scan, "-store", filepath.Join(dir, of), "-cache", filepath.Join(dir, of+".cache"), src)
	}
	if _, err := ours("volumes", sparse); err != nil {
		return nil, err
	}
	got := map[string][]child{}
	var volumes []child
	for round := range *rounds + 1 {
		for _, b := range backups(scan) {
			place := filepath.Join(dir, strings.Fields(b.name)[0])
			if round == 0 {
				if err := os.MkdirAll(place, 0o700); err != nil {
					return nil, err
				}
				if b.init != nil {
					name, args := b.init(place)
					if _, err := measured(ctx, dir, b.env(place), name, args...); err != nil {
						return nil, err
					}
				}
			}
			name, args := b.run(place, src, round)
			c, err := measured(ctx, dir, b.env(place), name, args...)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				got[b.name] = append(got[b.name], c)
			}
		}
		c, err := ours("volumes", sparse)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			volumes = append(volumes, c)
		}
	}
	cpu := func(c child) float64 { return c.CPU }
	perFile := func(name string) float64 { return median(pick(got[name], cpu)) / float64(len(files)) * 1e6 }
	first := plain(fmt.Sprintf("unchanged, %d files, CPU per file", len(files)), perFile("idlewild"), "µs")
	for _, b := range backups(scan)[1:] {
		first.Peers = append(first.Peers, Peer{b.name, perFile(b.name)})
	}
	return []Figure{
		first,
		atLeast("restic against ours, unchanged, CPU", perFile("restic")/perFile("idlewild"), "x", 8),
		atMost("100 GB in 5 000 files, CPU per file", median(pick(volumes, cpu))/count*1e6, "µs", 10),
		atMost("100 GB in 5 000 files, wall", median(pick(volumes, func(c child) float64 { return c.Wall }))*1000, "ms", 100),
	}, nil
}
