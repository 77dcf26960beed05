package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	plakar "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/jc"
	boxo "github.com/ipfs/boxo/chunker"
	jotfs "github.com/jotfs/fastcdc-go"
	restic "github.com/restic/chunker"
	tiger "github.com/tigerwill90/fastcdc"

	"idlewild/chunker"
)

func init() {
	benchmarks["chunk"] = benchmark{"cutting in GB/s of one core and the new bytes after edits, beside other Go chunkers", chunkBench}
}

const (
	kib, mib = 1 << 10, 1 << 20
	pieceLen = mib // what is timed at once: shorter than a time slice
)

// chunkBench times passes over data that no cache holds, a piece at a time, all
// contestants in turn, and takes each piece's lower quartile over the passes: the
// machine is shared, and what others do only ever adds.
func chunkBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("chunk", flag.ContinueOnError)
	passes := fs.Int("passes", 16, "passes over the data")
	rounds := fs.Int("rounds", 12, "keys for which new bytes are counted")
	serve := fs.Bool("serve", false, "be the process that a kernel is forced in")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *passes < 1 || *rounds < 1 {
		return nil, fmt.Errorf("passes %d, rounds %d: need at least 1 of each", *passes, *rounds)
	}
	data, err := chunkData()
	if err != nil {
		return nil, err
	}
	if *serve {
		serveKernel(data)
		os.Exit(0)
	}

	var all []contestant
	add := func(name, set string, pass func(d []byte) ([]float64, error)) {
		all = append(all, contestant{name: name, pass: func() ([]float64, error) { return pass(data[set]) }})
	}
	add("read-only pass", "real", timed(readOnly))
	for _, p := range chunkPeers() {
		add(p.name, "real", timed(p.cut))
	}
	fastest, err := chunker.KernelName()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{fastest, "portable"} {
		k, err := startKernel(ctx, name)
		if err != nil {
			return nil, err
		}
		defer k.close()
		for set := range data {
			all = append(all, contestant{name: name + " " + set, pass: func() ([]float64, error) { return k.pass(set) }})
		}
		all = append(all, contestant{name: name + " stream", pass: func() ([]float64, error) { return k.pass("stream") }})
	}
	speed := map[string]float64{}
	for i := range *passes + 1 { // the first is for caches and pages
		for j := range all {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			secs, err := all[j].pass()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[j].name, err)
			}
			if i > 0 {
				all[j].seconds = append(all[j].seconds, secs)
			}
		}
	}
	for _, c := range all {
		speed[c.name] = float64(len(data["real"])) / c.total() / 1e9
	}
	fmt.Fprintln(os.Stderr, "counting new bytes")
	fresh, freshPeers, err := newBytes(data["real"], *rounds)
	if err != nil {
		return nil, err
	}

	peers := []Peer{}
	best := 0.0
	for _, p := range chunkPeers() {
		peers = append(peers, Peer{p.name, speed[p.name]})
		if !p.other {
			best = max(best, speed[p.name])
		}
	}
	real := speed[fastest+" real"]
	figures := []Figure{
		{Name: "keyed chunking, " + fastest + ", real binaries", Value: real, Unit: "GB/s", Goal: ">= 7.5 or 55 % of a read-only pass",
			Holds: real >= 7.5 || real >= .55*speed["read-only pass"], Peers: peers},
		atLeast("share of a read-only pass", real/speed["read-only pass"], "", .55, Peer{"read-only pass, GB/s", speed["read-only pass"]}),
		plain("times the fastest Go FastCDC here", real/best, ""),
		plain("the same from a reader", speed[fastest+" stream"], "GB/s"),
		atLeast("portable kernel, share of "+fastest, speed["portable real"]/real, "", .25, Peer{"portable, GB/s", speed["portable real"]}),
		atMost("new bytes at the same mean size, against Gear NC2", fresh, "", 1.10, freshPeers...),
	}
	var sets []string
	for set := range data {
		if set != "real" {
			sets = append(sets, set)
		}
	}
	sort.Strings(sets)
	for _, set := range sets {
		figures = append(figures, atLeast(set+", share of the speed on real binaries", speed[fastest+" "+set]/real, "", .5))
	}
	return figures, nil
}

// contestant is timed in every pass.
type contestant struct {
	name    string
	pass    func() ([]float64, error) // seconds for each piece
	seconds [][]float64               // by pass
}

// total returns the seconds for all pieces, each piece's being the lower
// quartile of the passes.
func (c contestant) total() float64 {
	sum := 0.0
	for piece := range c.seconds[0] {
		var s []float64
		for _, pass := range c.seconds {
			s = append(s, pass[piece])
		}
		sort.Float64s(s)
		sum += quantile(s, .25)
	}
	return sum
}

