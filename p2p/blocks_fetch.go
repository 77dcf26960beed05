package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/p2p/wire"
)

// Errors of single blocks in a BlockResult.
var (
	ErrBlockNotFound = errors.New("the peer does not have the block")
	ErrBlockRefused  = errors.New("the peer does not give the block: no right to read it was shown")
	ErrBlockWrong    = errors.New("the peer sent something else than the block")
	ErrBlockLater    = errors.New("the peer gives the block later")
)

// errBaseGone is of a block that came as a delta on one that this host held
// when it asked.
var errBaseGone = errors.New("the base is here no more")

// answerWait is how long a fetch waits for the next answer.
const answerWait = 2 * time.Minute

// fetching is one fetch.
type fetching struct {
	h       *Host
	from    peer.ID
	stream  network.Stream
	req     BlockRequest
	source  fetchSource
	results chan BlockResult
	window  chan struct{} // one token per unanswered want

	mu   sync.Mutex
	open map[uint64]openWant
}

type openWant struct {
	want BlockWant
	sent []cid.Cid // bases that were named, for the index in a delta
	cost int64     // bytes that asking took
}

// raw is an answer before it was checked.
type raw struct {
	want     openWant
	encoding wire.Answer_Encoding
	base     uint32
	size     int // of the block
	payload  []byte
	moved    int64
}

// FetchFrom asks one member for blocks and yields each as it comes, in any
// order, checked against its CID. What one block's trouble is, is in its Err;
// the error of the sequence ends it: the peer cannot be reached, or the stream
// broke. Blocks that were not yielded by then were not received.
func (h *Host) FetchFrom(ctx context.Context, from peer.ID, req BlockRequest) iter.Seq2[BlockResult, error] {
	return func(yield func(BlockResult, error) bool) {
		if len(req.Wants) == 0 {
			return
		}
		if x := h.exchange(); x != nil {
			x.fetch(ctx, from, nil, req)(yield)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stopHost := context.AfterFunc(h.ctx, cancel)
		defer stopHost()
		s, err := h.open(ctx, from, ProtocolBlocks)
		if err != nil {
			yield(BlockResult{}, fmt.Errorf("fetch from %s: %w", from, err))
			return
		}
		h.mu.Lock()
		source := h.fetch
		h.mu.Unlock()
		f := &fetching{
			h: h, from: from, stream: s, req: req, source: source,
			results: make(chan BlockResult, 8), window: make(chan struct{}, maxOutstanding),
			open: map[uint64]openWant{},
		}
		stop := context.AfterFunc(ctx, func() { s.Reset() })
		defer stop()
		defer s.Reset() // the server has closed its side by then, or is not needed
		var failed error
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			failed = f.run(ctx)
			close(f.results)
		}()
		defer func() { cancel(); <-finished }()
		for r := range f.results {
			if !yield(r, nil) {
				return
			}
		}
		<-finished
		if failed != nil {
			if ctx.Err() != nil {
				failed = context.Cause(ctx)
			}
			yield(BlockResult{}, fmt.Errorf("fetch from %s: %w", from, failed))
		}
	}
}

// exchange is bitswap, where that moves the blocks.
func (h *Host) exchange() *bitswapExchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.swap
}

