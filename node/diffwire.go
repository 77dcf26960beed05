package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"idlewild/diffupload"
)

// The pipe between the two halves of Diff, version 1. Numbers are uvarints
// (encoding/binary). docs/formats.md has the same text.
//
//	decoder  hello    version 1 (1 byte), first 8 bytes of the digest of the root that it has
//	encoder  answer   0                               that root is the wanted one
//	                  1, digest, length, document     the wanted root, and the edits that lead to it
//	                  2, digest                       the wanted root; blocks will do
//	decoder  request  0, check                        done: 8 bytes of the hash of what it wrote
//	                  1, first, count                 blocks that the edits only name, by place
//	                  2, n, n times (codec, digest, k, k bases)
//	                                                  blocks by address; a base is the place of a
//	                                                  block in the manifest that it has
//	encoder  block    0                               not there
//	                  length, way, bytes              way 0: as they are; 1: a delta (Codec) of
//	                                                  nothing; 2+i: a delta of base i
//
// Requests are answered one at a time. Bases of a block asked for by place are
// those that the edits imply.
const (
	diffVersion = 1
	diffHello   = 1 + diffCheck
	diffCheck   = 8 // bytes of a hash where a mistake is to be noticed, not an attack

	answerSame   = 0
	answerEdits  = 1
	answerBlocks = 2

	requestDone  = 0
	requestPlace = 1
	requestCIDs  = 2

	wayPlain = 0
	wayEmpty = 1
	wayBase  = 2

	maxRequest = 1024 // blocks of one request
	maxBases   = 16   // of one block
	digestSize = 32
)

// errDiffPipe is matched by whatever the other side of the pipe says wrong.
var errDiffPipe = errors.New("the other process does not keep to the protocol")

func pipef(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDiffPipe}, a...)...)
}

// request is one thing that the decoder asks for.
type request struct {
	kind  byte
	check [diffCheck]byte // requestDone
	first uint64          // requestPlace
	count uint64
	wants []placedWant // requestCIDs
}

// placedWant is a block by address, its bases by their places.
type placedWant struct {
	id    cid.Cid
	bases []uint64
}

func (r request) append(b []byte) []byte {
	b = append(b, r.kind)
	switch r.kind {
	case requestDone:
		b = append(b, r.check[:]...)
	case requestPlace:
		b = binary.AppendUvarint(b, r.first)
		b = binary.AppendUvarint(b, r.count)
	case requestCIDs:
		b = binary.AppendUvarint(b, uint64(len(r.wants)))
		for _, w := range r.wants {
			b = append(b, byte(w.id.Type()))
			b = append(b, digestOf(w.id)...)
			b = binary.AppendUvarint(b, uint64(len(w.bases)))
			for _, p := range w.bases {
				b = binary.AppendUvarint(b, p)
			}
		}
	}
	return b
}

func readRequest(r *bufio.Reader) (q request, err error) {
	if q.kind, err = r.ReadByte(); err != nil {
		return q, cutShort(err)
	}
	switch q.kind {
	case requestDone:
		_, err = io.ReadFull(r, q.check[:])
		return q, cutShort(err)
	case requestPlace:
		if q.first, err = binary.ReadUvarint(r); err == nil {
			q.count, err = binary.ReadUvarint(r)
		}
		return q, cutShort(err)
	case requestCIDs:
		n, err := boundedUvarint(r, maxRequest)
		if err != nil {
			return q, err
		}
		for range n {
			w, err := readWant(r)
			if err != nil {
				return q, err
			}
			q.wants = append(q.wants, w)
		}
		return q, nil
	}
	return q, pipef("request of kind %d", q.kind)
}

func readWant(r *bufio.Reader) (w placedWant, err error) {
	codec, err := r.ReadByte()
	if err != nil {
		return w, cutShort(err)
	}
	if w.id, err = readDigest(r, uint64(codec)); err != nil {
		return w, err
	}
	n, err := boundedUvarint(r, maxBases)
	if err != nil {
		return w, err
	}
	for range n {
		p, err := binary.ReadUvarint(r)
		if err != nil {
			return w, cutShort(err)
		}
		w.bases = append(w.bases, p)
	}
	return w, nil
}

// digestOf is the SHA-256 in an address.
func digestOf(id cid.Cid) []byte {
	b := id.Bytes()
	return b[len(b)-digestSize:]
}

// readDigest reads a SHA-256 and makes it an address.
func readDigest(r io.Reader, codec uint64) (cid.Cid, error) {
	var sum [digestSize]byte
	if _, err := io.ReadFull(r, sum[:]); err != nil {
		return cid.Undef, cutShort(err)
	}
	h, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		return cid.Undef, err
	}
	id := cid.NewCidV1(codec, h)
	if err := diffupload.CheckID(id); err != nil {
		return cid.Undef, pipef("%w", err)
	}
	return id, nil
}

// readBytes reads n bytes, of which there may be most.
func readBytes(r *bufio.Reader, most int) ([]byte, error) {
	n, err := boundedUvarint(r, uint64(most))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, cutShort(err)
}

func boundedUvarint(r *bufio.Reader, most uint64) (uint64, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, cutShort(err)
	}
	if n > most {
		return 0, pipef("%d where at most %d are possible", n, most)
	}
	return n, nil
}

// cutShort makes the end of the pipe an error: only who has nothing left to
// ask may end it.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendBlock appends the answer that gives data: the smallest of it as it is,
// compressed, and as a delta against each base.
func appendBlock(b, data []byte, bases [][]byte) []byte {
	way, best := byte(wayPlain), data
	try := func(w byte, base []byte) {
		if d, ok := (diffupload.Codec{}).Encode(base, data); ok && len(d) < len(best) {
			way, best = w, d
		}
	}
	try(wayEmpty, nil)
	for i, base := range bases {
		if len(base) > 0 {
			try(byte(wayBase+i), base)
		}
	}
	b = binary.AppendUvarint(b, uint64(1+len(best)))
	return append(append(b, way), best...)
}

// readBlock reads what appendBlock wrote; base returns the bytes of the base
// with that place among the block's bases. A block that is not there is
// diffupload.ErrNotFound.
func readBlock(r *bufio.Reader, base func(i int) ([]byte, error)) ([]byte, error) {
	b, err := readBytes(r, 1+diffupload.MaxBlockBytes)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, diffupload.ErrNotFound
	}
	way, b := b[0], b[1:]
	if way == wayPlain {
		return b, nil
	}
	var like []byte
	if way >= wayBase {
		if like, err = base(int(way) - wayBase); err != nil {
			return nil, err
		}
	}
	out, err := diffupload.Codec{}.Decode(like, b, diffupload.MaxBlockBytes)
	if err != nil {
		return nil, pipef("%w", err)
	}
	return out, nil
}

// appendBytes appends what readBytes reads.
func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

// errPipeWrite is matched by trouble with writing to the decoder.
var errPipeWrite = errors.New("write to the decoder")

// wire counts what crosses the pipe, and on what it was spent.
type wire struct {
	r              io.Reader
	w              io.Writer
	sent, received int64
	told           int64 // of received, what is in parts
	parts          map[string]int64
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.received += int64(n)
	return n, err
}

func (w *wire) send(part string, b []byte) error {
	n, err := w.w.Write(b)
	w.sent += int64(n)
	w.parts[part] += int64(n)
	if err != nil {
		return fmt.Errorf("%w: %w", errPipeWrite, err)
	}
	return nil
}

// took books what came since the last time. Each message is answered before
// the next is sent, so that nothing of the next is among it.
func (w *wire) took(part string) {
	w.parts[part] += w.received - w.told
	w.told = w.received
}
