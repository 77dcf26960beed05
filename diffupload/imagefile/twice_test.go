package imagefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"idlewild/diffupload/imagefile"
)

// A file whose chunks all say that they are its largest tile is not opened: it
// would become much more than its headers say.
func TestOpenRefusesTilesThatComeTwice(t *testing.T) {
	p := part{compression: 3, w: 64, h: 64, tile: 64, mode: 2}
	file, chunks := makeEXR(rand.New(rand.NewPCG(1, 2)), func([]int) {}, p)
	open := func(b []byte) error {
		r, _, err := imagefile.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			r.Close()
		}
		return err
	}
	if err := open(file); err != nil || len(chunks) < 20 {
		t.Fatal(len(chunks), err)
	}
	table := 0
	for binary.LittleEndian.Uint64(file[table:]) != uint64(table+8*len(chunks)) {
		table++
	}
	begin := table + 8*len(chunks)
	first := file[begin : begin+20+int(binary.LittleEndian.Uint32(file[begin+16:]))]
	bad := bytes.Clone(file[:begin])
	for i := range chunks {
		binary.LittleEndian.PutUint64(bad[table+8*i:], uint64(len(bad)))
		bad = append(bad, first...)
	}
	if err := open(bad); !errors.Is(err, imagefile.ErrNotOpened) {
		t.Errorf("%v", err)
	}
}