// run asks, reads and checks until every want is answered.
func (f *fetching) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { f.stream.Reset() })
	defer stop()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if err := f.ask(ctx); err != nil {
			cancel(err)
		}
	}()
	answers := make(chan raw, 4)
	var checkers sync.WaitGroup
	for range min(4, runtime.GOMAXPROCS(0)) { // hashing stays off the read loop
		checkers.Go(func() {
			for a := range answers {
				select {
				case f.results <- f.check(ctx, a):
				case <-ctx.Done():
				}
			}
		})
	}
	err := f.read(ctx, answers)
	if err != nil {
		cancel(err)
		err = context.Cause(ctx) // the first one
	}
	close(answers)
	checkers.Wait()
	<-asked
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// ask sends the wants, as many ahead as the window allows.
func (f *fetching) ask(ctx context.Context) error {
	ask := &wire.Ask{Scope: &wire.Scope{
		Job: string(f.req.Job), Requester: []byte(f.req.Requester), Grant: wire.FromSigned(f.req.Grant), Capability: f.h.release.Capability,
		Urgent: f.req.Urgent,
	}}
	flush := func() error {
		if ask.Scope == nil && len(ask.Wants) == 0 {
			return nil
		}
		stop := watch(f.stream, blockWriteMax)
		defer stop()
		_, err := wire.Write(f.stream, ask, wire.MaxAsk)
		ask = &wire.Ask{}
		return err
	}
	for i, w := range f.req.Wants {
		select {
		case f.window <- struct{}{}:
		default: // the window is full: send what there is, then wait
			if err := flush(); err != nil {
				return err
			}
			select {
			case f.window <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		m := &wire.Want{Index: uint64(i), Cid: w.ID.Bytes()}
		o := openWant{want: w}
		if f.source.src != nil && f.source.codec != nil {
			for _, b := range w.Bases {
				if len(o.sent) == wire.MaxBases {
					break
				}
				if has, err := f.source.src.Has(ctx, b); err == nil && has {
					o.sent = append(o.sent, b)
					m.Bases = append(m.Bases, b.Bytes())
				}
			}
		}
		o.cost = askSize(m)
		f.mu.Lock()
		f.open[m.Index] = o
		f.mu.Unlock()
		ask.Wants = append(ask.Wants, m)
		if len(ask.Wants) >= maxOutstanding/4 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return f.stream.CloseWrite()
}

// read takes in answers until there is one for every want.
func (f *fetching) read(ctx context.Context, answers chan<- raw) error {
	r := bufio.NewReaderSize(f.h.down.reader(ctx, turn{f.from, f.req.Urgent}, f.stream), 64<<10)
	patience := time.AfterFunc(answerWait, func() { f.stream.Reset() })
	defer patience.Stop()
	for left := len(f.req.Wants); left > 0; {
		patience.Reset(answerWait)
		var head wire.Answers
		n, err := wire.Read(r, &head, wire.MaxAnswers)
		if err != nil {
			if isEOF(err) {
				return fmt.Errorf("the peer ended the stream with %d blocks to go: %w", left, io.ErrUnexpectedEOF)
			}
			return err
		}
		f.h.stats.blocksIn.Add(int64(n))
		if len(head.Answers) > wire.MaxAnswersPer || head.Padding > wire.MaxPaddingPerAns {
			return fmt.Errorf("%d answers under one head: %w", len(head.Answers), wire.ErrTooLarge)
		}
		for i, a := range head.Answers {
			patience.Reset(answerWait)
			v, err := f.take(r, a)
			if err != nil {
				return err
			}
			v.moved += paddingOf(&head, i)
			left--
			patience.Stop() // who is slow now is our own reader
			select {
			case answers <- v:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if _, err := r.Discard(int(head.Padding)); err != nil {
			return err
		}
		f.h.stats.blocksIn.Add(int64(head.Padding))
	}
	return nil
}

// take reads the payload of one answer.
func (f *fetching) take(r *bufio.Reader, a *wire.Answer) (raw, error) {
	f.mu.Lock()
	o, ok := f.open[a.GetIndex()]
	delete(f.open, a.GetIndex())
	f.mu.Unlock()
	if !ok {
		return raw{}, fmt.Errorf("an answer to want %d, which is not open", a.GetIndex())
	}
	<-f.window
	if a.GetBlockSize() > wire.MaxBlock || a.GetSize() > wire.MaxPayloadsPer {
		return raw{}, fmt.Errorf("block of %d bytes: %w", a.GetBlockSize(), wire.ErrTooLarge)
	}
	payload, err := wire.ReadPayload(r, int(a.GetSize()))
	if err != nil {
		return raw{}, err
	}
	f.h.stats.blocksIn.Add(int64(len(payload)))
	return raw{
		want: o, encoding: a.GetEncoding(), base: a.GetBase(), size: int(a.GetBlockSize()), payload: payload,
		moved: o.cost + int64(proto.Size(a)) + 2 + int64(len(payload)),
	}, nil
}

// check decodes an answer and holds it against its CID.
func (f *fetching) check(ctx context.Context, a raw) BlockResult {
	res := BlockResult{ID: a.want.want.ID, Moved: a.moved}
	data, err := f.decode(ctx, a)
	if err == nil && !checkBlock(res.ID, data) {
		err = ErrBlockWrong
	}
	if err != nil {
		res.Err = fmt.Errorf("block %s: %w", res.ID, err)
		return res
	}
	res.Data = data
	return res
}

func (f *fetching) decode(ctx context.Context, a raw) ([]byte, error) {
	switch a.encoding {
	case wire.Answer_RAW:
		return a.payload, nil
	case wire.Answer_ZSTD:
		data, err := decompress(a.payload, a.size)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBlockWrong, err)
		}
		return data, nil
	case wire.Answer_DELTA:
		if f.source.codec == nil || int(a.base) >= len(a.want.sent) {
			return nil, fmt.Errorf("%w: a delta on no base of ours", ErrBlockWrong)
		}
		base, err := f.source.src.Get(ctx, a.want.sent[a.base])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errBaseGone, a.want.sent[a.base], err)
		}
		data, err := f.source.codec.Decode(base, a.payload, wire.MaxBlock)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBlockWrong, err)
		}
		return data, nil
	case wire.Answer_NOT_FOUND:
		return nil, ErrBlockNotFound
	case wire.Answer_REFUSED:
		return nil, ErrBlockRefused
	case wire.Answer_LATER:
		return nil, ErrBlockLater
	}
	return nil, fmt.Errorf("%w: encoding %v", ErrBlockWrong, a.encoding)
}

// paddingOf is which part of a frame's padding is counted for its i-th answer.
func paddingOf(head *wire.Answers, i int) int64 {
	n := int64(len(head.Answers))
	part := int64(head.Padding) / n
	if i == 0 {
		part += int64(head.Padding) % n
	}
	return part
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }
