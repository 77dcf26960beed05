package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"idlewild/job"
	"idlewild/p2p"
)

func init() {
	benchmarks["bulk"] = benchmark{"moving blocks: loopback, a long link and fan-out, beside raw TCP and bitswap", bulkBench}
}

// bulkBench moves the same blocks between real libp2p hosts in this process by
// our exchange and by boxo's bitswap, and their bytes over raw TCP.
func bulkBench(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("bulk", flag.ContinueOnError)
	only := flags.String("only", "loopback,link,fanout,slow", "the parts to run")
	loopMiB := flags.Int("loopback", 256, "MiB that are moved over loopback")
	fileMiB := flags.Int("file", 32, "MiB that are moved over shaped links")
	rounds := flags.Int("rounds", 3, "how often loopback is measured; medians count")
	peers := flags.Bool("bitswap", true, "measure bitswap beside ours")
	profile := flags.String("profile", "", "write where the processor's time goes to this file, of both ends")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *loopMiB < 1 || *fileMiB < 1 || *rounds < 1 {
		return nil, errors.New("--loopback, --file and --rounds must be at least 1")
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	b := &bulkRun{bitswap: *peers}
	dir, err := os.MkdirTemp("", "idlewild-bulk-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	var out []Figure
	for part := range strings.SplitSeq(*only, ",") {
		var figures []Figure
		switch part {
		case "loopback":
			figures, err = b.loopback(ctx, *loopMiB, *rounds)
		case "link":
			figures, err = b.link(ctx, *fileMiB)
		case "fanout":
			figures, err = b.fanout(ctx, *fileMiB)
		case "slow":
			figures, err = b.slow(ctx, *fileMiB)
		default:
			err = fmt.Errorf("no part is called %q", part)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, figures...)
	}
	return out, nil
}

type bulkRun struct {
	dir     string
	n       int
	bitswap bool
}

// rawTCP moves n bytes over one connection and returns the time.
func rawTCP(ctx context.Context, n int64, from, to *shapedNode) (time.Duration, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var dial func(context.Context, string, string) (net.Conn, error) = new(net.Dialer).DialContext
	if from != nil {
		if err := to.listens(l.Addr().String()); err != nil {
			return 0, err
		}
		dial = from.DialContext
	}
	begun := time.Now()
	sent := make(chan error, 1)
	go func() {
		c, err := dial(ctx, "tcp4", l.Addr().String())
		if err != nil {
			sent <- err
			return
		}
		defer c.Close()
		buf := make([]byte, 256<<10)
		rand.Read(buf)
		for left := n; left > 0 && err == nil; {
			var m int
			m, err = c.Write(buf[:min(left, int64(len(buf)))])
			left -= int64(m)
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(c, n)}, make([]byte, 256<<10))
	if err = errors.Join(err, <-sent); err != nil || got != n {
		return 0, fmt.Errorf("raw TCP: %d of %d bytes: %w", got, n, err)
	}
	return time.Since(begun), nil
}

// loopback: the share of raw TCP and the CPU of both ends.
func (b *bulkRun) loopback(ctx context.Context, mib, rounds int) ([]Figure, error) {
	var out []Figure
	for _, size := range []int{1 << 20, 256 << 10, 0} {
		blocks := newBulkBlocks(mib<<20, size)
		gib := float64(blocks.size) / (1 << 30)
		name := map[int]string{1 << 20: "1 MiB blocks", 256 << 10: "256 KiB blocks", 0: "blocks as they are cut, 76 KiB"}[size]
		say("loopback, %d MiB in %s, %d rounds", mib, name, rounds)
		var ours, theirs, ourCPU, theirCPU []float64
		for range rounds {
			raw, err := rawTCP(ctx, blocks.size, nil, nil)
			if err != nil {
				return nil, err
			}
			one := func(exchange string) (share, cpu float64, err error) {
				nodes, shut, err := b.farm(ctx, exchange, blocks, make([]*shapedNode, 2))
				if err != nil {
					return 0, 0, err
				}
				defer shut()
				runtime.GC()
				before := ownCPU()
				took, err := nodes[1].take(ctx, nodes[0], job.NewID(time.Now()), blocks)
				if err != nil {
					return 0, 0, fmt.Errorf("%s, exchange %q: %w", name, exchange, err)
				}
				return raw.Seconds() / took.Seconds(), (ownCPU() - before) / gib, nil
			}
			share, cpu, err := one(p2p.ExchangeOurs)
			if err != nil {
				return nil, err
			}
			ours, ourCPU = append(ours, share), append(ourCPU, cpu)
			if b.bitswap {
				if share, cpu, err = one(p2p.ExchangeBitswap); err != nil {
					return nil, err
				}
				theirs, theirCPU = append(theirs, share), append(theirCPU, cpu)
			}
		}
		share, cpu := median(ours), median(ourCPU)
		var sharePeers, cpuPeers []Peer
		if b.bitswap {
			sharePeers, cpuPeers = []Peer{{"bitswap", median(theirs)}}, []Peer{{"bitswap", median(theirCPU)}}
			out = append(out, atLeast("loopback, "+name+": ours over bitswap", share/median(theirs), "times", 1.8))
		}
		if size == 0 { // the goal is of large blocks; these are what a scene has
			f, g := plain("loopback, "+name+": share of raw TCP", share, "ratio"), plain("loopback, "+name+": CPU, both ends", cpu, "s/GiB")
			f.Peers, g.Peers = sharePeers, cpuPeers
			out = append(out, f, g)
			continue
		}
		out = append(out,
			atLeast("loopback, "+name+": share of raw TCP", share, "ratio", 0.22, sharePeers...),
			atMost("loopback, "+name+": CPU, both ends", cpu, "s/GiB", 4.5, cpuPeers...))
	}
	return out, nil
}

// link: one receiver at 100 Mbit/s and 40 ms there and back.
func (b *bulkRun) link(ctx context.Context, mib int) ([]Figure, error) {
	mib *= 2 // what is short is mostly its beginning
	blocks := newBulkBlocks(mib<<20, 0)
	say("100 Mbit/s, 40 ms: %d MiB", mib)
	lines := func() []*shapedNode {
		n := newShapedNet()
		return []*shapedNode{n.node(100, 100, 10*time.Millisecond), n.node(100, 100, 10*time.Millisecond)}
	}
	l := lines()
	raw, err := rawTCP(ctx, blocks.size, l[0], l[1])
	if err != nil {
		return nil, err
	}
	one := func(exchange string) (float64, error) {
		nodes, shut, err := b.farm(ctx, exchange, blocks, lines())
		if err != nil {
			return 0, err
		}
		defer shut()
		took, err := nodes[1].take(ctx, nodes[0], job.NewID(time.Now()), blocks)
		if err != nil {
			return 0, err
		}
		return raw.Seconds() / took.Seconds(), nil
	}
	ours, err := one(p2p.ExchangeOurs)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "  raw TCP %.2f MB/s, ours %.2f\n", float64(blocks.size)/1e6/raw.Seconds(), float64(blocks.size)/1e6/raw.Seconds()*ours)
	var peers []Peer
	if b.bitswap {
		v, err := one(p2p.ExchangeBitswap)
		if err != nil {
			return nil, err
		}
		peers = []Peer{{"bitswap", v}}
	}
	return []Figure{atLeast("100 Mbit/s, 40 ms: share of raw TCP", ours, "ratio", 0.93, peers...)}, nil
}

// spread lets all receivers take the blocks at the same time. It returns when
// each had them, in order of the lines, and what left the source.
func (b *bulkRun) spread(ctx context.Context, exchange string, blocks *bulkBlocks, lines []*shapedNode, during func(nodes []*bulkNode), ignore int) ([]time.Duration, int64, error) {
	nodes, shut, err := b.farm(ctx, exchange, blocks, lines)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer shut()
	defer cancel()
	before := lines[0].sent.Load()
	id := job.NewID(time.Now())
	took := make([]time.Duration, len(nodes)-1)
	var wg, ignored sync.WaitGroup
	var failed atomic.Value
	for i, n := range nodes[1:] {
		g := &wg
		if i >= len(took)-ignore {
			g = &ignored
		}
		g.Go(func() {
			d, err := n.take(ctx, nodes[0], id, blocks)
			if took[i] = d; err != nil && g == &wg {
				failed.Store(fmt.Errorf("receiver %d: %w", i+1, err))
			}
		})
	}
	if during != nil {
		during(nodes)
	}
	wg.Wait()
	sent := lines[0].sent.Load() - before
	cancel()
	for _, l := range lines {
		select {
		case <-l.gone:
		default:
			close(l.gone) // what is under way need not be waited for
		}
	}
	ignored.Wait()
	if err, ok := failed.Load().(error); ok {
		return nil, 0, err
	}
	for _, n := range nodes {
		if x := n.Stats().BlocksTwice; x > 0 {
			fmt.Fprintf(os.Stderr, "  %d blocks came twice\n", x)
		}
	}
	return took, sent, nil
}

const fanoutMbit = 40

// oneCopy is how long one copy takes over one uplink, by raw TCP.
func oneCopy(ctx context.Context, size int64) (time.Duration, error) {
	n := newShapedNet()
	return rawTCP(ctx, size, n.node(fanoutMbit, 0, 0), n.node(fanoutMbit, 0, 0))
}

// fanout: from one source to several receivers.
func (b *bulkRun) fanout(ctx context.Context, mib int) ([]Figure, error) {
	blocks := newBulkBlocks(mib<<20, 0)
	one, err := oneCopy(ctx, blocks.size)
	if err != nil {
		return nil, err
	}
	var out []Figure
	for _, c := range []struct {
		n      int
		egress float64
	}{{4, 1.05}, {8, 1.10}} {
		run := func(exchange string) (float64, float64, error) {
			say("fan-out of %d MiB in %d blocks to %d, uplinks of %d Mbit/s; exchange %q", mib, len(blocks.ids), c.n, fanoutMbit, exchange)
			net := newShapedNet()
			var lines []*shapedNode
			for range c.n + 1 {
				lines = append(lines, net.node(fanoutMbit, 0, time.Millisecond))
			}
			took, sent, err := b.spread(ctx, exchange, blocks, lines, nil, 0)
			if err != nil {
				return 0, 0, err
			}
			fmt.Fprintf(os.Stderr, "  %.1fs to %.1fs, source sent %.3f of the file\n", slices.Min(took).Seconds(), slices.Max(took).Seconds(), float64(sent)/float64(blocks.size))
			return float64(sent) / float64(blocks.size), slices.Max(took).Seconds() / one.Seconds(), nil
		}
		egress, slowdown, err := run(p2p.ExchangeOurs)
		if err != nil {
			return nil, err
		}
		var pe, pt []Peer
		if b.bitswap {
			e, s, err := run(p2p.ExchangeBitswap)
			if err != nil {
				return nil, err
			}
			pe, pt = []Peer{{"bitswap", e}}, []Peer{{"bitswap", s}}
		}
		out = append(out,
			atMost(fmt.Sprintf("fan-out to %d: source egress", c.n), egress, "of the file", c.egress, pe...),
			atMost(fmt.Sprintf("fan-out to %d: time until all have it", c.n), slowdown, "of one copy", 1.2, pt...))
	}
	return out, nil
}

// slow: 8 receivers, of which 3 have a tenth of the line and 1 vanishes.
func (b *bulkRun) slow(ctx context.Context, mib int) ([]Figure, error) {
	blocks := newBulkBlocks(mib<<20, 0)
	one, err := oneCopy(ctx, blocks.size)
	if err != nil {
		return nil, err
	}
	say("8 receivers, 3 at a tenth, 1 vanishes half-way")
	net := newShapedNet()
	var lines []*shapedNode
	for i := range 9 {
		if i >= 5 && i < 8 {
			lines = append(lines, net.node(fanoutMbit/10, fanoutMbit/10, time.Millisecond))
		} else {
			lines = append(lines, net.node(fanoutMbit, 0, time.Millisecond))
		}
	}
	took, sent, err := b.spread(ctx, p2p.ExchangeOurs, blocks, lines, func(nodes []*bulkNode) {
		time.Sleep(one / 2)
		close(lines[8].gone)
	}, 4)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "  good ones %v, source sent %.3f of the file\n", took[:4], float64(sent)/float64(blocks.size))
	return []Figure{
		atMost("8 receivers, 3 slow, 1 vanishes: time of the good ones", slices.Max(took[:4]).Seconds()/one.Seconds(), "of one copy", 1.4),
		plain("8 receivers, 3 slow, 1 vanishes: source egress until then", float64(sent)/float64(blocks.size), "of the file"),
	}, nil
}