// timed makes a pass of what is done with a piece.
func timed(do func(d []byte) error) func(d []byte) ([]float64, error) {
	return func(d []byte) ([]float64, error) {
		var out []float64
		for ; len(d) > 0; d = d[pieceLen:] {
			start := time.Now()
			if err := do(d[:pieceLen]); err != nil {
				return nil, err
			}
			out = append(out, time.Since(start).Seconds())
		}
		return out, nil
	}
}

// chunkData returns the sets of bytes, all of one length: real is programs that
// are on this machine.
func chunkData() (map[string][]byte, error) {
	var real []byte
	var failed error
	add := func(path string, err error) {
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(path)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("real binaries: %w: install it", err))
			return
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 32*mib))
		failed = errors.Join(failed, err)
		real = append(real, b...)
	}
	add(exec.LookPath("go"))
	add(exec.LookPath("gofmt"))
	add(exec.LookPath("blender"))
	if failed != nil {
		return nil, failed
	}
	real = real[:len(real)/pieceLen*pieceLen]
	n := len(real)
	random := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(random)
	few, sparse := make([]byte, n), make([]byte, n)
	for i, b := range random {
		few[i] = b & 1
		if i%64 == int(b)%64 {
			sparse[i] = b
		}
	}
	return map[string][]byte{
		"real": real, "random": random, "zeros": make([]byte, n), "low entropy": few, "sparse": sparse,
		"text": bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog. "), n/45+1)[:n],
	}, nil
}

var sink uint64 // of readOnly

// readOnly looks at every byte.
func readOnly(d []byte) error {
	var a, b, c, e uint64
	for ; len(d) >= 64; d = d[64:] {
		p := (*[64]byte)(d)
		a += binary.LittleEndian.Uint64(p[0:]) + binary.LittleEndian.Uint64(p[8:])
		b += binary.LittleEndian.Uint64(p[16:]) + binary.LittleEndian.Uint64(p[24:])
		c += binary.LittleEndian.Uint64(p[32:]) + binary.LittleEndian.Uint64(p[40:])
		e += binary.LittleEndian.Uint64(p[48:]) + binary.LittleEndian.Uint64(p[56:])
	}
	sink += a + b + c + e
	return nil
}

// kernelProcess is this program again, with a kernel forced.
type kernelProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startKernel(ctx context.Context, name string) (*kernelProcess, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, "chunk", "-serve")
	cmd.Env = append(os.Environ(), chunker.KernelVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &kernelProcess{cmd, in, bufio.NewReader(out)}, nil
}

func (k *kernelProcess) pass(set string) ([]float64, error) {
	if _, err := fmt.Fprintln(k.in, set); err != nil {
		return nil, err
	}
	line, err := k.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the process of the kernel: %w", err)
	}
	var out []float64
	return out, json.Unmarshal(line, &out)
}

func (k *kernelProcess) close() {
	k.in.Close()
	_ = k.cmd.Wait()
}

