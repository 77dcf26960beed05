package p2p

import (
	"bytes"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"

	"idlewild/internal/digest"
	"idlewild/job"
	"idlewild/p2p/wire"
)

// ProtocolBlocks moves blocks: one stream per fetch, wants and answers
// pipelined.
const ProtocolBlocks Protocol = "blocks"

// Bounds of the exchange of blocks.
const (
	maxFetchesPerPeer = 16 // streams that one peer may have open here
	packBytes         = 256 << 10
	maxOutstanding    = 64      // wants of one fetch that are not answered yet
	compressFrom      = 512     // bytes: smaller blocks stay as they are
	sampleBytes       = 4 << 10 // compressed first, to see whether it is worth it
)

var _ Blocks = (*Host)(nil)

// fetchSource is where bases lie and how deltas on them are undone.
type fetchSource struct {
	src   Source
	codec Codec
}

// checkBlock reports whether data is what id names.
func checkBlock(id cid.Cid, data []byte) bool {
	p := id.Prefix()
	sum, ok := digest.Sum(p.MhType, data)
	h := id.Hash()
	return ok && p.MhLength == digest.Size && string(h[len(h)-digest.Size:]) == string(sum[:])
}

// The encoders and decoders hold megabytes of tables: they are kept.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(wire.MaxBlock), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // options are constant
	}
	return e
}}

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(wire.MaxBlock), zstd.WithDecoderMaxWindow(wire.MaxBlock))
	if err != nil {
		panic(err)
	}
	return d
}}

// compress returns data compressed, if that saves at least an eighth.
func compress(data []byte) ([]byte, bool) {
	if len(data) < compressFrom {
		return nil, false
	}
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	if len(data) > 4*sampleBytes {
		mid := len(data) / 2
		if s := e.EncodeAll(data[mid:mid+sampleBytes], nil); len(s) > sampleBytes*7/8 {
			return nil, false // pictures, say: they are compressed already
		}
	}
	out := e.EncodeAll(data, make([]byte, 0, len(data)))
	if len(out) > len(data)*7/8 {
		return nil, false
	}
	return bytes.Clone(out), true // it is kept, and should not keep more
}

// decompress undoes compress; size is what must come out.
func decompress(b []byte, size int) ([]byte, error) {
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	return d.DecodeAll(b, make([]byte, 0, size))
}

// Served is told of each answer that left: how many bytes of a job's content
// crossed the network to another peer.
type Served func(id job.ID, n int)
