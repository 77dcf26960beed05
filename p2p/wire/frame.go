// Package wire is what idlewild says on the network: generated messages, their
// framing, and their conversion to the values of package job.
//
// A message is framed by its length as an unsigned varint. Conversion happens
// once, at the border: what comes out of it is valid and within its bounds, so
// that nobody further in has to look again. See wire.proto for the rules by
// which messages may change.
package wire

//go:generate python -m grpc_tools.protoc -I . --go_out=. --go_opt=paths=source_relative wire.proto

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
)

// Capability counts behaviours that are no new message and no new field, so
// that nobody asks a peer for what it cannot; History says what each added.
// docs/updates.md has the rules by which it grows.
const (
	Capability      = 3
	CapabilityLeast = CapabilityEdits // what the last release has: older peers are not worked with
	CapabilityEdits = 2
)

// Added is what one capability added.
type Added struct {
	Capability uint32
	Date       string // on which it came in, year-month-day
	What       string
}

// History is every capability there was, oldest first.
var History = []Added{
	{1, "2026-11-23", "the first version"},
	{2, "2026-11-24", "blocks: answers what an Ask wants of edits"},
	{3, "2026-11-26", "hello and sync: is told that a program is too old, and shows that"},
}

// Bounds of frames, by protocol. A longer frame is refused before memory is
// taken for it.
const (
	MaxAdmitRequest = 8 << 10 // also the first hello: from peers that are nobody yet
	MaxHello        = 4 << 20 // from proven members and from the owner
	MaxSync         = 2 << 20
	MaxAsk          = 256 << 10
	MaxShare        = 256 << 10
	MaxAnswers      = 64 << 10 // the head; payloads have their own bounds
	MaxGossip       = 1 << 10
)

// Bounds of blocks.
const (
	MaxBlock         = 1 << 20 // one block, decoded
	MaxEdits         = 1 << 20 // one document of edits
	MaxBases         = 4       // bases of one want
	MaxWantsPerAsk   = 1024
	MaxAnswersPer    = 256  // answers under one head
	MaxHavesPer      = 4096 // wants that one head says can be pulled
	MaxSharers       = 64   // peers that one head names
	MaxPayloadsPer   = MaxBlock + 64<<10
	MaxAddrs         = 16 // of one peer
	MaxAddrBytes     = 512
	MaxHelloMembers  = 1024
	MaxRevocations   = 4096
	MaxHelloOffers   = 256
	MaxHelloWords    = 256
	MaxCertificates  = 8
	MaxSuccessions   = 64 // of a farm's root key
	MaxFirstSuccs    = 8  // of them in a first hello
	MaxVersionBytes  = 128
	MaxNameBytes     = 128     // of a member or farm
	MaxSignedBytes   = 4 << 10 // certificates, grants, revocations
	MaxPriorBytes    = 256 << 10
	MaxTicketBytes   = 4 << 10
	MaxPaddingPerAns = 64 << 10
)

// ErrTooLarge is matched by the refusal of a frame over its bound.
var ErrTooLarge = errors.New("message over its bound")

// Append appends m, framed, to b. A message over max bytes is an error: the
// other side would refuse it.
func Append(b []byte, m proto.Message, max int) ([]byte, error) {
	n := proto.Size(m)
	if n > max {
		return b, fmt.Errorf("%s of %d bytes, at most %d: %w", m.ProtoReflect().Descriptor().Name(), n, max, ErrTooLarge)
	}
	b = binary.AppendUvarint(b, uint64(n))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return b, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// Write writes m, framed, with one call of Write.
func Write(w io.Writer, m proto.Message, max int) (int, error) {
	b, err := Append(nil, m, max)
	if err != nil {
		return 0, err
	}
	return w.Write(b)
}

// Read reads one frame of at most max bytes into m and returns the bytes that
// it took. At the end of the stream, between frames, the error is io.EOF.
func Read(r *bufio.Reader, m proto.Message, max int) (int, error) {
	n, head, err := readLength(r)
	if err != nil {
		return 0, err
	}
	if n > uint64(max) {
		return head, fmt.Errorf("%d bytes, at most %d: %w", n, max, ErrTooLarge)
	}
	// Memory grows with what arrives, not with what was announced: a peer
	// that announces the bound and sends nothing costs nothing.
	b, err := readBounded(r, int(n))
	if err != nil {
		return head, err
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return head + int(n), fmt.Errorf("malformed message: %w", err)
	}
	return head + int(n), nil
}

func readLength(r *bufio.Reader) (n uint64, size int, err error) {
	for shift := 0; shift < 35; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF && size > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, size, err
		}
		size++
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if c == 0 && size > 1 {
				break // not the shortest form
			}
			return n, size, nil
		}
	}
	return 0, size, errors.New("malformed frame length")
}

// readBounded reads n bytes in steps of at most 64 KiB of new memory until
// half is there.
func readBounded(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, min(n, step))
	for have := 0; ; {
		m, err := io.ReadFull(r, b[have:])
		have += m
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if have == n {
			return b, nil
		}
		grown := make([]byte, min(n, 2*have))
		copy(grown, b)
		b = grown
	}
}

// payloadFirst has to arrive before memory is taken for the rest of a payload.
const payloadFirst = 64 << 10

var payloadFirsts = sync.Pool{New: func() any { return new([payloadFirst]byte) }}

// ReadPayload reads n bytes that follow an Answers head. They come from somebody
// who was asked, one payload at a time: memory for all of it is taken at once as
// soon as some is there. In steps, as readBounded does it, half of the time that a
// block of 1 MiB takes its receiver went into clearing and copying memory.
func ReadPayload(r io.Reader, n int) ([]byte, error) {
	if n < 0 || n > MaxPayloadsPer {
		return nil, fmt.Errorf("payload of %d bytes: %w", n, ErrTooLarge)
	}
	if n <= 2*payloadFirst {
		b := make([]byte, n)
		return whole(b, r, b)
	}
	first := payloadFirsts.Get().(*[payloadFirst]byte)
	defer payloadFirsts.Put(first)
	if _, err := whole(nil, r, first[:]); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	return whole(b, r, b[copy(b, first[:]):])
}

// whole fills part from r and returns b.
func whole(b []byte, r io.Reader, part []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, part); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}
