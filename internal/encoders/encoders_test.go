package encoders

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what a pool had survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What several encoders at once need goes when they are not used any more, and
// what they made is zstd.
func TestEncodersDoNotStay(t *testing.T) {
	p := New(zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	text := bytes.Repeat([]byte("what is said again and again "), 4000)
	before := heap()
	var all sync.WaitGroup
	var frames [4][]byte
	for i := range frames {
		all.Go(func() { frames[i] = p.EncodeAll(text, nil) })
	}
	all.Wait()
	if more := int64(heap()) - int64(before); more > 4<<20 {
		t.Errorf("%d bytes stay", more)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, f := range frames {
		if got, err := d.DecodeAll(f, nil); err != nil || !bytes.Equal(got, text) || !bytes.Equal(f, frames[0]) {
			t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
		}
	}
}