// serveKernel makes a pass over each set that a line of stdin names.
func serveKernel(data map[string][]byte) {
	split := timed(func(d []byte) error {
		for _, err := range chunker.Split(d, chunker.Params{}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	stream := timed(func(d []byte) error {
		for _, err := range chunker.Chunks(bytes.NewReader(d), chunker.Params{}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var secs []float64
		var err error
		if set := lines.Text(); set == "stream" {
			secs, err = stream(data["real"])
		} else {
			secs, err = split(data[set])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		b, _ := json.Marshal(secs)
		fmt.Println(string(b))
	}
}

// chunkPeer is another Go chunker, with 16/64/256 KiB where it can be told.
type chunkPeer struct {
	name  string
	other bool // no FastCDC
	cut   func(d []byte) error
}

// resticPolynomial is one that restic's RandomPolynomial gave.
const resticPolynomial = restic.Pol(0x3DA3358B4DC173)

func chunkPeers() []chunkPeer {
	const lo, avg, hi = chunker.DefaultMin, chunker.DefaultAvg, chunker.DefaultMax
	drain := func(next func() error) error {
		for {
			if err := next(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	buf := make([]byte, hi)
	plakarAs := func(algorithm string) func(d []byte) error {
		return func(d []byte) error {
			c, err := plakar.NewChunker(algorithm, bytes.NewReader(d), &plakar.ChunkerOpts{MinSize: lo, NormalSize: avg, MaxSize: hi})
			if err != nil {
				return err
			}
			return drain(func() error { _, err := c.Next(); return err })
		}
	}
	return []chunkPeer{
		{"tigerwill90/fastcdc 1.2.2", false, func(d []byte) error {
			c, err := tiger.NewChunker(context.Background(), tiger.WithChunksSize(lo, avg, hi))
			if err != nil {
				return err
			}
			none := func(offset, length uint, chunk []byte) error { return nil }
			if err := c.Split(bytes.NewReader(d), none); err != nil {
				return err
			}
			return c.Finalize(none)
		}},
		{"jotfs/fastcdc-go 0.2.0", false, func(d []byte) error {
			c, err := jotfs.NewChunker(bytes.NewReader(d), jotfs.Options{MinSize: lo, AverageSize: avg, MaxSize: hi})
			if err != nil {
				return err
			}
			return drain(func() error { _, err := c.Next(); return err })
		}},
		{"plakar fastcdc 1.1.0", false, plakarAs("fastcdc-v1.0.0")},
		{"plakar jc 1.1.0", true, plakarAs("jc-v1.1.0")},
		{"restic/chunker 0.4.0", true, func(d []byte) error {
			c := restic.NewWithBoundaries(bytes.NewReader(d), resticPolynomial, lo, hi)
			c.SetAverageBits(16)
			return drain(func() error { _, err := c.Next(buf); return err })
		}},
		{"boxo buzhash", true, func(d []byte) error {
			c := boxo.NewBuzhash(bytes.NewReader(d))
			return drain(func() error { _, err := c.NextBytes(); return err })
		}},
		{"boxo rabin", true, func(d []byte) error {
			c := boxo.NewRabinMinMax(bytes.NewReader(d), lo, avg, hi)
			return drain(func() error { _, err := c.NextBytes(); return err })
		}},
	}
}

// newBytes edits 1 % of the 16 KiB blocks of d, again for each round with
// another key, and returns the new bytes of ours over those of Gear, each
// divided by its mean size. The peers are in percent of d, as counted, and
// restic's ratio.
func newBytes(d []byte, rounds int) (ratio float64, peers []Peer, err error) {
	type cutter func(round int, d []byte) ([]int, error)
	const lo, avg, hi = chunker.DefaultMin, chunker.DefaultAvg, chunker.DefaultMax
	cutters := []cutter{
		func(round int, d []byte) (out []int, err error) {
			for c, err := range chunker.Split(d, chunker.Params{Key: [32]byte{byte(round + 1)}}) {
				if err != nil {
					return nil, err
				}
				out = append(out, len(c.Data))
			}
			return out, nil
		},
		func(round int, d []byte) (out []int, err error) {
			g := newGear(uint64(round), lo, avg, hi)
			for len(d) > 0 {
				n := g.cut(d)
				out, d = append(out, n), d[n:]
			}
			return out, nil
		},
		func(round int, d []byte) (out []int, err error) {
			c := restic.NewWithBoundaries(bytes.NewReader(d), resticPolynomial, lo, hi)
			c.SetAverageBits(16)
			buf := make([]byte, hi)
			for {
				p, err := c.Next(buf)
				if errors.Is(err, io.EOF) {
					return out, nil
				} else if err != nil {
					return nil, err
				}
				out = append(out, int(p.Length))
			}
		},
	}
	fresh, chunks := make([]float64, len(cutters)), make([]float64, len(cutters))
	for round := range rounds {
		edited := editBlocks(d, uint64(round))
		for i, cut := range cutters {
			old, err := cut(round, d)
			if err != nil {
				return 0, nil, err
			}
			now, err := cut(round, edited)
			if err != nil {
				return 0, nil, err
			}
			have := map[[32]byte]bool{}
			for at, rest := 0, d; at < len(old); at++ {
				have[sha256.Sum256(rest[:old[at]])] = true
				rest = rest[old[at]:]
			}
			for at, rest := 0, edited; at < len(now); at++ {
				if id := sha256.Sum256(rest[:now[at]]); !have[id] {
					have[id] = true
					fresh[i] += float64(now[at])
				}
				rest = rest[now[at]:]
			}
			chunks[i] += float64(len(old))
		}
	}
	total := float64(len(d) * rounds)
	perMean := func(i int) float64 { return fresh[i] * chunks[i] / total }
	for i, name := range []string{"idlewild", "Gear NC2", "restic/chunker 0.4.0"} {
		peers = append(peers,
			Peer{name + ", % of the data", 100 * fresh[i] / total},
			Peer{name + ", mean KiB", total / chunks[i] / kib})
	}
	peers = append(peers, Peer{"restic/chunker, ratio", perMean(2) / perMean(1)})
	return perMean(0) / perMean(1), peers, nil
}

// editBlocks overwrites up to 100 bytes in 1 % of the 16 KiB blocks of d; in every
// second of those some bytes are put in besides.
func editBlocks(d []byte, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, 0, len(d)+len(d)/1000)
	for len(d) > 0 {
		n := min(len(d), 16*kib)
		block := bytes.Clone(d[:n])
		d = d[n:]
		if n > 200 && rng.IntN(100) == 0 {
			at := rng.IntN(n - 100)
			for i := range 1 + rng.IntN(100) {
				block[at+i] = byte(rng.Uint32())
			}
			if rng.IntN(2) == 0 {
				block = append(block[:at:at], append([]byte(strings.Repeat("+", 1+rng.IntN(50))), block[at:]...)...)
			}
		}
		out = append(out, block...)
	}
	return out
}
