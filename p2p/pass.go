package p2p

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// Pass is a stranger's certificate of itself: for one opening of one farm, with
// the work that this costs. It travels as job.Signed in job.ContextStranger by
// the peer's own key.
type Pass struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	Peer    string    `cbor:"peer"`
	Epoch   uint64    `cbor:"epoch"` // of the opening
	Expires time.Time `cbor:"expires"`
	Nonce   uint64    `cbor:"nonce"`
}

// digest is what the work is done over: everything but the nonce.
func (s Pass) digest() ([sha256.Size]byte, error) {
	s.Nonce = 0
	b, err := job.Encode(s)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(append([]byte("idlewild stranger work 1\x00"), b...)), nil
}

// worth is the leading zero bits of SHA-256 over a digest and a nonce of eight
// bytes, the highest first: hashcash (Back, 2002), with the certificate in place of a
// mail's header.
func worth(digest [sha256.Size]byte, nonce uint64) int {
	var b [sha256.Size + 8]byte
	copy(b[:], digest[:])
	binary.BigEndian.PutUint64(b[sha256.Size:], nonce)
	sum := sha256.Sum256(b[:])
	n := 0
	for i := 0; i < sha256.Size; i += 8 {
		z := bits.LeadingZeros64(binary.BigEndian.Uint64(sum[i:]))
		if n += z; z < 64 {
			break
		}
	}
	return n
}

// work finds the nonce. It takes 2^difficulty hashes, as a rule.
func (s *Pass) work(ctx context.Context, difficulty int) error {
	digest, err := s.digest()
	if err != nil {
		return err
	}
	for s.Nonce = 1; worth(digest, s.Nonce) < difficulty; s.Nonce++ {
		if s.Nonce%(1<<16) == 0 && ctx.Err() != nil {
			return fmt.Errorf("proof of work: %w", ctx.Err())
		}
	}
	return nil
}

var errOtherOpening = errors.New("stranger's certificate: for another opening of this farm")

// openPass checks what p shows of itself against an opening: the work first,
// because that costs least. Its time is checked where it is used.
func openPass(s job.Signed, p peer.ID, o Opening) (Pass, error) {
	var v Pass
	if err := job.Decode(s.Body, wire.MaxSignedBytes, &v); err != nil {
		return Pass{}, fmt.Errorf("stranger's certificate: %w", err)
	}
	switch {
	case v.Version != 1:
		return Pass{}, fmt.Errorf("stranger's certificate: version %d, this program knows 1", v.Version)
	case v.Farm != o.Farm:
		return Pass{}, fmt.Errorf("stranger's certificate: %w", ErrOtherFarm)
	case v.Peer != p.String():
		return Pass{}, errors.New("stranger's certificate: of another peer")
	case v.Epoch != o.Epoch:
		return Pass{}, errOtherOpening
	}
	digest, err := v.digest()
	if err != nil {
		return Pass{}, err
	}
	if n := worth(digest, v.Nonce); n < o.Difficulty {
		return Pass{}, fmt.Errorf("stranger's certificate: work of %d bits, where %d are asked", n, o.Difficulty)
	}
	if err := s.Open(p, job.ContextStranger, wire.MaxSignedBytes, &v); err != nil {
		return Pass{}, fmt.Errorf("stranger's certificate: %w", err)
	}
	return v, nil
}
