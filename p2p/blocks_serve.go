package p2p

import (
	"bufio"
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// Times of a fetch.
const (
	scopeTime     = 10 * time.Second // for the first message to come
	idleFetch     = time.Minute      // without a want
	blockWriteMax = time.Minute      // for one frame to leave
)

// blockServer answers other peers' wants.
type blockServer struct {
	h      *Host
	src    Source
	grants Grants
	codec  Codec // nil: no deltas
	served Served
	// documents are those of edits; nil: none are given.
	documents *documents
	packed    compressed
	patience  time.Duration // for the first message to come

	mu   sync.Mutex
	open map[peer.ID]int // streams by peer
}

// ServeBlocks lets members read what grants allows of src, and lets fetches
// use blocks of src as bases. codec nil takes that of Config.
func (h *Host) ServeBlocks(src Source, grants Grants, codec Codec, served Served) {
	if codec == nil {
		codec = h.cfg.Codec
	}
	if served == nil {
		served = func(job.ID, int) {}
	}
	b := &blockServer{h: h, src: src, grants: grants, codec: codec, served: served, open: map[peer.ID]int{}, patience: scopeTime}
	if h.cfg.Editor != nil {
		b.documents = newDocuments(h.cfg.Editor, h.goRun)
	}
	h.mu.Lock()
	h.blocks, h.fetch = b, fetchSource{src, codec}
	h.mu.Unlock()
	if h.cfg.Exchange == ExchangeBitswap {
		swap := newBitswap(h, b)
		h.mu.Lock()
		h.swap = swap
		h.mu.Unlock()
	}
	h.serve(ProtocolBlocks, func(s network.Stream) {
		h.goRun(func(ctx context.Context) { b.serve(ctx, s) })
	})
	h.serve(ProtocolShare, func(s network.Stream) {
		h.goRun(func(ctx context.Context) { b.serveShare(ctx, s) })
	})
}

// enter counts a stream of p, unless it has too many.
func (b *blockServer) enter(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[p] >= maxFetchesPerPeer {
		return false
	}
	b.open[p]++
	return true
}

func (b *blockServer) leave(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[p]--; b.open[p] == 0 {
		delete(b.open, p)
	}
}

// scope is what a fetch reads under.
type scope struct {
	reader    peer.ID
	requester peer.ID
	job       job.ID
	grant     job.Signed
	urgent    bool
}

func readScope(p peer.ID, s *wire.Scope) (scope, error) {
	if s == nil {
		return scope{}, fmt.Errorf("blocks: no scope")
	}
	id, err := job.ParseID(s.GetJob())
	if err != nil {
		return scope{}, fmt.Errorf("blocks: %w", err)
	}
	if n := len(s.GetRequester()); n == 0 || n > 128 {
		return scope{}, fmt.Errorf("blocks: requester of %d bytes", n)
	}
	requester, err := peer.IDFromBytes(s.GetRequester())
	if err != nil {
		return scope{}, fmt.Errorf("blocks: requester: %w", err)
	}
	grant, err := s.GetGrant().Value(wire.MaxSignedBytes)
	if err != nil {
		return scope{}, fmt.Errorf("blocks: grant: %w", err)
	}
	return scope{p, requester, id, grant, s.GetUrgent()}, nil
}

// want is one checked want.
type want struct {
	index uint64
	id    cid.Cid
	bases []cid.Cid
	edits *past // nil: a block is wanted
}

func readWant(w *wire.Want) (want, error) {
	id, err := wire.CID(w.GetCid())
	if err != nil {
		return want{}, fmt.Errorf("blocks: want: %w", err)
	}
	if len(w.GetBases()) > wire.MaxBases {
		return want{}, fmt.Errorf("blocks: want with %d bases", len(w.GetBases()))
	}
	out := want{index: w.GetIndex(), id: id}
	for _, b := range w.GetBases() {
		base, err := wire.CID(b)
		if err != nil {
			return want{}, fmt.Errorf("blocks: base: %w", err)
		}
		out.bases = append(out.bases, base)
	}
	return out, nil
}

// wantsOf reads all that one message wants.
func wantsOf(ask *wire.Ask) ([]want, error) {
	if len(ask.GetWants()) > wire.MaxWantsPerAsk {
		return nil, fmt.Errorf("blocks: %d wants at once", len(ask.GetWants()))
	}
	var out []want
	for _, w := range ask.GetWants() {
		v, err := readWant(w)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if e := ask.GetEdits(); e != nil {
		v, err := readEditsWant(e)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// answer is a head with its payload.
type answer struct {
	head    *wire.Answer
	payload []byte
}

// serve runs one stream: reader -> encoders -> writer. The transport's own
// window holds back an asker that asks faster than it reads.
func (b *blockServer) serve(ctx context.Context, s network.Stream) {
	p := s.Conn().RemotePeer()
	if !b.enter(p) {
		b.h.stats.refused.Add(1)
		s.Reset()
		return
	}
	defer b.leave(p)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()

	r := bufio.NewReader(s)
	idle := time.AfterFunc(b.patience, cancel)
	defer idle.Stop()
	var first wire.Ask
	if _, err := wire.Read(r, &first, wire.MaxAsk); err != nil {
		b.h.stats.malformed.Add(1)
		return
	}
	sc, err := readScope(p, first.GetScope())
	if err != nil {
		b.h.stats.malformed.Add(1)
		b.h.log.Debug("blocks refused", "peer", p, "err", err)
		return
	}
	if b.spares(sc) {
		b.h.stats.refused.Add(1)
		s.Reset()
		return
	}
	wants, answers := make(chan want), make(chan answer, 4)
	var encoders sync.WaitGroup
	for range 3 {
		encoders.Go(func() {
			for w := range wants {
				a := b.answer(ctx, sc, w)
				select {
				case answers <- a:
				case <-ctx.Done():
				}
			}
		})
	}
	written := make(chan error, 1)
	go func() {
		err := b.write(s, sc, answers)
		if err != nil {
			cancel()
		}
		written <- err
	}()
	if err = b.readWants(ctx, r, &first, idle, wants); err != nil {
		cancel() // nobody is left who would read what is being made
	}
	close(wants)
	encoders.Wait()
	close(answers)
	if e := <-written; e != nil {
		err = e
	}
	if err != nil {
		b.h.log.Debug("fetch by a peer ended", "peer", p, "job", sc.job, "err", err)
		s.Reset()
		return
	}
	stop()
	s.Close()
}

// spares reports whether the network is metered and this would only be passing
// on another's content.
func (b *blockServer) spares(sc scope) bool {
	return b.h.metered.Load() && sc.requester != b.h.ID() && sc.reader != sc.requester
}

// readWants hands wants on until the asker has no more.
func (b *blockServer) readWants(ctx context.Context, r *bufio.Reader, ask *wire.Ask, idle *time.Timer, wants chan<- want) error {
	for {
		all, err := wantsOf(ask)
		if err != nil {
			b.h.stats.malformed.Add(1)
			return err
		}
		for _, v := range all {
			idle.Stop() // it is our turn
			select {
			case wants <- v:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		idle.Reset(idleFetch)
		ask = &wire.Ask{}
		if _, err := wire.Read(r, ask, wire.MaxAsk); err != nil {
			idle.Stop()
			if isEOF(err) {
				return nil
			}
			return err
		}
	}
}

// answer finds and encodes one block.
func (b *blockServer) answer(ctx context.Context, sc scope, w want) answer {
	none := func(e wire.Answer_Encoding) answer { return answer{head: &wire.Answer{Index: w.index, Encoding: e}} }
	// The grant comes first: who may not read learns nothing of what is here.
	if !b.grants.Allow(sc.reader, sc.requester, sc.job, sc.grant, w.id) {
		return none(wire.Answer_REFUSED)
	}
	if w.edits != nil {
		return b.answerEdits(ctx, sc, w)
	}
	data, err := recentFirst{&b.h.shares.recent, b.src}.Get(ctx, w.id)
	if err != nil || len(data) > wire.MaxBlock {
		return none(wire.Answer_NOT_FOUND)
	}
	head := &wire.Answer{Index: w.index, BlockSize: uint32(len(data))}
	best, encoding := data, wire.Answer_RAW
	if b.codec != nil {
		for i, id := range w.bases {
			// A base is named by its hash: who asks with it has, or had, it, or
			// it guessed. That something is here is no word for a stranger.
			if !b.mayBase(sc, id) {
				continue
			}
			base, err := b.src.Get(ctx, id)
			if err != nil {
				continue
			}
			if d, ok := b.codec.Encode(base, data); ok && len(d) < len(best) {
				best, encoding, head.Base = d, wire.Answer_DELTA, uint32(i)
			}
			if len(best) < len(data)/2 {
				break // the others would have to be much better to be worth the time
			}
		}
	}
	if len(best) >= len(data)/2 {
		if z, ok := b.packed.of(w.id, data); ok && len(z) < len(best) {
			best, encoding, head.Base = z, wire.Answer_ZSTD, 0
		}
	}
	head.Encoding, head.Size = encoding, uint32(len(best))
	return answer{head, best}
}

// mayBase reports whether a block may be told of by a difference to it. Members
// may name what they had of earlier jobs, strangers only what they may read.
func (b *blockServer) mayBase(sc scope, id cid.Cid) bool {
	return b.h.members.Known(sc.reader) || b.grants.Allow(sc.reader, sc.requester, sc.job, sc.grant, id)
}

// write sends answers, several under one head while they are small and
// others wait.
func (b *blockServer) write(s network.Stream, sc scope, answers <-chan answer) error {
	for a := range answers {
		all, n := []answer{a}, len(a.payload)
	pack:
		for n < packBytes && len(all) < wire.MaxAnswersPer {
			select {
			case more, ok := <-answers:
				if !ok {
					break pack
				}
				all, n = append(all, more), n+len(more.payload)
			default:
				break pack
			}
		}
		if err := b.send(b.h.ctx, s, sc, &wire.Answers{}, all); err != nil {
			return err
		}
	}
	return nil
}

// send sends answers in one frame, padded.
func (b *blockServer) send(ctx context.Context, s network.Stream, sc scope, head *wire.Answers, answers []answer) error {
	n := 0
	for _, a := range answers {
		head.Answers = append(head.Answers, a.head)
		n += len(a.payload)
	}
	head.Padding = uint32(padding(n))
	size := proto.Size(head)
	whole := n + int(head.Padding)
	buf, err := wire.Append(make([]byte, 0, size+8+min(whole, packBytes+int(head.Padding))), head, wire.MaxAnswers)
	if err != nil {
		return err
	}
	moved := len(buf) + whole
	bounded := func() func() bool { return watch(s, blockWriteMax) }
	turn := turn{sc.reader, sc.urgent}
	if n <= packBytes { // one write, one packet train
		for _, a := range answers {
			buf = append(buf, a.payload...)
		}
		buf = append(buf, zeros[:head.Padding]...)
		err = b.h.up.write(ctx, turn, s, buf, bounded)
	} else {
		err = b.h.up.write(ctx, turn, s, buf, bounded)
		for _, a := range answers {
			if err == nil && len(a.payload) > 0 {
				err = b.h.up.write(ctx, turn, s, a.payload, bounded)
			}
		}
		if err == nil && head.Padding > 0 {
			err = b.h.up.write(ctx, turn, s, zeros[:head.Padding], bounded)
		}
	}
	if err != nil {
		return err
	}
	b.h.stats.blocksOut.Add(int64(moved))
	if n > 0 {
		b.served(sc.job, moved)
	}
	return nil
}

// zeros is what frames are padded with; they travel encrypted.
var zeros [wire.MaxPaddingPerAns]byte

// padGrid is to what the length of a large frame is rounded up.
const padGrid = 4 << 10

// padding is what makes the length of n bytes of payload say little about it.
// Small frames are rounded up as Nikitin et al. do ("Reducing Metadata Leakage
// from Encrypted Files and Communication with PURBs", 2019, Padmé), which costs
// at most an eighth of them; from 256 KiB on the grid is finer than theirs,
// because there a frame holds several blocks, and costs 1 %.
func padding(n int) int {
	if n < 2 {
		return 0
	}
	e := bits.Len(uint(n)) - 1
	last := e - bits.Len(uint(e)) // bits that are rounded away
	if last <= 0 {
		return 0
	}
	unit := min(1<<last, padGrid)
	return -n & (unit - 1)
}

// askSize is what a want takes on the wire.
func askSize(w *wire.Want) int64 { return int64(proto.Size(w)) + 2 }
