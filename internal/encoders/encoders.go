// Package encoders lends zstd encoders. One of the best level has tables of 34 MB,
// whatever it compresses: here those that nobody uses go with the garbage, where an
// encoder of one's own keeps as many as ever worked at once.
package encoders

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Pool is of encoders with the same options, each made when it is first needed.
type Pool struct{ idle sync.Pool }

// New returns a Pool. Options that are no options end in a panic when the first
// encoder is made.
func New(o ...zstd.EOption) *Pool {
	p := &Pool{}
	p.idle.New = func() any {
		e, err := zstd.NewWriter(nil, append(o[:len(o):len(o)], zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			panic(err) // options are constant
		}
		return e
	}
	return p
}

// EncodeAll appends src as one frame to dst.
func (p *Pool) EncodeAll(src, dst []byte) []byte {
	e := p.idle.Get().(*zstd.Encoder)
	defer p.idle.Put(e)
	return e.EncodeAll(src, dst)
}
